"""Low-rank adapters on a frozen base: the rank is no width, the base stays, B stays zero."""

import pytest
import torch
from torch import nn

from etastar.transfer import Tuned, plan_transfer


class Adapted(nn.Module):
    """x W + x A B with W frozen, A drawn and B zero, as peft has it."""

    def __init__(self, width, rank):
        super().__init__()
        self.base = nn.Linear(width, width).requires_grad_(False)
        self.lora_A = nn.Linear(width, rank, bias=False)
        self.lora_B = nn.Linear(rank, width, bias=False)
        nn.init.zeros_(self.lora_B.weight)

    def forward(self, x):
        return self.base(x) + self.lora_B(self.lora_A(x))


class Stack(nn.Module):
    def __init__(self, depth, width, rank, *, norm, block=Adapted):
        super().__init__()
        self.stem = nn.Linear(6, width).requires_grad_(False)
        self.blocks = nn.ModuleList(block(width, rank) for _ in range(depth))
        self.norm = nn.LayerNorm(width).requires_grad_(False) if norm else nn.Identity()
        self.head = nn.Linear(width, 3).requires_grad_(False)

    def forward(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = x + torch.relu(block(self.norm(x)))
        return self.head(x)


def planned(base, target, *, norm, law):
    torch.manual_seed(0)
    small, big = Stack(*base, norm=norm), Stack(*target, norm=norm)
    example = torch.zeros(2, 6)
    tuned = Tuned((small, example), 1e-2, weight_decay=0.1)
    return plan_transfer(tuned, (big, example), optimizer="adamw", law=law), big


@pytest.mark.parametrize("norm", [False, True])
def test_a_larger_rank_changes_nothing(norm):
    plan, _ = planned((3, 16, 2), (3, 16, 8), norm=norm, law="constant")
    assert {entry.lr_multiplier for entry in plan.parameters} == {1.0}


@pytest.mark.parametrize("law", ["complete-p", "constant"])
@pytest.mark.parametrize("norm", [False, True])
def test_the_frozen_base_stays_and_b_stays_zero(norm, law):
    plan, model = planned((2, 16, 4), (8, 32, 4), norm=norm, law=law)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    plan.rescale_(model)
    after = dict(model.named_parameters())
    assert any(e.init != 1 for e in plan.parameters)
    for name, p in after.items():
        if not p.requires_grad or "lora_B" in name:
            assert torch.equal(p, before[name])
    groups = plan.param_groups(model)
    trained = {name for name, p in after.items() for g in groups for q in g["params"] if p is q}
    assert trained == {name for name in before if "lora" in name}


def test_freezing_after_rescaling_is_no_other_plan():
    plan, model = planned((2, 16, 4), (4, 32, 4), norm=True, law="complete-p")
    model.requires_grad_(True)
    plan.rescale_(model)
    model.stem.requires_grad_(False)
    groups = plan.param_groups(model)
    assert all(p is not model.stem.weight for group in groups for p in group["params"])


class Bytes(nn.Module):
    """Frozen weights of 8 bits with a scale for each row, and an adapter."""

    def __init__(self, width, rank):
        super().__init__()
        self.weight = frozen(torch.randint(-127, 128, (width, width), dtype=torch.int8))
        self.scale = frozen(torch.full((width, 1), 0.01))
        self.lora_A = nn.Linear(width, rank, bias=False)
        self.lora_B = nn.Linear(rank, width, bias=False)
        nn.init.zeros_(self.lora_B.weight)

    def forward(self, x):
        return x @ (self.weight.to(x.dtype) * self.scale).T + self.lora_B(self.lora_A(x))


class Nibbles(Bytes):
    """Two weights of 4 bits in a byte."""

    def __init__(self, width, rank):
        super().__init__(width, rank)
        self.weight = frozen(torch.randint(0, 256, (width, width // 2), dtype=torch.uint8))

    def forward(self, x):
        halves = torch.stack([self.weight & 15, self.weight >> 4], dim=-1).flatten(1)
        dense = (halves.to(x.dtype) - 8) * self.scale
        return x @ dense.T + self.lora_B(self.lora_A(x))


def frozen(values):
    return nn.Parameter(values, requires_grad=False)


@pytest.mark.parametrize("block", [Bytes, Nibbles])
@pytest.mark.parametrize("law", ["auto", "complete-p"])
def test_a_quantized_base_is_left_alone_and_its_adapters_have_a_plan(block, law):
    small, big = (Stack(*size, norm=True, block=block) for size in ((2, 16, 4), (6, 32, 4)))
    x = torch.zeros(2, 6)
    plan = plan_transfer(Tuned((small, x), 1e-2), (big, x), optimizer="adamw", law=law)
    before = {name: p.detach().clone() for name, p in big.named_parameters()}
    plan.rescale_(big)
    groups = plan.param_groups(big)
    trained = {id(p) for group in groups for p in group["params"]}
    assert trained == {id(p) for name, p in big.named_parameters() if "lora" in name}
    torch.optim.AdamW(groups)
    for entry in plan.parameters:
        value = big.get_parameter(entry.name)
        factor = entry.init if value.requires_grad else 1
        assert torch.equal(value, before[entry.name] * factor)
