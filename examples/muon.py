# pip install etastar; python muon.py --steps 20
"""Muon for the hidden matrices and AdamW for the rest, with the groups of one plan."""

import argparse

import torch
from torch.nn import functional as F

import etastar
from etastar.datasets import load
from etastar.models import build, example_inputs

parser = argparse.ArgumentParser()
parser.add_argument("--steps", type=int, default=300)
steps = parser.parse_args().steps

example = example_inputs("gpt")
small, big = build("gpt", depth=3, width=32), build("gpt", depth=8, width=64)

# tuned on the small network: Muon's rate, and beside it AdamW's
tuned = etastar.Tuned((small, example), lr=0.02, aux_lr=0.003, weight_decay=0.01)
plan = etastar.plan_transfer(tuned, (big, example), optimizer="muon")
print(plan)
plan.rescale_(big)

optimizers = [
    torch.optim.Muon(plan.param_groups(big, kind="muon")),
    torch.optim.AdamW(plan.param_groups(big, kind="adamw")),
]
schedules = [torch.optim.lr_scheduler.CosineAnnealingLR(o, T_max=steps) for o in optimizers]
for schedule in schedules:
    etastar.check_schedule(schedule)

losses = []
for inputs, targets in load("stdlib-text", num_bytes=200_000, context=32).batches(0, 8, steps):
    loss = F.cross_entropy(big(inputs).flatten(0, 1), targets.flatten())
    big.zero_grad()
    loss.backward()
    for optimizer, schedule in zip(optimizers, schedules, strict=True):
        optimizer.step()
        schedule.step()
    losses.append(loss.item())
print(f"loss {losses[0]:.3f} to {losses[-1]:.3f}")
