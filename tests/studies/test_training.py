"""From a declaration to runs: initialization, plans, data, random numbers."""

import pickle
from dataclasses import replace

import pytest
import torch
from etastar.sweep.running import run_point
from etastar.sweep.search.grid import Grid
from etastar.sweep.space import Point

from etastar.errors import TrialError
from studies.declaration import (
    Budget,
    Data,
    Family,
    OptimizerChoice,
    Parametrization,
    ladder,
    options,
    size,
)
from studies.initialization import OwnInit, StableInit
from studies.network import ZooNetwork, axis_value, captured, network_architecture
from studies.protocol import ADAM, SGD
from studies.running import family_experiment
from studies.training import family_plan, initialized_model

DATA = Data("teacher", options(num_train=64, num_test=8))


def family(zoo="resmlp", *, sizes=None, network=None, **changes):
    sizes = sizes or ladder([2, 4, 8])
    made = Family(
        name="f",
        group="f",
        network=network or ZooNetwork(zoo, options(width=8)),
        data=DATA,
        optimizer=SGD,
        budget=Budget(3, 8),
        sizes=sizes,
        search=Grid((0.1,)),
        seeds=(0, 1),
        initialization=StableInit(),
    )
    return replace(made, **changes)


def model(one, seed=0, **arguments):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return initialized_model(one, **arguments)


def branch_std(one, depth):
    weights = [block.fc1.weight for block in model(one, depth=depth).blocks]
    return torch.stack(weights).std().item()


def test_a_run_does_not_depend_on_what_was_captured_before():
    dropout = ZooNetwork("resmlp", options(width=8, dropout=0.5))
    experiment = family_experiment(family(network=dropout))
    where = (size(depth=4), Point(0.1, 1))
    captured.cache_clear()
    first = run_point(experiment, *where)
    assert run_point(experiment, *where).losses == first.losses


def test_the_power_of_k_is_that_of_the_variance():
    by_k = branch_std(family(), 8)
    by_square = branch_std(family(initialization=StableInit(power=2.0)), 8)
    assert by_square == pytest.approx(by_k / 8**0.5, rel=1e-6)
    outside = [model(family(initialization=StableInit(power=p)), depth=8) for p in (1.0, 2.0)]
    assert torch.equal(outside[0].stem.weight, outside[1].stem.weight)
    assert torch.equal(outside[0].head.weight, outside[1].head.weight)


def test_without_a_residual_rule_no_power_is_applied():
    plain, power = (family(initialization=StableInit(residual="none", power=p)) for p in (1.0, 2.0))
    assert branch_std(plain, 8) == branch_std(power, 8)


def test_the_models_own_initialization_is_left_as_it_was():
    one = family(initialization=OwnInit())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        untouched = one.network.build(depth=2)
    assert torch.equal(model(one, 3, depth=2).stem.weight, untouched.stem.weight)


def test_a_branch_power_multiplies_the_forward_pass():
    network = ZooNetwork("resmlp", options(width=8), branch_power=-0.5)
    assert [network.build(depth=d).blocks[0].branch_multiplier for d in (1, 4)] == [1.0, 0.5]


def test_a_plan_changes_nothing_at_its_base_and_what_the_law_says_beyond():
    chosen = Parametrization("complete-p", base=size(depth=2))
    one = family(initialization=StableInit(residual="none"), parametrization=chosen)
    plain = replace(one, parametrization=None)
    base, deep = (model(one, depth=depth) for depth in (2, 8))
    assert all(map(torch.equal, base.parameters(), model(plain, depth=2).parameters()))
    assert branch_std(one, 8) == pytest.approx(branch_std(plain, 8) / 4, rel=1e-6)
    make = family_experiment(one).make_optimizer
    rates = {group["lr"] for group in make(deep, 0.5).param_groups}
    assert rates == {0.5, 0.5 / 4}  # SGD: x m^2 K^(2 alpha - 1), m = 1/4, K = 4
    assert {group["lr"] for group in make(base, 0.5).param_groups} == {0.5}


def test_the_width_rule_reaches_the_optimizer():
    sizes = (size(depth=1, width=8), size(depth=1, width=32))
    one = family(
        "mlp",
        network=ZooNetwork("mlp"),
        sizes=sizes,
        optimizer=ADAM,
        parametrization=Parametrization("constant", base=sizes[0], width="mup"),
    )
    deep = replace(one, sizes=(size(depth=2, width=8), size(depth=2, width=32)))
    deep = replace(deep, parametrization=replace(one.parametrization, base=deep.sizes[0]))
    groups = family_experiment(deep).make_optimizer(model(deep, depth=2, width=32), 1.0)
    assert {group["lr"] for group in groups.param_groups} == {1.0, 0.25}


def test_a_model_of_no_declared_size_is_refused():
    one = family(parametrization=Parametrization("complete-p", base=size(depth=2)))
    stranger = one.network.build(depth=3)
    with pytest.raises(TrialError, match="none of the sizes"):
        family_experiment(one).make_optimizer(stranger, 0.1)
    assert family_plan(replace(one, parametrization=None), size(depth=2)) is None


def test_an_unknown_optimizer_is_refused():
    with pytest.raises(TrialError, match="sgd, adam, adamw"):
        family_experiment(family(optimizer=OptimizerChoice("warp")))


def test_options_reach_the_optimizer():
    momentum = family(optimizer=OptimizerChoice("sgd", options(momentum=0.9)))
    optimizer = family_experiment(momentum).make_optimizer(model(momentum, depth=2), 0.1)
    assert optimizer.param_groups[0]["momentum"] == 0.9


def test_an_experiment_can_be_pickled_and_says_what_it_is():
    one = family()
    experiment = pickle.loads(pickle.dumps(family_experiment(one)))
    assert experiment.settings == one.settings
    for changed in (
        replace(one, initialization=StableInit(residual="last")),
        replace(one, network=ZooNetwork("resmlp", options(width=16))),
        replace(one, optimizer=ADAM),
        replace(one, data=Data("digits")),
        replace(one, parametrization=Parametrization("complete-p", base=size(depth=2))),
    ):
        assert changed.settings != one.settings


def test_axes_of_a_residual_network():
    net, where = ZooNetwork("resmlp", options(width=8)), size(depth=3)
    report = network_architecture(net, where).report
    assert axis_value(net, where, "effective-depth") == report.effective_depth == 5
    assert axis_value(net, where, "nominal-depth") == 5
    # paths of 2 + k layers, C(3, k) of each
    cubes = sum(count * (2 + k) ** 3 for k, count in enumerate((1, 3, 3, 1)))
    assert axis_value(net, where, "path-sum") == pytest.approx(cubes ** (1 / 3))


def test_a_chain_has_one_depth_on_all_axes():
    net, where = ZooNetwork("mlp"), size(depth=6, width=4)
    axes = ("effective-depth", "nominal-depth", "path-sum")
    assert [axis_value(net, where, axis) for axis in axes] == pytest.approx([7.0] * 3)
    assert axis_value(net, where, "width") == 4.0


@pytest.mark.parametrize(
    "wrong",
    [
        {"targets": (size(depth=4),)},
        {"bases": (size(depth=2),), "targets": (size(depth=99),)},
        {"bases": (size(depth=99),)},
    ],
)
def test_bases_and_targets_must_be_sizes(wrong):
    with pytest.raises(TrialError, match="among its sizes"):
        family(**wrong)
