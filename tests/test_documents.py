"""Every Python example of README and docs runs, in order, each file in one namespace."""

import contextlib
import io
import json
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import torch

import etastar

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
MADE = {"_build", "_generated"}  # by Sphinx
PAGES = [page for page in sorted(DOCS.rglob("*.md")) if not MADE & {*page.relative_to(DOCS).parts}]
DOCUMENTS = [ROOT / "README.md", *PAGES]
PYTHON = re.compile(r"^```python\n(.*?)^```\n(?:\n((?:    [^\n]*\n)+))?", re.MULTILINE | re.DOTALL)
VISION = (DOCS / "guides" / "convnets.md",)  # run beside `.vision`, see tests/vision.py

each_document = pytest.mark.parametrize(
    "path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT))
)


@each_document
def test_examples_run_and_print_what_stands_below_them(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": "example"}
    for code, below in [] if path in VISION else PYTHON.findall(path.read_text()):
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            exec(compile(code, path.name, "exec"), namespace)
        if below and path in PAGES:
            assert printed.getvalue().split() == below.split()


@pytest.mark.skipif(
    not (ROOT / ".vision").is_dir(), reason="torchvision and timm are not in .vision (see Makefile)"
)
@pytest.mark.parametrize("path", VISION, ids=lambda path: path.name)
def test_examples_with_timm_run(path, tmp_path):
    blocks = PYTHON.findall(path.read_text())
    script = tmp_path / "page.py"
    script.write_text("\n".join(code for code, _ in blocks))
    command = [sys.executable, "-W", "ignore", str(ROOT / "tests" / "vision.py"), str(script)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    below = [text.strip() for _, text in blocks if text]
    assert below
    assert all(text in done.stdout for text in below), done.stdout


def test_readme_has_examples():
    assert PYTHON.findall((ROOT / "README.md").read_text())


def anchors(path):
    """What headings of a document are linked by, as GitHub and MyST write it."""
    headings = re.findall(r"^#+ (.*)", path.read_text(), re.MULTILINE)
    words = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings]
    return {word.strip().replace(" ", "-") for word in words}


@each_document
def test_links_between_documents_exist(path):
    targets = re.findall(r"\]\(([^)#]*)(?:#([^)]+))?\)", path.read_text())
    for target, anchor in (t for t in targets if "://" not in t[0]):
        linked = (path.parent / target) if target else path
        assert linked.exists(), target
        assert not anchor or anchor in anchors(linked), f"{target}#{anchor}"


def test_every_public_name_is_in_the_reference():
    text = (DOCS / "reference" / "api.md").read_text()
    documented = re.findall(r"^\.\. auto(?:function|class):: (\w+)$", text, re.MULTILINE)
    assert sorted(documented) == sorted(etastar.__all__)
    listed = re.findall(r"^   ([a-zA-Z_]+)$", text, re.MULTILINE)
    assert set(listed) == set(documented) - {"EtastarError"}


def test_the_plan_file_page_names_every_field(tmp_path):
    def net(depth):
        layers = [torch.nn.Linear(4, 4) for _ in range(depth)]
        return torch.nn.Sequential(*layers), torch.zeros(1, 4)

    tuned = etastar.Tuned(net(2), 0.1)
    etastar.plan_transfer(tuned, net(3), optimizer="adamw").save(tmp_path / "plan.json")
    written = json.loads((tmp_path / "plan.json").read_text())
    entry = written["parameters"][0]
    pieces = {
        "The plan": written,
        "A law": written["laws"][0],
        "The optimizer": written["optimizer"],
        "The base": written["base"],
        "The initialization": written["initialization"],
        "A parameter": entry,
        "Factors": entry["factors"][0][1],
    }
    text = (DOCS / "reference" / "plan_file.md").read_text()
    sections = dict(re.findall(r"^## (.*)\n\n((?:\|.*\n)+)", text, re.MULTILINE))
    assert list(sections) == list(pieces)
    for heading, piece in pieces.items():
        first = [row.split("|")[1] for row in sections[heading].splitlines()[2:]]
        assert sorted(re.findall(r"`(\w+)`", " ".join(first))) == sorted(piece), heading
    assert f"version is {written['format_version']};" in text


def test_the_drawings_are_what_their_script_draws():
    source = (DOCS / "images" / "draw.py").read_text()
    namespace = {"__name__": "draw", "__file__": str(DOCS / "images" / "draw.py")}
    exec(compile(source, "draw.py", "exec"), namespace)
    for made in namespace["DRAWINGS"]:
        assert (DOCS / "images" / f"{made.__name__}.svg").read_text() == made(), made.__name__
    assert len(namespace["DRAWINGS"]) == 6


def test_pages_are_short():
    written = [page for page in PAGES if page.parent != DOCS]
    assert len(written) >= 20
    assert {p.name: n for p in written if (n := len(p.read_text().splitlines())) > 150} == {}


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
