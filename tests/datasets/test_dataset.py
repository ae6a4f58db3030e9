"""The record and its batches."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from etastar.datasets import Dataset
from etastar.datasets.dataset import image_dataset
from etastar.errors import ModelSpecError
from studies.data_sets import load_named


def numbered(num_train, num_test=1):
    train, test = torch.arange(num_train), torch.arange(num_test)
    return Dataset("numbers", "classification", num_train, train, -train, test, -test)


def batch_rows(data, *arguments):
    return [inputs.tolist() for inputs, _ in data.batches(*arguments)]


@settings(deadline=None)
@given(st.integers(1, 30), st.data(), st.integers(1, 40), st.integers(0, 2**32))
def test_batches_are_full_paired_and_without_repetition_in_an_epoch(n, data, num_steps, seed):
    batch_size = data.draw(st.integers(1, n))
    batches = list(numbered(n).batches(seed, batch_size, num_steps))
    assert len(batches) == num_steps
    per_epoch = n // batch_size
    for start in range(0, num_steps, per_epoch):
        rows = torch.cat([inputs for inputs, _ in batches[start : start + per_epoch]]).tolist()
        assert len(set(rows)) == len(rows)
    for inputs, targets in batches:
        assert len(inputs) == batch_size
        assert torch.equal(targets, -inputs)


def test_an_epoch_that_batches_fill_holds_every_example():
    rows = batch_rows(numbered(12), 0, 4, 6)
    for epoch in (rows[:3], rows[3:]):
        assert sorted(number for row in epoch for number in row) == list(range(12))
    assert rows[:3] != rows[3:]


def test_the_seed_alone_decides_the_order_and_more_steps_only_add():
    data = numbered(20)
    torch.manual_seed(0)
    first = batch_rows(data, 5, 3, 10)
    state = torch.get_rng_state()
    assert batch_rows(data, 5, 3, 25)[:10] == first
    assert batch_rows(data, 6, 3, 10) != first
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(("batch_size", "num_steps"), [(0, 1), (21, 1), (3, 0)])
def test_batches_that_cannot_be_made_are_refused_at_once(batch_size, num_steps):
    with pytest.raises(ModelSpecError, match=f"batch_size={batch_size}, num_steps={num_steps}"):
        numbered(20).batches(0, batch_size, num_steps)


def test_parts_that_do_not_pair_are_refused():
    three, two = torch.arange(3), torch.arange(2)
    with pytest.raises(ModelSpecError, match="3 training inputs and 2 targets"):
        Dataset("odd", "classification", 3, three, two, two, two)
    with pytest.raises(ModelSpecError, match="0 test inputs"):
        Dataset("none", "classification", 3, two, two, two[:0], two[:0])


@pytest.mark.parametrize(
    ("name", "options", "targets", "size"),
    [
        ("digits", {}, [6, 4, 2, 6, 6, 8, 6, 0], 474.8116888701916),
        ("teacher", {"num_train": 100}, [1, 5, 5, 5, 3, 3, 7, 1], 417.8906997120357),
    ],
)
def test_the_batches_of_a_seed_are_those_of_stored_results(name, options, targets, size):
    inputs, found = next(load_named(name, **options).batches(0, 8, 1))
    assert found.tolist() == targets
    assert inputs.double().abs().sum().item() == pytest.approx(size, rel=1e-6)


def standardize_images(train, test):
    labels = [torch.zeros(len(images), dtype=torch.long) for images in (train, test)]
    data = image_dataset("images", 1, (train, labels[0]), (test, labels[1]))
    return data.train_inputs, data.test_inputs


def test_each_channel_is_scaled_by_the_training_parts_own_statistics():
    generator = torch.Generator().manual_seed(0)
    scale = torch.tensor([1.0, 5.0])[:, None, None]
    train = 3 + scale * torch.randn(50, 2, 4, 4, generator=generator)
    test = 3 + scale * torch.randn(7, 2, 4, 4, generator=generator)
    scaled, scaled_test = standardize_images(train, test)
    std, mean = torch.std_mean(scaled, dim=(0, 2, 3), correction=0)
    torch.testing.assert_close(mean, torch.zeros(2), atol=1e-5, rtol=0)
    torch.testing.assert_close(std, torch.ones(2))
    joint, _ = standardize_images(train, torch.cat([train, test]))
    torch.testing.assert_close(joint, scaled)
    torch.testing.assert_close(standardize_images(train, train[:7])[1], scaled[:7])
    assert scaled_test.shape == test.shape


def test_a_constant_channel_becomes_zero():
    scaled, _ = standardize_images(torch.full((2, 1, 2, 2), 7.0), torch.full((1, 1, 2, 2), 7.0))
    assert torch.equal(scaled, torch.zeros(2, 1, 2, 2))
