"""The depth report on a terminal."""

import dataclasses
import io

from rich.console import Console

from etastar.depth import DepthReport, PathStep
from etastar.report.depth_table import depth_table

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
    layer_path_count=2,
    layer_path_length_moments=(2, 6, 20, 72),
    sources=("x",),
    outputs=("logits",),
)


def shown(report):
    console = Console(width=100, file=io.StringIO())
    console.print(depth_table(report))
    return console.file.getvalue()


def test_numbers_and_path():
    text = shown(REPORT)
    assert "2  8  34  152" in text
    assert text.count("aten.mm.default") == 3
    assert "x -> logits" in text


def test_the_middle_of_a_long_path_is_left_out():
    text = shown(dataclasses.replace(REPORT, path=(STEP,) * 100))
    assert "60 more" in text
    assert text.count("aten.mm.default") == 40


def test_large_integers_are_shortened():
    text = shown(dataclasses.replace(REPORT, path_count=2**1000))
    assert "1.071e301" in text


def test_notes():
    report = dataclasses.replace(
        REPORT, tied=("wte",), recurrent=("lstm",), unused_parameters=("idle",), capture_note="why"
    )
    text = shown(report)
    assert all(word in text for word in ("tied: wte", "recurrent: lstm", "unused: idle", "why"))
    assert "tied" not in shown(REPORT)
