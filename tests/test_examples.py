"""Every example runs from start to end, and training lowers the loss."""

import json
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
STEPS = {
    "accelerate_loop.py": 30,
    "hf_trainer.py": 20,
    "lightning_trainer.py": 60,
    "muon.py": 20,
    "nanogpt.py": 30,
    "polish.py": 20,
    "timm_convnet.py": 15,
    "tune_own_loop.py": 40,
}
"""Steps at which each is tested; few, so that it takes seconds."""
NEEDS = {"lightning_trainer.py": "lightning"}
LOSS = re.compile(r"^loss ([\d.]+) to ([\d.]+)$", re.MULTILINE)

pytestmark = pytest.mark.slow


def test_every_example_is_run_and_is_short():
    assert sorted(path.name for path in EXAMPLES.glob("*.py")) == sorted(STEPS)
    lengths = {path.name: len(path.read_text().splitlines()) for path in EXAMPLES.glob("*.py")}
    assert {name: lines for name, lines in lengths.items() if lines > 60} == {}


@pytest.mark.parametrize("name", STEPS)
def test_an_example_runs_and_its_loss_falls(name, tmp_path):
    """In a process of its own, as a person runs it."""
    if (needed := NEEDS.get(name)) and find_spec(needed) is None:
        pytest.skip(f"{needed} is not installed (it is no dependency of the tests)")
    command = [sys.executable]
    if name.startswith("timm"):
        if not (ROOT / ".vision").is_dir():
            pytest.skip("torchvision and timm are not in .vision (see Makefile)")
        command.append(str(ROOT / "tests" / "vision.py"))
    command += [str(EXAMPLES / name), "--steps", str(STEPS[name])]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    ((first, last),) = LOSS.findall(done.stdout)
    assert float(last) < float(first)


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
