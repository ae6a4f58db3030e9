"""Every line of `bad_commands.txt` ends with 2 and one message, and leaves no store behind."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from etastar.cli import app

LINES = (Path(__file__).parent / "bad_commands.txt").read_text().splitlines()

DATA = "--data digits --optimizer sgd --batch 8"
GRID = f"sweep zoo:mlp --sizes depth=2 {DATA} --steps 3 --seeds 1 --storage STORE"
WORDS = {
    "DATA": DATA,
    "MEASURE": f"measure zoo:mlp {DATA} --seeds 1",
    "SWEEP*": GRID,
    "SWEEP": f"{GRID} --lr 0.1 --max-trials 6",
    "TRANSFER": "transfer zoo:mlp --base depth=2 --target depth=4 --lr 0.1 --optimizer sgd",
    "CHECK": f"check zoo:mlp --sizes width=8,16 {DATA} --steps 1 --seeds 1",
    "TUNE": f"tune zoo:mlp --bases depth=2 --target depth=4 {DATA} --steps 3 --seeds 1"
    " --storage STORE --save FOLDER/plan.json",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("bad_commands")
    (place / "EMPTY").write_text("")
    (place / "GARBAGE").write_bytes(bytes(range(256)))
    return place


def run(line, folder, store):
    words = [WORDS.get(word, word) for word in line.split()]
    text = " ".join(words).replace("STORE", str(store)).replace("FOLDER", str(folder))
    return CliRunner().invoke(app, text.split())


@pytest.mark.parametrize("line", LINES)
def test_it_is_answered(line, folder, tmp_path):
    store = tmp_path / "store.log"
    result = run(line, folder, store)
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    assert not store.exists()


@pytest.mark.parametrize("word", ["MEASURE", "SWEEP", "TRANSFER", "CHECK", "TUNE"])
def test_the_commands_that_are_spoilt_are_good_ones(word, folder, tmp_path):
    result = run(word, folder, tmp_path / "store.log")
    verdict = 1 if word == "CHECK" else 0  # a standard parametrization depends on the width
    assert result.exit_code == verdict, result.output
