"""Data sets by name."""

import pytest

from etastar.datasets import DATASETS, load
from etastar.errors import ModelSpecError


def test_the_names_of_the_data_sets():
    assert set(DATASETS) == {"digits", "stdlib-text", "teacher"}


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ModelSpecError, match="digits, stdlib-text, teacher, hf:NAME"):
        load("mnist")


@pytest.mark.parametrize(
    ("name", "known"), [("teacher", "task, .*seed"), ("hf:someone/things", "config, .*streaming")]
)
def test_an_unknown_option_lists_the_known_ones(name, known):
    with pytest.raises(
        ModelSpecError, match=f"{name} with colour\nexpected: options out of: {known}"
    ):
        load(name, colour=3)


def test_options_reach_the_loader():
    assert len(load("teacher", num_test=100).test_inputs) == 100


@pytest.mark.parametrize(
    ("name", "option", "bad"),
    [
        ("teacher", "num_test", "many"),
        ("teacher", "num_test", 10.5),
        ("teacher", "seed", None),
        ("stdlib-text", "context", "long"),
        ("hf:someone/things", "size", "big"),
        ("hf:someone/things", "streaming", 1),
    ],
)
def test_an_option_of_another_type_is_refused_by_name(name, option, bad):
    with pytest.raises(ModelSpecError, match=f"received: {option}={bad!r}"):
        load(name, **{option: bad})


def test_what_a_loader_raises_is_an_error_of_ours():
    with pytest.raises(ModelSpecError, match=r"teacher with .*: \w+Error: Overflow"):
        load("teacher", seed=2**70)
