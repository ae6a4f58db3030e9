"""The optimizer of a plan: an instance with settings of its own, and one that was new."""

import sys

import pytest
import torch

from etastar.errors import (
    OptimizerError,
    PlanError,
)
from etastar.graph import capture_graph
from etastar.optimizers import (
    OPTIMIZERS,
    OptimizerKind,
    optimizer_class,
    optimizer_kind,
)
from etastar.transfer import (
    Target,
    TransferPlan,
    Tuned,
    check_schedule,
    plan_transfer,
)


class TestAnOptimizerInstance:
    """It says what was tuned, and so does `Tuned`: they must agree."""

    @pytest.fixture
    def base(self, make_net):
        return make_net(2, 8)

    def plan(self, base, make_net, optimizer, lr=0.1, **tuned):
        inputs = torch.zeros(3, 6)
        target = (make_net(5, 32), inputs)
        return plan_transfer(Tuned((base, inputs), lr, **tuned), target, optimizer=optimizer)

    def test_its_own_rate_is_not_ignored(self, base, make_net):
        adamw = torch.optim.AdamW(base.parameters(), lr=1e-3)
        with pytest.raises(OptimizerError, match=r"lr=0\.1 tuned.*lr=0\.001"):
            self.plan(base, make_net, adamw)
        assert self.plan(base, make_net, adamw, lr=1e-3).base.lr == 1e-3

    @pytest.mark.parametrize(
        ("setting", "value"), [("weight_decay", 0.2), ("eps", 1e-6), ("betas", (0.9, 0.95))]
    )
    def test_no_other_setting_is_either(self, base, make_net, setting, value):
        adamw = torch.optim.AdamW(base.parameters(), lr=0.1)
        with pytest.raises(OptimizerError, match=f"{setting}="):
            self.plan(base, make_net, adamw, **{setting: value})
        same = torch.optim.AdamW(base.parameters(), lr=0.1, **{setting: value})
        plan = self.plan(base, make_net, same, **{"weight_decay": 0.01, setting: value})
        by_name = self.plan(base, make_net, "adamw", **{"weight_decay": 0.01, setting: value})
        assert plan.parameters == by_name.parameters
        assert plan.base == by_name.base

    def groups(self, model):
        matrices = [p for p in model.parameters() if p.ndim > 1]
        rest = [p for p in model.parameters() if p.ndim < 2]
        groups = [{"params": matrices}, {"params": rest, "weight_decay": 0.0}]
        return torch.optim.AdamW(groups, lr=0.1, weight_decay=0.25)

    @pytest.mark.parametrize("place", ["base", "target"])
    def test_its_groups_without_decay_are_carried_to_every_parameter(self, base, make_net, place):
        target, x = make_net(5, 32), torch.zeros(3, 6)
        optimizer = self.groups(base if place == "base" else target)
        plan = plan_transfer(Tuned((base, x), 0.1), (target, x), optimizer=optimizer)
        for entry in plan.parameters:
            wanted = 0.25 if len(entry.shape) > 1 else 0.0
            assert entry.weight_decay * entry.lr == pytest.approx(wanted * 0.1)
        assert plan.base.weight_decay == 0.25

    def test_decay_that_was_given_holds_for_all(self, base, make_net):
        with pytest.raises(OptimizerError, match="weight_decay="):
            self.plan(base, make_net, self.groups(base), weight_decay=0.25)

    def test_groups_of_a_graphs_unknown_model_are_refused(self, base, make_net):
        graphs = [capture_graph(make_net(*size), torch.zeros(3, 6)) for size in ((2, 8), (5, 32))]
        with pytest.raises(PlanError, match="groups differ in weight decay"):
            plan_transfer(Tuned(graphs[0], 0.1), graphs[1], optimizer=self.groups(base))


class Lion(torch.optim.Optimizer):
    """Sign of an interpolated momentum; a new optimizer is its class and one line."""

    def __init__(self, params, lr=1e-4, betas=(0.9, 0.99), weight_decay=0.0):
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for parameter in group["params"]:
                state = self.state[parameter].setdefault("m", torch.zeros_like(parameter))
                update = torch.sign(state * group["betas"][0] + parameter.grad)
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.add_(update, alpha=-group["lr"])
                state.lerp_(parameter.grad, 1 - group["betas"][1])


class TestANewOptimizer:
    @pytest.fixture(autouse=True)
    def _registered(self, monkeypatch):
        kind = OptimizerKind(
            "lion", "adam", True, betas=(0.9, 0.99), source=f"{Lion.__module__}:Lion"
        )
        monkeypatch.setitem(sys.modules, Lion.__module__, sys.modules[__name__])
        monkeypatch.setitem(OPTIMIZERS, "lion", kind)

    def test_is_known_by_name_class_and_instance(self, make_net):
        instance = Lion(make_net(2, 8).parameters(), lr=0.1)
        kinds = [optimizer_kind(form) for form in ("lion", Lion, instance)]
        assert [kind.name for kind in kinds] == ["lion"] * 3
        assert optimizer_class(kinds[0]) is Lion

    def test_has_plans_of_its_geometry_and_decay(self, make_ready, make_plan):
        plan = make_plan(optimizer="lion", law="depth-mup", weight_decay=0.1)
        twin = make_plan(optimizer="adamw", law="depth-mup", weight_decay=0.1)
        assert [p.lr for p in plan.parameters] == [p.lr for p in twin.parameters]
        assert [p.weight_decay for p in plan.parameters] == [
            p.weight_decay for p in twin.parameters
        ]
        assert {p.eps for p in plan.parameters} == {None}
        optimizer = Lion(plan.param_groups(make_ready(plan)))
        assert check_schedule(torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)) > 0
        assert TransferPlan.from_json(plan.to_json()) == plan
        with pytest.raises(OptimizerError, match="no eps"):
            make_plan(optimizer="lion", eps=1e-8)


class TestAdafactorsCap:
    """torch.optim.Adafactor steps by min(lr, t^(-1/2)): above it groups lose their ratio."""

    def plan(self, make_net, lr, num_steps, optimizer=torch.optim.Adafactor):
        networks = [(make_net(2, width), torch.zeros(3, 6)) for width in (8, 32)]
        tuned = Tuned(networks[0], lr, num_steps=num_steps)
        target = Target(networks[1], num_steps=num_steps)
        return plan_transfer(tuned, target, optimizer=optimizer, law="constant")

    @pytest.mark.parametrize("num_steps", [None, 300])
    def test_the_step_is_named_and_is_the_optimizers_own(self, make_net, num_steps):
        plan = self.plan(make_net, 0.1, num_steps)
        (note,) = (note for note in plan.notes if "Adafactor" in note)
        assert "0.1 is cut from step 100 on" in note
        groups = [
            {"params": [torch.nn.Parameter(torch.ones(4, 4))], "lr": lr}
            for lr in sorted({entry.lr for entry in plan.parameters})
        ]
        optimizer = torch.optim.Adafactor(groups)
        ratios = []
        for _ in range(420):
            sizes = []
            for group in groups:
                weight = group["params"][0]
                weight.grad, before = torch.ones(4, 4), weight.detach().clone()
                sizes.append((weight, before))
            optimizer.step()
            slow, fast = ((w.detach() - before).norm() / before.norm() for w, before in sizes)
            ratios.append(float(fast / slow))
        assert ratios[90] == pytest.approx(2.0, rel=1e-2)
        assert ratios[200] < 1.5
        assert ratios[410] == pytest.approx(1.0, rel=1e-2)

    @pytest.mark.parametrize("settings", [(0.1, 90), (1e-3, None), (0.1, None, "adamw")])
    def test_where_nothing_is_cut_nothing_is_said(self, make_net, settings):
        assert not [note for note in self.plan(make_net, *settings).notes if "is cut" in note]


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_rate_however_small_has_a_plan(make_net, optimizer):
    networks = [(make_net(depth, 8), torch.zeros(3, 6)) for depth in (2, 5)]
    tuned = Tuned(networks[0], 1e-200)
    plan = plan_transfer(tuned, networks[1], optimizer=optimizer, law="constant")
    assert plan.lr == 1e-200
