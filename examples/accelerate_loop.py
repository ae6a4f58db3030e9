# pip install "etastar[hf]"; python accelerate_loop.py --steps 30
"""A loop of one's own with Accelerate: Muon and AdamW as one optimizer, gradients accumulated."""

import argparse

import torch
from accelerate import Accelerator
from torch.nn import functional as F

import etastar
from etastar.datasets import load
from etastar.integrations.combined import CombinedOptimizer
from etastar.models import build, example_inputs

parser = argparse.ArgumentParser()
parser.add_argument("--steps", type=int, default=300)
steps = parser.parse_args().steps

torch.manual_seed(0)
example = example_inputs("gpt")
small, big = build("gpt", depth=3, width=32), build("gpt", depth=8, width=64)
tuned = etastar.Tuned((small, example), lr=0.02, aux_lr=0.003, weight_decay=0.01)
plan = etastar.plan_transfer(tuned, (big, example), optimizer="muon")
print(plan)
plan.rescale_(big)

optimizer = CombinedOptimizer(
    torch.optim.Muon(plan.param_groups(big, kind="muon")),
    torch.optim.AdamW(plan.param_groups(big, kind="adamw")),
)
accelerator = Accelerator(gradient_accumulation_steps=2)
model, optimizer = accelerator.prepare(big, optimizer)
schedule = accelerator.prepare(etastar.warmup_cosine(optimizer, steps, warmup_steps=steps // 10))
etastar.check_schedule(schedule)

losses = []
text = load("stdlib-text", num_bytes=200_000, context=32)
for inputs, targets in text.batches(0, 8, 2 * steps):
    inputs, targets = inputs.to(accelerator.device), targets.to(accelerator.device)
    with accelerator.accumulate(model):
        loss = F.cross_entropy(model(inputs).flatten(0, 1), targets.flatten())
        accelerator.backward(loss)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    losses.append(loss.item())
print(f"loss {losses[0]:.3f} to {losses[-1]:.3f}")
