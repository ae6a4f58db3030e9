"""The generated documents: they match the stored results."""

import json
from pathlib import Path

import pytest

from etastar.transfer import Experience, stored_experience
from studies import evidence
from studies.evidence import documents, main
from studies.experiments.registry import EXPERIMENTS
from studies.reproduce import RESULTS

ROOT = Path(__file__).parents[2]


def test_the_documents_match_the_stored_results():
    assert main(["--root", str(ROOT), "--check"]) == 0


@pytest.fixture
def root(tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "src" / "etastar" / "transfer").mkdir(parents=True)
    return tmp_path


def store(root, experiment, family, regrets, *, ratio=8.0, suffix=""):
    folder = root / RESULTS / experiment / "smoke"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "regret.json"
    known = json.loads(path.read_text()) if path.exists() else []
    rows = [
        {
            "family": family,
            "group": family,
            "rule": rule + suffix,
            "optimizer": "sgd",
            "target": {"depth": 8},
            "ratio": ratio,
            "relative": value,
            "relative_interval": None,
            "cost_steps": 100,
            "diverged": value is None,
        }
        for rule, value in regrets.items()
    ]
    path.write_text(json.dumps(known + rows))


def made(root):
    return evidence.gather_regrets(root, scale="smoke")


def test_what_is_known_of_a_kind_is_shown_with_what_the_others_expect():
    kinds = tuple(evidence.known_kinds(stored_experience()))
    ours = [one for one in kinds if one.kind == "pre-norm residual network, adam"]
    several = next(one for one in ours if one.parametrization == "stabilized")
    alone = next(one for one in stored_experience().records if one.well_posed)
    (single,) = evidence.known_kinds(Experience((alone,)))
    assert len(several.families) == 6
    assert "+-" in several.expected
    assert single.expected == "-"


def test_what_is_declared_and_not_stored_is_missing(root):
    one = EXPERIMENTS["mlp-trained"]("smoke").families[0].name
    everything = made(root).missing
    store(root, "mlp-trained", one, {"constant": 0.1})
    assert set(everything) - set(made(root).missing) == {f"mlp-trained: {one}"}
    assert any(line.startswith("transformer: ") for line in everything)


def test_claims_and_exponents_are_taken_from_the_fits(root):
    folder = root / RESULTS / "mlp-trained" / "smoke"
    folder.mkdir(parents=True)
    claim = {
        "statement": "-3/2",
        "source": "[JE]",
        "claimed": -1.5,
        "relation": "below",
        "measured": None,
        "interval": None,
        "verdict": "undecided",
    }
    fit = {
        "family": "wide",
        "axis": "effective-depth",
        "exponent": -1.234,
        "interval": [-1.5, -1.0],
        "r_squared": 0.98765,
        "flags": ["edge", "two sizes"],
    }
    (folder / "fits.json").write_text(json.dumps({"exponents": [fit], "claims": [claim]}))
    found = made(root)
    assert found.claims == (("mlp-trained", "-3/2", "[JE]", "< -1.5", "-", "-", "**undecided**"),)
    assert found.exponents == (
        (
            "mlp-trained",
            "wide",
            "effective-depth",
            "-1.23",
            "-1.50 to -1.00",
            "0.988",
            "edge, two sizes",
        ),
    )


def test_files_are_written_once_and_then_match(root):
    one = EXPERIMENTS["mlp-trained"]("smoke").families[0].name
    store(root, "mlp-trained", one, {"constant": None})
    texts = documents(root, scale="smoke")
    for path, text in texts.items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    assert documents(root, scale="smoke") == texts


def test_the_command_writes_and_checks(root, capsys):
    assert main(["--root", str(root), "--check"]) == 1
    assert "does not match" in capsys.readouterr().out
    assert not (root / "docs" / "evidence.md").exists()
    assert main(["--root", str(root)]) == 0
    assert main(["--root", str(root), "--check"]) == 0
    assert (root / "docs" / "evidence.md").read_text().startswith("# Evidence: which rule")
    pages = ("depth", "kinds", "training")
    for page in pages:
        text = (root / "docs" / "evidence" / f"{page}.md").read_text()
        assert text.startswith("# ")
        assert text.splitlines()[0].endswith("?")
    first = (root / "docs" / "first_evidence.md").read_text()
    assert first.startswith("# First evidence, and why it does not decide")
