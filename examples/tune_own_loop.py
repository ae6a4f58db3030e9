"""From no rate at all to a plan by `tune`, then the target in a training loop of your own."""

import argparse
from functools import partial

import torch
from torch import nn

import etastar
from etastar.datasets import load


def network(depth, width=32):
    hidden = [layer for _ in range(depth) for layer in (nn.Linear(width, width), nn.ReLU())]
    ends = nn.Linear(64, width), nn.Linear(width, 10)
    return nn.Sequential(nn.Flatten(), ends[0], nn.ReLU(), *hidden, ends[1])


def make_optimizer(model, lr, **size):
    return torch.optim.SGD(model.parameters(), lr, momentum=0.9)


def batches(steps, seed):
    return load("digits").batches(seed, 32, steps)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=200)
    steps = parser.parse_args().steps
    recipe = etastar.Recipe(
        make_model=network,
        batches=partial(batches, steps),
        loss_fn=nn.functional.cross_entropy,
        make_optimizer=make_optimizer,
        num_steps=steps,
        batch_size=32,
    )
    found = etastar.tune(
        recipe, [{"depth": 2}, {"depth": 4}], {"depth": 8}, budget=20, seeds=1, precision=1.2
    )
    print(found)

    torch.manual_seed(0)
    model = network(8)
    found.plan.rescale_(model)
    optimizer = torch.optim.SGD(found.plan.param_groups(model), momentum=0.9)
    losses = []
    for inputs, targets in batches(steps, seed=1):
        loss = nn.functional.cross_entropy(model(inputs), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    print(f"loss {losses[0]:.3f} to {losses[-1]:.3f}")
