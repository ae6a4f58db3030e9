"""The generated documents: they match the stored results, and auto learns from other families."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from etastar.transfer import DEFAULT_LAW
from etastar.transfer.auto import CANDIDATES
from studies import auto_evidence, evidence
from studies.auto_evidence import family_kinds, regrets_by_kind
from studies.declaration import Parametrization
from studies.evidence import documents, main
from studies.experiments.registry import EXPERIMENTS
from studies.reproduce import RESULTS

ROOT = Path(__file__).parents[2]


def test_the_documents_match_the_stored_results():
    assert main(["--root", str(ROOT), "--check"]) == 0


def test_auto_is_the_default_only_where_the_stored_results_say_so():
    rows = evidence.read_regrets(ROOT / RESULTS, scale="cpu")
    found = evidence.gather_regrets(ROOT, rows, family_kinds("cpu", rows), scale="cpu")
    assert (DEFAULT_LAW == "auto") == found.auto_leads


def test_every_number_of_the_table_is_a_regret():
    rows = evidence.read_regrets(ROOT / RESULTS, scale="cpu")
    table = regrets_by_kind(rows, family_kinds("cpu", rows))
    assert len(table) == 6
    for rules in table.values():
        assert set(rules) == {*CANDIDATES, "measured"}
        assert len({len(rules[rule]) for rule in CANDIDATES}) == 1
        # nothing beats the target's own optimum by all that it gained
        assert all(case > -1 for cases in rules.values() for case in cases)


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


def with_all(regrets, *, others=5.0):
    """The regrets, and those of the other rules that auto compares: a case needs all of them."""
    return {**dict.fromkeys(CANDIDATES, others), **regrets}


def made(root):
    rows = evidence.read_regrets(root / RESULTS, scale="smoke")
    kinds = family_kinds("smoke", rows)
    return evidence.gather_regrets(root, rows, kinds, scale="smoke")


def auto_of(found, family):
    return [row.relative for row in found.rows if row.family == family and row.rule == "auto"]


def test_the_law_of_a_family_is_chosen_by_the_others(root):
    one, two = (family.name for family in EXPERIMENTS["mlp-trained"]("smoke").families[:2])
    store(root, "mlp-trained", one, with_all({"constant": 0.1, "effective-depth": 0.3}))
    store(root, "mlp-trained", two, with_all({"constant": 0.5, "effective-depth": 0.2}))
    found = made(root)
    assert auto_of(found, one) == [0.3]
    assert auto_of(found, two) == [0.5]
    (choice,) = found.choices
    assert choice.kind == "chain, SGD"
    assert "effective-depth" in choice.why
    assert set(choice.families) == {one, two}
    assert found.rivals == ("effective-depth",)


def test_a_lone_family_has_no_case_of_auto(root):
    one = EXPERIMENTS["mlp-trained"]("smoke").families[0].name
    store(root, "mlp-trained", one, with_all({"constant": 0.1}))
    assert auto_of(made(root), one) == []


def test_with_a_batch_the_measured_law_may_be_chosen(root):
    one, two = (family.name for family in EXPERIMENTS["mlp-trained"]("smoke").families[:2])
    store(root, "mlp-trained", one, with_all({"constant": 0.4, "measured": 0.1}))
    store(root, "mlp-trained", two, with_all({"constant": 0.3, "measured": 0.2}))
    rows = made(root).rows
    assert [row.relative for row in rows if row.rule == "auto with a batch"] == [0.1, 0.2]
    assert [row.relative for row in rows if row.rule == "auto"] == [0.4, 0.3]


def test_a_case_that_a_rule_was_spared_is_not_compared(root):
    one, two = (family.name for family in EXPERIMENTS["mlp-trained"]("smoke").families[:2])
    store(root, "mlp-trained", one, with_all({"constant": 0.4}))
    store(root, "mlp-trained", two, {"constant": 0.3})
    rows = evidence.read_regrets(root / RESULTS, scale="smoke")
    assert regrets_by_kind(rows, family_kinds("smoke", rows))["chain, SGD"]["constant"] == (0.4,)
    assert auto_of(made(root), two) == []


def test_other_initializations_and_parametrizations_are_not_learnt_from(root):
    for experiment, family in (
        ("transformer", "GPT SGD, standard"),
        ("transformer", "GPT SGD, depth-mup"),
        ("resnet", "one-layer 1/K^2"),
        ("resnet", "one-layer 1/K"),
    ):
        store(root, experiment, family, with_all({"constant": 0.1}))
    (choice,) = made(root).choices
    assert choice.families == ("one-layer 1/K",)


def test_a_law_in_the_parametrization_is_not_learnt_from():
    family = EXPERIMENTS["resnet"]("smoke").families[0]
    base = family.sizes[0]
    for law, width, learnt in (
        ("constant", "mup", True),
        ("constant", "none", False),
        ("complete-p", "none", False),
    ):
        chosen = replace(family, parametrization=Parametrization(law, base, width))
        assert auto_evidence._is_learnt_from(chosen) == learnt
    scaled = replace(family, network=replace(family.network, branch_power=-0.5))
    assert not auto_evidence._is_learnt_from(scaled)
    assert auto_evidence._is_learnt_from(family)


def test_rules_with_the_width_rule_count_under_their_own_name(root):
    name = next(
        family.name
        for family in EXPERIMENTS["width"]("smoke").families
        if family.name.endswith("mup") and "MLP, SGD" in family.name
    )
    store(root, "width", name, with_all({"constant": 0.25}), suffix="+mup")
    rows = evidence.read_regrets(root / RESULTS, scale="smoke")
    table = regrets_by_kind(rows, family_kinds("smoke", rows))
    assert table["chain, SGD"]["constant"] == (0.25,)
    assert table["chain, SGD"].keys() == set(CANDIDATES)


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


def test_files_are_written_once_and_then_match(root, capsys):
    one = EXPERIMENTS["mlp-trained"]("smoke").families[0].name
    store(root, "mlp-trained", one, with_all({"constant": None}))
    texts = documents(root, scale="smoke")
    for path, text in texts.items():
        path.write_text(text)
    assert documents(root, scale="smoke") == texts
    kinds = json.loads(texts[root / "src/etastar/transfer/auto_table.json"])["kinds"]
    for choice in kinds["chain, SGD"].values():
        assert choice["rule"] != "constant"
        assert "worst 500.0% in 1 stored cases" in choice["why"]


def test_the_command_writes_and_checks(root, capsys):
    assert main(["--root", str(root), "--check"]) == 1
    assert "does not match" in capsys.readouterr().out
    assert not (root / "docs" / "evidence.md").exists()
    assert main(["--root", str(root)]) == 0
    assert main(["--root", str(root), "--check"]) == 0
    assert (root / "docs" / "evidence.md").read_text().startswith("# Evidence")
