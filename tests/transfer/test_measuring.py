"""The measured law in plans: applied, beside others, by role, through proxies."""

import copy
import math
import warnings
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from etastar.errors import LawError, MeasureError, OptimizerError, PlanError
from etastar.graph import capture_graph
from etastar.laws import Measured
from etastar.measure import measure_update
from etastar.transfer import Measure, TransferPlan, Tuned, plan_transfer

INPUTS = torch.randn(6, 16, generator=torch.Generator().manual_seed(0))
TARGETS = torch.arange(6) % 4
BATCH = Measure((INPUTS, TARGETS), F.cross_entropy)


def chain(depth, width=32):
    torch.manual_seed(depth)
    sizes = [16] + [width] * depth
    layers = [m for a, b in pairwise(sizes) for m in (nn.Linear(a, b), nn.ReLU())]
    model = nn.Sequential(*layers, nn.Linear(width, 4))
    for name, parameter in model.named_parameters():
        if name.endswith("weight"):
            nn.init.kaiming_normal_(parameter)
    return model


def network(depth, width=32):
    return chain(depth, width), (INPUTS,)


def eta(model, optimizer="sgd"):
    report = measure_update(
        model, (INPUTS, TARGETS), F.cross_entropy, optimizer=optimizer, pre_activations="stream"
    )
    return report.eta_star


def test_the_plan_follows_the_ratio_of_the_criterion():
    base, target = network(2), network(8)
    plan = plan_transfer(Tuned(base, 0.1), target, optimizer="sgd", law="measured", measure=BATCH)
    expected = 0.1 * eta(target[0]) / eta(base[0])
    assert plan.lr == pytest.approx(expected, rel=1e-4)
    assert {entry.lr for entry in plan.parameters} == {plan.lr}
    assert [law.name for law in plan.laws] == ["width", "measured"]
    assert any(note.startswith("measured: eta*") for note in plan.notes)
    assert TransferPlan.from_json(plan.to_json()) == plan


def test_at_the_base_nothing_changes():
    base = network(3)
    plan = plan_transfer(Tuned(base, 0.1), base, optimizer="adamw", law="measured", measure=BATCH)
    assert {entry.lr for entry in plan.parameters} == {0.1}


def test_another_law_stands_beside_it_and_warns_where_they_differ():
    base, target = network(2), network(20)
    ratio = eta(target[0]) / eta(base[0])
    with pytest.warns(UserWarning, match="the criterion would have"):
        plan = plan_transfer(
            Tuned(base, 0.1), target, optimizer="sgd", law="constant", measure=BATCH
        )
    assert ratio < 0.5
    assert plan.lr == 0.1
    assert any(f"times {ratio:.3g}" in note for note in plan.notes)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plan_transfer(Tuned(base, 0.1), network(3), optimizer="sgd", law="constant", measure=BATCH)


def test_what_the_other_laws_do_is_not_done_again():
    """On top of a law that is right already, the criterion has nothing left to do."""
    base, target = network(2), network(8)
    exponent = math.log(eta(target[0]) / eta(base[0])) / math.log(9 / 3)
    from etastar.laws import EffectiveDepth

    plan = plan_transfer(
        Tuned(base, 0.1),
        target,
        optimizer="sgd",
        law=[EffectiveDepth(exponent=exponent), "measured"],
        measure=BATCH,
    )
    (law,) = (dict(one.options) for one in plan.laws if one.name == "measured")
    assert math.sqrt(law["base"] / law["target"]) == pytest.approx(1.0, rel=1e-3)
    assert plan.lr == pytest.approx(0.1 * eta(target[0]) / eta(base[0]), rel=1e-3)


def test_weights_are_drawn_anew_where_it_is_said_how():
    """One draw of each gave a factor that another pair of draws contradicted by a multiple."""

    def drawn(model):
        for name, parameter in model.named_parameters():
            if name.endswith("weight"):
                nn.init.kaiming_normal_(parameter)

    def made():
        model = copy.deepcopy(base[0])
        drawn(model)
        return model

    base, target = network(2, width=16), network(8, width=16)
    measure = Measure((INPUTS, TARGETS), F.cross_entropy, draw=drawn, seeds=range(6))
    plan = plan_transfer(Tuned(base, 0.1), target, optimizer="sgd", law="measured", measure=measure)

    rates = [
        measure_update(made, (INPUTS, TARGETS), F.cross_entropy, optimizer="sgd", seeds=[seed])
        for seed in range(6)
    ]
    typical = math.exp(sum(math.log(one.eta_star) for one in rates) / 6)
    assert plan.lr < 0.1
    (note,) = (note for note in plan.notes if note.startswith("measured"))
    assert "6 draws of the base, 6 of the target" in note
    (law,) = (dict(one.options) for one in plan.laws if one.name == "measured")
    assert law["base"] == pytest.approx(typical**-2, rel=1e-3)
    alone = plan_transfer(Tuned(base, 0.1), target, optimizer="sgd", law="measured", measure=BATCH)
    assert any("one draw of the weights" in note for note in alone.notes)


def test_the_networks_are_untouched():
    base, target = network(2), network(4, width=64)
    before = [copy.deepcopy(model.state_dict()) for model, _ in (base, target)]
    plan_transfer(Tuned(base, 0.1), target, optimizer="adam", law="measured", measure=BATCH)
    for (model, _), state in zip((base, target), before, strict=True):
        assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())


def test_muon_is_measured_with_both_of_its_optimizers():
    plan = plan_transfer(
        Tuned(network(2), 0.02, aux_lr=0.01),
        network(6),
        optimizer="muon",
        law="measured",
        measure=BATCH,
    )
    factors = {
        entry.lr / (0.02 if entry.optimizer == "muon" else 0.01) for entry in plan.parameters
    }
    assert max(factors) == pytest.approx(min(factors))


def test_missing_measurements_and_graphs_are_refused():
    base, target = network(2), network(4)
    with pytest.raises(LawError, match="without measure"):
        plan_transfer(Tuned(base, 0.1), target, optimizer="sgd", law="measured")
    with pytest.raises(LawError, match="twice"):
        plan_transfer(
            Tuned(base, 0.1), target, optimizer="sgd", law=["measured", "measured"], measure=BATCH
        )
    graph = capture_graph(target[0], INPUTS)
    with pytest.raises(PlanError, match="to be measured"):
        plan_transfer(Tuned(base, 0.1), graph, optimizer="sgd", law="measured", measure=BATCH)
    from etastar.optimizers import OptimizerKind, optimizer_like

    kind = optimizer_like(torch.optim.NAdam, "adam", decoupled_weight_decay=False)
    unknown = OptimizerKind("own", "adam", decoupled_weight_decay=False)
    with pytest.raises(OptimizerError, match="'own' without a class"):
        plan_transfer(Tuned(base, 0.1), target, optimizer=unknown, law="measured", measure=BATCH)
    declared = plan_transfer(
        Tuned(base, 0.1), target, optimizer=kind, law="measured", measure=BATCH
    )
    assert declared.lr < 0.1


def test_the_law_refuses_a_step_that_moves_nothing():
    with pytest.raises(LawError, match="target"):
        Measured(base=1.0, target=0.0)
    with pytest.raises(MeasureError):
        plan_transfer(
            Tuned(network(2), 0.1),
            network(4),
            optimizer="sgd",
            law="measured",
            measure=Measure((INPUTS, TARGETS), lambda out, _: (out * 0).sum()),
        )
