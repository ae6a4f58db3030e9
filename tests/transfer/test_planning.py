"""Arguments of plan_transfer: what it takes, and what it refuses with which words."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from etastar.errors import (
    CaptureError,
    EtastarError,
    LawError,
    OptimizerError,
    PlanError,
    RecurrentError,
)
from etastar.graph import capture_graph
from etastar.laws import EffectiveDepth, Width
from etastar.optimizers import optimizer_like
from etastar.transfer import Tuned, plan_transfer, read_architecture


class Keyword(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.first = nn.Linear(3, width)
        self.second = nn.Linear(width, 2)

    def forward(self, *, x):
        return self.second(self.first(x))


def test_networks_are_graphs_models_with_inputs_or_architectures(make_net, make_plan):
    x = torch.zeros(3, 6)
    forms = [
        [capture_graph(make_net(*size), x) for size in ((2, 8), (5, 32))],
        [(make_net(*size), (x,)) for size in ((2, 8), (5, 32))],
        [read_architecture((make_net(*size), (x,))) for size in ((2, 8), (5, 32))],
    ]
    plans = [
        plan_transfer(Tuned(networks[0], 0.1), networks[1], optimizer="adamw") for networks in forms
    ]
    assert plans[0] == plans[1] == plans[2] == make_plan()


def test_keyword_arguments_are_given_as_a_dict():
    networks = [(Keyword(width), {"x": torch.zeros(1, 3)}) for width in (4, 8)]
    assert plan_transfer(Tuned(networks[0], 0.1), networks[1], optimizer="sgd").base.depth == 2


@pytest.mark.parametrize(
    "network", [None, 3, nn.Linear(1, 1), (nn.Linear(1, 1), 1, 2), (nn.Linear(1, 1),), "x"]
)
def test_another_form_of_network_is_refused(network):
    with pytest.raises(CaptureError, match="example inputs"):
        plan_transfer(Tuned(network, 0.1), network, optimizer="sgd")


@pytest.mark.parametrize("lr", [0, 0.0, -0.1, math.nan, math.inf, -math.inf, "0.1", None, True])
def test_a_bad_learning_rate_is_refused(make_plan, lr):
    with pytest.raises(PlanError, match="lr="):
        make_plan(lr=lr)


@pytest.mark.parametrize("lr", [1, 0.1, np.float64(0.1), np.float32(0.5)])
def test_any_positive_number_is_a_learning_rate(make_plan, lr):
    if isinstance(lr, np.float32):
        with pytest.raises(PlanError, match="lr="):
            make_plan(lr=lr)
    else:
        assert make_plan((2, 8), (2, 8), lr=lr).lr == lr


@pytest.mark.parametrize("name", ["weight_decay", "eps"])
@pytest.mark.parametrize("value", [-0.1, math.nan, math.inf, "0.1", True])
def test_other_bad_numbers_are_refused(make_plan, name, value):
    with pytest.raises(PlanError, match=f"{name}="):
        make_plan(**{name: value})


@pytest.mark.parametrize(
    "settings",
    [
        {"optimizer": "sgd", "eps": 1e-8},
        {"optimizer": "adam", "aux_lr": 0.1},
        {"optimizer": "muon"},
        {"optimizer": torch.optim.NAdam},
        {
            "optimizer": optimizer_like(torch.optim.Rprop, "adam", decoupled_weight_decay=False),
            "weight_decay": 0.1,
        },
    ],
)
def test_settings_that_the_optimizer_lacks_are_refused(make_plan, settings):
    with pytest.raises(OptimizerError):
        make_plan(**settings)


@pytest.mark.parametrize(
    "settings",
    [
        {"law": "warp"},
        {"law": ["complete-p", "effective-depth"]},
        {"law": Width()},
        {"width": "wide"},
    ],
)
def test_bad_laws_are_refused(make_plan, settings):
    with pytest.raises(LawError):
        make_plan(**settings)


def test_an_unknown_decay_rule_is_refused(make_plan):
    with pytest.raises(PlanError, match="weight_decay_rule"):
        make_plan(weight_decay_rule="maybe")


def test_an_optimizers_own_settings_are_kept(make_net, make_plan):
    weights = make_net(2, 8).parameters()
    adamw = torch.optim.AdamW(weights, lr=0.1, weight_decay=0.25, eps=1e-6, betas=(0.8, 0.9))
    plan = make_plan((2, 8), (2, 8), optimizer=adamw)
    assert plan.parameters[0].weight_decay == 0.25
    assert plan.parameters[0].eps == 1e-6
    assert plan.parameters[0].betas == (0.8, 0.9)
    (group,) = plan.param_groups(make_net(2, 8))
    assert (group["weight_decay"], group["eps"], group["betas"]) == (0.25, 1e-6, (0.8, 0.9))


def test_options_of_the_law_are_recorded(make_plan):
    plan = make_plan(law=EffectiveDepth(exponent=-1.0))
    assert plan.law == "effective-depth(exponent=-1.0) x width"
    assert plan.laws[0].options == (("exponent", -1.0),)


class Loop(nn.Module):
    def __init__(self, width=4):
        super().__init__()
        self.stem = nn.Linear(3, width)
        self.cell = nn.Linear(width, width)
        self.head = nn.Linear(width, 2)

    def forward(self, x):
        x = self.stem(x)
        for _ in range(3):
            x = torch.tanh(self.cell(x))
        return self.head(x)


def test_a_recurrent_network_is_refused_by_the_parameters_name():
    network = (Loop(), (torch.zeros(1, 3),))
    with pytest.raises(RecurrentError, match=r"cell\.weight"):
        plan_transfer(Tuned(network, 0.1), network, optimizer="sgd")
    insisted = plan_transfer(Tuned(network, 0.1), network, optimizer="sgd", allow_recurrent=True)
    assert any("cell.weight" in note for note in insisted.notes)


class Bent(nn.Module):
    """The branch's output is bent, so that no parameter scales it."""

    def __init__(self, depth):
        super().__init__()
        self.stem = nn.Linear(3, 4)
        self.blocks = nn.ModuleList(nn.Linear(4, 4) for _ in range(depth))
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = x + torch.tanh(block(x))
        return self.head(x)


@pytest.mark.parametrize("law", ["depth-mup", "complete-p"])
def test_a_branch_that_cannot_carry_a_multiplier_is_refused(law):
    networks = [(Bent(depth), (torch.zeros(1, 3),)) for depth in (2, 6)]
    with pytest.raises(LawError, match=rf"'{law}'.*6 of 6.*blocks\.0\.weight"):
        plan_transfer(Tuned(networks[0], 0.1), networks[1], optimizer="sgd", law=law)
    same = plan_transfer(Tuned(networks[0], 0.1), networks[0], optimizer="sgd", law=law)
    assert len(same.groups) == 1
    plan_transfer(Tuned(networks[0], 0.1), networks[1], optimizer="sgd", law="effective-depth")


def test_every_refusal_has_three_parts(make_plan):
    for settings in ({"lr": -1}, {"law": "warp"}, {"optimizer": "lion"}, {"eps": -1.0}):
        with pytest.raises(EtastarError) as caught:
            make_plan(**settings)
        error = caught.value
        assert all((error.received, error.expected, error.action))
