# pip install "etastar[peft]"; python peft_adapters.py --steps 40
"""Low-rank adapters of peft: tuned on those of a small network, trained on those of a big one."""

import argparse

import torch
from peft import LoraConfig, get_peft_model
from torch.nn import functional as F

import etastar
from etastar.datasets import load
from etastar.models import build, example_inputs

parser = argparse.ArgumentParser()
parser.add_argument("--steps", type=int, default=200)
steps = parser.parse_args().steps


def adapted(depth, width):
    """The base is frozen by peft; here nobody has trained it, in place of yours."""
    base = build("gpt", depth=depth, width=width)
    return get_peft_model(base, LoraConfig(r=8, lora_alpha=16, target_modules=["qkv", "fc"]))


torch.manual_seed(0)
example = example_inputs("gpt")
tuned = etastar.Tuned((adapted(3, 32), example), lr=0.01)  # the adapters' rate on the small one
big = adapted(8, 64)
plan = etastar.plan_transfer(tuned, (big, example), optimizer="adamw")
print(plan)
plan.rescale_(big)  # leaves what is frozen as it is
optimizer = torch.optim.AdamW(plan.param_groups(big))  # the adapters alone
schedule = etastar.warmup_cosine(optimizer, steps, warmup_steps=steps // 10)

losses = []
for inputs, targets in load("stdlib-text", num_bytes=200_000, context=32).batches(0, 8, steps):
    loss = F.cross_entropy(big(inputs).flatten(0, 1), targets.flatten())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    schedule.step()
    losses.append(loss.item())
print(f"loss {losses[0]:.3f} to {losses[-1]:.3f}")
