"""The size of the step that differences are taken over."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from etastar.errors import MeasureError, MeasureWarning
from etastar.measure import differences, measure_update
from etastar.measure.batch import read_batch
from etastar.measure.differences import Direction, by_differences
from etastar.measure.subject import make_subject
from etastar.models import build


@pytest.fixture
def passes(monkeypatch):
    """One entry for every pass that is made beside the gradient's."""
    made = []
    run = differences.observed_pass
    monkeypatch.setattr(differences, "observed_pass", lambda *args: made.append(1) or run(*args))
    return made


def network(depth=8, width=64):
    torch.manual_seed(0)
    return build("mlp", depth=depth, width=width)


def batch(examples=16):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(examples, 1, 8, 8, generator=generator), torch.arange(examples) % 10


def layers(model, **options):
    every = {"optimizer": "sgd", "pre_activations": "layers", **options}
    return measure_update(model, batch(), F.cross_entropy, **every)


def twin(forward_mode, model, optimizer):
    inputs, targets = batch()
    kind = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[optimizer]
    squares = forward_mode(
        model,
        lambda m: m(inputs.to(next(m.parameters()).dtype)),
        lambda out: F.cross_entropy(out, targets),
        lambda m: kind(m.parameters(), lr=1.0),
    )
    return sum(squares) / len(squares)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_the_first_step_fits_and_two_passes_do(passes, optimizer, forward_mode):
    model = network(width=256)
    report = layers(model, optimizer=optimizer)
    assert len(passes) == 2
    assert report.mean_square_update == pytest.approx(
        twin(forward_mode, model, optimizer), rel=0.01
    )
    assert report.doubt == ""


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_readout_of_zero_needs_no_other_step(passes, optimizer, forward_mode):
    # its pre-activations change by any multiple of their size, which is no reason for a shorter one
    model = network(width=256)
    torch.nn.init.zeros_(list(model.parameters())[-2])
    report = layers(model, optimizer=optimizer)
    assert len(passes) == 2
    assert report.mean_square_update == pytest.approx(
        twin(forward_mode, model, optimizer), rel=0.01
    )


def linear_case(weight, u):
    """z = w x with x = 1, so that dz/d eta = u, whatever the step."""
    model = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        model.weight.fill_(weight)
    examples = read_batch((torch.ones(3, 1), None))
    subject = make_subject(model, "sgd", examples, seed=0)
    return subject, Direction({subject.model.weight: torch.full((1, 1), u)}, False)


def test_a_linear_layer_moves_as_far_as_its_weight(passes):
    subject, direction = linear_case(weight=2.0, u=3.0)
    found = by_differences(subject, direction, "layers")
    assert found.mean_squares == pytest.approx((9.0,), rel=1e-2)
    assert found.second_moments == pytest.approx((4.0,), rel=1e-2)
    assert float(subject.model.weight.detach()) == pytest.approx(2.0, rel=1e-6)
    assert len(passes) == 2


@pytest.mark.parametrize("first_step", [1e-9, 10.0])
def test_a_step_that_does_not_fit_is_chosen_anew(first_step, passes, monkeypatch):
    monkeypatch.setattr(differences, "_FIRST_STEP", first_step)
    subject, direction = linear_case(weight=2.0, u=3.0)
    found = by_differences(subject, direction, "layers")
    assert len(passes) > 2
    assert found.mean_squares == pytest.approx((9.0,), rel=1e-2)
    assert found.doubt == ""


def only_sgd(name):
    return lambda model: torch.optim.SGD([model.get_parameter(name)], lr=1.0)


def test_what_is_lost_in_rounding_is_not_taken_for_nothing():
    """The step moves a bias beside a weight and a pre-activation that are large."""
    model = nn.Linear(1, 1)
    nn.init.constant_(model.weight, 1e4)
    nn.init.constant_(model.bias, 1e-2)
    report = measure_update(
        model, (torch.ones(3, 1), None), lambda z, _: z.mean(), optimizer=only_sgd("bias"),
        pre_activations="layers",
    )  # fmt: skip
    assert report.mean_square_update == pytest.approx(1.0, rel=0.05)


def test_what_does_not_move_allows_any_rate():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 2))
    x = torch.ones(5, 3)
    report = measure_update(model, (x, None), lambda z, _: z.sum(), optimizer=only_sgd("2.weight"))
    assert (report.eta_star, report.doubt) == (math.inf, "")
    assert report.as_dict()["eta_star"] is None


def test_differences_that_do_not_settle_are_said_aloud(monkeypatch):
    assert layers(network()).doubt == ""
    monkeypatch.setattr(differences, "_MAX_ATTEMPTS", 1)
    monkeypatch.setattr(differences, "_GREATEST_SHARE", 1e-9)
    with pytest.warns(MeasureWarning, match="no step fits.*seed 0") as warned:
        report = layers(network())
    assert "no step fits" in report.doubt
    assert warned[0].filename == __file__


def test_outputs_are_compared_as_they_were_before_they_are_written_to():
    class Doubling(nn.Module):
        def __init__(self, in_place):
            super().__init__()
            self.first, self.last, self.in_place = nn.Linear(3, 3), nn.Linear(3, 2), in_place

        def forward(self, x):
            z = self.first(x)
            return self.last(z.mul_(3.0) if self.in_place else z * 3.0)

    def report(in_place):
        torch.manual_seed(0)
        model, x = Doubling(in_place), torch.ones(5, 3)
        return measure_update(
            model, (x, None), lambda z, _: z.sum(), optimizer="sgd", pre_activations="layers"
        )

    assert report(True) == report(False)


class Alternating(nn.Module):
    """Squares its hidden layer by another operation on every second call of the whole process."""

    calls = 0

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(3, 4), nn.Linear(4, 1)

    def forward(self, x):
        type(self).calls += 1
        h = self.first(x)
        return self.last(h * h if type(self).calls % 2 else h.square())


def test_another_operation_for_the_same_function_changes_nothing():
    torch.manual_seed(0)
    model, given = Alternating(), (torch.randn(5, 3), torch.randn(5, 1))

    class Square(nn.Module):
        def forward(self, x):
            return x.square()

    steady = nn.Sequential(model.first, Square(), model.last)
    found, same = (
        measure_update(one, given, F.mse_loss, optimizer="sgd") for one in (model, steady)
    )
    assert found.eta_star == pytest.approx(same.eta_star, rel=1e-5)


class Growing(nn.Module):
    """Has one layer less on every call of the whole process."""

    calls = 0

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, x):
        type(self).calls += 1
        for _ in range(6 - type(self).calls):
            x = self.layer(x)
        return x


def test_a_model_without_the_same_layers_on_every_pass_is_refused():
    given = (torch.randn(5, 3), torch.randn(5, 3))
    with pytest.raises(MeasureError, match="operations differ between two passes"):
        measure_update(Growing(), given, F.mse_loss, optimizer="sgd")
