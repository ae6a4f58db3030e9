"""Settings and example inputs from text."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from etastar.errors import ModelSpecError
from etastar.sources.model_spec import (
    example_tensor,
    parse_inputs,
    parse_settings,
    split_settings,
)

NAMES = st.from_regex(r"[a-z_][a-z0-9_]{0,8}", fullmatch=True)
VALUES = st.one_of(
    st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.lists(st.integers())
)


@given(st.dictionaries(NAMES, VALUES))
def test_settings_round_trip(settings):
    text = ",".join(f"{name}={value!r}" for name, value in settings.items())
    assert parse_settings(split_settings(text)) == settings


@pytest.mark.parametrize(
    ("text", "value"),
    [("true", True), ("False", False), ("none", None), ("gelu", "gelu"), ("'7'", "7")],
)
def test_words(text, value):
    assert parse_settings([f"x={text}"]) == {"x": value}


@pytest.mark.parametrize("text", ["depth", "=3", "3x=1", "a b=1"])
def test_what_is_no_setting(text):
    with pytest.raises(ModelSpecError, match="NAME=VALUE"):
        parse_settings([text])


def test_a_list_without_brackets_is_told_how_to_be_written():
    assert parse_settings(split_settings("depths=[3,3,9]")) == {"depths": [3, 3, 9]}
    with pytest.raises(ModelSpecError, match=r"a list among others as depths=\[3,3,9,3\]"):
        parse_settings(split_settings("depths=3,3,9"))


def test_a_setting_twice():
    with pytest.raises(ModelSpecError, match="'depth' twice"):
        parse_settings(["depth=3", "depth=4"])


def test_inputs():
    args, kwargs = parse_inputs(["2,3x8:float64", "ids=1,4:long"])
    assert (args[0].shape, args[0].dtype) == ((2, 3, 8), torch.float64)
    assert (kwargs["ids"].shape, kwargs["ids"].dtype) == ((1, 4), torch.int64)


@pytest.mark.parametrize("text", ["", "a,b", "2,3:nothing", "2,3:Tensor", "1.5,2", "x=", "-1,2"])
def test_what_is_no_input(text):
    with pytest.raises(ModelSpecError, match="SHAPE"):
        parse_inputs([text])


def test_example_tensor_leaves_the_generator_alone():
    state = torch.get_rng_state()
    assert torch.equal(example_tensor((3, 2)), example_tensor((3, 2)))
    assert torch.equal(state, torch.get_rng_state())
