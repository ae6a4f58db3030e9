# pip install "etastar[timm]"; python timm_convnet.py --steps 15
"""A ConvNeXt of timm, deeper and wider than the one that was tuned; its own scheduler."""

import argparse

import timm
import torch
from timm.optim import create_optimizer_v2
from timm.scheduler import CosineLRScheduler
from torch.nn import functional as F

import etastar
from etastar.integrations.timm import plan_groups

parser = argparse.ArgumentParser()
parser.add_argument("--steps", type=int, default=100)
steps = parser.parse_args().steps


def convnext(depths, dims):
    sizes = {"depths": depths, "dims": dims}
    return timm.create_model("convnext_atto", num_classes=10, ls_init_value=None, **sizes)


torch.manual_seed(0)
example = torch.zeros(1, 3, 32, 32)
small = convnext((1, 1, 2, 1), (8, 16, 32, 64))
big = convnext((2, 2, 4, 2), (16, 32, 64, 128))

tuned = etastar.Tuned((small, example), lr=0.004, weight_decay=0.05)  # tuned on the small one
plan = etastar.plan_transfer(tuned, (big, example), optimizer="adamw")
print(plan)
plan.rescale_(big)
optimizer = create_optimizer_v2(big, opt="adamw", lr=0.004, param_group_fn=plan_groups(plan))
schedule = CosineLRScheduler(optimizer, t_initial=steps, t_in_epochs=False)
etastar.check_schedule(schedule)

# ten kinds of stripes in noise: nothing is downloaded
losses = []
for step in range(steps):
    targets = torch.randint(10, (16,))
    waves = torch.sin(torch.arange(32.0) * (targets[:, None] + 1) * 0.2)
    images = waves[:, None, None, :] + 0.3 * torch.randn(16, 3, 32, 32)
    loss = F.cross_entropy(big(images), targets)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    schedule.step_update(step + 1)
    losses.append(loss.item())
print(f"loss {losses[0]:.3f} to {losses[-1]:.3f}")
