"""The experiment on GradInit: scales come from data, depend on no rate, and are learnt once."""

import pytest
import torch

from studies.experiments import learnt_scales
from studies.experiments.learnt_scales import LearntScales
from studies.experiments.registry import EXPERIMENTS
from studies.initialization import StableInit
from studies.network import captured
from studies.running import family_recipe


@pytest.fixture
def family():
    return learnt_scales.study("smoke").families[1]


def initialized(family, init, *, seed=0, depth=2):
    model = family.network.build(depth=depth)
    graph = captured(family.network, (("depth", depth),))
    init.apply_(model, graph, family=family, seed=seed)
    return dict(model.named_parameters())


def test_parameters_are_scaled_as_wholes(family):
    init = LearntScales(StableInit(residual="none"), lr=0.1, num_steps=3, scale_lr=0.2)
    scaled = initialized(family, init)
    plain = initialized(family, init.start)
    ratios = {}
    for name, before in plain.items():
        if before.any():
            quotients = (scaled[name] / before).flatten()
            ratios[name] = quotients[0].item()
            torch.testing.assert_close(quotients, quotients[:1].expand_as(quotients))
    assert len(set(ratios.values())) > 1


def test_scales_are_learnt_once_for_all_rates_and_again_for_another_seed(family, monkeypatch):
    init = LearntScales(StableInit(), lr=0.1, num_steps=2, scale_lr=0.1)
    calls = []
    learnt = learnt_scales._learnt
    monkeypatch.setattr(learnt_scales, "_learnt", lambda *a: calls.append(a) or learnt(*a))
    first, again = (initialized(family, init) for _ in range(2))
    assert len(calls) == 1
    assert all(torch.equal(first[name], again[name]) for name in first)
    initialized(family, init, seed=1)
    initialized(family, init, depth=4)
    assert len(calls) == 3


def test_the_batches_of_the_scales_are_not_those_of_the_training(family):
    search = learnt_scales._Search(family.initialization, family, 0, ())
    learning = learnt_scales._batches(search)
    training = family_recipe(family).batches(0)
    assert not torch.equal(learning[0][0], next(training)[0])
    assert len(learning) == 2 * family.initialization.num_steps


@pytest.mark.parametrize("scale", ["smoke", "cpu", "paper"])
def test_the_networks_are_those_of_the_experiment_resnet(scale):
    ours = EXPERIMENTS["gradinit"](scale).families
    theirs = EXPERIMENTS["resnet"](scale).families
    assert {(f.network, f.data, f.budget, f.sizes) for f in ours} <= {
        (f.network, f.data, f.budget, f.sizes) for f in theirs
    }
    assert ours[2].initialization == theirs[0].initialization
