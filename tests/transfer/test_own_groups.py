"""Parameter groups of a user's own under a plan: what they keep, and what the plan changes."""

import pytest
import torch
from torch import nn

from etastar.errors import PlanError
from etastar.transfer import Tuned, check_schedule, plan_transfer


class Classifier(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, width), nn.GELU(), nn.Linear(width, width))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 3)

    def forward(self, x):
        return self.head(self.norm(self.body(x)))


class Convolutions(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, width, 3), nn.ReLU(), nn.Conv2d(width, width, 3))
        self.norm = nn.GroupNorm(2, width)
        self.head = nn.Linear(width, 2)

    def forward(self, x):
        return self.head(self.norm(self.body(x)).mean((2, 3)))


NETWORKS = [(Classifier, torch.zeros(2, 6)), (Convolutions, torch.zeros(2, 3, 8, 8))]
networks = pytest.mark.parametrize(("cls", "x"), NETWORKS)


def planned(cls, x, optimizer="adamw", **settings):
    tuned = Tuned((cls(8), x), 0.01, weight_decay=0.1, **settings)
    plan = plan_transfer(tuned, (cls(32), x), optimizer=optimizer, law="constant")
    model = cls(32)
    plan.rescale_(model)
    return plan, model


def halves(model):
    head = {id(p) for p in model.head.parameters()}
    return [p for p in model.parameters() if id(p) not in head], [*model.head.parameters()]


@networks
def test_groups_keep_their_ratios_and_keys(cls, x):
    plan, model = planned(cls, x)
    body, head = halves(model)
    own = [
        {"params": body, "amsgrad": True, "layer": "body"},
        {"params": head, "lr": 0.05, "weight_decay": 0.3, "name": "new head"},
    ]
    groups = plan.param_groups(model, groups=own)
    settings = {id(p): group for group in groups for p in group["params"]}
    entries = {entry.name: entry for entry in plan.parameters}
    for name, parameter in model.named_parameters():
        entry, found = entries[name], settings[id(parameter)]
        is_head = name.startswith("head")
        assert found["lr"] == pytest.approx(entry.lr * (5 if is_head else 1))
        assert found["lr_multiplier"] == pytest.approx(found["lr"] / 0.01)
        assert ("layer" in found, "amsgrad" in found) == (not is_head, not is_head)
        assert found["name"].startswith("new head: ") == is_head
        if not is_head:
            assert found["weight_decay"] == entry.weight_decay
    weight = settings[id(model.head.weight)]  # decay x 4 keeps lr x decay; the user's own on biases
    assert weight["weight_decay"] == pytest.approx(0.3 * 4)
    assert settings[id(model.head.bias)]["weight_decay"] == pytest.approx(0.3)
    optimizer = torch.optim.AdamW(groups, lr=0.01)
    check_schedule(torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10))
    model(x).sum().backward()
    optimizer.step()


@networks
def test_the_groups_of_an_optimizer_come_back_at_the_base(cls, x):
    tuned = Tuned((cls(8), x), 0.01, weight_decay=0.0)
    plan = plan_transfer(tuned, (cls(8), x), optimizer="adamw", law="constant")
    model = cls(8)
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim < 2]
    own = [{"params": decayed, "weight_decay": 0.2}, {"params": others, "eps": 1e-6}]
    before = torch.optim.AdamW(own, lr=0.01, betas=(0.8, 0.95)).param_groups
    after = torch.optim.AdamW(plan.param_groups(model, groups=before), lr=1.0).param_groups
    found = {id(p): group for group in after for p in group["params"]}
    for group in before:
        for parameter in group["params"]:
            for key in ("lr", "betas", "eps", "weight_decay"):
                assert found[id(parameter)][key] == group[key]


def test_groups_for_each_of_muons_optimizers():
    plan, model = planned(Classifier, torch.zeros(2, 6), optimizer="muon", aux_lr=0.001)
    names = list(model.named_parameters())
    own = [{"params": names[:3]}, {"params": names[3:], "lr": 0.002}]
    muon, adamw = (plan.param_groups(model, groups=own, kind=kind) for kind in ("muon", "adamw"))
    assert [id(p) for group in muon for p in group["params"]] == [id(model.body[2].weight)]
    rates = {id(p): group["lr"] for group in adamw for p in group["params"]}
    assert rates[id(model.norm.weight)] == pytest.approx(0.002)
    assert len(rates) == len(names) - 1


@pytest.mark.parametrize("kind", ["stranger", "twice", "no dict", "rate"])
def test_groups_that_are_none_of_this_model_are_refused(kind):
    plan, model = planned(*NETWORKS[0])
    weight = model.head.weight
    groups = {
        "stranger": [{"params": [nn.Parameter(torch.zeros(2))]}],
        "twice": [{"params": [weight]}, {"params": [weight]}],
        "no dict": [[weight]],
        "rate": [{"params": [weight], "lr": "0.1"}],
    }[kind]
    with pytest.raises(PlanError, match="group"):
        plan.param_groups(model, groups=groups)
