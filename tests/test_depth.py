"""The depth report on a terminal."""

import dataclasses
import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from etastar.depth import DepthReport, PathStep


def layer(module, op="mm"):
    return PathStep(module, "weight layer", f"aten.{op}.default")


def addition(module):
    return PathStep(module, "residual addition", "aten.add.Tensor")


REPORT = DepthReport(
    effective_depth=3,
    path=(layer("block"),) * 3,
    longest_path=5,
    residual_additions=1,
    weight_layers=4,
    path_count=2,
    path_length_moments=(2, 8, 34, 152),
    layer_longest_path=4,
    layer_path_length_moments=(2, 6, 20, 72),
    sources=("x",),
    outputs=("logits",),
)


def printed(report):
    console = Console(width=100, file=io.StringIO())
    console.print(report)
    return console.file.getvalue()


@pytest.fixture(params=[str, printed])
def shown(request):
    return request.param


def test_numbers_and_path(shown):
    text = shown(REPORT)
    assert text.splitlines()[0].split() == ["effective", "depth", "3"]
    assert "2  8  34  152" in text
    assert "shortest path: 3 weight layers\n" in text
    assert "1-3  block  3 x weight layer (mm)" in text
    assert "logits" in text


def test_the_middle_of_a_long_path_is_left_out(shown):
    names = [f"{letter}_{word}" for letter in "abcdefghijklmnopqrst" for word in ("in", "out")]
    text = shown(dataclasses.replace(REPORT, path=tuple(map(layer, names))))
    assert "24 rows more" in text
    assert text.count("weight layer (mm)") == 16
    assert [name for name in names if name in text] == [*names[:8], *names[-8:]]


def rows(path):
    """Place, modules and content of every row of a path."""
    text = str(dataclasses.replace(REPORT, path=tuple(path)))
    found = []
    for line in text.partition("shortest path")[2].splitlines()[1:]:
        cells = re.split(r"  +", line.strip())
        if len(cells) == 1:  # a long content goes on below
            found[-1][-1] += f" {cells[0]}"
        else:
            found.append(cells)
    return found


def gpt(blocks):
    additions = [addition(f"blocks.{i}") for i in range(blocks) for _ in ("attn", "mlp")]
    return [layer("wte", "embedding"), *additions, layer("head")]


@pytest.mark.parametrize("blocks", [12, 96])
def test_blocks_of_one_kind_are_one_row(blocks):
    last = 2 * blocks + 1
    assert rows(gpt(blocks)) == [
        ["1", "wte", "weight layer (embedding)"],
        [f"2-{last}", f"blocks.* ({blocks})", "+, +"],
        [f"{last + 1}", "head", "weight layer (mm)"],
    ]
    assert len(str(dataclasses.replace(REPORT, path=tuple(gpt(blocks)))).splitlines()) <= 30


def test_layers_within_blocks_have_their_names_there():
    inside = ("attn.proj", "", "mlp.0", "mlp.2", "")
    names = [(f"enc.layers.{i}", part) for i in range(6) for part in inside]
    path = [layer(f"{block}.{part}") if part else addition(block) for block, part in names]
    assert rows(path) == [["1-30", "enc.layers.* (6)", "attn.proj, +, mlp.0, mlp.2, +"]]


def test_stages_are_unfolded_where_their_blocks_repeat():
    path = [layer("conv1", "convolution")]
    for stage, blocks in (("layer1", 3), ("layer2", 4)):
        for block in range(blocks):
            if block == 0 and stage == "layer2":
                path.append(layer(f"{stage}.{block}.downsample.0", "convolution"))
            path.append(addition(f"{stage}.{block}"))
    assert rows(path) == [
        ["1", "conv1", "weight layer (convolution)"],
        ["2-4", "layer1.* (3)", "residual addition"],
        ["5-6", "layer2.0", "downsample.0, +"],
        ["7-9", "layer2.* (3)", "residual addition"],
    ]


def test_blocks_that_are_attributes_are_folded_too():
    path = [layer(f"body.block{i}.conv{c}") for i in range(1, 25) for c in (1, 2)]
    assert rows(path) == [["1-48", "body.block* (24)", "conv1, conv2"]]


def test_a_long_row_goes_on_below_in_its_column():
    path = [layer(""), layer(""), addition(""), layer(""), layer("")]
    content = "weight layer (mm), weight layer (mm), +, weight layer (mm), weight layer (mm)"
    assert rows(path) == [["1-5", "(root)", content]]


NAMES = st.lists(st.sampled_from(["a", "blocks", "conv", "0", "1", "2", "b1", "b2"]), max_size=4)


@given(st.lists(st.tuples(NAMES.map(".".join), st.booleans()), min_size=1, max_size=16))
def test_every_step_of_any_path_is_in_one_row(steps):
    path = [addition(name) if adds else layer(name) for name, adds in steps]
    end = 0
    for place, *_ in rows(path):
        first, _, last = place.partition("-")
        assert int(first) == end + 1
        end = int(last or first)
    assert end == len(path)


def test_large_integers_are_shortened(shown):
    text = shown(dataclasses.replace(REPORT, path_count=2**1000))
    assert "1.071e301" in text


def test_notes(shown):
    report = dataclasses.replace(
        REPORT, tied=("wte",), recurrent=("lstm",), unused_parameters=("idle",), capture_note="why"
    )
    text = shown(report)
    assert all(word in text for word in ("tied: wte", "recurrent: lstm", "unused: idle", "why"))
    assert "tied" not in shown(REPORT)


def test_eighty_columns_hold_every_number_and_the_ends_of_long_names():
    name = "encoder.stages.3.blocks.11.attention.output.dense"
    report = dataclasses.replace(
        REPORT,
        path=tuple(PathStep(name, "weight layer", "aten.addmm.default") for _ in range(100)),
        path_count=10**23 + 7,
        path_length_moments=(10**9 - 1, 10**9 - 1, 10**9 - 1, 987_654_321),
        layer_path_length_moments=(2**1000,) * 4,
        sources=tuple(f"blocks.{i}.input_ids" for i in range(50)),
        unused_parameters=tuple(f"layers.{i}.{name}.weight" for i in range(50)),
    )
    text = str(report)
    assert max(map(len, text.splitlines())) <= 80
    assert "100,000,000,000,000,000,000,007" in text
    assert "  ".join(["999,999,999"] * 3 + ["987,654,321"]) in text
    assert text.count("1.071e301") == 4
    assert "encoder.stages" in text
    assert "output.dense" in text
    assert "blocks.*.input_ids" in text
    assert (
        "unused: layers.*.encoder.stages.3.blocks.11.attention.output.dense.weight (50)\n" in text
    )
