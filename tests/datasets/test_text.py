"""Bytes of Python source."""

import sysconfig
from pathlib import Path

import pytest
import torch

from etastar.datasets import load
from etastar.datasets.text import byte_windows, read_source, split_every
from etastar.errors import ModelSpecError


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


def test_no_file_is_opened_beyond_those_needed(tmp_path):
    (tmp_path / "b.py").write_bytes(b"bbbb")
    (tmp_path / "a.py").write_bytes(b"aaaa")
    (tmp_path / "c.py").mkdir()  # reading it would fail
    (tmp_path / "a.txt").write_bytes(b"no")
    assert read_source(tmp_path, num_bytes=8) == b"aaaabbbb"
    assert read_source(tmp_path, num_bytes=6) == b"aaaabb"


def test_a_folder_with_too_little_text_is_refused(tmp_path):
    (tmp_path / "a.py").write_bytes(b"x" * 99)
    with pytest.raises(ModelSpecError, match="num_bytes=100, and 99 bytes"):
        load("stdlib-text", folder=str(tmp_path), num_bytes=100)
    with pytest.raises(ModelSpecError, match="num_bytes=0"):
        load("stdlib-text", num_bytes=0)
    assert load("stdlib-text", folder=str(tmp_path), num_bytes=99, context=4).num_classes == 256


@pytest.mark.parametrize("context", [0, 6, -1])
def test_a_context_that_no_window_fits_is_refused(context):
    with pytest.raises(ModelSpecError, match=f"context={context}"):
        byte_windows(b"abcdef", context=context)


def test_every_window_is_in_one_part():
    windows = torch.arange(25)[:, None]
    train, _, test, _ = split_every(windows, windows, test_every=10)
    assert test.flatten().tolist() == [9, 19]
    assert sorted(torch.cat([train, test]).flatten().tolist()) == list(range(25))
