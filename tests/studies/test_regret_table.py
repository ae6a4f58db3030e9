"""The regret table: read back from files, summed up by rule, compared case by case."""

import json
from math import inf

import pytest

from etastar.errors import StorageError
from studies.regret_table import StoredRegret, in_common, read_regrets, summarize

STORED = {
    "family": "MLP, SGD",
    "group": "MLP, SGD",
    "rule": "constant",
    "optimizer": "sgd",
    "bases": [{"depth": 3}],
    "target": {"depth": 24, "width": 8},
    "ratio": 8.0,
    "lr": 0.1,
    "reference_lr": 0.05,
    "loss": 1.5,
    "reference_loss": 1.0,
    "cost_steps": 900,
    "regret": 0.5,
    "interval": [0.25, 0.75],
    "relative": 0.4,
    "relative_interval": [0.2, 0.6],
    "num_seeds": 2,
    "num_diverged": 0,
    "diverged": False,
}


def write(folder, name, *rows, scale="cpu"):
    place = folder / name / scale
    place.mkdir(parents=True, exist_ok=True)
    (place / "regret.json").write_text(json.dumps([STORED | row for row in rows]))


def row(rule, relative, *, family="f", ratio=8.0, cost=100, target="depth 8"):
    return StoredRegret("e", family, family, "sgd", rule, target, ratio, relative, None, cost)


def test_files_are_read_back(tmp_path):
    write(tmp_path, "mlp-trained", {}, {"diverged": True, "relative": None, "num_diverged": 1})
    write(tmp_path, "mlp-trained", {"rule": "other"}, scale="smoke")
    write(tmp_path, "cnn", {"relative": None, "relative_interval": None})
    cnn, first, second = read_regrets(tmp_path, scale="cpu")
    assert (first.experiment, first.target, first.relative) == (
        "mlp-trained",
        "depth 24, width 8",
        0.4,
    )
    assert first.interval == (0.2, 0.6)
    assert (second.relative, second.interval) == (inf, None)
    assert (cnn.experiment, cnn.relative) == ("cnn", None)


@pytest.mark.parametrize("text", ["", "[", "[{}]"])
def test_a_broken_file_is_named(tmp_path, text):
    write(tmp_path, "mlp-trained")
    (tmp_path / "mlp-trained" / "cpu" / "regret.json").write_text(text)
    with pytest.raises(StorageError, match=r"mlp-trained/cpu/regret\.json"):
        read_regrets(tmp_path, scale="cpu")


def test_an_empty_folder_has_no_rows(tmp_path):
    assert read_regrets(tmp_path, scale="cpu") == ()


def test_rules_are_summed_up_with_the_lowest_worst_first():
    rows = [
        row("constant", inf, cost=10),
        row("constant", 0.2, target="depth 16", cost=30),
        row("constant", 0.1, target="depth 32", cost=20),
        row("structure", 0.3),
        row("structure", None, target="depth 16"),
        row("near", 0.0, ratio=4.0),
    ]
    structure, constant = summarize(rows, least_ratio=8.0)
    assert (structure.rule, structure.num_cases, structure.worst) == ("structure", 1, 0.3)
    assert (constant.num_cases, constant.num_diverged, constant.worst) == (3, 1, inf)
    assert (constant.median, constant.median_cost) == (0.2, 20)
    assert summarize(rows)[0].rule == "near"


def test_shares_within_two_and_ten_percent_count_divergence_as_outside():
    values = (-0.5, 0.02, 0.1, inf)
    rows = [row("constant", value, target=f"depth {n}") for n, value in enumerate(values)]
    assert summarize(rows)[0].within == (0.5, 0.75)


def test_rules_are_compared_in_the_cases_that_all_of_them_have():
    rows = [row("broad", 0.1, target=f"depth {n}") for n in range(6)]
    rows += [row("other", 0.2, target=f"depth {n}") for n in range(2, 7)]
    rows += [row("narrow", 0.3, target="depth 2")]
    rows += [row("other", None, target="depth 0")]
    common, aside = in_common(rows)
    assert {one.rule for one in common} == {"broad", "other"}
    assert {one.target for one in common} == {f"depth {n}" for n in range(2, 6)}
    assert len(common) == 8
    assert [one.rule for one in aside] == ["narrow"]
    assert in_common([]) == ((), ())
