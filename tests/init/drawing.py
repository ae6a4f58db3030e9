"""Networks to draw, and their drawing, for the tests of `initialize_`."""

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
