"""GPT-2's initialization, one size at every width and 1/K on branches, and what to do with it."""

import pytest
import torch
from torch import nn

from etastar.models import build, example_inputs
from etastar.transfer import Tuned, plan_transfer


def gpt(depth, width=32, *, std=lambda fan_in: 0.02, additions=1):
    torch.manual_seed(depth)
    model = build("gpt", depth=depth, width=width)
    for name, parameter in model.named_parameters():
        if parameter.ndim == 2:
            scale = additions**-0.5 if name.endswith("proj.weight") else 1.0
            nn.init.normal_(parameter, std=std(parameter.shape[1]) * scale)
    return model, example_inputs("gpt")


def planned(base, target, **settings):
    return plan_transfer(Tuned(base, 0.01), target, optimizer="adamw", **settings)


def matching(words, plan):
    return [note for note in plan.notes if words in note]


def test_one_standard_deviation_at_two_widths_is_named():
    words = "at both widths: the width rule takes 1/fan_in for granted"
    for additions in (1, 6):
        (note,) = matching(words, planned(gpt(3), gpt(9, 96, additions=additions)))
        assert note.startswith("blocks.*.attn.qkv.weight (9), ")
        assert " of std 0.0" in note
    for options in ({"width": "none"}, {"law": "constant"}):  # the latter names it in other words
        assert matching(words, planned(gpt(3), gpt(9, 96), **options)) == []
    assert matching(words, planned(gpt(3), gpt(9))) == []


@pytest.mark.parametrize("rule", [lambda n: n**-0.5, lambda n: 0.02 * (32 / n) ** 0.5])
def test_one_that_follows_the_width_is_not(rule):
    assert matching("1/fan_in", planned(gpt(3, std=rule), gpt(9, 96, std=rule))) == []


def test_where_initialize_is_refused_another_way_is_named_and_right():
    words = "plan.rescale_ would count depth twice"
    (note,) = matching(words, planned(gpt(3, additions=6), gpt(12, additions=24)))
    assert note.endswith("draw them with the K of the base")
    target = gpt(12, additions=6)
    plan = planned(gpt(3, additions=6), target)
    assert matching(words, plan) == []
    plan.rescale_(target[0])
    found = target[0].blocks[5].mlp.proj.weight.std().item()
    assert found == pytest.approx(0.02 * 6**-0.5 / 4, rel=0.05)  # the base's, and 1/K
