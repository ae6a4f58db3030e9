"""Figures of both libraries, from one description."""

import sys

import pytest

import etastar
from etastar.errors import MissingExtraError, ReportError, StorageError
from etastar.report import save_figure
from etastar.report.charts import Axis, Chart, Series
from etastar.report.plotly_figure import chart_figure
from etastar.report.sections import section_of

WITH_CHARTS = ["plan", "update", "scan", "coordinates", "sweep", "law"]
EVIL = '<script>alert("x")</script>$x$'


@pytest.mark.parametrize("name", WITH_CHARTS)
def test_a_figure_has_the_series_of_every_chart(name, results):
    charts = section_of(results[name]).charts
    figure = etastar.figure(results[name])
    heat_maps = sum(bool(chart.cells) for chart in charts)
    assert len(figure.data) == sum(len(chart.series) for chart in charts) + heat_maps
    assert len({trace.yaxis for trace in figure.data}) == len(charts)
    for trace in figure.data:
        values = trace.z if trace.type == "heatmap" else [trace.y]
        assert any(value is not None for row in values for value in row)


def test_the_intervals_of_minima_are_error_bars(sweep):
    figure = etastar.figure(sweep)
    best = sweep.sizes[0].optimum
    star = next(t for t in figure.data if t.marker.symbol == "star")
    assert star.x[0] - star.error_x.arrayminus[0] == pytest.approx(best.interval[0])
    assert star.x[0] + star.error_x.array[0] == pytest.approx(best.interval[1])


@pytest.mark.parametrize("name", ["regret", "depth"])
def test_a_result_without_a_chart_says_where_it_is_shown(name, results):
    result = results.get(name) or etastar.transfer_regret([1.5, 1.75], [1.0, 1.25])
    with pytest.raises(ReportError, match="write_report"):
        etastar.figure(result)
    with pytest.raises(ReportError, match="etastar report"):
        save_figure("x.svg", result)


def test_rates_on_a_logarithmic_axis_are_numbers_and_long_names_stand_upright(sweep):
    assert etastar.figure(sweep).layout.xaxis.tickformat == "~g"
    names = tuple("abcdefghijklmnopqrstuvwxyz" + str(k) for k in range(3))
    chart = Chart("c", Axis("x", ticks=names), Axis("y"), (Series("s", (0.0,), (1.0,)),))
    assert chart_figure(chart).layout.xaxis.tickangle == 90


def evil_chart():
    axes = Axis(EVIL), Axis(EVIL, ticks=(EVIL,))
    return Chart(EVIL, *axes, (Series(EVIL, (1.0,), (0.0,), labels=(EVIL,)),))


def test_text_is_escaped_for_plotly():
    text = chart_figure(evil_chart()).to_json()
    assert "<script" not in text
    assert text.count("&lt;script&gt;") >= 5


@pytest.mark.parametrize("ending", ["svg", "pdf", "png"])
def test_papers_get_a_file_of_each_format(ending, results, tmp_path):
    path = tmp_path / f"figure.{ending}"
    save_figure(path, *(results[name] for name in WITH_CHARTS))
    start = {"svg": b"<?xml", "pdf": b"%PDF", "png": b"\x89PNG"}[ending]
    assert path.read_bytes().startswith(start)
    first = path.read_bytes()
    save_figure(path, *(results[name] for name in WITH_CHARTS))
    assert path.read_bytes() == first  # no date in it


def test_the_text_of_a_paper_figure_is_text(sweep, tmp_path):
    save_figure(tmp_path / "f.svg", sweep)
    text = (tmp_path / "f.svg").read_text()
    assert "loss against learning rate" in text
    assert "depth=4" in text


def test_bad_paths_are_told(sweep, tmp_path):
    with pytest.raises(ReportError, match=r"\.svg"):
        save_figure(tmp_path / "figure.gif", sweep)
    with pytest.raises(StorageError):
        save_figure(tmp_path / "none" / "figure.svg", sweep)
    with pytest.raises(ReportError):
        save_figure(tmp_path / "figure.svg")


def test_a_library_that_is_missing_is_named_with_its_extra(sweep, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "plotly.graph_objects", None)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match=r"pip install .*\[plotly\]"):
        etastar.figure(sweep)
    with pytest.raises(MissingExtraError, match=r"pip install .*\[plot\]"):
        save_figure(tmp_path / "figure.svg", sweep)
