"""`law="auto"`: the narrowest of what the network can carry, its interval, and why."""

import json
import math
import warnings
from dataclasses import replace
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from etastar import initialize_
from etastar.errors import LawError, PlanError
from etastar.graph import capture_graph
from etastar.models import build, example_inputs
from etastar.optimizers import optimizer_kind
from etastar.transfer import (
    DEFAULT_LAW,
    DefaultChoice,
    Experience,
    Measure,
    TransferPlan,
    Tuned,
    plan_transfer,
    read_architecture,
    stored_experience,
)
from etastar.transfer.experience import ExperienceRecord
from etastar.transfer.network_kind import NetworkKind, network_kind

PRE = NetworkKind("residual", "pre", False, False, 2, "adam")


def records(which, exponents, *, kind=PRE, sd=0.05):
    return tuple(
        ExperienceRecord(f"family {n}", kind, "adamw", which, exponent, sd, (4, 32))
        for n, exponent in enumerate(exponents)
    )


OWN = records("own", (-0.4, -0.6, -0.5, -0.7, -0.45))
COMPLETE = records("complete-p", (0.0, 0.03, -0.02, 0.01, 0.04))
STABILIZED = records("stabilized", (-0.9, -1.1, -1.0, -0.95))
KNOWN = DefaultChoice(Experience((*OWN, *COMPLETE, *STABILIZED)))
NOTHING = DefaultChoice(Experience())


def gpt(depth, width=16):
    torch.manual_seed(depth)
    size = {"depth": depth, "width": width}
    return build("gpt", **size), example_inputs("gpt", **size)


def plan(base, target, *, law=KNOWN, lr=0.01, **settings):
    bases = base if isinstance(base, list) else Tuned(base, lr)
    return plan_transfer(bases, target, **{"optimizer": "adamw", "law": law, **settings})


def half(plan):
    """Half the length of the interval of log lr; the interval lies even about the rate."""
    low, high = map(math.log, plan.lr_interval)
    assert (low + high) / 2 == pytest.approx(math.log(plan.lr))
    return (high - low) / 2


def test_the_narrowest_that_the_network_can_carry_is_taken_and_says_why():
    found = plan(gpt(1), gpt(8))
    assert [law.name for law in found.laws] == ["complete-p", "effective-depth", "width"]
    prior = KNOWN.experience.prior(PRE, "complete-p")
    step = math.log(18 / 4)
    assert half(found) == pytest.approx(1.96 * math.hypot(0.15, prior.sd * step), rel=1e-6)
    assert found.lr == pytest.approx(0.01 * 4.5 ** round(prior.mean, 3))
    assert found.why == (
        "Pre-norm residual network with AdamW: CompleteP keeps the rate over depth in 5 of 5 such "
        f"families (exponent {prior.mean:.2f} +- {prior.sd:.2f}). "
        f"Expected within x{math.exp(-half(found)):.2g} to x{math.exp(half(found)):.2g} of the "
        "optimum."
    )


def gaining(*advantages):
    return tuple(
        replace(one, advantage=each, exponent_sd=0.3)
        for one, each in zip(COMPLETE, advantages, strict=False)
    )


def test_a_parametrization_that_ends_lower_is_worth_a_wider_interval():
    """1.8% of regret an octave of error: an advantage of 4% is worth more, one of 0.1% is not."""
    sure = tuple(replace(one, exponent=-0.1, exponent_sd=0.01) for one in OWN)
    far, near, alone = (
        plan(gpt(1), gpt(8), law=DefaultChoice(Experience((*sure, *gaining(*advantages)))))
        for advantages in ((0.04, 0.05, 0.2), (0.001, 0.05, 0.2), (0.04,))
    )
    assert far.laws[0].name == "complete-p"
    assert "gains at least 4.0% more than their own best rates (exponent" in far.why
    for found in (near, alone):
        assert [law.name for law in found.laws] == ["effective-depth", "width"]
    assert half(far) > half(near)
    kept = plan(
        gpt(1), gpt(8), law=DefaultChoice(Experience((*sure, *gaining(0.04, 0.05)))), init="keep"
    )
    assert [law.name for law in kept.laws] == ["effective-depth", "width"]


def test_keep_takes_only_what_leaves_the_weights_alone():
    found = plan(gpt(1), gpt(8), init="keep")
    assert [law.name for law in found.laws] == ["effective-depth", "width"]
    assert {entry.init for entry in found.parameters} == {1.0}
    assert dict(found.laws[0].options)["exponent"] == pytest.approx(-0.53, abs=0.02)
    assert half(found) > half(plan(gpt(1), gpt(8)))
    with pytest.raises(LawError, match="complete-p"):
        plan(gpt(1), gpt(8), law="complete-p", init="keep")
    with pytest.raises(LawError, match="width, which multiplies"):
        plan(gpt(1), gpt(8, 32), init="keep")
    plan(gpt(1), gpt(8, 32), init="keep", width="none")


def test_a_base_that_initialize_drew_has_its_law_alone():
    base, target = gpt(1), gpt(8)
    initialize_(base[0], capture_graph(base[0], *base[1]))
    found = plan(base, target)
    assert [law.name for law in found.laws] == ["effective-depth", "width"]
    assert dict(found.laws[0].options)["exponent"] == pytest.approx(-0.99, abs=0.05)
    assert found.initialization.residual == "all"
    told = plan(gpt(1), target, init="stabilized")
    assert (told.laws, told.lr_interval) == (found.laws, found.lr_interval)
    found.initialize_(target[0])
    found.param_groups(target[0])
    with pytest.raises(LawError, match="init='stabilized' for the law 'complete-p'"):
        plan(base, target, law="complete-p", init="stabilized")


def test_a_base_that_initialize_drew_without_k_carries_multipliers():
    base, target = gpt(1), gpt(8)
    initialize_(base[0], capture_graph(base[0], *base[1]), residual="none")
    found = plan(base, target)
    assert found.laws[0].name == "complete-p"
    assert found.initialization.residual == "none"
    found.initialize_(target[0])


def test_a_rate_of_the_networks_own_initialization_is_not_carried_to_another():
    target = gpt(8)
    before = [p.clone() for p in target[0].parameters()]
    for settings in ({}, {"init": "keep"}):
        found = plan(gpt(1), target, **settings)
        assert found.initialization.residual == "own"
        with pytest.raises(PlanError, match="own initialization"):
            found.initialize_(target[0])
    assert all(torch.equal(*pair) for pair in zip(before, target[0].parameters(), strict=True))
    found = plan(gpt(1), target)
    found.rescale_(target[0])
    found.param_groups(target[0])


def test_a_kind_without_families_is_answered_by_the_structure_law_with_a_wide_interval():
    found = plan(gpt(1), gpt(8), law=NOTHING)
    structure = plan(gpt(1), gpt(8), law="structure")
    assert [law.name for law in found.laws] == ["effective-depth", "width"]
    assert "No two stored families are like this pre-norm residual network with AdamW" in found.why
    assert "structure law" in found.why
    assert found.why.endswith(": tune a second size.")
    assert half(found) == pytest.approx(1.96 * math.hypot(0.15, 0.5 * math.log(4.5)))
    # under an initialization without 1/K, where `structure` assumes it on all weights
    assert found.lr < structure.lr
    drawn = plan(gpt(1), gpt(8), law=NOTHING, init="stabilized")
    assert drawn.lr == pytest.approx(structure.lr, rel=2e-3)


def test_each_family_can_be_judged_without_itself():
    one = plan(gpt(1), gpt(8), law=DefaultChoice(KNOWN.experience.without("family 3")))
    assert "in 4 of 4 such families" in one.why
    none = KNOWN.experience.without(*(f"family {n}" for n in range(5)))
    assert plan(gpt(1), gpt(8), law=DefaultChoice(none)).why.startswith("No two stored")


def test_two_tuned_sizes_are_data_for_the_networks_own_exponent():
    """Depth 1 to 4 at an exponent of -1.2, known to 2%, outweighs families at -0.5."""
    lrs = {depth: 0.02 * (2 * depth + 2) ** -1.2 for depth in (1, 2, 4)}
    bases = [Tuned(gpt(d), lr, log_lr_sd=0.02) for d, lr in lrs.items()]
    own = DefaultChoice(Experience(OWN))
    found = plan(bases, gpt(8), law=own)
    assert found.laws[0].name == "fitted"
    assert dict(found.laws[0].options)["exponent"] == pytest.approx(-1.2, abs=0.1)
    assert half(found) < half(plan(bases[-1:], gpt(8), law=own))
    assert "and 3 tuned sizes" in found.why
    unsure = [Tuned(gpt(d), lr, log_lr_sd=0.5) for d, lr in lrs.items()]
    assert dict(plan(unsure, gpt(8), law=own).laws[0].options)["exponent"] > -0.9


def test_sizes_that_a_law_does_not_read_are_named():
    bases = [Tuned(gpt(d), 0.01, log_lr_sd=0.1) for d in (1, 2)]
    found = plan(bases, gpt(8))
    assert found.laws[0].name == "complete-p"
    assert "2 tuned networks: the law starts from the deepest" in found.notes[0]
    assert half(found) == pytest.approx(
        1.96 * math.hypot(0.1, KNOWN.experience.prior(PRE, "complete-p").sd * math.log(18 / 6)),
        rel=1e-6,
    )


def test_the_error_of_the_tuned_rate_is_in_the_interval_and_alone_at_the_base():
    for sd, expected in ((None, 0.15), (0.4, 0.4)):
        base = Tuned(gpt(2), 0.01, log_lr_sd=sd)
        found = plan([base], gpt(2))
        assert found.lr == 0.01
        assert half(found) == pytest.approx(1.96 * expected)
        assert all(entry.lr == 0.01 for entry in found.parameters)


def test_the_width_rule_moves_the_centre_and_not_the_length():
    narrow, wide = plan(gpt(1), gpt(8)), plan(gpt(1), gpt(8, 64))
    assert wide.lr == pytest.approx(narrow.lr / 4)
    assert half(wide) == pytest.approx(half(narrow))


def test_what_cannot_carry_a_multiplier_is_not_given_one():
    class Bent(nn.Module):
        def __init__(self, depth):
            super().__init__()
            self.stem, self.head = nn.Linear(3, 8), nn.Linear(8, 2)
            self.blocks = nn.ModuleList(nn.Linear(8, 8) for _ in range(depth))

        def forward(self, x):
            x = self.stem(x)
            for block in self.blocks:
                x = x + torch.tanh(block(x))
            return self.head(x)

    kind = NetworkKind("residual", "none", False, False, 1, "sgd")
    law = DefaultChoice(Experience(records("complete-p", (0.0, 0.01, 0.02), kind=kind)))
    nets = [(Bent(depth), torch.zeros(1, 3)) for depth in (2, 6)]
    found = plan(*nets, law=law, optimizer="sgd")
    assert "complete-p" not in [one.name for one in found.laws]


def test_the_forms_of_a_network_are_answered_alike():
    base, target = gpt(1), gpt(4)
    forms = [
        (base, target),
        tuple(capture_graph(model, *x) for model, x in (base, target)),
    ]
    plans = [plan(*form) for form in forms]
    assert plans[0] == plans[1]


def test_a_base_of_another_kind_is_no_case_of_the_target():
    def net(depth, norm):
        layer = nn.TransformerEncoderLayer(16, 2, 32, norm_first=norm, batch_first=True)
        encoder = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)
        return nn.Sequential(nn.Linear(8, 16), encoder, nn.Linear(16, 4)), torch.zeros(2, 5, 8)

    found = plan(net(1, True), net(4, False))
    assert found.why.startswith("Base and target are of different kinds: the structure law")


def test_the_measured_criterion_is_data():
    tokens = torch.randint(0, 50, (4, 8), generator=torch.Generator().manual_seed(0))

    def loss(scores, targets):
        return F.cross_entropy(scores.flatten(0, 1), targets.flatten())

    nets = [(gpt(depth)[0], tokens) for depth in (1, 4)]
    measure = Measure((tokens, tokens.roll(-1, 1)), loss, options={"seeds": 1})
    own = DefaultChoice(Experience(OWN))
    without = plan(*nets, law=own, init="keep")
    found = plan(*nets, law=own, init="keep", measure=measure)
    assert "and the measured criterion" in found.why
    assert half(found) < half(without)
    named = plan(*nets, law="measured", measure=measure)
    step = math.log(10 / 4)
    criterion = math.log(named.lr / 0.01) / step
    prior = own.experience.prior(PRE, "own")
    weights = prior.sd**-2, 0.5**-2  # nothing is known of the criterion's error here
    expected = (weights[0] * prior.mean + weights[1] * criterion) / sum(weights)
    assert math.log(found.lr / 0.01) / step == pytest.approx(expected, abs=2e-3)


def test_the_default_is_auto_and_goes_with_no_other_law():
    assert DEFAULT_LAW == "auto"
    base, target = gpt(1), gpt(2)
    assert plan_transfer(Tuned(base, 0.1), target, optimizer="adamw") == plan_transfer(
        Tuned(base, 0.1), target, optimizer="adamw", law="auto"
    )
    with pytest.raises(LawError, match="law 'auto' together with 'constant'"):
        plan(base, target, law=["auto", "constant"])
    for bad in ("all", None, 3):
        with pytest.raises(LawError, match="init"):
            plan(base, target, init=bad)


def test_interval_and_reason_are_saved_printed_and_in_plain_data(tmp_path):
    found = plan(gpt(1), gpt(8))
    assert TransferPlan.from_json(found.to_json()) == found
    low, high = (f"{end:.4g}" for end in found.lr_interval)
    printed = str(found)
    assert f"(95%: {low} to {high})" in printed.replace("\n", " ")
    assert found.why in printed.replace("\n", " ")
    assert all(found.why not in note for note in found.notes)
    assert found.as_dict()["lr_interval"] == found.lr_interval
    assert found.as_dict()["why"] == found.why
    json.dumps(found.as_dict())
    assert plan(gpt(1), gpt(8), law="constant").lr_interval is None
    assert plan(gpt(1), gpt(8), law="constant").why == ""


def test_a_named_fit_has_its_interval_too():
    bases = [Tuned(gpt(depth), lr) for depth, lr in ((1, 0.02), (2, 0.015))]
    found = plan(bases, gpt(8), law="fitted")
    assert half(found) > 0
    assert found.why == ""
    assert "interval" not in found.notes[0]


class Convolved(nn.Conv1d):
    """A convolution over eight positions of one channel, in place of a layer of eight units."""

    def __init__(self):
        super().__init__(1, 1, 3, padding=1, bias=False)

    def forward(self, x):
        return super().forward(x.unsqueeze(1)).squeeze(1)


class Made(nn.Module):
    """A small network of any kind that the stored table has."""

    def __init__(self, kind, depth):
        super().__init__()
        norm = nn.BatchNorm1d if kind.batch_norm else nn.LayerNorm
        layers = max(1, kind.branch_layers)
        self.kind = kind
        self.stem, self.head = nn.Linear(6, 8, bias=False), nn.Linear(8, 3, bias=False)
        make = Convolved if kind.convolutional else partial(nn.Linear, 8, 8, bias=False)
        self.blocks = nn.ModuleList(
            nn.ModuleList(make() for _ in range(layers)) for _ in range(depth)
        )
        self.norms = nn.ModuleList(norm(8) for _ in range(depth))
        self.gains = nn.ParameterList(torch.full((8,), 0.1) for _ in range(depth))

    def forward(self, x):
        x = self.stem(x)
        for block, norm, gain in zip(self.blocks, self.norms, self.gains, strict=True):
            y = norm(x) if self.kind.norm == "pre" else x
            for number, layer in enumerate(block):
                y = layer(torch.relu(y))
                y = norm(y) if self.kind.norm == "inside" and number == 0 else y
            y = gain * y if self.kind.scaled_branches else y
            x = x + y if self.kind.structure == "residual" else y
            x = norm(x) if self.kind.norm == "post" else x
        return self.head(torch.relu(x))


KINDS = sorted({one.kind for one in stored_experience().records if one.well_posed}, key=repr)


@pytest.mark.parametrize("stabilized", [True, False], ids=["stabilized", "own"])
@pytest.mark.parametrize("kind", KINDS, ids=[f"{kind}, {kind.update}" for kind in KINDS])
def test_calling_the_default_wrong_fails(kind, stabilized):
    """The plan's factor is one that a stored case of the kind holds, under what the plan takes."""
    optimizer = {"sgd": "sgd", "adam": "adamw", "muon": "muon"}[kind.update]
    nets = [capture_graph(Made(kind, depth), torch.zeros(4, 6)) for depth in (2, 14)]
    known = (read_architecture(net).features for net in nets)
    assert {network_kind(one, optimizer_kind(optimizer)) for one in known} == {kind}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = plan_transfer(
            Tuned(nets[0], 0.01, aux_lr=0.01 if optimizer == "muon" else None),
            nets[1],
            optimizer=optimizer,
            init="stabilized" if stabilized else "any",
        )
    names = [law.name for law in found.laws]
    which = next((n for n in names if n in ("complete-p", "depth-mup")), None)
    which = which or ("stabilized" if stabilized else "own")
    every = (one for one in stored_experience().records if one.well_posed)
    stored = [one for one in every if (one.kind, one.parametrization) == (kind, which)]
    if len({one.family for one in stored}) < 2:
        assert found.why.startswith("No two stored families")
        return
    assert "such families" in found.why
    log_depth = math.log(found.target_depth / found.base.depth)
    depth_laws = (dict(law.options) for law in found.laws if law.name == "effective-depth")
    power = next(depth_laws, {"exponent": 0.0})["exponent"]
    low = min(one.exponent - 1.96 * one.exponent_sd for one in stored)
    high = max(one.exponent + 1.96 * one.exponent_sd for one in stored)
    assert low * log_depth <= power * log_depth <= high * log_depth
    prior = stored_experience().prior(kind, which)
    assert power == pytest.approx(prior.mean, abs=1e-3)
    held = [
        abs(one.exponent - power) * log_depth <= half(found) + 1.96 * one.exponent_sd * log_depth
        for one in stored
    ]
    assert sum(held) >= 0.8 * len(held)
