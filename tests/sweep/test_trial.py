"""One training run: closed forms, divergence, determinism."""

from math import inf, isclose, nan

import pytest
import torch
from torch import nn

from etastar.errors import TrialError
from etastar.sweep.recipe import Point, Recipe
from etastar.sweep.trial import run_trial


class Scalar(nn.Module):
    """One number, whatever the input."""

    def __init__(self, value: float = 1.0) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.tensor(value, dtype=torch.float64))

    def forward(self, x):
        return self.value * torch.ones_like(x)


def half_square(outputs, targets):
    return 0.5 * (outputs - targets).square().mean()


ZERO = (torch.ones(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64))


def sgd(model, lr, **size):
    return torch.optim.SGD(model.parameters(), lr=lr)


def recipe(make_model=Scalar, batches=None, loss_fn=half_square, num_steps=20, **settings):
    given = [ZERO] * num_steps if batches is None else batches
    parts = {"make_optimizer": sgd, "num_steps": num_steps, "batch_size": 1, **settings}
    return Recipe(make_model, lambda seed: given, loss_fn, **parts)


def run(made, lr=0.1, seed=0, **options):
    return run_trial(made, (), Point(lr, seed), **options)


def quadratic_trial(lr, **settings):
    return run(recipe(**settings), lr)


def noisy_trial(seed):
    def batches(seed):
        return ((torch.randn(4, 3), torch.randn(4, 1)) for _ in range(10))

    def network():
        return nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.5), nn.Linear(8, 1))

    return run(Recipe(network, batches, nn.functional.mse_loss, sgd, 10, 4), seed=seed)


@pytest.mark.parametrize("lr", [0.1, 0.5, 1.5])
def test_gradient_descent_on_a_parabola_follows_its_closed_form(lr):
    expected = [0.5 * (1 - lr) ** (2 * step) for step in range(20)]
    result = quadratic_trial(lr)
    assert result.losses == pytest.approx(expected, rel=1e-12)
    assert result.loss == pytest.approx(sum(expected) / 20, rel=1e-12)
    final = quadratic_trial(lr, objective="final")
    assert final.loss == pytest.approx(sum(expected[-2:]) / 2, rel=1e-12)
    assert (result.steps, result.diverged, result.initial_loss) == (20, False, 0.5)


def test_a_loss_beyond_the_factor_stops_the_run_at_the_step_that_shows_it():
    # the loss grows by 4 a step: 0.5, 2, 8, 32, 128
    for objective in ("mean", "final"):
        result = quadratic_trial(3.0, objective=objective)
        assert result.losses == (0.5, 2.0, 8.0, 32.0, 128.0)
        assert result.diverged
        assert (result.steps, result.loss) == (4, inf)


def test_a_loss_of_exactly_the_factor_has_not_diverged():
    assert quadratic_trial(11.0, num_steps=2).losses == (0.5, 50.0)
    assert quadratic_trial(11.0, num_steps=2).diverged is False
    assert quadratic_trial(11.0, num_steps=3).diverged is True


@pytest.mark.parametrize("bad", [nan, inf, -inf])
def test_a_loss_that_is_not_finite_is_divergence_at_the_first_step_too(bad):
    result = run(recipe(loss_fn=lambda outputs, _: bad * outputs.sum(), num_steps=3), 1.0)
    assert (result.diverged, result.steps, result.loss) == (True, 0, inf)


def test_a_first_loss_of_zero_or_less_has_no_or_a_positive_limit():
    from_zero = recipe(
        lambda: Scalar(0.0), loss_fn=lambda out, _: (out - out**2).sum(), num_steps=3
    )
    assert not run(from_zero, 1.0).diverged
    falling = run(recipe(loss_fn=lambda out, _: -out.sum(), num_steps=9), 50.0)
    assert not falling.diverged
    assert falling.losses[:2] == (-1.0, -51.0)


def test_the_same_seed_gives_the_same_run_and_another_seed_another():
    torch.manual_seed(1)
    first = noisy_trial(seed=7)
    torch.manual_seed(2)
    assert noisy_trial(seed=7) == first
    assert noisy_trial(seed=8).losses != first.losses


def test_the_global_random_numbers_are_left_as_they_were_also_on_failure():
    before = torch.get_rng_state()
    noisy_trial(seed=3)
    assert torch.equal(torch.get_rng_state(), before)
    with pytest.raises(TrialError, match="ZeroDivisionError"):
        run(recipe(loss_fn=lambda out, _: torch.rand(1) / 0 + 1 // 0))
    assert torch.equal(torch.get_rng_state(), before)


def test_evaluation_runs_in_eval_mode_on_the_trained_model_and_not_after_divergence():
    def evaluate(model):
        assert not model.training
        assert not torch.is_grad_enabled()
        return model.value

    held_out = {"objective": "validation", "evaluate": evaluate}
    assert isclose(quadratic_trial(0.5, num_steps=3, **held_out).loss, 0.125)
    assert quadratic_trial(1e3, **held_out).loss == inf


def test_training_runs_in_train_mode():
    class Mode(Scalar):
        def forward(self, x):
            assert self.training
            return super().forward(x)

    run(recipe(lambda: Mode().eval(), num_steps=1))


def test_the_final_window_is_at_least_one_step():
    result = quadratic_trial(0.5, num_steps=3, objective="final")
    assert result.loss == result.losses[-1]


def test_only_as_many_batches_are_taken_as_there_are_steps():
    batches = iter([ZERO] * 5)
    run(recipe(batches=batches, num_steps=3))
    assert len(list(batches)) == 2


def test_too_few_batches_are_an_error():
    with pytest.raises(TrialError, match="2 batches for num_steps=3"):
        run(recipe(batches=[ZERO] * 2, num_steps=3))


@pytest.mark.parametrize(
    "setting",
    [
        {"num_steps": 0},
        {"num_steps": None},
        {"num_steps": nan},
        {"batch_size": 1.5},
        {"settings": None},
        {"settings": {1: 2}},
        {"objective": "best"},
        {"objective": "validation"},
        {"make_optimizer": None},
        {"schedule": 3},
    ],
)
def test_settings_out_of_range_are_refused(setting):
    with pytest.raises(TrialError, match=next(iter(setting))):
        recipe(**{"batches": [ZERO], **setting})


def test_a_schedule_is_stepped_after_every_step():
    def halving(optimizer, num_steps):
        assert num_steps == 3
        return torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)

    result = run(recipe(num_steps=3, schedule=halving), 0.5)
    values = [1.0, 1.0 * (1 - 0.5), 0.5 * (1 - 0.25)]
    assert result.losses == pytest.approx([0.5 * value**2 for value in values], rel=1e-12)


def test_a_dict_batch_is_the_model_s_keywords_and_the_model_s_own_loss_is_taken():
    class Own(Scalar):
        def forward(self, x, labels):
            return {"loss": 0.5 * (super().forward(x) - labels).square().mean()}

    batches = [{"x": ZERO[0], "labels": ZERO[1]}] * 20
    own = run(recipe(Own, batches, None))
    assert own.losses == quadratic_trial(0.1).losses
    told = run(recipe(Own, batches, lambda output, batch: output["loss"] + batch["labels"].sum()))
    assert told.losses == own.losses
    with pytest.raises(TrialError, match="without a loss"):
        run(recipe(loss_fn=None))
    with pytest.raises(TrialError, match="a batch given as Tensor"):
        run(recipe(batches=[ZERO[0]]))


def test_the_optimizer_is_told_the_size():
    told = []

    def make_optimizer(model, lr, **size):
        told.append(size)
        return sgd(model, lr)

    made = recipe(lambda depth, width: Scalar(), make_optimizer=make_optimizer)
    run_trial(made, (("depth", 3), ("width", 8)), Point(0.1, 0))
    assert told == [{"depth": 3, "width": 8}]


class _Own(BaseException):
    pass


@pytest.mark.parametrize("kind", [SystemExit, _Own, RuntimeError])
def test_whatever_a_model_raises_is_an_error_of_ours(kind):
    def leaving():
        raise kind("bye")

    with pytest.raises(TrialError, match=f"{kind.__name__}: bye"):
        run(recipe(leaving))
