"""The width rule trains unmodified networks as the mup package trains its own."""

import mup
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from etastar.transfer import Tuned, plan_transfer

BASE_WIDTH, DELTA_WIDTH = 8, 12


class MLP(nn.Module):
    shape = (6, 12)

    def __init__(self, width, readout=nn.Linear, bias=True):
        super().__init__()
        self.first = nn.Linear(12, width, bias=bias)
        self.second = nn.Linear(width, 2 * width, bias=bias)
        self.third = nn.Linear(2 * width, width, bias=bias)
        self.readout = readout(width, 5, bias=bias)

    def forward(self, x):
        for layer in (self.first, self.second, self.third):
            x = torch.tanh(layer(x))
        return self.readout(x)


class CNN(nn.Module):
    shape = (6, 3, 8, 8)

    def __init__(self, width, readout=nn.Linear, bias=True):
        super().__init__()
        self.first = nn.Conv2d(3, width, 3, padding=1, bias=bias)
        self.norm = nn.BatchNorm2d(width)
        self.second = nn.Conv2d(width, 2 * width, 3, stride=2, bias=bias)
        self.hidden = nn.Linear(2 * width * 9, 4 * width, bias=bias)
        self.readout = readout(4 * width, 5, bias=bias)

    def forward(self, x):
        x = torch.relu(self.norm(self.first(x)))
        x = torch.relu(self.second(x))
        return self.readout(torch.relu(self.hidden(x.flatten(1))))


def mup_network(network, width, bias=True, seed=0):
    torch.manual_seed(seed)
    model = network(width, mup.MuReadout, bias)
    base, delta = (network(w, mup.MuReadout, bias) for w in (BASE_WIDTH, DELTA_WIDTH))
    mup.set_base_shapes(model, base, delta=delta)
    return model


def effective_state(model):
    """State of a mup network with the readout's forward multiplier moved into its weight."""
    state = {name: value.clone() for name, value in model.state_dict().items()}
    state["readout.weight"] /= model.readout.width_mult()
    return state


def plain_network(network, width, bias=True, seed=0):
    torch.manual_seed(seed)
    return network(width, nn.Linear, bias)


def plan_of(network, width, bias=True, **settings):
    inputs = (torch.zeros(network.shape, dtype=torch.float64),)
    base, target = (plain_network(network, w, bias) for w in (BASE_WIDTH, width))
    optimizer = settings.pop("optimizer")
    tuned = Tuned((base, inputs), no_decay=(), **settings)  # mup decays everything
    return plan_transfer(tuned, (target, inputs), law="constant", optimizer=optimizer)


def losses(model, optimizer, shape, steps=10):
    generator = torch.Generator().manual_seed(1)
    found = []
    for _ in range(steps):
        x = torch.randn(shape, generator=generator, dtype=torch.float64)
        y = torch.randint(5, (shape[0],), generator=generator)
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    return torch.tensor(found, dtype=torch.float64)


@pytest.fixture(autouse=True)
def _double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


EPS = 1e-24  # mup has no rule for epsilon; the width rule's is CompleteP's
CASES = [
    (mup.MuSGD, torch.optim.SGD, "sgd", {"lr": 0.2, "momentum": 0.9}, 0.0),
    (mup.MuSGD, torch.optim.SGD, "sgd", {"lr": 0.2, "momentum": 0.9, "nesterov": True}, 0.01),
    (mup.MuAdam, torch.optim.Adam, "adam", {"lr": 0.01, "eps": EPS}, 0.0),
    (mup.MuAdam, torch.optim.Adam, "adam", {"lr": 0.01, "eps": EPS}, 0.02),
    (mup.MuAdamW, torch.optim.AdamW, "adamw", {"lr": 0.01, "eps": EPS}, 0.3),
]


@pytest.mark.parametrize(("width", "bias"), [(4, True), (8, True), (16, False), (40, True)])
@pytest.mark.parametrize("network", [MLP, CNN])
@pytest.mark.parametrize(("theirs", "ours", "kind", "settings", "decay"), CASES)
def test_losses_follow_mups_step_by_step(theirs, ours, kind, settings, decay, network, width, bias):
    reference = mup_network(network, width, bias)
    plain = plain_network(network, width, bias, seed=5)
    plain.load_state_dict(effective_state(reference))
    tuned = {name: settings[name] for name in ("lr", "eps") if name in settings}
    plan = plan_of(network, width, bias, optimizer=kind, weight_decay=decay, **tuned)

    expected = losses(
        reference,
        theirs(reference.parameters(), weight_decay=decay, **settings),
        network.shape,
    )
    groups = plan.param_groups(plain, from_checkpoint=True)
    actual = losses(plain, ours(groups, **settings), network.shape)
    assert expected.std() > 0.01
    torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("network", [MLP, CNN])
def test_the_plain_rate_does_not_follow_mup(network):
    reference = mup_network(network, 40)
    plain = plain_network(network, 40)
    plain.load_state_dict(effective_state(reference))
    expected = losses(reference, mup.MuAdam(reference.parameters(), lr=0.01), network.shape)
    actual = losses(plain, torch.optim.Adam(plain.parameters(), lr=0.01), network.shape)
    assert (actual - expected).abs().max() > 1e-3


@pytest.mark.parametrize("width", [4, 8, 40])
@pytest.mark.parametrize("network", [MLP, CNN])
def test_rescaled_weights_are_mups_effective_ones(network, width):
    expected = effective_state(mup_network(network, width))
    plain = plain_network(network, width)
    plan_of(network, width, lr=0.1, optimizer="adam").rescale_(plain)
    for name, parameter in plain.named_parameters():
        if parameter.ndim > 1:
            torch.testing.assert_close(parameter.detach(), expected[name])
