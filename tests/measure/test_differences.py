"""The size of the step that differences are taken over, to both sides or to one."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from etastar.measure import differences, measure_update, passes, update
from etastar.measure.batch import read_batch
from etastar.measure.differences import by_differences
from etastar.measure.optimizers import Direction
from etastar.measure.passes import Passes
from etastar.measure.subject import make_subject
from etastar.models import build


def count_passes(monkeypatch):
    made = []
    run = passes.Passes._run
    monkeypatch.setattr(
        passes.Passes, "_run", lambda *args, **kwargs: made.append(1) or run(*args, **kwargs)
    )
    return made


def network(depth=8, width=64):
    torch.manual_seed(0)
    return build("mlp", depth=depth, width=width)


def batch(examples=16):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(examples, 1, 8, 8, generator=generator), torch.arange(examples) % 10


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize(("room", "expected"), [(0.0, 2), (1.0, 1)])
def test_the_first_step_fits(monkeypatch, optimizer, room, expected):
    monkeypatch.setattr(update, "ROOM", room)
    made = count_passes(monkeypatch)
    model = network(width=256)
    report = measure_update(model, batch(), F.cross_entropy, optimizer=optimizer)
    assert len(made) == expected
    exact = measure_update(model, batch(), F.cross_entropy, optimizer=optimizer, method="forward")
    assert report.eta_star == pytest.approx(exact.eta_star, rel=5e-3)
    assert report.note == ""


def test_a_large_batch_is_measured_to_both_sides(monkeypatch):
    made = count_passes(monkeypatch)
    measure_update(network(), batch(1024), F.cross_entropy, optimizer="adam", seeds=(0, 1))
    assert len(made) == 4


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_readout_of_zero_needs_no_other_step(monkeypatch, optimizer):
    # its pre-activations change by any multiple of their size, which is no reason for a shorter one
    made = count_passes(monkeypatch)
    model = network(width=256)
    torch.nn.init.zeros_(list(model.parameters())[-2])
    report = measure_update(model, batch(), F.cross_entropy, optimizer=optimizer)
    assert len(made) == 1
    assert report.note == ""
    exact = measure_update(model, batch(), F.cross_entropy, optimizer=optimizer, method="forward")
    assert report.eta_star == pytest.approx(exact.eta_star, rel=5e-3)


def test_what_there_was_no_memory_for_is_computed_again(monkeypatch):
    model, examples = network(depth=4, width=32), batch(128)
    # four times 16 KiB, and 5 KiB of the readout; 22 KiB of weights
    found, made = {}, count_passes(monkeypatch)
    for room, num_passes in ((10.0, 1), (2.6, 2), (1.0, 2)):
        monkeypatch.setattr(update, "ROOM", room)
        del made[:]
        report = measure_update(model, examples, F.cross_entropy, optimizer="adam", seeds=(0, 1))
        found[room] = report.layers
        assert len(made) == 2 * num_passes
    assert found[10.0] == found[2.6]
    assert found[10.0] != found[1.0]  # to both sides
    for ours, central in zip(found[10.0], found[1.0], strict=True):
        assert ours.mean_square_update == pytest.approx(central.mean_square_update, rel=1e-2)


def linear_case(weight, u):
    """z = w x with x = 1, so that dz/d eta = u, whatever the step."""
    model = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        model.weight.fill_(weight)
    subject = make_subject(model, "sgd", seed=0)
    taken = Passes(
        subject.model, read_batch((torch.ones(3, 1), None)), "layers", seeded=lambda: None
    )
    direction = Direction({"weight": torch.full((1, 1), u)}, {"weight": weight}, {"weight": u})
    return subject, taken, direction


@pytest.mark.parametrize("is_one_sided", [False, True])
def test_a_linear_layer_moves_as_far_as_its_weight(is_one_sided):
    subject, taken, direction = linear_case(weight=2.0, u=3.0)
    base = taken.kept() if is_one_sided else None
    found = by_differences(subject, taken, direction, base=base)
    assert found.mean_squares == pytest.approx((9.0,), rel=1e-2)
    assert found.second_moments == pytest.approx((4.0,), rel=1e-2)
    assert float(subject.model.weight.detach()) == 2.0


@pytest.mark.parametrize("is_one_sided", [False, True])
def test_a_step_that_is_too_short_is_chosen_anew(is_one_sided, monkeypatch):
    subject, taken, direction = linear_case(weight=2.0, u=3.0)
    wrong = Direction(direction.updates, direction.sizes, {"weight": 3e2})
    base = taken.kept() if is_one_sided else None
    made = count_passes(monkeypatch)
    found = by_differences(subject, taken, wrong, base=base)
    assert len(made) == (2 if is_one_sided else 4)
    assert found.mean_squares == pytest.approx((9.0,), rel=1e-2)
    assert found.note == ""


def test_a_step_that_is_not_finite_has_no_bound_and_says_so():
    subject, taken, direction = linear_case(weight=2.0, u=math.inf)
    found = by_differences(subject, taken, direction, note="asked for otherwise")
    assert found.mean_squares == (math.inf,)
    assert found.note == "asked for otherwise; a step that is not finite"


@pytest.mark.parametrize("room", [0.0, 1.0])
def test_differences_that_do_not_settle_are_told(monkeypatch, room):
    monkeypatch.setattr(update, "ROOM", room)
    assert measure_update(network(), batch(), F.cross_entropy, optimizer="sgd").note == ""
    monkeypatch.setattr(differences, "_MAX_ATTEMPTS", 1)
    for name in ("_CENTRAL", "_ONE_SIDED"):
        scheme = getattr(differences, name)
        monkeypatch.setattr(differences, name, scheme._replace(greatest=1e-9))
    told = measure_update(network(), batch(), F.cross_entropy, optimizer="sgd")
    assert "did not settle" in told.note
