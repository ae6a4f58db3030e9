"""Depth-muP and CompleteP by groups train as the same network with multipliers in its forward."""

import functools

import pytest
import torch
import torch.nn.functional as F

from etastar.graph.capture import graph_of
from etastar.models import build
from etastar.transfer import Tuned, plan_transfer

gpt, resmlp, resnet = (functools.partial(build, n) for n in ("gpt", "resmlp", "resnet"))
BASE_DEPTH, DEPTH = 2, 5
RATIO = DEPTH / BASE_DEPTH


@functools.cache
def network_graph(network, depth):
    factory, options, batch = NETWORKS[network]
    return graph_of((factory(depth=depth, **options).double(), batch(torch.Generator())[:1]))


def token_batch(generator):
    tokens = torch.randint(32, (4, 9), generator=generator)
    return tokens[:, :-1], tokens[:, 1:].flatten()


def image_batch(generator):
    x = torch.randn(4, 1, 8, 8, generator=generator, dtype=torch.float64)
    return x, torch.randint(10, (4,), generator=generator)


NETWORKS = {
    "gpt": (gpt, {"width": 16, "vocabulary": 32, "context": 8}, token_batch),
    "parallel gpt": (
        gpt,
        {"width": 16, "vocabulary": 32, "context": 8, "parallel": True},
        token_batch,
    ),
    "resmlp": (resmlp, {"width": 12, "branch_layers": 2}, image_batch),
    "resnet": (resnet, {"width": 6, "branch_layers": 1}, image_batch),
    "resnet with norms": (
        resnet,
        {"width": 6, "branch_layers": 2, "batch_norm": True},
        image_batch,
    ),
}
OPTIMIZERS = {
    "sgd": (torch.optim.SGD, {"momentum": 0.9, "weight_decay": 0.01}, 0.05),
    "nesterov": (torch.optim.SGD, {"momentum": 0.9, "nesterov": True}, 0.05),
    "adam": (torch.optim.Adam, {"weight_decay": 0.01, "eps": 1e-3}, 0.01),
    "adamw": (torch.optim.AdamW, {"weight_decay": 0.2, "eps": 1e-3}, 0.01),
    "nadam": (torch.optim.NAdam, {"weight_decay": 0.01, "eps": 1e-3}, 0.01),
    "adamax": (torch.optim.Adamax, {"weight_decay": 0.01, "eps": 1e-3}, 0.01),
}
# Per law and kind, what the papers' tables say of parameters on branches: multiplier, lr, epsilon.
RULES = {
    ("depth-mup", "sgd"): (RATIO**-0.5, 1.0, 1.0),
    ("depth-mup", "adam"): (RATIO**-0.5, RATIO**-0.5, 1.0),
    ("complete-p", "sgd"): (1 / RATIO, RATIO, 1.0),
    ("complete-p", "adam"): (1 / RATIO, 1.0, 1 / RATIO),
}


def explicit_groups(model, *, lr, factors, settings, decoupled):
    """The papers' own form: factors on everything inside the blocks."""
    inside = [p for n, p in model.named_parameters() if n.startswith("blocks.")]
    outside = [p for n, p in model.named_parameters() if not n.startswith("blocks.")]
    group = {"params": inside, "lr": lr * factors[1]}
    if "eps" in settings:
        group["eps"] = settings["eps"] * factors[2]
    if decoupled:
        group["weight_decay"] = settings["weight_decay"] / factors[1]
    return [group, {"params": outside, "lr": lr}]


def losses(model, optimizer, batch):
    generator = torch.Generator().manual_seed(3)
    found = []
    for _ in range(6):
        x, y = batch(generator)
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x).reshape(len(y), -1), y)
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    return torch.tensor(found, dtype=torch.float64)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("law", ["depth-mup", "complete-p"])
@pytest.mark.parametrize("network", NETWORKS)
def test_groups_equal_explicit_multipliers(network, law, optimizer):
    factory, options, batch = NETWORKS[network]
    cls, settings, lr = OPTIMIZERS[optimizer]
    factors = RULES[law, "adam" if "eps" in settings else "sgd"]
    torch.manual_seed(0)
    plain = factory(depth=DEPTH, **options).double()
    explicit = factory(depth=DEPTH, **options, branch_multiplier=factors[0]).double()
    explicit.load_state_dict(plain.state_dict())
    plan = plan_transfer(
        Tuned(
            network_graph(network, BASE_DEPTH),
            lr,
            weight_decay=settings.get("weight_decay", 0.0),
            no_decay=(),
            eps=settings.get("eps"),
        ),
        network_graph(network, DEPTH),
        optimizer=cls,
        law=law,
    )
    plan.rescale_(plain)

    groups = explicit_groups(
        explicit, lr=lr, factors=factors, settings=settings, decoupled=optimizer == "adamw"
    )
    expected = losses(explicit, cls(groups, lr=lr, **settings), batch)
    actual = losses(plain, cls(plan.param_groups(plain), **settings), batch)
    assert expected.std() > 1e-3
    torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-9)
