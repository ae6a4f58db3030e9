"""Rules are asked at the base, trained at the target, stored, and judged from what is stored."""

from __future__ import annotations

from dataclasses import replace
from math import inf, isfinite
from typing import TYPE_CHECKING

import pytest

from etastar.transfer.experience import Experience, ExperienceRecord
from studies.families.curves import FamilyCurves
from studies.families.declared import FAMILIES, SCALES
from studies.families.judging import outcomes, train_offers
from studies.families.knowing import family_kind
from studies.families.rules import Offer, offers
from studies.families.runs import FamilyRun, RunFile
from studies.families.stages import curve
from studies.families.table import rules_page
from studies.families.trying import ask, read_offers

if TYPE_CHECKING:
    from pathlib import Path

_SMOKE = SCALES["smoke"]


def _family(name: str):  # type: ignore[no-untyped-def]
    return next(family for family in FAMILIES if family.name == name)


def _runs(name: str, folder: Path, *parametrizations: str, optimum: int = -8) -> RunFile:
    """Parabolas over the rate at base and target, with one optimum."""
    file = RunFile(_family(name), _SMOKE, folder)
    file.path.parent.mkdir(parents=True, exist_ok=True)
    base, target = file.family.sizes(_SMOKE)
    for parametrization in parametrizations:
        for depth in (base, target):
            for power in range(optimum - 3, optimum + 4):
                loss = 1 + 0.1 * (power - optimum) ** 2
                for seed in _SMOKE.seeds:
                    run = FamilyRun(
                        *(parametrization, depth, 4, 2.0**power, seed),  # type: ignore[arg-type]
                        *(loss, 3.0, 4),
                    )
                    file._append(run)
    return file


def _known(name: str) -> Experience:
    kind = family_kind(_family(name), _SMOKE)
    assert kind is not None
    return Experience(
        tuple(
            ExperienceRecord(other, kind, _family(name).optimizer, one, 0.0, 0.1, (3, 17))
            for other in ("x", "y", name)
            for one in ("own", "complete-p")
        )
    )


def test_every_rule_is_asked_and_what_it_says_is_stored(tmp_path: Path) -> None:
    file = _runs("gpt", tmp_path, "own", "stabilized")

    found = ask(file, _known("gpt"))

    rules = [one.rule for one in found]
    assert rules == [
        *("one rate", "-3/2", "-3/2, stabilized", "structure, stabilized", "structure"),
        *("depth-mup", "complete-p", "measured"),
        *(["range test"] if "range test" in rules else []),
        *("Optuna", "default choice", "default choice, stabilized"),
    ]
    assert read_offers(file) == found
    by_rule = {one.rule: one for one in found}
    assert by_rule["one rate"].lr == pytest.approx(2.0**-8)
    # GPT's effective depth is 7 at one block's base here and 11 at the target's two
    graphs = FamilyCurves(file)
    ratio = graphs.effective_depth(4) / graphs.effective_depth(2)
    assert by_rule["-3/2"].lr == pytest.approx(2.0**-8 * ratio**-1.5, rel=1e-6)
    assert by_rule["default choice"].interval is not None
    assert by_rule["default choice, stabilized"].parametrization == "stabilized"


def test_a_chain_is_asked_for_no_branches(tmp_path: Path) -> None:
    rules = {one.rule for one in offers(FamilyCurves(_runs("mlp-relu", tmp_path, "own")), 4)}

    assert "-3/2" in rules
    assert not rules & {"complete-p", "depth-mup", "-3/2, stabilized"}


def test_without_a_base_nothing_is_asked(tmp_path: Path) -> None:
    file = RunFile(_family("gpt"), _SMOKE, tmp_path)

    assert ask(file, Experience()) == ()
    assert read_offers(file) == ()


def test_a_fit_needs_a_size_between_base_and_target(tmp_path: Path) -> None:
    file = _runs("mlp-relu", tmp_path, "own")
    wider = RunFile(file.family, replace(_SMOKE, factors=(1, 2, 4)), tmp_path)

    near = {one.rule for one in offers(FamilyCurves(file), 4)}
    far = {one.rule: one.lr for one in offers(FamilyCurves(wider), 8)}

    assert "fit of two" not in near
    # both optima are the same, and the structure law is heard beside them
    assert far["structure"] < far["fit of two"] < far["one rate"]


def test_rates_are_trained_with_every_seed_and_then_judged(tmp_path: Path) -> None:
    family = _family("mlp-relu")
    file = RunFile(family, _SMOKE, tmp_path)
    for depth in family.sizes(_SMOKE):
        curve(file, "own", depth)
    before = len(file.read())
    asked = [Offer("one", "own", 0.0123, 0.5), Offer("none", "own", inf, 0.5)]

    train_offers(file, 4, asked)
    found = outcomes(file, 4, asked)

    trained = file.read()[before:]
    assert {(run.depth, run.seed) for run in trained if run.lr == 0.0123} == {(4, 0), (4, 1)}
    assert {run.num_steps for run in trained} == {4, 2, 1}
    assert isfinite(found[0].relative)
    assert found[1].relative == inf
    page = rules_page(_SMOKE, found)
    assert "| mlp-relu | one |" in page
    assert "| diverged |" in page
