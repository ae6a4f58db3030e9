"""The rules that compute, measure or test: what each proposes, and what it costs."""

import importlib.util
from dataclasses import replace

import pytest
import torch

from etastar.errors import EtastarError
from etastar.fit import find_optimum
from etastar.sweep.result import SizeResult
from studies.declaration import (
    Budget,
    Data,
    OptimizerChoice,
    Parametrization,
    ladder,
    options,
    size,
)
from studies.initialization import OwnInit, StableInit
from studies.mup_package import MupInit
from studies.network import network_architecture
from studies.protocol import ADAM, SGD, Protocol
from studies.reproduce import reproduce
from studies.rules import RULES, Question, TunedSize
from studies.rules.computed import StructureRule
from studies.rules.measured import MeasuredRule
from studies.rules.peers import LRFinderRule, MupRule
from studies.running import family_recipe
from studies.transferring import proposals

PROTOCOL = Protocol(Data("digits"), ladder([2, 4, 8]), Budget(4, 16), (0, 1), options(width=8))
TUNED = find_optimum([0.05, 0.1, 0.2], [1.0, 0.0, 1.0])


def family_of(zoo="resmlp", optimizer=SGD, **model):
    return PROTOCOL.family("tests", zoo, optimizer=optimizer, start=0.1, **model)


def question(family, target=8):
    base = size(depth=2)
    tuned = TunedSize(base, network_architecture(family.network, base), TUNED, steps=70)
    return Question(family, (tuned,), size(depth=target))


@pytest.mark.parametrize(
    ("layers", "optimizer", "residual", "factor"),
    [
        (1, SGD, "all", 1 / 4),
        (2, SGD, "all", 1.0),
        (2, ADAM, "all", 1 / 2),
        (2, SGD, "last", 1 / 4),
        (2, SGD, "none", 1 / 4),
    ],
)
def test_structure_is_told_how_the_family_is_initialized(layers, optimizer, residual, factor):
    family = family_of(optimizer=optimizer, branch_layers=layers)
    family = replace(family, initialization=StableInit(residual=residual))
    rate = StructureRule().rate(question(family))
    assert rate == pytest.approx(TUNED.lr * factor)


def test_structure_leaves_alone_what_it_cannot_see():
    family = family_of(branch_layers=2)
    own = replace(family, initialization=OwnInit())
    assert StructureRule().rate(question(own)) == pytest.approx(TUNED.lr / 4)
    scaled = replace(family, network=replace(family.network, branch_power=-0.5))
    assert StructureRule().rate(question(scaled)) is None

    class Unknown:
        def apply_(self, model, graph, *, family, seed):
            """Nothing."""

    assert StructureRule().rate(question(replace(family, initialization=Unknown()))) is None


def outputs(model, x):
    """The scores, and the output of every linear layer."""
    seen = []
    layers = [m for m in model.modules() if isinstance(m, torch.nn.Linear)]
    hooks = [m.register_forward_hook(lambda m, i, output: seen.append(output)) for m in layers]
    scores = model(x)
    for hook in hooks:
        hook.remove()
    return scores, seen


def derivative_by_hand(family, depth):
    """Mean over seeds and hidden layers of the mean square of dz / d eta along one SGD step."""
    recipe = family_recipe(family)
    batch = next(recipe.batches(family.seeds[0] - 1 + 20_000))
    found = []
    for seed in family.seeds:
        torch.manual_seed(seed)
        model = recipe.make_model(depth=depth).double()
        x, y = batch[0].double(), batch[1]
        scores, before = outputs(model, x)
        loss = recipe.loss_fn(scores, y)
        gradients = torch.autograd.grad(loss, list(model.parameters()))
        with torch.no_grad():
            for parameter, gradient in zip(model.parameters(), gradients, strict=True):
                parameter.sub_(1e-6 * gradient)
            _, after = outputs(model, x)
            moved = [
                ((b - a) / 1e-6).square().mean()
                for a, b in zip(before[:-1], after[:-1], strict=True)
            ]
        found.append(torch.stack(moved).mean().item())
    return sum(found) / len(found)


def test_measured_is_the_ratio_of_criteria():
    torch_state = torch.get_rng_state()
    family = family_of("mlp")
    rate = MeasuredRule().rate(question(family))
    assert torch.equal(torch.get_rng_state(), torch_state)
    squares = [derivative_by_hand(family, depth) for depth in (2, 8)]
    assert rate == pytest.approx(TUNED.lr * (squares[0] / squares[1]) ** 0.5, rel=5e-3)


def test_measured_says_what_it_cost_and_repeats_itself():
    rule, asked = MeasuredRule(), question(family_of("mlp", ADAM))
    rate, steps = rule.rate(asked), rule.own_steps(asked)
    assert rate == rule.rate(asked)
    assert rate > 0
    assert steps >= 2 * len(asked.family.seeds)


def test_the_range_test_is_the_packages_own():
    family = family_of("mlp", ADAM)
    asked = Question(family, (), size(depth=4))
    rule = LRFinderRule()
    state = torch.get_rng_state()
    rate, steps = rule.rate(asked), rule.own_steps(asked)
    assert torch.equal(torch.get_rng_state(), state)
    assert 20 < steps <= 100
    exponents = [(torch.tensor(rate).log10() + 7).item() / 9 * 99]
    assert exponents[0] == pytest.approx(round(exponents[0]), abs=0.02)  # a rate of its range
    assert 1e-7 < rate < 100


def test_the_range_test_proposes_without_a_base():
    family = replace(family_of("mlp"), rules=("lr-finder", "constant"))
    results = {one: SizeResult(one, (), TUNED) for one in family.sizes}
    offers = {p.label: p for p in proposals(family, results, size(depth=8))}
    assert offers["lr-finder"].bases == ()
    assert offers["lr-finder"].cost_steps <= 100
    assert offers["constant"].lr == pytest.approx(TUNED.lr, rel=1e-5)


@pytest.mark.parametrize(
    ("package", "experiment", "message"),
    [("torch_lr_finder", "resnet", "torch-lr-finder"), ("mup", "width", "--no-deps mup")],
)
def test_a_missing_package_is_named_before_anything_runs(
    monkeypatch, tmp_path, package, experiment, message
):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda n, *a: None if n == package else found(n, *a)
    )
    with pytest.raises(EtastarError, match=message):
        reproduce(experiment, scale="smoke", out=tmp_path)
    assert not list(tmp_path.iterdir())


def test_names_of_rules_are_unique():
    names = [rule.name for rule in RULES]
    assert len(set(names)) == len(names)
    assert {"structure", "measured", "fitted-2", "lr-finder"} <= set(names)


def mup_family():
    protocol = replace(PROTOCOL, sizes=tuple(size(depth=2, width=w) for w in (8, 16, 32)))
    plain = replace(protocol, model=()).family("plain", "mlp", optimizer=ADAM, start=0.1)
    chosen = OptimizerChoice("mup-adam")
    return replace(plain, initialization=MupInit(protocol.sizes[0]), optimizer=chosen), plain


def trained(family, lr, **sizes):
    """Losses of a few steps in double precision would need the package's attributes: float32."""
    recipe = family_recipe(family)
    torch.manual_seed(0)
    model = recipe.make_model(**sizes)
    optimizer = recipe.make_optimizer(model, lr, **sizes)
    losses = []
    for x, y in recipe.batches(0):
        optimizer.zero_grad()
        loss = recipe.loss_fn(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_the_mup_package_trains_as_the_width_rule_does():
    theirs, plain = mup_family()
    ours = replace(plain, parametrization=Parametrization("constant", plain.sizes[0], "mup"))
    for width in (8, 32):
        found = [trained(family, 0.02, depth=2, width=width) for family in (theirs, ours, plain)]
        assert found[0] == pytest.approx(found[1], rel=1e-4)
    assert found[0] != pytest.approx(found[2], rel=1e-2)


def test_the_mup_peer_keeps_the_rate_of_its_own_networks():
    theirs, plain = mup_family()
    tuned = TunedSize(
        theirs.sizes[0], network_architecture(theirs.network, theirs.sizes[0]), TUNED, 1
    )
    assert MupRule().rate(Question(theirs, (tuned,), theirs.sizes[2])) == TUNED.lr
    assert MupRule().rate(Question(plain, (tuned,), plain.sizes[2])) is None


def test_the_mup_peer_leaves_the_random_numbers_of_the_run():
    theirs, plain = mup_family()
    states = []
    for family in (theirs, plain):
        torch.manual_seed(0)
        family_recipe(family).make_model(depth=2, width=16)
        states.append(torch.get_rng_state())
    assert torch.equal(*states)
