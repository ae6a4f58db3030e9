import pytest
import torch
from torch import nn

from etastar.transfer import Tuned, plan_transfer


class Net(nn.Module):
    """Input layer, two-layer residual blocks, norm, head."""

    def __init__(self, depth, width):
        super().__init__()
        self.stem = nn.Linear(6, width)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))
            for _ in range(depth)
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 4)

    def forward(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = x + block(x)
        return self.head(self.norm(x))


@pytest.fixture
def make_net():
    def make(depth, width, seed=0):
        torch.manual_seed(seed)
        return Net(depth, width)

    return make


@pytest.fixture
def make_plan(make_net):
    def make(base=(2, 8), target=(5, 32), *, lr=0.1, **settings):
        names = ("weight_decay", "no_decay", "betas", "eps", "batch_size", "num_steps", "aux_lr")
        tuned = {name: settings.pop(name) for name in names if name in settings}
        small, large = ((make_net(*size), torch.zeros(3, 6)) for size in (base, target))
        settings = {"optimizer": "adamw"} | settings
        return plan_transfer(Tuned(small, lr, **tuned), large, **settings)

    return make


@pytest.fixture
def make_ready(make_net):
    """A network with the initialization that a plan wants."""

    def make(plan, depth=5, width=32):
        model = make_net(depth, width)
        plan.rescale_(model)
        return model

    return make
