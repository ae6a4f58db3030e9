# pip install "etastar[sweep]"; python tune_own_loop.py --steps 40
"""From no rate at all to a plan by `tune`, then the target in a training loop of your own."""

import argparse
from functools import partial

import torch
from torch import nn

import etastar
from etastar.datasets import load


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm, self.inner = nn.LayerNorm(width), nn.Linear(width, 2 * width)
        self.outer = nn.Linear(2 * width, width)

    def forward(self, x):
        return x + self.outer(torch.relu(self.inner(self.norm(x))))


def network(depth, width=32):
    body = [nn.Linear(64, width), *(Block(width) for _ in range(depth)), nn.LayerNorm(width)]
    return nn.Sequential(nn.Flatten(), *body, nn.Linear(width, 10))


def make_optimizer(model, lr, **size):
    return torch.optim.AdamW(model.parameters(), lr)


def batches(steps, seed):
    return load("digits").batches(seed, 32, steps)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=200)
    steps = parser.parse_args().steps
    recipe = etastar.Recipe(
        *(network, partial(batches, steps), nn.functional.cross_entropy, make_optimizer),
        num_steps=steps,
        batch_size=32,
    )
    bases, target = [{"depth": 3}, {"depth": 6}], {"depth": 12}
    found = etastar.tune(recipe, bases, target, budget=10, precision=1.3)
    print(found)

    torch.manual_seed(0)
    model, losses = network(12), []
    found.plan.rescale_(model)
    optimizer = torch.optim.AdamW(found.plan.param_groups(model))
    for inputs, targets in batches(steps, seed=1):
        loss = nn.functional.cross_entropy(model(inputs), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    print(f"loss {losses[0]:.3f} to {losses[-1]:.3f}")
