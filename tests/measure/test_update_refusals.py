"""What `measure_update` refuses, and says why."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from etastar.errors import CaptureError, InitError, MeasureError, OptimizerError
from etastar.init import check_stability
from tests.measure.small_chains import batch, chain, make_chain, measured


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"pre_activations": "all"}, "layers, hidden, stream"),
        ({"optimizer": lambda m: torch.optim.SGD(m.parameters(), lr=0.0)}, "a positive rate"),
        ({"loss_fn": lambda out, _: (out * 0).sum()}, "changes no parameter"),
        ({"lr_unit": -1.0}, "lr_unit"),
        ({"lr_unit": math.nan}, "lr_unit"),
        *(({"seeds": bad}, "seeds=") for bad in ((), 0, -1, 1.5, "ab", ["a"], [1.5], [-1], [1, 1])),
        *(
            ({"loss_fn": bad}, "loss_fn")
            for bad in ("x", lambda out: out.mean(), lambda o, t: 1 / 0)
        ),
        ({"loss_fn": lambda out, _: out}, "one number"),
        ({"loss_fn": lambda out, _: out.sum() * math.nan}, "finite loss"),
        ({"loss_fn": None}, "without a loss"),
        ({"batch": torch.ones(2, 16)}, "batch given as"),
        ({"batch": (torch.ones(5, 16), torch.zeros(3, dtype=torch.long))}, "loss_fn"),
        ({"batch": (torch.ones(2, 16), torch.tensor([1, 99]))}, "loss_fn"),
        ({"batch": (torch.ones(2, 16) * math.nan, torch.tensor([1, 2]))}, "finite loss"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    arguments = {"loss_fn": F.cross_entropy, "optimizer": "sgd", "batch": batch(), **settings}
    with pytest.raises(MeasureError, match=message):
        measured(chain(), **arguments)


class Exiting(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(16, 4)

    def forward(self, x):
        raise SystemExit(0)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (None, "NoneType"),
        (3, "int"),
        (lambda _: chain(), "makes the model: TypeError"),
        (nn.Linear, "makes the model: TypeError"),
        (lambda: 1 / 0, "ZeroDivisionError"),
        (lambda: 3, "returned int"),
        (nn.Sequential(nn.ReLU()), "without parameters"),
        (chain().to("meta"), "meta device"),
        (lambda: chain().to("meta"), "meta device"),
        (Exiting(), "SystemExit"),
        (chain(width=8), "forward pass"),
    ],
)
def test_bad_models_are_refused(model, message):
    with pytest.raises((MeasureError, CaptureError), match=message):
        measured(model, batch(), F.cross_entropy, optimizer="sgd")


def test_weights_that_are_not_finite_are_refused():
    model = chain()
    nn.init.constant_(model[0].weight, math.nan)
    with pytest.raises(MeasureError, match="finite loss"):
        measured(model, batch(), F.cross_entropy, optimizer="sgd")


def test_bad_optimizers_are_refused():
    with pytest.raises(MeasureError, match="requires_grad"):
        measured(chain().requires_grad_(False), batch(), F.cross_entropy, optimizer=frozen_sgd)
    other = chain()
    with pytest.raises(MeasureError, match="another model"):
        measured(chain(), batch(), F.cross_entropy, optimizer=lambda _: frozen_sgd(other))
    with pytest.raises(MeasureError, match="no closure"):
        measured(
            chain(), batch(), F.cross_entropy, optimizer=lambda m: torch.optim.LBFGS(m.parameters())
        )
    optimizer = frozen_sgd(other)
    with pytest.raises(MeasureError, match="exists already"):
        measured(make_chain, batch(), F.cross_entropy, optimizer=optimizer)
    for bad, message in (
        (3, "int"),
        (lambda _: 3, "int"),
        (lambda _: (), "tuple"),
        (lambda _: 1 / 0, "ZeroDivisionError"),
        (None, "optimizer=None"),
    ):
        with pytest.raises(MeasureError, match=message):
            measured(chain(), batch(), F.cross_entropy, optimizer=bad)
    with pytest.raises(OptimizerError, match="lamb"):
        measured(chain(), batch(), F.cross_entropy, optimizer="lamb")


def frozen_sgd(model):
    return torch.optim.SGD(model.parameters(), lr=1.0)


def test_seeds_that_change_the_architecture_are_refused():
    def fickle():
        return chain(depth=int(torch.randint(1, 9, ())))

    with pytest.raises(MeasureError, match="same network for every seed"):
        measured(fickle, batch(), F.cross_entropy, optimizer="sgd", seeds=range(6))


def test_a_loss_or_a_step_that_is_not_finite_is_refused():
    model, x = nn.Linear(2, 2), torch.full((3, 2), 1e30)
    with pytest.raises(MeasureError, match="not finite: inf"):
        measured(model, (x, None), lambda out, _: (out**2).sum(), optimizer="sgd")
    with pytest.raises(MeasureError, match="step that is not finite"):
        measured(model, (x, None), lambda out, _: out.abs().sqrt().sum() * 0, optimizer=exploding)


def exploding(model):
    return torch.optim.SGD(model.parameters(), lr=1.0, weight_decay=math.inf)


class Overwritten(nn.Module):
    """Changes in place what the derivative of the layer before needs."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, x):
        x = torch.sigmoid(self.first(x))
        x *= x.detach()
        return self.second(x)


def test_what_a_backward_pass_raises_is_told_as_its_own():
    x = torch.randn(4, 8)
    with pytest.raises(
        MeasureError, match=r"the backward pass: RuntimeError: one of the variables"
    ):
        measured(Overwritten(), (x, None), lambda out, _: out.sum(), optimizer="sgd")
    with pytest.raises(InitError, match="the backward pass: RuntimeError"):
        check_stability(Overwritten(), (x, None))
