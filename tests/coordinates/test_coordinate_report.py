import io
import json
import math
from dataclasses import replace

import pytest
from rich.console import Console

from etastar.coordinates.coordinate_report import AxisCheck, CoordinateReport, LayerCheck, Trend


def trend(exponent, verdict, interval=None):
    return Trend(exponent, interval, verdict, ((1.0, 2.0), (1.5, 3.0)))


def layer(module, *, verdict="flat", role="hidden", name="weight", **more):
    return LayerCheck(
        module=module,
        name=name,
        role=role,
        init=trend(0.01, "flat"),
        change=trend(0.97, verdict, (0.9, 1.04)),
        groups=("Adam, group 1",),
        **more,
    )


@pytest.fixture
def report():
    layers = (
        layer("first"),
        layer("second", verdict="grows", advice="lower it"),
        layer("head", verdict="shrinks", role="output", exception="a readout"),
        layer("", role=None, name="addition", verdict="unclear", advice="more seeds"),
    )
    axis = AxisCheck("width", "width", (8, 16), layers, unmatched=("extra: weight",))
    return CoordinateReport((axis,), 2, (0, 1))


def text_of(report):
    console = Console(file=io.StringIO(), width=160)
    console.print(report)
    return console.file.getvalue()


def test_every_layer_has_its_exponents_and_verdict(report):
    text = text_of(report)
    assert "failed: 2 layers depend on the size (2 steps, 2 seeds)" in text
    assert text.count("+0.97 [+0.90, +1.04]") == 4
    assert text.count("+0.01") == 4
    assert "shrinks (expected)" in text


def test_failures_come_with_group_and_advice_and_exceptions_with_their_reason(report):
    text = text_of(report)
    assert "second: change grows; lower it (in Adam, group 1)" in text
    assert "(root) (addition): change unclear; more seeds" in text
    assert "expected: head: a readout" in text
    assert "not at every size, without a verdict: extra: weight" in text
    assert "first: change" not in text


def test_a_passed_check_says_so(report):
    axis = AxisCheck("width", "width", (8, 16), report.axes[0].layers[:1])
    passed = CoordinateReport((axis,), 2, (0, 1))
    assert passed.passed
    assert text_of(passed).startswith("passed")


def test_layers_that_differ_in_an_index_alone_share_a_note():
    layers = tuple(
        layer(f"blocks.{i}", verdict="grows", advice=f"lower blocks.{i}.weight") for i in range(3)
    )
    report = CoordinateReport((AxisCheck("width", "width", (8, 16), layers),), 2, (0, 1))
    assert "blocks.*: change grows; lower blocks.*.weight (in Adam, group 1)" in text_of(report)
    assert text_of(report).count("change grows") == 1


def test_it_fits_80_columns_and_never_cuts_a_number():
    wide = trend(-1234.5, "grows", (-12345.25, 12345.25))
    name = "a_module_with_a_very_long_name.attention.projection"
    one = replace(layer(name, verdict="grows", advice="x"), change=wide, init=wide)
    report = CoordinateReport((AxisCheck("width", "width", (8, 16), (one,)),), 2, (0, 1))
    lines = str(report).splitlines()
    assert max(map(len, lines)) <= 80
    assert sum(line.count("-1234.50 [-12345.25, +12345.25]") for line in lines) == 2


def test_what_is_not_finite_is_null_in_json():
    unclear = Trend(math.nan, (-math.inf, math.inf), "unclear", ((math.inf, 1.0),))
    one = replace(layer("first", verdict="unclear"), change=unclear)
    report = CoordinateReport((AxisCheck("width", "width", (8, 16), (one,)),), 1, (0, 1))
    found = json.loads(json.dumps(report.as_dict(), allow_nan=False))["axes"][0]["layers"][0]
    assert found["change"] == {
        "exponent": None, "interval": [None, None], "verdict": "unclear", "curves": [[None, 1.0]],
    }  # fmt: skip
    assert found["passed"] is False
