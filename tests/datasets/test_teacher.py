"""The synthetic task."""

import pytest
import torch

from etastar.datasets import load
from etastar.datasets.registry import load_teacher
from etastar.errors import ModelSpecError


def test_regression_targets_are_standardized_and_made_by_one_function():
    data = load_teacher(task="regression", num_train=1000)
    std, mean = torch.std_mean(data.train_targets, dim=0, correction=0)
    torch.testing.assert_close(mean, torch.zeros(10), atol=1e-5, rtol=0)
    torch.testing.assert_close(std, torch.ones(10))
    assert (data.task, data.num_classes) == ("regression", 10)


def test_a_class_is_the_largest_output_of_the_same_teacher():
    outputs = load_teacher(task="regression")
    classes = load_teacher(task="classification")
    assert torch.equal(outputs.train_inputs, classes.train_inputs)
    assert torch.equal(outputs.test_targets.argmax(1), classes.test_targets)
    assert len(classes.train_targets.unique()) == 10


def test_the_targets_can_be_predicted_from_the_inputs():
    # the teacher is odd in its input: linear regression explains most of it, noise nothing
    data = load_teacher(task="regression", num_train=2000)
    solution = torch.linalg.lstsq(data.train_inputs, data.train_targets).solution
    error = (data.test_inputs @ solution - data.test_targets).square().mean()
    assert error < 0.5 * data.test_targets.square().mean()


def test_the_seed_decides_everything_and_the_global_numbers_nothing():
    state = torch.get_rng_state()
    first, again, other = (load_teacher(seed=seed) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first.train_inputs, again.train_inputs)
    assert torch.equal(first.train_targets, again.train_targets)
    assert not torch.equal(first.train_inputs, other.train_inputs)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"task": "ranking"}, "task='ranking'"),
        ({"num_train": 0}, "num_train=0"),
        ({"num_test": -1}, "num_test=-1"),
    ],
)
def test_bad_options_are_refused(options, named):
    with pytest.raises(ModelSpecError, match=named):
        load("teacher", **options)
