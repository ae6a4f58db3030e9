"""Depth-muP and CompleteP by groups train as the same network with multipliers in its forward."""

import functools

import pytest
import torch
import torch.nn.functional as F

from etastar.errors import LawError
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


class Spread(torch.nn.Module):
    """A branch that ends in a product of what its last layer makes and of how it is spread."""

    def __init__(self, spread):
        super().__init__()
        self.values, self.keys, self.slots = (torch.nn.Linear(8, n) for n in (8, 8, 3))
        self.spread = spread

    def forward(self, x):
        return self.spread(self, F.layer_norm(x, (8,)))


SPREADS = {
    "values alone": lambda m, x: (m.keys(x) @ x.mT).softmax(-1) @ m.values(x),
    "slots": lambda m, x: torch.einsum(
        "bts,bsd->btd", m.slots(x).softmax(-1), m.values(m.slots(x).softmax(1).mT @ x)
    ),
    "kernel": lambda m, x: F.elu(m.keys(x)) @ (F.elu(x).mT @ m.values(x)),
    "squared": lambda m, x: (lambda v: (v @ v.mT) @ v)(m.values(x)),
    "squared by two calls": lambda m, x: (m.values(x) @ x.mT) @ m.values(x),
}


class Spreads(torch.nn.Module):
    def __init__(self, depth, spread, multiplier=1.0):
        super().__init__()
        self.blocks = torch.nn.ModuleList(Spread(SPREADS[spread]) for _ in range(depth))
        self.tokens, self.head = torch.nn.Embedding(32, 8), torch.nn.Linear(8, 32)
        self.multiplier = multiplier

    def forward(self, ids):
        x = self.tokens(ids)
        for block in self.blocks:
            x = x + self.multiplier * block(x)
        return self.head(x).flatten(0, 1)


@pytest.mark.parametrize("spread", ["values alone", "slots", "kernel"])
def test_a_branch_may_end_in_a_product_that_spreads_what_its_last_layer_makes(spread):
    ids = torch.zeros(1, 8, dtype=torch.long)
    base, plain = (Spreads(depth, spread).double() for depth in (BASE_DEPTH, DEPTH))
    explicit = Spreads(DEPTH, spread, RATIO**-0.5).double()
    explicit.load_state_dict(plain.state_dict())
    plan = plan_transfer(Tuned((base, ids), 0.3), (plain, ids), optimizer="sgd", law="depth-mup")
    plan.rescale_(plain)
    expected = losses(explicit, torch.optim.SGD(explicit.parameters(), lr=0.3), token_batch)
    actual = losses(plain, torch.optim.SGD(plan.param_groups(plain), lr=0.3), token_batch)
    torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("spread", ["squared", "squared by two calls"])
def test_a_product_of_what_the_last_layer_makes_with_itself_carries_none(spread):
    ids = torch.zeros(1, 8, dtype=torch.long)
    base, plain = ((Spreads(depth, spread), ids) for depth in (BASE_DEPTH, DEPTH))
    with pytest.raises(LawError, match="cannot carry a multiplier"):
        plan_transfer(Tuned(base, 0.3), plain, optimizer="sgd", law="depth-mup")
