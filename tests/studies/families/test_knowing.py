"""What the families say to the default choice."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from statistics import median

import pytest

from etastar.transfer.default_choice import _CURVATURE
from etastar.transfer.experience import Experience, ExperienceRecord
from etastar.transfer.network_kind import NetworkKind
from studies.families.choosing import choice_offers
from studies.families.curves import FamilyCurves
from studies.families.declared import FAMILIES, SCALES
from studies.families.knowing import (
    family_experience,
    family_kind,
    stored_family_experience,
    with_first_evidence,
)
from studies.families.runs import FAMILY_RUNS, RunFile

_CHAIN = NetworkKind("chain", "none", False, False, 0, "sgd")
_RESIDUAL = replace(_CHAIN, structure="residual", branch_layers=2)


def _record(family: str, kind: NetworkKind, exponent: float = -1.0) -> ExperienceRecord:
    return ExperienceRecord(family, kind, "sgd", "own", exponent, 0.1, (2, 16))


def test_both_evidences_are_heard() -> None:
    first = Experience((_record("old chain", _CHAIN), _record("old residual", _RESIDUAL)))
    second = Experience((_record("a", _CHAIN), _record("b", _CHAIN), _record("c", _RESIDUAL)))

    known = with_first_evidence(second, first)

    assert known.records == (*second.records, *first.records)


@pytest.mark.parametrize(
    ("name", "norm", "scaled", "layers"),
    [
        ("gpt", "pre", False, 2),
        ("resnet-bn", "inside", False, 2),
        ("resnet-am", "none", False, 1),
        ("post-ln", "post", False, 2),
        ("convnext", "inside", True, 2),
        ("vit-scaled", "pre", True, 2),
    ],
)
def test_the_kinds_of_the_families(name: str, norm: str, scaled: bool, layers: int) -> None:
    family = next(family for family in FAMILIES if family.name == name)
    kind = family_kind(family, SCALES["smoke"])

    assert kind is not None
    assert (kind.norm, kind.scaled_branches, kind.branch_layers) == (norm, scaled, layers)


def test_a_family_is_judged_without_itself() -> None:
    family = next(family for family in FAMILIES if family.name == "mlp-relu")
    curves = FamilyCurves(RunFile(family, SCALES["cpu"]))
    kind = family_kind(family, SCALES["cpu"])
    assert kind is not None
    others = [
        ExperienceRecord(name, kind, "sgd", "stabilized", exponent, 0.05, (3, 17))
        for name, exponent in (("x", -1.0), ("y", -1.0))
    ]
    itself = ExperienceRecord("mlp-relu", kind, "sgd", "stabilized", -9.0, 0.05, (3, 17))

    with_it = choice_offers(curves, 16, Experience((*others, itself)))
    without = choice_offers(curves, 16, Experience(tuple(others)))

    assert [offer.lr for offer in with_it] == [offer.lr for offer in without]
    first, second = without
    assert first.rule == "default choice"
    assert first.interval is not None
    assert first.interval[0] < first.lr < first.interval[1]
    assert second.cost > first.cost


@pytest.mark.slow
def test_the_stored_records_are_those_of_the_stored_runs() -> None:
    stored, found = stored_family_experience(FAMILY_RUNS), family_experience(SCALES["cpu"])

    assert [(one.family, one.parametrization) for one in stored.records] == sorted(
        (one.family, one.parametrization) for one in found.records
    )
    exponents = {(one.family, one.parametrization): one.exponent for one in found.records}
    for one in stored.records:
        assert one.exponent == pytest.approx(exponents[one.family, one.parametrization], abs=1e-3)


def test_an_octave_of_error_costs_what_the_choice_takes_it_to_cost() -> None:
    scale, found = SCALES["cpu"], []
    for family in FAMILIES:
        curves = FamilyCurves(RunFile(family, scale))
        for (parametrization, depth), curve in curves.curves.items():
            if curves.well_posed(parametrization, depth) and curve.curvature is not None:
                found.append(curve.curvature)

    assert len(found) > 30
    assert median(found) == pytest.approx(_CURVATURE, rel=0.2)


def test_there_are_runs_to_speak_of() -> None:
    assert Path(FAMILY_RUNS, "cpu").is_dir()
    assert stored_family_experience(FAMILY_RUNS).records
