"""What a plan by the default choice says of `initialize_` before the base is tuned."""

from dataclasses import replace

import pytest
import torch

from etastar import capture_graph, initialize_
from etastar.models import build, example_inputs
from etastar.transfer import DefaultChoice, Experience, Tuned, plan_transfer, stored_experience
from etastar.transfer.experience import ExperienceRecord
from etastar.transfer.network_kind import NetworkKind

PRE = NetworkKind("residual", "pre", False, False, 2, "adam")


def record(family, which, advantage):
    return ExperienceRecord(family, PRE, "adamw", which, -0.3, 0.1, (4, 32), True, advantage)


def compared(*advantages):
    own = [record(str(n), "own", None) for n in range(3)]
    return Experience(
        tuple(own) + tuple(record(str(n), "stabilized", gain) for n, gain in enumerate(advantages))
    )


def gpt(depth):
    torch.manual_seed(depth)
    return build("gpt", depth=depth, width=16), example_inputs("gpt", depth=depth, width=16)


def said(experience, *, base=None, **settings):
    plan = plan_transfer(
        Tuned(base or gpt(1), 0.01),
        gpt(4),
        optimizer="adamw",
        law=DefaultChoice(experience),
        **settings,
    )
    return [note for note in plan.notes if "initialize_ " in note and "such families" in note]


def drawn():
    base = gpt(1)
    initialize_(base[0], capture_graph(base[0], *base[1]))
    return base


def test_where_every_family_ended_lower_the_plan_says_to_tune_so():
    (note,) = said(compared(0.05, 0.03, 0.2))
    assert "ended lower in 3 of 3 such families" in note
    assert "at least 3.0%" in note
    assert "tune the base with it" in note


def test_where_every_family_ended_higher_a_base_drawn_so_is_told():
    (note,) = said(compared(-0.05, -0.03), base=drawn())
    assert "ended higher in 2 of 2 such families" in note
    assert "at least 3.0%" in note
    assert said(compared(-0.05, -0.03)) == []


@pytest.mark.parametrize(
    ("gains", "base", "settings"),
    [
        ((0.05, -0.03), None, {}),
        ((0.05,), None, {}),  # one family says nothing
        ((0.05, 0.03), None, {"init": "keep"}),
        ((0.05, 0.03), drawn, {}),  # it was
        ((-0.05, 0.03), drawn, {}),
    ],
)
def test_elsewhere_nothing_is_said(gains, base, settings):
    assert said(compared(*gains), base=base and base(), **settings) == []


def test_less_than_what_the_choice_itself_gains_is_not_said():
    more = tuple(replace(record(str(n), "complete-p", 0.1), exponent=0.0) for n in range(3))
    experience = compared(0.05, 0.06, 0.07)
    assert said(experience)
    assert not said(Experience((*experience.records, *more)))


def test_the_stored_families_say_it_of_pre_norm_transformers():
    (note,) = said(stored_experience())
    assert "ended lower in" in note
