"""Small chains, a batch for them, and their measurement, for the tests of `measure_update`."""

import torch
from torch import nn

from etastar.measure import measure_update


def measured(model, batch, loss_fn, **options):
    return measure_update(model, batch, loss_fn, **{"pre_activations": "layers", **options})


def chain(depth=3, width=16, act=nn.ReLU):
    layers = [m for _ in range(depth) for m in (nn.Linear(width, width), act())]
    return nn.Sequential(*layers, nn.Linear(width, 4))


def make_chain():
    return chain()


def batch(width=16, examples=5):
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(examples, width, generator=generator)
    return inputs, torch.randint(4, (examples,), generator=generator)
