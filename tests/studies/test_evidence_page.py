"""The Markdown page and the figure of an experiment, from made-up runs."""

import json
import math
from dataclasses import replace

import pytest

from etastar.errors import StorageError
from etastar.fit import transfer_regret
from etastar.sweep.recipe import Point
from etastar.sweep.result import SizeResult, size_optimum
from etastar.sweep.trial import TrialRecord
from studies.figure import exponent_figure
from studies.files import write_evidence
from studies.page import evidence_page
from studies.records import (
    Claim,
    Evidence,
    ExponentFit,
    FamilyEvidence,
    Judgement,
    Neighbours,
    RegretRow,
)

SHALLOW, DEEP = (("depth", 2),), (("depth", 16),)


def swept(size, best, *, diverged=()):
    trials = tuple(
        TrialRecord(
            size,
            Point(lr, seed),
            math.inf if lr in diverged else 1 + math.log(lr / best) ** 2 + seed,
            (3.0,),
            lr in diverged,
            5,
            3.0,
        )
        for lr in (0.01, 0.1, 1.0, 10.0)
        for seed in (0, 1)
    )
    return SizeResult(size, trials, size_optimum(trials))


def row(**changes):
    found = RegretRow(
        family="net, 1/K",
        group="net",
        rule="constant",
        optimizer="sgd",
        bases=(SHALLOW,),
        target=DEEP,
        ratio=8.0,
        lr=0.4,
        reference_lr=0.1,
        loss=1.5,
        reference_loss=1.0,
        regret=transfer_regret([1.5, 1.7], [1.0, 1.2], initial_losses=[3.0, 3.2]),
        cost_steps=40,
    )
    return replace(found, **changes)


@pytest.fixture
def evidence():
    fit = ExponentFit(
        axis="effective-depth",
        exponent=-0.75,
        seed_interval=(-0.8, -0.7),
        scatter_interval=(-0.9, -0.72),
        r_squared=0.98,
        neighbours=(Neighbours(4.0, 18.0, -0.75, None),),
        flags=("edge",),
    )
    family = FamilyEvidence(
        name="net, 1/K",
        group="net",
        settings=(("data", "digits"), ("seeds", "(0, 1)")),
        sizes=(swept(SHALLOW, 0.5), swept(DEEP, 0.1, diverged=(10.0,))),
        axes=(("effective-depth", (4.0, 18.0)),),
        fits=(fit,),
        regrets=(row(),),
        transfers=(TrialRecord(DEEP, Point(0.4, 0), 1.5, (1.5,), False, 5, 3.0),),
    )
    other = replace(family, name="other", settings=(("data", "text"), ("seeds", "(0, 1)")))
    claim = Claim("the law", "[WU]", "net, 1/K", -1.5)
    judgement = Judgement(claim, -0.75, (-0.9, -0.7), "contradicts", "outside")
    return Evidence(
        name="made-up",
        title="Made up",
        papers=("[WU] arXiv 2602.07494",),
        scale="cpu",
        command="python -m studies made-up --scale cpu",
        versions=(("torch", "2.13.0"),),
        notes=("A note.",),
        families=(family, other),
        judgements=(judgement,),
    )


def lines(text, start):
    return [line for line in text.splitlines() if line.startswith(start)]


def test_a_claim_stands_beside_what_was_measured_and_its_verdict(evidence):
    found = lines(evidence_page(evidence), "| the law")
    assert found == [
        "| the law | [WU] | -1.5 | -0.75 | -0.90 to -0.70 | **contradicts** | outside |"
    ]


def test_exponents_optima_and_regrets_are_rows(evidence):
    page = evidence_page(evidence)
    rows = lines(page, "| net, 1/K |")
    assert "| net, 1/K | effective-depth | -0.75 | -0.90 to -0.70 | 0.980 |" in rows[0]
    assert "4 to 18: -0.75 | edge |" in rows[0]
    assert [one.split(" | ")[1] for one in rows[1:3]] == ["depth=2", "depth=16"]
    assert rows[2].endswith("| diverged |")
    assert "| constant | depth=16 | 8 | 0.4 | 4.00 | 25.0% | 25.0% to 25.0% | 40 |" in rows[3]


def test_the_command_the_versions_and_the_notes_are_told(evidence):
    page = evidence_page(evidence)
    assert "`python -m studies made-up --scale cpu`" in page
    assert "torch 2.13.0" in page
    assert "- A note." in page
    assert f"{evidence.steps} optimizer steps" in page
    assert evidence.steps == 2 * (16 * 5 + 5)


def test_settings_that_all_families_share_are_told_once(evidence):
    page = evidence_page(evidence)
    assert lines(page, "| all |") == ["| all | seeds | `(0, 1)` |"]
    assert lines(page, "| other | data") == ["| other | data | `text` |"]


def test_a_diverged_rate_is_told_as_such(evidence):
    bad = row(regret=transfer_regret([math.inf], [1.0], initial_losses=[3.0]), loss=math.inf)
    family = replace(evidence.families[0], regrets=(bad,))
    page = evidence_page(replace(evidence, families=(family,)))
    assert "| 4.00 | diverged | - | 40 |" in page
    assert (bad.as_dict()["regret"], bad.as_dict()["diverged"]) == (None, True)


def test_an_infinite_rate_is_stored_as_none():
    bad = row(
        regret=transfer_regret([math.inf], [1.0], initial_losses=[3.0]), loss=math.inf, lr=math.inf
    )
    assert json.loads(json.dumps(bad.as_dict(), allow_nan=False))["lr"] is None


def test_without_rates_that_were_transferred_there_is_no_such_section(evidence):
    bare = tuple(replace(family, regrets=()) for family in evidence.families)
    assert "Transfer regret" not in evidence_page(replace(evidence, families=bare))


def test_the_figure_shows_optima_curves_and_the_claimed_slope(evidence):
    data = json.loads(exponent_figure(evidence).to_json())["data"]
    optima = data[0]
    best = [one.optimum for one in evidence.families[0].sizes]
    assert optima["x"] == [4.0, 18.0]
    assert optima["y"] == [one.lr for one in best]
    curve = next(one for one in data if one["name"] == "net, 1/K, depth=16")
    assert curve["x"] == [0.01, 0.1, 1.0, 10.0]
    assert curve["y"][-1] is None
    assert curve["y"][1] == pytest.approx(1.5)
    slope = data[-1]
    assert slope["y"] == pytest.approx([best[0].lr, best[0].lr * 4.5**-1.5])
    assert {one["legendgroup"] for one in data[:-1]} == {"net, 1/K", "other"}


def test_what_is_written_is_json_without_infinities_and_compact(evidence, tmp_path):
    write_evidence(evidence, tmp_path)
    for path in tmp_path.glob("*.json"):
        json.loads(path.read_text(), parse_constant=pytest.fail)
    assert not list(tmp_path.glob("*.html"))  # nothing that asks a network for Plotly
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 100_000


def test_a_folder_that_cannot_be_written_is_told(evidence, tmp_path):
    (tmp_path / "README.md").mkdir()
    with pytest.raises(StorageError, match="--out"):
        write_evidence(evidence, tmp_path)
