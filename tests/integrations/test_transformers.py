"""Trainer under a plan: rates, resuming, and the losses of a loop of one's own."""

import math
from types import SimpleNamespace

import pytest
import torch
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    Trainer,
    TrainingArguments,
)

from etastar.errors import PlanError, ScheduleError
from etastar.integrations.transformers import plan_trainer
from etastar.naming import canonical_parameters
from etastar.transfer import TransferPlan, Tuned, plan_transfer

STEPS, WARM_UP = 50, 5
EXAMPLE = {"input_ids": torch.zeros(1, 8, dtype=torch.long)}


def gpt2(depth, width):
    torch.manual_seed(0)
    none = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0)
    sizes = {"n_layer": depth, "n_embd": width, "n_head": width // 8, "n_positions": 8}
    return GPT2LMHeadModel(GPT2Config(vocab_size=17, **sizes, **none))


def llama(depth, width):
    torch.manual_seed(0)
    heads = {"num_attention_heads": width // 8, "num_key_value_heads": width // 8}
    sizes = {"num_hidden_layers": depth, "hidden_size": width, "intermediate_size": 2 * width}
    return LlamaForCausalLM(LlamaConfig(vocab_size=17, **sizes, **heads))


class Recording(Trainer):
    """Keeps batches, losses, and the rate of every parameter."""

    def compute_loss(self, model, inputs, *args, **kwargs):
        loss = super().compute_loss(model, inputs, *args, **kwargs)
        held = (loss[0] if isinstance(loss, tuple) else loss).detach().clone()
        groups = self.optimizer.param_groups
        rates = {id(p): group["lr"] for group in groups for p in group["params"]}
        named = canonical_parameters(self.model).items()
        self.seen.append((dict(inputs), held, {name: rates[id(p)] for name, p in named}))
        return loss


def labelled(row):
    """The first token has no prediction; Trainer divides by the number of labels it counts."""
    return torch.cat([torch.tensor([-100]), row[1:]])


def make_trainer(model, folder, **arguments):
    rows = torch.randint(17, (64, 8), generator=torch.Generator().manual_seed(1))
    defaults = {
        "max_steps": STEPS,
        "per_device_train_batch_size": 4,
        "max_grad_norm": 0,
        "lr_scheduler_type": "cosine",
        "warmup_steps": WARM_UP,
        "save_steps": STEPS // 2,
        "logging_steps": 1,
        "disable_tqdm": True,
        "report_to": [],
        "use_cpu": True,
    }
    trainer = Recording(
        model,
        TrainingArguments(str(folder), **(defaults | arguments)),
        train_dataset=[{"input_ids": row, "labels": labelled(row)} for row in rows],
    )
    trainer.seen = []
    return trainer


def make_plan(make, optimizer="adamw", **settings):
    settings = {"lr": 3e-3, "weight_decay": 0.1} | settings
    return plan_transfer(
        Tuned((make(2, 16), EXAMPLE), **settings),
        (make(3, 32), EXAMPLE),
        optimizer=optimizer,
        law="constant",
    )


def factor(step):
    if step < WARM_UP:
        return step / WARM_UP
    return 0.5 * (1 + math.cos(math.pi * (step - WARM_UP) / (STEPS - WARM_UP)))


def plain_losses(make, plan, batches):
    """The same in a loop of one's own."""
    model = make(3, 32)
    plan.rescale_(model)
    if plan.optimizer.name == "muon":
        optimizers = [
            torch.optim.Muon(plan.param_groups(model, kind="muon")),
            torch.optim.AdamW(plan.param_groups(model, kind="adamw"), fused=True),
        ]
    else:
        optimizers = [torch.optim.AdamW(plan.param_groups(model), fused=True)]
    schedules = [torch.optim.lr_scheduler.LambdaLR(one, factor) for one in optimizers]
    for batch in batches:
        loss = model(**batch).loss
        model.zero_grad()
        loss.backward()
        for optimizer, schedule in zip(optimizers, schedules, strict=True):
            optimizer.step()
            schedule.step()
        yield loss.detach()


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("make", [gpt2, llama])
def test_rates_follow_plan_times_schedule_and_losses_those_of_a_loop(make, optimizer, tmp_path):
    aux = {"aux_lr": 1e-3} if optimizer == "muon" else {}
    plan = make_plan(make, optimizer, **aux)
    whole = plan_trainer(make_trainer(make(3, 32), tmp_path), plan)
    whole.train()
    resumed = plan_trainer(make_trainer(make(3, 32), tmp_path), plan)
    resumed.train(resume_from_checkpoint=str(tmp_path / f"checkpoint-{STEPS // 2}"))

    assert len(whole.seen) == STEPS
    assert len(resumed.seen) == STEPS // 2
    planned = {name: e.lr for e in plan.parameters for name in (e.name, *e.aliases)}
    for first, seen in ((0, whole.seen), (STEPS // 2, resumed.seen)):
        for step, (_, _, rates) in enumerate(seen, first):
            expected = {name: lr * factor(step) for name, lr in planned.items()}
            assert rates == pytest.approx(expected, rel=1e-12)
    losses = [loss for _, loss, _ in whole.seen]
    assert losses[-1] < losses[0]
    assert [loss for _, loss, _ in resumed.seen] == losses[STEPS // 2 :]
    plain = plain_losses(make, plan, [batch for batch, _, _ in whole.seen])
    torch.testing.assert_close(list(plain), losses, rtol=1e-5, atol=0)
    logged = [entry["learning_rate"] for entry in whole.state.log_history if "loss" in entry]
    assert len(logged) == STEPS
    assert max(logged) == pytest.approx(plan.lr)
    assert TransferPlan.load(tmp_path / f"checkpoint-{STEPS}" / "plan.json") == plan


@pytest.mark.parametrize("make", [gpt2, llama])
def test_what_the_trainer_leaves_undecayed_stays_so(make, tmp_path):
    plan = make_plan(make, no_decay=())
    trainer = plan_trainer(make_trainer(make(3, 32), tmp_path), plan)
    names = {id(p): name for name, p in trainer.model.named_parameters()}
    decayed = {
        names[id(p)]
        for group in trainer.create_optimizer().param_groups
        for p in group["params"]
        if group["weight_decay"]
    }
    assert decayed == set(trainer.get_decay_parameter_names(trainer.model)) & set(names.values())
    assert 0 < len(decayed) < len(names)


def test_every_fresh_model_of_model_init_is_rescaled_once(tmp_path):
    plan = make_plan(llama)
    arguments = TrainingArguments(str(tmp_path), use_cpu=True, report_to=[])
    trainer = plan_trainer(Trainer(model_init=lambda: llama(3, 32), args=arguments), plan)
    factors = {e.name: e.init for e in plan.parameters}
    own = dict(llama(3, 32).named_parameters())
    for model in (trainer.model, trainer.call_model_init(), plan_twice(trainer, plan)):
        for name, parameter in model.named_parameters():
            torch.testing.assert_close(parameter, own[name] * factors[name])
    assert set(factors.values()) != {1.0}


def plan_twice(trainer, plan):
    return plan_trainer(Trainer(trainer.model, trainer.args), plan).model


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"learning_rate": 1e-4}, "learning_rate=0.0001"),
        ({"weight_decay": 0.01}, "weight_decay=0.01"),
        ({"adam_beta2": 0.95}, "adam_beta2=0.95"),
        ({"optim": "sgd"}, "optim='sgd'"),
        ({"optim": "adafactor"}, "optim='adafactor', which is transformers.optimization:Adafactor"),
    ],
)
def test_arguments_that_contradict_the_plan_are_refused(arguments, message, tmp_path):
    trainer = make_trainer(gpt2(3, 32), tmp_path, **arguments)
    before = {name: p.clone() for name, p in trainer.model.named_parameters()}
    with pytest.raises(PlanError, match=message):
        plan_trainer(trainer, make_plan(gpt2))
    assert all(torch.equal(p, before[name]) for name, p in trainer.model.named_parameters())
    assert "create_optimizer" not in vars(trainer)


def test_arguments_that_agree_with_the_plan_are_taken(tmp_path):
    agreeing = {"learning_rate": 3e-3, "weight_decay": 0.1, "adam_beta2": 0.95}
    trainer = make_trainer(gpt2(3, 32), tmp_path, optim="adamw_torch", **agreeing)
    plan_trainer(trainer, make_plan(gpt2, betas=(0.9, 0.95)))
    assert {group["betas"] for group in trainer.create_optimizer().param_groups} == {(0.9, 0.95)}


def test_a_deepspeed_file_with_a_scheduler_of_its_own_is_refused(tmp_path):
    trainer = make_trainer(gpt2(3, 32), tmp_path)
    trainer.args.hf_deepspeed_config = SimpleNamespace(config={"scheduler": {"type": "WarmupLR"}})
    with pytest.raises(PlanError, match="DeepSpeed file with its own scheduler"):
        plan_trainer(trainer, make_plan(gpt2))


def test_a_trainer_with_an_optimizer_is_refused(tmp_path):
    trainer = make_trainer(gpt2(3, 32), tmp_path)
    trainer.create_optimizer()
    with pytest.raises(PlanError, match="a trainer with an optimizer"):
        plan_trainer(trainer, make_plan(gpt2))


def test_a_schedule_that_flattens_is_refused_before_the_first_step(tmp_path):
    trainer = make_trainer(llama(3, 32), tmp_path)
    plan_trainer(trainer, make_plan(llama))
    optimizer = trainer.create_optimizer()
    trainer.lr_scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 50, eta_min=1e-3)
    with pytest.raises(ScheduleError, match="changes the ratios"):
        trainer.train()
    assert trainer.seen == []


def test_a_checkpoint_of_another_plan_is_refused(tmp_path):
    trainer = plan_trainer(make_trainer(gpt2(3, 32), tmp_path, max_steps=2), make_plan(gpt2))
    trainer.args.save_steps = 2
    trainer.train()
    other = plan_trainer(make_trainer(gpt2(3, 32), tmp_path), make_plan(gpt2, lr=1e-3))
    with pytest.raises(PlanError, match=r"differs from the plan: .* has lr"):
        other.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
