"""Networks to draw, and their drawing, for the tests of `initialize_`; a slow integral."""

import math

import torch
from torch import nn

from etastar.graph.capture import capture_graph
from etastar.init import initialize_


def initialized(model, *inputs, **options):
    return initialize_(model, capture_graph(model, *inputs), **options)


class Net(nn.Module):
    """`f(model, x)` over the modules and parameters given by name."""

    def __init__(self, f, **parts):
        super().__init__()
        self.f = f
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x):
        return self.f(self, x)


def slow_expectation(function):
    """Trapezoid on a million points: another method, another code path."""
    z = torch.linspace(-14, 14, 1_400_001, dtype=torch.float64)
    density = torch.exp(-z * z / 2) / math.sqrt(2 * math.pi)
    return float(torch.trapezoid(function(z) * density, z))
