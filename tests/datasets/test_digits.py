"""scikit-learn's digits."""

import pytest
import torch

from etastar.datasets import load
from etastar.errors import ModelSpecError


def test_the_split_holds_every_image_once():
    from sklearn.datasets import load_digits

    raw = load_digits()
    data = load("digits")
    assert (data.task, data.num_classes) == ("classification", 10)
    assert data.train_inputs.shape == (1437, 1, 8, 8)
    assert data.test_inputs.shape == (360, 1, 8, 8)
    everything = torch.cat([data.train_inputs, data.test_inputs]).double()
    # undo the scaling by the two pixel values that are known: the least is 0, the most 16
    low, high = everything.min(), everything.max()
    pixels = ((everything - low) / (high - low) * 16).round().to(torch.int64).flatten(1)
    labels = torch.cat([data.train_targets, data.test_targets])[:, None]
    found = sorted(torch.cat([pixels, labels], dim=1).tolist())
    truth = torch.cat([torch.from_numpy(raw.data), torch.from_numpy(raw.target)[:, None]], dim=1)
    assert found == sorted(truth.long().tolist())


def test_the_training_part_is_standardized_and_the_test_part_by_the_same_numbers():
    data = load("digits")
    assert data.train_inputs.mean().abs() < 1e-5
    assert abs(data.train_inputs.std(correction=0) - 1) < 1e-5
    # black is the same number in both parts, so both were shifted and scaled alike
    assert data.train_inputs.min() == data.test_inputs.min()
    assert data.train_inputs.max() == data.test_inputs.max()


def test_the_seed_decides_the_split():
    first, again, other = (load("digits", seed=seed).test_inputs for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("num_test", [0, 1797])
def test_a_part_without_examples_is_refused(num_test):
    with pytest.raises(ModelSpecError, match=f"num_test={num_test}"):
        load("digits", num_test=num_test)
