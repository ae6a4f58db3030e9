"""One training run: closed forms, divergence, determinism."""

from math import inf, isclose, nan

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from etastar.errors import TrialError
from etastar.sweep import run_trial
from etastar.sweep.trial import Prospect


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


def sgd(lr):
    return lambda model: torch.optim.SGD(model.parameters(), lr=lr)


def quadratic_trial(lr, *, num_steps=20, **settings):
    return run_trial(
        Scalar, [ZERO] * num_steps, half_square, sgd(lr), num_steps=num_steps, **settings
    )


def noisy_trial(seed):
    return run_trial(
        lambda: nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.5), nn.Linear(8, 1)),
        ((torch.randn(4, 3), torch.randn(4, 1)) for _ in range(10)),
        nn.functional.mse_loss,
        sgd(0.1),
        num_steps=10,
        seed=seed,
    )


@pytest.mark.parametrize("lr", [0.1, 0.5, 1.5])
def test_gradient_descent_on_a_parabola_follows_its_closed_form(lr):
    result = quadratic_trial(lr)
    expected = [0.5 * (1 - lr) ** (2 * step) for step in range(20)]
    assert result.losses == pytest.approx(expected, rel=1e-12)
    assert result.mean_loss == pytest.approx(sum(expected) / 20, rel=1e-12)
    assert result.final_loss == pytest.approx(sum(expected[-2:]) / 2, rel=1e-12)
    assert (result.steps_done, result.diverged, result.initial_loss) == (20, False, 0.5)


def test_a_loss_beyond_the_factor_stops_the_run_at_the_step_that_shows_it():
    # the loss grows by 4 a step: 0.5, 2, 8, 32, 128
    result = quadratic_trial(3.0, divergence_factor=100.0)
    assert result.losses == (0.5, 2.0, 8.0, 32.0, 128.0)
    assert result.diverged
    assert (result.steps_done, result.mean_loss, result.final_loss) == (4, inf, inf)


def test_a_loss_of_exactly_the_factor_has_not_diverged():
    assert quadratic_trial(3.0, num_steps=2, divergence_factor=4.0).diverged is False
    assert quadratic_trial(3.0, num_steps=3, divergence_factor=4.0).diverged is True


@pytest.mark.parametrize("bad", [nan, inf, -inf])
def test_a_loss_that_is_not_finite_is_divergence_at_the_first_step_too(bad):
    result = run_trial(
        Scalar, [ZERO] * 3, lambda outputs, _: bad * outputs.sum(), sgd(1.0), num_steps=3
    )
    assert (result.diverged, result.steps_done, result.mean_loss) == (True, 0, inf)


def test_a_first_loss_of_zero_or_less_has_no_or_a_positive_limit():
    from_zero = run_trial(
        lambda: Scalar(0.0), [ZERO] * 3, lambda out, _: (out - out**2).sum(), sgd(1.0), num_steps=3
    )
    assert not from_zero.diverged
    falling = run_trial(Scalar, [ZERO] * 9, lambda out, _: -out.sum(), sgd(50.0), num_steps=9)
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
    with pytest.raises(ZeroDivisionError):
        run_trial(Scalar, [ZERO], lambda out, _: torch.rand(1) / 0 + 1 // 0, sgd(1.0), num_steps=1)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_callback_sees_every_step_once():
    seen = []
    result = quadratic_trial(0.5, num_steps=4, on_step=lambda *step: seen.append(step))
    assert seen == list(zip([1, 2, 3, 4], result.losses, strict=True))


def test_evaluation_runs_in_eval_mode_on_the_trained_model_and_not_after_divergence():
    def evaluate(model):
        assert not model.training
        assert not torch.is_grad_enabled()
        return model.value

    assert isclose(quadratic_trial(0.5, num_steps=3, evaluate=evaluate).evaluation, 0.125)
    assert quadratic_trial(0.5).evaluation is None
    assert quadratic_trial(1e3, evaluate=evaluate).evaluation is None


def test_training_runs_in_train_mode():
    class Mode(Scalar):
        def forward(self, x):
            assert self.training
            return super().forward(x)

    run_trial(lambda: Mode().eval(), [ZERO], half_square, sgd(1.0), num_steps=1)


def test_the_final_window_is_at_least_one_step():
    result = quadratic_trial(0.5, num_steps=3, final_fraction=0.01)
    assert result.final_loss == result.losses[-1]


def test_only_as_many_batches_are_taken_as_there_are_steps():
    batches = iter([ZERO] * 5)
    run_trial(Scalar, batches, half_square, sgd(0.1), num_steps=3)
    assert len(list(batches)) == 2


def test_too_few_batches_are_an_error():
    with pytest.raises(TrialError, match="2 batches for num_steps=3"):
        run_trial(Scalar, [ZERO] * 2, half_square, sgd(0.1), num_steps=3)


@pytest.mark.parametrize(
    "setting",
    [
        {"num_steps": 0},
        {"divergence_factor": 1.0},
        {"divergence_factor": nan},
        {"final_fraction": 0.0},
        {"final_fraction": 1.1},
    ],
)
def test_settings_out_of_range_are_refused(setting):
    with pytest.raises(TrialError, match=next(iter(setting))):
        quadratic_trial(0.1, **setting)


def test_a_ceiling_ends_a_run_once_its_mean_is_certain_to_exceed_it():
    whole = quadratic_trial(0.1)
    # the losses sum to 2.59, of which 0.5, 0.405, 0.328, 0.266 are the first
    result = quadratic_trial(0.1, ceiling=1.49 / 20)
    assert (result.steps_done, result.stopped, result.diverged) == (4, True, False)
    assert result.losses == whole.losses[:4]
    assert (result.mean_loss, result.final_loss) == (inf, inf)
    assert not quadratic_trial(0.1, ceiling=whole.mean_loss * 1.001).stopped


def test_divergence_goes_before_the_ceiling():
    result = quadratic_trial(3.0, ceiling=60.0)
    assert (result.diverged, result.stopped) == (True, False)


@given(
    st.lists(st.floats(0, 1e6), min_size=1, max_size=30),
    st.lists(st.floats(0, 1e6), max_size=30),
    st.floats(0, 1e6),
)
def test_hopeless_is_said_of_no_run_whose_mean_ends_below_the_ceiling(losses, rest, ceiling):
    num_steps = len(losses) + len(rest)
    prospect = Prospect(ceiling, num_steps)
    if [prospect.is_hopeless_after(loss) for loss in losses][-1]:
        assert sum(losses) + sum(rest) > ceiling * num_steps * (1 - 1e-12)
    else:
        assert sum(losses) <= ceiling * num_steps


def test_where_losses_can_be_negative_nothing_is_certain():
    prospect = Prospect(1.0, 4)
    assert not any(prospect.is_hopeless_after(loss) for loss in (-0.1, 5.0, 5.0))
