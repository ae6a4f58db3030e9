"""Fashion-MNIST: the idx parser on files made here, and Debian's files."""

import gzip
import struct
from pathlib import Path

import pytest
import torch

from etastar.errors import ModelSpecError
from studies.data_sets import DEBIAN_FOLDER, load_named, read_idx


def write_idx(path, array, *, kind=8, zeros=0):
    header = struct.pack(f">HBB{array.ndim}I", zeros, kind, array.ndim, *array.shape)
    path.write_bytes(gzip.compress(header + bytes(array.flatten().tolist())))


def made_images(number):
    """Squares, so that the mean of a patch is not its maximum less a constant."""
    return (torch.arange(number * 16) ** 2 % 251).to(torch.uint8).reshape(number, 4, 4)


@pytest.fixture
def folder(tmp_path):
    for part, number in [("train", 5), ("t10k", 3)]:
        write_idx(tmp_path / f"{part}-images-idx3-ubyte.gz", made_images(number))
        write_idx(tmp_path / f"{part}-labels-idx1-ubyte.gz", torch.arange(number))
    return tmp_path


@pytest.mark.parametrize("shape", [(6,), (2, 3), (2, 3, 4), (0, 4, 4)])
def test_an_idx_file_is_read_as_it_was_written(tmp_path, shape):
    array = torch.randint(256, shape, dtype=torch.uint8)
    write_idx(tmp_path / "a.gz", array)
    found = read_idx(tmp_path / "a.gz")
    assert found.shape == array.shape
    assert found.tolist() == array.tolist()


def test_a_broken_idx_file_is_named(tmp_path):
    path = tmp_path / "a.gz"
    array = torch.zeros(2, 3, dtype=torch.uint8)
    write_idx(path, array, kind=0x0D)
    with pytest.raises(ModelSpecError, match="type 13"):
        read_idx(path)
    write_idx(path, array, zeros=1)
    with pytest.raises(ModelSpecError, match=r"a\.gz"):
        read_idx(path)
    whole = gzip.compress(struct.pack(">HBBI", 0, 8, 1, 100) + bytes(99))
    for content in (whole, whole[:-9], b"no gzip", gzip.compress(b"ab"), b""):
        path.write_bytes(content)
        with pytest.raises(ModelSpecError, match=r"a\.gz"):
            read_idx(path)


def test_images_are_pooled_then_standardized(folder):
    data = load_named("fashion-mnist", folder=str(folder), num_train=5, num_test=3, size=2)
    pooled = made_images(5).double().reshape(5, 2, 2, 2, 2).mean((2, 4))
    expected = (pooled - pooled.mean()) / pooled.std(correction=0)
    torch.testing.assert_close(data.train_inputs[:, 0], expected.float())
    assert data.train_targets.tolist() == [0, 1, 2, 3, 4]
    assert data.test_inputs.shape == (3, 1, 2, 2)
    torch.testing.assert_close(data.test_inputs, data.train_inputs[:3])


@pytest.mark.parametrize("options", [{"size": 3}, {"size": 0}, {"num_train": 6}, {"num_test": 0}])
def test_options_out_of_range_are_refused(folder, options):
    settings = {"num_train": 5, "num_test": 3, "size": 4} | options
    with pytest.raises(ModelSpecError, match=r"expected: (a divisor of 4|from 1 to)"):
        load_named("fashion-mnist", folder=str(folder), **settings)


def test_where_it_is_not_installed_the_error_says_how_to_install_it(tmp_path):
    with pytest.raises(ModelSpecError, match="apt-get install dataset-fashion-mnist"):
        load_named("fashion-mnist", folder=str(tmp_path))


@pytest.mark.skipif(not Path(DEBIAN_FOLDER).is_dir(), reason="dataset-fashion-mnist not installed")
def test_debians_files_hold_the_known_numbers_of_examples():
    data = load_named("fashion-mnist", size=14)
    assert data.train_inputs.shape == (60_000, 1, 14, 14)
    assert data.test_inputs.shape == (10_000, 1, 14, 14)
    assert torch.bincount(data.train_targets).tolist() == [6000] * 10
    assert torch.bincount(data.test_targets).tolist() == [1000] * 10
    assert data.train_inputs.mean().abs() < 1e-4
    assert abs(data.train_inputs.std() - 1) < 1e-4
