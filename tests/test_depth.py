"""The depth report on a terminal."""

import dataclasses
import io

import pytest
from rich.console import Console

from etastar.depth import DepthReport, PathStep

STEP = PathStep("block", "weight layer", "aten.mm.default")
REPORT = DepthReport(
    effective_depth=3,
    path=(STEP,) * 3,
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
    assert text.count("block  weight layer  mm") == 3
    assert "logits" in text


def test_the_middle_of_a_long_path_is_left_out(shown):
    text = shown(dataclasses.replace(REPORT, path=(STEP,) * 100))
    assert "60 more" in text
    assert text.count("block    weight layer") == 40


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
        path=tuple(PathStep(name, "residual addition", "aten.addmm.default") for _ in range(100)),
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
    assert "unused: layers.*.encoder.stages.*.blocks.*.attention.output.dense.weight (50)\n" in text
