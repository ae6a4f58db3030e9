"""From optima to the table of the default choice, and back."""

import dataclasses
import json
import math

import numpy as np
import pytest

from etastar.transfer.experience import (
    CriterionRecord,
    Experience,
    read_experience,
    stored_experience,
)
from etastar.transfer.network_kind import NetworkKind
from studies.declaration import Parametrization
from studies.experience import (
    _parametrization,
    experience_document,
    first_evidence,
    judged_without_itself,
    record_of,
)
from studies.experiments.registry import EXPERIMENTS
from studies.initialization import OwnInit, StableInit

KIND = NetworkKind("residual", "pre", False, False, 2, "adam")


def test_a_record_holds_the_slope_and_an_error_that_is_never_less_than_a_tuned_rates():
    line = {depth: 0.1 * depth**-0.5 for depth in (4, 6, 10, 18)}
    one = record_of("gpt", KIND, "adamw", "own", line)
    spread = np.std(np.log(list(line))) * 2
    assert one.exponent == pytest.approx(-0.5)
    assert one.exponent_sd == pytest.approx(0.15 / spread)
    noisy = {d: lr * math.exp(0.5 * (-1) ** n) for n, (d, lr) in enumerate(line.items())}
    assert record_of("gpt", KIND, "adamw", "own", noisy).exponent_sd > 2 * one.exponent_sd
    two = record_of("gpt", KIND, "adamw", "own", {4: 0.2, 8: 0.1}, well_posed=False)
    assert (two.exponent, two.well_posed, two.depths) == (pytest.approx(-1.0), False, (4, 8))


def test_the_table_is_read_as_it_was_written_whatever_the_order():
    records = tuple(
        record_of(name, KIND, "adamw", which, {4: 0.2, 8: 0.1, 16: 0.06})
        for name in ("gpt", "llama")
        for which in ("own", "complete-p")
    )
    known = Experience(records, (CriterionRecord("gpt", KIND, -0.3, (4, 16)),))
    text = experience_document(known)
    assert text == experience_document(Experience(records[::-1], known.criterion))
    read = read_experience(text)
    assert read.criterion == known.criterion
    assert {dataclasses.replace(r, exponent=0, exponent_sd=1) for r in read.records} == {
        dataclasses.replace(r, exponent=0, exponent_sd=1) for r in records
    }
    assert sorted(r.exponent for r in read.records) == pytest.approx(
        [records[0].exponent] * 4, abs=1e-4
    )


@pytest.mark.parametrize(
    ("init", "law", "expected"),
    [
        (StableInit(), None, "stabilized"),
        (StableInit(), "constant", "stabilized"),
        (StableInit(residual="none"), None, "own"),
        (OwnInit(), None, "own"),
        (OwnInit(), "complete-p", "complete-p"),
        (StableInit(residual="none"), "depth-mup", "depth-mup"),
        (StableInit(), "complete-p", None),
        (StableInit(residual="last"), None, None),
        (StableInit(power=2.0), None, None),
    ],
)
def test_what_was_in_force_is_read_off_the_declaration(init, law, expected):
    family = EXPERIMENTS["resnet"]("smoke").families[0]
    chosen = None if law is None else Parametrization(law, base=family.sizes[0])
    family = dataclasses.replace(family, initialization=init, parametrization=chosen)
    assert _parametrization(family) == expected


def test_families_are_read_off_stored_results(tmp_path):
    families = {f.name: f for f in EXPERIMENTS["transformer"]("smoke").families}
    name, law = "GPT AdamW, 1/K", "GPT AdamW, complete-p"
    assert {name, law} <= set(families)
    folder = tmp_path / "transformer" / "smoke"
    folder.mkdir(parents=True)
    optima = [
        {"family": family, "size": {"depth": depth}, "lr": lr, "flags": flags,
         "axes": {"effective-depth": 2.0 * depth + 2}}
        for family in (name, law)
        for depth, lr, flags in ((1, 0.1, []), (2, 0.08, []), (4, 0.05, []))
    ]  # fmt: skip
    fits = {
        "exponents": [
            {"family": family, "axis": "effective-depth", "flags": flags}
            for family, flags in ((name, []), (law, ["edge"]))
        ]
    }
    regret = [
        {"family": name, "rule": rule, "bases": [{"depth": 1}], "target": {"depth": target},
         "lr": lr, "reference_lr": 0.05}
        for rule, target, lr in (
            ("measured", 2, 0.01), ("measured", 4, 0.1), ("constant", 4, 9.0), ("measured", 4, None)
        )
    ]  # fmt: skip
    for file, data in {"optima": optima, "fits": fits, "regret": regret}.items():
        (folder / f"{file}.json").write_text(json.dumps(data))
    found = first_evidence(tmp_path, scale="smoke")
    assert [(r.parametrization, r.well_posed) for r in found.records] == [
        ("stabilized", True),
        ("complete-p", False),
    ]
    assert {r.family for r in found.records} == {"transformer: gpt, width=16"}
    assert {(r.kind, r.depths) for r in found.records} == {(KIND, (4, 6, 10))}
    (error,) = found.criterion
    assert (error.log_error, error.depths) == (pytest.approx(math.log(2)), (4, 10))


def test_each_family_is_judged_by_the_others():
    def known(*exponents):
        return Experience(
            tuple(
                dataclasses.replace(
                    record_of(f"f{n}", KIND, "adamw", "own", {4: 0.2, 32: 0.1}),
                    exponent=value,
                    exponent_sd=0.05,
                )
                for n, value in enumerate(exponents)
            )
        )

    held = [answer for _, answer in judged_without_itself(known(-0.5, -0.5, -0.55, -0.5, 3.0))]
    assert held[-1] is False
    assert [answer for _, answer in judged_without_itself(known(-0.5, -0.6))] == [None, None]


def test_the_stored_table_came_out_of_the_maker():
    text = experience_document(stored_experience())
    assert read_experience(text) == stored_experience()
    assert len(stored_experience().records) > 20
