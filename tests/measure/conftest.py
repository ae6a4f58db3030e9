"""The slow twin of a measurement: float64, hooks on modules, forward-mode derivatives."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Embedding)


class Shown(nn.Module):
    """The outputs of a model's layers, in the order of execution."""

    def __init__(self, model, run, layers):
        super().__init__()
        self.model, self.run = model, run
        self.seen = []
        for name, module in model.named_modules():
            if isinstance(module, layers) and "wpe" not in name and "position" not in name:
                module.register_forward_hook(lambda _m, _i, out: self.seen.append(out.clone()))

    def forward(self):
        self.seen = []
        torch.manual_seed(0)
        self.run(self.model)
        return tuple(self.seen)


def forward_mode_squares(model, run, loss, make_optimizer, layers=LAYERS):
    """Mean of (dz/d eta)^2 by layer."""
    untouched, moved = (copy.deepcopy(model).double() for _ in range(2))
    before = {name: p.detach().clone() for name, p in moved.named_parameters()}
    torch.manual_seed(0)
    loss(run(moved)).backward()
    optimizer = make_optimizer(moved)
    rate = optimizer.param_groups[0]["lr"]
    optimizer.step()
    updates = {n: (p.detach() - before[n]) / rate for n, p in moved.named_parameters()}
    shown = Shown(untouched, run, layers)

    buffers = {f"model.{n}": b for n, b in untouched.named_buffers()}

    def outputs(parameters):
        named = {f"model.{name}": value for name, value in parameters.items()}
        kept = {name: buffer.clone() for name, buffer in buffers.items()}
        return torch.func.functional_call(shown, {**named, **kept}, ())

    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        _, tangents = torch.func.jvp(outputs, (before,), (updates,))
    return [float(tangent.square().mean()) for tangent in tangents]


@pytest.fixture
def forward_mode():
    return forward_mode_squares
