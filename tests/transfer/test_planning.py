"""Arguments of plan_transfer: what it takes, and what it refuses with which words."""

import math
from dataclasses import replace

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
from etastar.laws import EffectiveDepth, Factors, Law, Width
from etastar.optimizers import (
    optimizer_like,
)
from etastar.transfer import (
    DEFAULT_LAW,
    Target,
    TransferPlan,
    Tuned,
    plan_transfer,
)


class Keyword(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.first = nn.Linear(3, width)
        self.second = nn.Linear(width, 2)

    def forward(self, *, x):
        return self.second(self.first(x))


def test_networks_are_graphs_or_models_with_inputs(make_net, make_plan):
    x = torch.zeros(3, 6)
    forms = [
        [capture_graph(make_net(*size), x) for size in ((2, 8), (5, 32))],
        [(make_net(*size), (x,)) for size in ((2, 8), (5, 32))],
    ]
    plans = [
        plan_transfer(Tuned(networks[0], 0.1), networks[1], optimizer="adamw") for networks in forms
    ]
    bare = [replace(plan, notes=()) for plan in plans]  # a model says of its weights what it sees
    assert bare[0] == bare[1] == replace(make_plan(), notes=())


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
        {"optimizer": torch.optim.Adagrad},
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
    for settings in ({"lr": -1}, {"law": "warp"}, {"optimizer": "lamb"}, {"eps": -1.0}):
        with pytest.raises(EtastarError) as caught:
            make_plan(**settings)
        error = caught.value
        assert all((error.received, error.expected, error.action))


def test_the_forms_of_a_network_are_one(make_net):
    model, x = make_net(2, 8), torch.zeros(3, 6)
    target = capture_graph(make_net(5, 8), x)
    forms = [(model, x), (model, (x,)), (model, {"x": x}), capture_graph(model, x)]
    plans = [plan_transfer(Tuned(form, 0.1), target, optimizer="sgd") for form in forms]
    assert plans[0] == plans[1] == plans[2] == replace(plans[3], notes=plans[0].notes)
    assert plans[0] == plan_transfer(Tuned((model, x), 0.1), Target(target), optimizer="sgd")


@pytest.mark.parametrize("law", [3, None, [None], [3], (), EffectiveDepth])
def test_what_is_no_law_is_refused(make_plan, law):
    with pytest.raises(LawError):
        make_plan(law=law)


def test_no_law_is_the_default_law(make_plan):
    assert make_plan() == make_plan(law=DEFAULT_LAW)


@pytest.mark.parametrize("measure", [3, "x", (1, 2)])
def test_what_is_no_measure_is_refused(make_plan, measure):
    with pytest.raises(PlanError, match="Measure"):
        make_plan(measure=measure)


@pytest.mark.parametrize("betas", [0.9, (0.9,), (0.9, 1.0), (-0.1, 0.9), ("a", "b"), {0.9, 0.95}])
def test_bad_betas_are_refused(make_plan, betas):
    with pytest.raises(PlanError, match="betas="):
        make_plan(betas=betas)


def test_betas_are_carried_and_refused_where_there_are_none(make_ready, make_plan):
    plan = make_plan(betas=(0.9, 0.95))
    assert {p.betas for p in plan.parameters} == {(0.9, 0.95)}
    assert {g["betas"] for g in plan.param_groups(make_ready(plan))} == {(0.9, 0.95)}
    with pytest.raises(OptimizerError, match="betas"):
        make_plan(optimizer="sgd", betas=(0.9, 0.95))
    muon = make_plan(optimizer="muon", aux_lr=0.1, betas=(0.9, 0.95))
    assert {p.betas for p in muon.parameters if p.optimizer == "muon"} == {None}
    assert {p.betas for p in muon.parameters if p.optimizer == "adamw"} == {(0.9, 0.95)}


class Slower(Law):
    """A law of the batch, as one may come."""

    name = "slower"

    def factors(self, pair, case):
        ratio = case.target.training.batch_size / case.base.training.batch_size
        return Factors(lr=ratio**0.5, betas=(ratio, ratio))


def test_a_law_may_read_the_training_and_set_betas(make_net):
    x = torch.zeros(3, 6)
    base = Tuned((make_net(2, 8), x), 0.1, betas=(0.9, 0.95), batch_size=64, num_steps=100)
    target = Target((make_net(2, 8), x), batch_size=256, num_steps=100)
    plan = plan_transfer(base, target, optimizer="adamw", law=Slower())
    assert plan.lr == pytest.approx(0.2)
    assert plan.parameters[0].betas == pytest.approx((0.6, 0.8))
    assert (plan.base.batch_size, plan.base.num_steps) == (64, 100)
    assert TransferPlan.from_json(plan.to_json()) == plan
    huge = Target(target.network, batch_size=64 * 11)
    with pytest.raises(PlanError, match="betas"):
        plan_transfer(base, huge, optimizer="adamw", law=Slower())


def test_training_that_no_law_reads_is_noted(make_net):
    x = torch.zeros(3, 6)
    base = Tuned((make_net(2, 8), x), 0.1, batch_size=64, num_steps=100)
    target = Target((make_net(5, 8), x), batch_size=256, num_steps=100)
    unread = (
        "batch size 64 to 256: no law of this plan corrects for it; 'batch-size' would, beside the "
        "others"
    )
    assert plan_transfer(base, target, optimizer="adamw").notes[0] == unread
    alike = Target(target.network, batch_size=64, num_steps=100)
    assert unread not in plan_transfer(base, alike, optimizer="adamw").notes


@pytest.mark.parametrize("value", [0, -1, 1.5, True, "8", math.nan])
@pytest.mark.parametrize("name", ["batch_size", "num_steps"])
def test_bad_training_is_refused(make_net, name, value):
    network = (make_net(2, 8), torch.zeros(3, 6))
    for call in (lambda **k: Tuned(network, 0.1, **k), lambda **k: Target(network, **k)):
        with pytest.raises(PlanError, match=f"{name}="):
            call(**{name: value})


class Convolutions(nn.Module):
    """Convolutions, which are AdamW's beside Muon; with `mix` a hidden matrix of fewer elements."""

    def __init__(self, depth, *, mix=False):
        super().__init__()
        self.stem = nn.Conv2d(1, 8, 3, padding=1)
        self.layers = nn.Sequential(*[nn.Conv2d(8, 8, 3, padding=1) for _ in range(depth)])
        self.mix = nn.Linear(8, 8) if mix else nn.Identity()
        self.head = nn.Linear(8, 4)

    def forward(self, x):
        return self.head(self.mix(self.layers(self.stem(x)).mean((2, 3))))


def of_muon(*, mix, **settings):
    nets = [(Convolutions(depth, mix=mix), torch.zeros(2, 1, 8, 8)) for depth in (2, 8)]
    return plan_transfer(Tuned(nets[0], 0.02, aux_lr=0.003), nets[1], optimizer="muon", **settings)


def test_muon_without_a_matrix_is_refused_when_the_plan_is_made():
    with pytest.raises(PlanError, match="without a parameter that muon updates"):
        of_muon(mix=False)


def test_the_headline_of_muon_is_muons_own(make_plan):
    plan = make_plan(optimizer="muon", lr=0.02, aux_lr=0.003, law="constant", width="none")
    beside = of_muon(mix=True, law="constant")
    assert [e.name for e in beside.parameters if e.optimizer == "muon"] == ["mix.weight"]
    for one in (plan, beside):
        assert one.lr == 0.02
        assert "lr 0.02 -> 0.02 (muon), beside it from 0.003" in str(one)


def residual(blocks):
    layers = [nn.Linear(8, 8) for _ in range(blocks)]

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.head = nn.Linear(6, 8), nn.Linear(8, 4)
            self.layers = nn.ModuleList(layers)

        def forward(self, x):
            x = self.stem(x)
            for layer in self.layers:
                x = x + layer(x)
            return self.head(x)

    return Net(), torch.zeros(2, 6)


def test_absurd_numbers_are_refused():
    """2^40 paths: a rate of 1e-9, a weight decay of ten million."""
    with pytest.raises(PlanError, match=r"path-sum x width: the learning rate of .* times"):
        plan_transfer(
            Tuned(residual(2), 3e-3, weight_decay=0.1), residual(42), optimizer="adamw",
            law="path-sum",
        )  # fmt: skip
    kept = plan_transfer(
        Tuned(residual(2), 3e-3, weight_decay=0.1), residual(42), optimizer="adamw"
    )
    assert kept.lr > 1e-6 * 3e-3


def test_decay_that_would_remove_the_weights_is_refused(make_plan):
    with pytest.raises(PlanError, match="one step would remove the weight"):
        make_plan(lr=0.5, weight_decay=2.0)
    assert make_plan(lr=0.5, weight_decay=2.0, optimizer="adam").base.weight_decay == 2.0


@pytest.mark.parametrize("law", ["complete-p", "depth-mup", "constant"])
@pytest.mark.parametrize("optimizer", ["adam", "adamw"])
def test_epsilon_is_left_alone_where_the_target_has_its_own(make_net, law, optimizer):
    base, target = ((make_net(*size), torch.zeros(3, 6)) for size in ((2, 8), (5, 32)))

    def epsilons(target, **settings):
        plan = plan_transfer(Tuned(base, 0.1, **settings), target, optimizer=optimizer, law=law)
        return {entry.name: entry.eps for entry in plan.parameters}

    scaled = epsilons(target, eps=1e-6)
    hidden, readout = scaled["blocks.0.0.weight"], scaled["head.weight"]
    assert hidden == pytest.approx(1e-6 / 4 / (2.5 if law == "complete-p" else 1))
    assert readout == pytest.approx(1e-6)
    kept = epsilons(Target(target, eps=1e-6), eps=1e-6)
    assert set(kept.values()) == {1e-6}
    with pytest.raises(PlanError, match="eps="):
        Target(target, eps=-1.0)


def test_the_epsilon_of_a_target_is_that_of_adamw_beside_muon(make_net):
    base, target = ((make_net(*size), torch.zeros(3, 6)) for size in ((2, 8), (5, 32)))
    tuned = Tuned(base, 0.1, aux_lr=0.01)
    plan = plan_transfer(tuned, Target(target, eps=1e-5), optimizer="muon", law="constant")
    assert {e.eps for e in plan.parameters if e.optimizer == "adamw"} == {1e-5}
    assert {e.eps for e in plan.parameters if e.optimizer == "muon"} == {1e-7}
    with pytest.raises(OptimizerError, match="eps"):
        plan_transfer(Tuned(base, 0.1), Target(target, eps=1e-5), optimizer="sgd")
