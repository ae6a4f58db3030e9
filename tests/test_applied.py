"""What was applied to a model is remembered beside it, weakly, by module and by weights."""

import copy
import gc
import threading

import pytest
import torch
from torch import nn

from etastar import applied
from etastar.applied import Applied, digest_of, recall, remember


def test_nothing_is_attached_and_nothing_is_kept_alive():
    model = nn.Linear(3, 3)
    before = set(vars(model)), set(vars(model.weight))
    remember(model, Applied("all"))
    assert (set(vars(model)), set(vars(model.weight))) == before
    known = len(applied._by_module)
    del model
    gc.collect()
    assert len(applied._by_module) < known


def test_weights_are_known_before_the_module_is():
    first, second = nn.Linear(3, 3), nn.Linear(3, 3)
    remember(first, Applied("all"))
    remember(second, Applied("none"))
    assert recall(copy.deepcopy(first)).residual == "all"
    first.load_state_dict(second.state_dict())
    assert recall(first).residual == "none"


def test_changed_weights_are_known_by_their_module_alone():
    model = nn.Linear(3, 3)
    remember(model, Applied(rescaled="factors"))
    nn.init.normal_(model.weight)
    assert recall(model).rescaled == "factors"
    assert recall(copy.deepcopy(model)) is None


@pytest.mark.parametrize("fill", [0.0, 1.0])
def test_weights_that_tell_nothing_have_no_digest(fill):
    model = nn.Linear(3, 3)
    for parameter in model.parameters():
        nn.init.constant_(parameter, fill)
    assert digest_of(model) is None
    assert digest_of(model.to("meta")) is None


def test_a_digest_sees_every_parameter():
    model = nn.Sequential(nn.Linear(50, 50), nn.Linear(2, 2))
    first = digest_of(model)
    with torch.no_grad():
        model[1].bias[-1] += 1
    assert digest_of(model) != first


def test_as_many_digests_are_kept_as_stated(monkeypatch):
    monkeypatch.setattr(applied, "_MOST", 3)
    models = [nn.Linear(3, 3) for _ in range(5)]
    for model in models:
        remember(model, Applied("all"))
    assert len(applied._by_weights) == 3
    assert recall(copy.deepcopy(models[0])) is None
    assert recall(copy.deepcopy(models[4])) == Applied("all")


def test_threads_remember_side_by_side():
    models = [nn.Linear(4, 4) for _ in range(64)]

    def work(part):
        for model in part:
            remember(model, Applied("last"))
            assert recall(model) == Applied("last")

    threads = [threading.Thread(target=work, args=(models[n::4],)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {recall(model) for model in models} == {Applied("last")}
