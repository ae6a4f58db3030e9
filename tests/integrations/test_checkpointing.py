"""Activation checkpointing and compilation change no plan; plans lie in checkpoints."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import (
    apply_activation_checkpointing,
)
from torch.utils.checkpoint import checkpoint
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from etastar.errors import PlanError
from etastar.transfer import TransferPlan, Tuned, plan_transfer

TOKENS = {"input_ids": torch.zeros(1, 8, dtype=torch.long)}


class Block(nn.Module):
    def __init__(self, width, norm):
        super().__init__()
        self.norm = nn.LayerNorm(width) if norm else nn.Identity()
        self.fc, self.proj = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.drop = nn.Dropout(0.1)

    def forward(self, x):
        return self.drop(self.proj(torch.relu(self.fc(self.norm(x)))))


class Net(nn.Module):
    def __init__(self, depth, width, norm, run=lambda block, x: block(x)):
        super().__init__()
        torch.manual_seed(width)
        self.stem, self.head = nn.Linear(6, width), nn.Linear(width, 3)
        self.blocks = nn.ModuleList(Block(width, norm) for _ in range(depth))
        self.run = run

    def forward(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = x + self.run(block, x)
        return self.head(x)


def recomputed(reentrant):
    return lambda *size: Net(*size, lambda block, x: checkpoint(block, x, use_reentrant=reentrant))


def wrapped(*size):
    net = Net(*size)
    apply_activation_checkpointing(net, check_fn=lambda module: isinstance(module, Block))
    return net


def compiled_in_place(*size):
    net = Net(*size)
    net.compile(backend="eager")
    for block in net.blocks:
        block.compile(backend="eager")
    return net


FORMS = [
    pytest.param(recomputed(False), id="checkpoint"),
    pytest.param(recomputed(True), id="reentrant checkpoint"),
    pytest.param(wrapped, id="checkpoint_wrapper"),
    pytest.param(
        lambda *size: torch.compile(Net(*size), backend="eager"),
        id="torch.compile",
        marks=pytest.mark.slow,
    ),
    pytest.param(compiled_in_place, id="Module.compile", marks=pytest.mark.slow),
]


def planned(make, *options):
    base, target = (make(*size, *options) for size in ((2, 8), (4, 16)))
    tuned = Tuned((base, torch.zeros(2, 6)), 0.01, weight_decay=0.1)
    example = (target, torch.zeros(2, 6))
    return plan_transfer(tuned, example, optimizer="adamw", law="complete-p"), target


@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("make", FORMS)
def test_the_plan_is_that_of_the_bare_network(make, norm):
    bare, net = planned(Net, norm)
    plan, model = planned(make, norm)
    assert plan == bare
    plan.rescale_(model)
    bare.rescale_(net)
    assert all(map(torch.equal, model.parameters(), net.parameters()))
    own, expected = plan.param_groups(model), bare.param_groups(net)
    assert [one["name"] for one in own] == [one["name"] for one in expected]
    for one, other in zip(own, expected, strict=True):
        assert all(map(torch.equal, one["params"], other["params"]))
        assert one["lr"] == other["lr"]


def llama(depth, width):
    torch.manual_seed(0)
    heads = {"num_attention_heads": width // 8, "num_key_value_heads": width // 8}
    sizes = {"num_hidden_layers": depth, "hidden_size": width, "intermediate_size": 2 * width}
    return LlamaForCausalLM(LlamaConfig(vocab_size=17, **sizes, **heads))


def gpt2(depth, width):
    torch.manual_seed(0)
    sizes = {"n_layer": depth, "n_embd": width, "n_head": width // 8, "n_positions": 8}
    return GPT2LMHeadModel(GPT2Config(vocab_size=17, bos_token_id=0, eos_token_id=0, **sizes))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`gradient_checkpointing_enable`:FutureWarning")
@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("make", [llama, gpt2])
def test_the_plan_is_the_same_with_gradient_checkpointing(make, reentrant):
    plans = []
    for enabled in (False, True):
        nets = [make(2, 16).train(), make(3, 32).train()]
        for net in nets if enabled else []:
            net.gradient_checkpointing_enable({"use_reentrant": reentrant})
            assert any(getattr(m, "gradient_checkpointing", False) for m in net.modules())
        tuned = Tuned((nets[0], TOKENS), 3e-3, weight_decay=0.1)
        plans.append(plan_transfer(tuned, (nets[1], TOKENS), optimizer="adamw", law="complete-p"))
    assert plans[0] == plans[1]


@pytest.mark.parametrize("norm", [False, True])
def test_a_plan_lies_beside_safetensors(norm, tmp_path):
    plan, model = planned(Net, norm)
    plan.rescale_(model)
    save_file(model.state_dict(), tmp_path / "model.safetensors", {"plan": plan.to_json()})
    plan.save(tmp_path / "plan.json")
    fresh = Net(4, 16, norm)
    fresh.load_state_dict(load_file(tmp_path / "model.safetensors"))
    loaded = TransferPlan.load(tmp_path / "plan.json")
    assert loaded == plan
    groups = loaded.param_groups(fresh, from_checkpoint=True)
    assert [one["lr"] for one in groups] == [one["lr"] for one in plan.param_groups(model)]
    text = (tmp_path / "model.safetensors").read_bytes()
    header = json.loads(text[8 : 8 + int.from_bytes(text[:8], "little")])
    assert TransferPlan.from_json(header["__metadata__"]["plan"]) == plan


@pytest.mark.parametrize("norm", [False, True])
def test_a_state_dict_with_the_plan_loads_with_weights_only(norm, tmp_path):
    plan, model = planned(Net, norm)
    plan.rescale_(model)
    optimizer = torch.optim.AdamW(plan.param_groups(model))
    model(torch.randn(4, 6)).square().mean().backward()
    optimizer.step()
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
    torch.save(state | {"plan": plan.to_json()}, tmp_path / "state.pt")
    found = torch.load(tmp_path / "state.pt", weights_only=True)
    loaded, fresh = TransferPlan.from_json(found["plan"]), Net(4, 16, norm)
    fresh.load_state_dict(found["model"])
    with pytest.raises(PlanError, match="never rescaled"):
        loaded.param_groups(fresh)
    resumed = torch.optim.AdamW(loaded.param_groups(fresh, from_checkpoint=True))
    resumed.load_state_dict(found["optimizer"])
    kept = [
        {key: value for key, value in group.items() if key != "params"}
        for group in resumed.param_groups
    ]
    assert kept == [
        {key: value for key, value in group.items() if key != "params"}
        for group in optimizer.param_groups
    ]
