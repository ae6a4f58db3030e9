"""Every Python example of README and docs runs, in order, each file in one namespace."""

import re
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
