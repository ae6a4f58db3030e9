"""Adapters of peft itself under a plan: the rank is no width, the base stays, B starts at zero."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from etastar.models import build
from etastar.transfer import TransferPlan, Tuned, plan_transfer

peft = pytest.importorskip("peft", reason="no dependency of the tests")
transformers = pytest.importorskip("transformers")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

IDS = torch.zeros(1, 8, dtype=torch.long)


def llama(depth, width):
    heads = {"num_attention_heads": width // 8, "num_key_value_heads": width // 8}
    sizes = {"num_hidden_layers": depth, "hidden_size": width, "intermediate_size": 2 * width}
    config = transformers.LlamaConfig(vocab_size=17, **sizes, **heads)
    return transformers.LlamaForCausalLM(config), {"input_ids": IDS}, ["q_proj", "v_proj"]


def gpt2(depth, width):
    sizes = {"n_layer": depth, "n_embd": width, "n_head": width // 8, "n_positions": 8}
    config = transformers.GPT2Config(vocab_size=17, bos_token_id=0, eos_token_id=0, **sizes)
    return transformers.GPT2LMHeadModel(config), {"input_ids": IDS}, ["c_attn"]


def plain(depth, width):
    return build("gpt", depth=depth, width=width, vocabulary=17, context=8), IDS, ["qkv", "fc"]


class Chain(nn.Sequential):
    def __init__(self, depth, width):
        hidden = [m for _ in range(depth) for m in (nn.Linear(width, width), nn.Tanh())]
        super().__init__(nn.Linear(6, width), *hidden, nn.Linear(width, 3))


def chain(depth, width):
    return Chain(depth, width), torch.zeros(2, 6), [str(2 * n + 1) for n in range(depth)]


MAKES = [llama, gpt2, plain, chain]


def adapted(make, depth, width, rank, **settings):
    torch.manual_seed(0)
    model, example, names = make(depth, width)
    config = peft.LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=names, **settings)
    return peft.get_peft_model(model, config), example


def planned(make, base, target, law="constant", **settings):
    tuned = Tuned(adapted(make, *base, **settings), 1e-2, weight_decay=0.1)
    model, example = adapted(make, *target, **settings)
    return plan_transfer(tuned, (model, example), optimizer="adamw", law=law), model


@pytest.mark.parametrize("make", MAKES)
def test_a_larger_rank_changes_no_rate(make):
    plan, _ = planned(make, (2, 16, 2), (2, 16, 8))
    assert {entry.lr_multiplier for entry in plan.parameters} == {1.0}


@pytest.mark.parametrize("make", MAKES)
@pytest.mark.parametrize("law", ["constant", "complete-p"])
@pytest.mark.parametrize("settings", [{}, {"use_dora": True}], ids=["lora", "dora"])
def test_adapters_alone_are_trained_and_b_starts_at_zero(make, law, settings):
    plan, model = planned(make, (2, 16, 4), (3, 32, 4), law, **settings)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    plan.rescale_(model)
    after = dict(model.named_parameters())
    for name, p in after.items():
        if not p.requires_grad or "lora_B" in name:
            assert torch.equal(p, before[name])
    groups = plan.param_groups(model)
    rates = {id(p): group["lr"] for group in groups for p in group["params"]}
    trained = {name: rates[id(p)] for name, p in after.items() if id(p) in rates}
    assert set(trained) == {name for name in before if "lora_" in name}
    if law == "constant":  # A reads the width, B the rank
        ends = {"lora_A": 5e-3, "lora_B": 1e-2}
        for end, lr in ends.items():
            assert {rate for name, rate in trained.items() if end in name} == {lr}


@pytest.mark.parametrize("make", [plain, chain])
def test_the_base_stays_while_adapters_learn(make):
    plan, model = planned(make, (2, 16, 4), (3, 32, 4))
    plan.rescale_(model)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    inputs = torch.randint(17, (4, 8)) if make is plain else torch.randn(4, 6)
    optimizer, losses = torch.optim.AdamW(plan.param_groups(model)), []
    for _ in range(10):
        output = model(inputs).flatten(0, -2)
        loss = F.cross_entropy(output, torch.arange(len(output)) % output.shape[1])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    changed = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
    assert changed == {name for name in before if "lora_" in name}


def test_a_head_that_is_trained_beside_them_has_its_group():
    plan, model = planned(llama, (2, 16, 4), (3, 32, 4), modules_to_save=["lm_head"])
    plan.rescale_(model)
    trained = [p for group in plan.param_groups(model) for p in group["params"]]
    names = [name for name, p in model.named_parameters() if any(p is q for q in trained)]
    assert [name for name in names if "lora_" not in name] == [
        "base_model.model.lm_head.modules_to_save.default.weight"
    ]


@pytest.mark.parametrize("make", [llama, gpt2])
def test_trainer_trains_them(make, tmp_path):
    from etastar.integrations.transformers import plan_trainer

    plan, model = planned(make, (2, 16, 4), (3, 32, 4))
    rows = [{"input_ids": row, "labels": row} for row in torch.randint(17, (16, 8))]
    arguments = transformers.TrainingArguments(
        str(tmp_path), max_steps=2, save_steps=2, max_grad_norm=0, report_to=[], use_cpu=True
    )
    trainer = plan_trainer(transformers.Trainer(model, arguments, train_dataset=rows), plan)
    trainer.train()
    assert TransferPlan.load(tmp_path / "checkpoint-2" / "plan.json") == plan
