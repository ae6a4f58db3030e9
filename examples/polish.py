# pip install "etastar[sweep]"; python polish.py --steps 20
"""A transferred rate as where a search at the target starts; a range test before it."""

import argparse

import optuna
import torch
from torch.nn import functional as F

import etastar
from etastar.datasets import load
from etastar.integrations.lr_range import lr_range_test
from etastar.integrations.optuna import suggest_lr
from etastar.models import build, example_inputs

parser = argparse.ArgumentParser()
parser.add_argument("--steps", type=int, default=100)
steps = parser.parse_args().steps

example, data = example_inputs("vit"), load("digits")
size = {"depth": 6, "width": 64}
tuned = etastar.Tuned((build("vit", depth=3, width=32), example), lr=0.003)
plan = etastar.plan_transfer(tuned, (build("vit", **size), example), optimizer="adamw")
print(plan)


def ready():
    torch.manual_seed(0)
    model = build("vit", **size)
    plan.rescale_(model)
    return model, torch.optim.AdamW(plan.param_groups(model))


found = lr_range_test(*ready(), data.batches(0, 64, 100), F.cross_entropy)
print(found)

first = []


def objective(trial):
    lr = suggest_lr(trial, plan)
    model, optimizer = ready()
    for group in optimizer.param_groups:
        group["lr"] *= lr / plan.lr
    for inputs, targets in data.batches(0, 64, steps):
        loss = F.cross_entropy(model(inputs), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        first.append(loss.item())
    return loss.item()


study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=0))
study.enqueue_trial({"lr": plan.lr})
study.optimize(objective, n_trials=4)
print(f"loss {first[0]:.3f} to {study.best_value:.3f}")
