"""Data sets by name."""

import pytest

from etastar.datasets import DATASETS, load
from etastar.errors import ModelSpecError


def test_the_names_of_the_data_sets():
    assert set(DATASETS) == {"digits", "fashion-mnist", "stdlib-text", "teacher"}


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(
        ModelSpecError, match="digits, fashion-mnist, stdlib-text, teacher, hf:NAME"
    ):
        load("mnist")


@pytest.mark.parametrize("name", ["digits", "hf:someone/things"])
def test_an_unknown_option_lists_the_known_ones(name):
    with pytest.raises(
        ModelSpecError, match=f"{name} with colour\nexpected: options out of: .*seed"
    ):
        load(name, colour=3)


def test_options_reach_the_loader():
    assert len(load("digits", num_test=100).test_inputs) == 100
