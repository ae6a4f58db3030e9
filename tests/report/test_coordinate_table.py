import io

import pytest
from rich.console import Console

from etastar.coordinates.coordinate_report import AxisCheck, CoordinateReport, LayerCheck, Trend
from etastar.report.coordinate_figure import coordinate_figure
from etastar.report.coordinate_table import coordinate_table


def trend(exponent, verdict, interval=None):
    return Trend(exponent, interval, verdict, ((1.0, 2.0), (1.5, 3.0)))


def layer(module, *, verdict="flat", role="hidden", name="weight", **more):
    return LayerCheck(
        module=module,
        name=name,
        role=role,
        init=trend(0.01, "flat"),
        change=trend(0.97, verdict, (0.9, 1.04)),
        values=((1.0, 1.0), (1.5, 3.0)),
        verdict=verdict,
        quantity="change",
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
    return CoordinateReport((axis,), 2, (0, 1), "rms", 0.2)


def text_of(report):
    console = Console(file=io.StringIO(), width=160)
    console.print(coordinate_table(report))
    return console.file.getvalue()


def test_every_layer_has_its_exponents_and_verdict(report):
    text = text_of(report)
    assert "failed: 2 layers depend on the size (2 steps, 2 seeds, flat is within 0.20)" in text
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
    passed = CoordinateReport((axis,), 2, (0, 1), "rms", 0.2)
    assert passed.passed
    assert text_of(passed).startswith("passed")


def test_the_figure_draws_every_layer_and_marks_those_that_fail(report):
    pytest.importorskip("plotly")
    figure = coordinate_figure(report)
    assert len(figure.data) == 2 * 4
    assert list(figure.data[0].x) == [8, 16]
    assert list(figure.data[0].y) == [1.0, 2.0]
    assert list(figure.data[1].y) == [1.5, 3.0]
    colors = [trace.line.color for trace in figure.data[::2]]
    assert colors[0] == colors[2] != colors[1] == colors[3]
