"""Names do not depend on what wraps a model or a part of it."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper

from etastar.naming import (
    canonical_modules,
    canonical_parameters,
    name_indices,
    name_template,
    separated_indices,
    unwrap,
)

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # torch's own


def net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(2, 3), nn.Sequential(nn.Linear(3, 3), nn.ReLU()))


NAMES = ["0.weight", "0.bias", "1.0.weight", "1.0.bias"]


def test_wrappers_around_and_inside_do_not_change_names() -> None:
    plain = net()
    assert list(canonical_parameters(plain)) == NAMES
    assert list(canonical_parameters(torch.compile(nn.DataParallel(plain)))) == NAMES
    plain[1] = checkpoint_wrapper(torch.compile(plain[1]))
    assert list(canonical_parameters(plain)) == NAMES
    assert unwrap(plain[1]) is not plain[1]


def test_unwrap_reaches_the_innermost_module_and_leaves_others() -> None:
    plain = net()
    assert unwrap(plain) is plain
    assert unwrap(nn.DataParallel(torch.compile(plain))) is plain


def test_own_names_that_look_like_a_wrapper_stay() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = nn.Linear(2, 2, bias=False)

    assert list(canonical_parameters(Own())) == ["module.weight"]
    assert list(canonical_parameters(nn.DataParallel(Own()))) == ["module.weight"]


def test_tied_parameters_stand_under_every_name_and_modules_under_every_path() -> None:
    model = net()
    model.head = model[0]
    names = canonical_parameters(model)
    assert names["head.weight"] is names["0.weight"]
    assert [path for path, module in canonical_modules(model) if module is model[0]] == [
        "0",
        "head",
    ]


def test_parameters_are_those_of_the_model_itself() -> None:
    model = net()
    found = canonical_parameters(torch.compile(model))
    assert all(found[name] is parameter for name, parameter in model.named_parameters())


def test_numbers_that_differ_between_two_networks_are_indices_and_others_are_names() -> None:
    def dense(layers: int) -> list[str]:
        blocks = [f"features.denseblock{b}.denselayer" for b in (1, 2)]
        norms = [f"{i}.norm{n}.weight" for i in range(1, layers + 1) for n in (1, 2)]
        return [block + norm for block in blocks for norm in norms]

    found = separated_indices(dense(6), dense(25))
    assert set(found) == set(dense(25))
    name = "features.denseblock2.denselayer25.norm1.weight"
    assert found[name] == "features.denseblock2.denselayer~.25.norm1.weight"
    assert name_indices(found[name]) == (25,)


@pytest.mark.parametrize(
    ("small", "large", "name", "spelled"),
    [
        (["rnn.weight_ih_l0"], ["rnn.weight_ih_l1"], "rnn.weight_ih_l1", "rnn.weight_ih_l~.1"),
        (["a.l0_reverse"], ["a.l0_reverse", "a.l1_reverse"], "a.l1_reverse", "a.l~.1.~_reverse"),
        (["layer_0.w"], ["layer_0.w", "layer_12.w"], "layer_12.w", "layer_~.12.w"),
        (["conv2d_1.w"], ["conv2d_1.w", "conv2d_2.w"], "conv2d_2.w", "conv2d_~.2.w"),
        (["mixed_5a.w"], ["mixed_5a.w", "mixed_5c.w"], "mixed_5c.w", "mixed_5~.2.w"),
        (["b1-0.w", "b2-0.w"], ["b1-0.w", "b2-0.w", "b2-1.w"], "b2-1.w", "b2-~.1.w"),
        (["b1-0.w"], ["b1-0.w", "b1-1.w", "b2-0.w"], "b2-0.w", "b~.2.~-~.0.w"),
        (["1a.w"], ["1a.w", "2a.w"], "2a.w", "2.~a.w"),
        (["fc1.w", "fc2.w"], ["fc1.w", "fc2.w"], "fc2.w", "fc2.w"),
        (["conv3x3.w"], ["conv3x3.w"], "conv3x3.w", "conv3x3.w"),
        (["blocks.0.fc1.w"], ["blocks.0.fc1.w", "blocks.1.fc1.w"], "blocks.1.fc1.w", None),
        (["head.w"], ["head.w", "extra7.w"], "extra7.w", None),
        ([], ["block1.w"], "block1.w", None),
    ],
)
def test_numbers_in_names(
    small: list[str], large: list[str], name: str, spelled: str | None
) -> None:
    assert separated_indices(small, large)[name] == (spelled or name)


WORDS = st.from_regex(r"[a-z]{1,3}[0-9]?[a-z_]{0,2}", fullmatch=True)
BLOCKS = st.sampled_from(["block{}", "layer_{}", "s2-{}", "weight_ih_l{}", "l{}_reverse", "3x{}y"])


@given(BLOCKS, st.lists(WORDS, unique=True, max_size=4), st.sets(st.integers(1, 12)), st.data())
def test_blocks_that_are_attributes_read_as_blocks_of_a_list_do(
    block: str, inner: list[str], kept: set[int], data: st.DataObject
) -> None:
    more = data.draw(st.sets(st.integers(1, 12)).filter(lambda others: others != kept))

    def names(form: str, numbers: set[int]) -> list[str]:
        ends = ["ln_1.weight", *(f"{word}.weight" for word in inner)]
        return [*(f"m.{form.format(i)}.{end}" for i in numbers for end in ends), "m.fc2.bias"]

    found = separated_indices(names(block, kept), names(block, more))
    assert len(set(found.values())) == len(found)
    if kept and more:
        for name, plain in zip(names(block, more), names("list.{}", more), strict=True):
            assert name_indices(found[name]) == name_indices(plain)
            template = name_template(found[name]).replace(".~", "").replace("~.", "")
            assert template == name_template(plain).replace("list.*", block.format("*"))


@given(st.lists(st.from_regex(r"([a-c_]{0,2}[0-3]{0,2}[a-c~]?\.){0,2}[a-c][01]?", fullmatch=True)))
def test_names_stay_apart_and_the_order_of_the_networks_does_not_matter(names: list[str]) -> None:
    names = [name.replace("~", "") for name in names]
    middle = len(names) // 2
    found = separated_indices(names[:middle], names[middle:])
    assert len(set(found.values())) == len(set(names)) == len(found)
    assert found == separated_indices(names[middle:], names[:middle])
    assert separated_indices(names, names) == {name: name for name in names}
