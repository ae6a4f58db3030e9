"""Every Python example of README and docs runs, in order, each file in one namespace."""

import re
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PYTHON = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_examples_run(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": "example"}
    for block in PYTHON.findall(path.read_text()):
        exec(compile(block, path.name, "exec"), namespace)


def test_readme_has_examples():
    assert PYTHON.findall((ROOT / "README.md").read_text())


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_between_documents_exist(path):
    targets = re.findall(r"\]\(([^)#]+)[^)]*\)", path.read_text())
    for target in (t for t in targets if "://" not in t):
        assert (path.parent / target).exists(), target


def layers():
    """Packages by level, from the top, as `import-linter` checks them."""
    text = (ROOT / "pyproject.toml").read_text()
    block = re.search(r"^layers = \[\n(.*?)^\]", text, re.MULTILINE | re.DOTALL).group(1)
    return [re.findall(r"\w+", line) for line in block.splitlines()]


def rows(path):
    """Packages and files that each row of the document's tables of levels names."""
    lines = [line for line in path.read_text().splitlines() if line.startswith("| ")]
    found = [re.findall(r"`(\w+)(?:/|\.py)`", line) for line in lines]
    return [names for names in found if names]


def test_the_tables_of_packages_match_the_tree():
    source = ROOT / "src" / "etastar"
    paths = [p for p in source.iterdir() if p.suffix == ".py" or (p / "__init__.py").exists()]
    tree = {path.stem for path in paths} - {"__init__", "__main__"}
    assert {name for level in layers() for name in level} == tree
    contributing = rows(ROOT / "CONTRIBUTING.md")
    assert [sorted(row) for row in contributing] == [sorted(level) for level in layers()]
    page = [name for row in rows(ROOT / "docs" / "architecture.md") for name in row]
    assert sorted(page) == sorted(tree)


def test_the_architecture_page_goes_down_the_layers():
    level = {name: number for number, names in enumerate(layers()) for name in names}
    levels = [[level[name] for name in row] for row in rows(ROOT / "docs" / "architecture.md")]
    for above, below in pairwise(levels):
        assert max(above) <= min(below) or set(above) & set(below)
