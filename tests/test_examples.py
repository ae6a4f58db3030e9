"""Every example says what it needs and is short; `.ci/examples.py` runs each with that alone."""

import importlib.util
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("examples", ROOT / ".ci" / "examples.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_example_names_an_extra_and_the_line_that_runs_it(script):
    commands = [command for own in script.by_extra().values() for command in own]
    assert sorted(command.split()[1] for command in commands) == sorted(
        path.name for path in EXAMPLES.glob("*.py")
    )
    lengths = {path.name: len(path.read_text().splitlines()) for path in EXAMPLES.glob("*.py")}
    assert {name: lines for name, lines in lengths.items() if lines > 61} == {}


def test_tests_that_skip_here_are_run_beside_the_examples(script):
    """Those of the libraries that the environment of the tests lacks."""
    found = {}
    for path in (ROOT / "tests").rglob("test_*.py"):
        for name in re.findall(r'importorskip\("(\w+)", reason="no dep', path.read_text()):
            found.setdefault(name, []).append(path)
    assert {"lightning", "peft"} <= found.keys() <= script.by_extra().keys()
    assert {name: script.tests_of(name) for name in found} == found


@pytest.mark.slow
def test_the_notebook_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    notebook = json.loads((EXAMPLES / "quickstart.ipynb").read_text())
    namespace = {"__name__": "notebook"}
    codes = ["".join(c["source"]) for c in notebook["cells"] if c["cell_type"] == "code"]
    for code in codes:
        exec(
            compile(code.replace("STEPS = 150", "STEPS = 40"), "quickstart.ipynb", "exec"),
            namespace,
        )
    assert namespace["planned"] < 2.3  # ten classes, untrained
    assert (tmp_path / "plan.json").exists()
    assert all(not cell.get("outputs") for cell in notebook["cells"])
