"""scikit-learn's digits, and bytes of Python source."""

import sysconfig
from pathlib import Path

import pytest
import torch

from etastar.datasets import load
from etastar.datasets.dataset import byte_windows, hold_out_tenth
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


def test_the_text_is_that_of_the_modules_in_the_order_of_their_names():
    folder = Path(sysconfig.get_path("stdlib"))
    first = min((path for path in folder.glob("*.py")), key=lambda path: path.name)
    head = first.read_bytes()[:500]
    data = load("stdlib-text", context=4, num_bytes=2000)
    windows = torch.cat([data.train_inputs, data.train_targets[:, -1:]], dim=1)
    assert bytes(windows[:9].flatten().tolist()) == head[:45]
    assert data.train_inputs.shape == (360, 4)
    assert data.test_inputs.shape == (40, 4)
    assert torch.equal(data.train_inputs[:, 1:], data.train_targets[:, :-1])


def test_too_little_text_is_refused(tmp_path, monkeypatch):
    (tmp_path / "a.py").write_bytes(b"x" * 99)
    (tmp_path / "a.txt").write_bytes(b"no")
    monkeypatch.setattr(sysconfig, "get_path", {"stdlib": str(tmp_path)}.get)
    with pytest.raises(ModelSpecError, match="num_bytes=100, and 99 bytes"):
        load("stdlib-text", num_bytes=100)
    with pytest.raises(ModelSpecError, match="num_bytes=0"):
        load("stdlib-text", num_bytes=0)
    assert load("stdlib-text", num_bytes=99, context=4).num_classes == 256


@pytest.mark.parametrize("context", [0, 6, -1])
def test_a_context_that_no_window_fits_is_refused(context):
    with pytest.raises(ModelSpecError, match=f"context={context}"):
        byte_windows(b"abcdef", context=context)


def test_every_window_is_in_one_part():
    windows = torch.arange(25)[:, None]
    train, _, test, _ = hold_out_tenth(windows, windows)
    assert test.flatten().tolist() == [9, 19]
    assert sorted(torch.cat([train, test]).flatten().tolist()) == list(range(25))
