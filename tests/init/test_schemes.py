import io

import pytest
from rich.console import Console

from etastar.errors import InitError
from etastar.init.schemes import InitReport, InitSettings, ParamInit


@pytest.mark.parametrize(
    "options",
    [
        {"scheme": "xavier"},
        {"residual": "first"},
        {"readout": "big"},
        {"seed": "x"},
        {"seed": 1.5},
        {"seed": float("nan")},
        {"seed": True},
        {"seed": None},
        {"exclude": 3},
        {"only": ("a", 3)},
        {"exclude": {"a": "b"}},
    ],
)
def test_options_that_do_not_exist_or_do_not_go_together_are_refused(options):
    with pytest.raises(InitError) as error:
        InitSettings(**options)
    assert "only=3" in str(error.value) or str(next(iter(options.values()))) in error.value.received


def test_a_report_is_looked_up_by_name_and_lists_what_was_kept():
    entries = (
        ParamInit("a", "kept", why="frozen"),
        ParamInit("b", "normal", std=1.0, why="gain 1: activation not measured, x"),
    )
    report = InitReport(InitSettings(), entries)
    assert report["b"] is entries[1]
    assert report.kept == entries[:1]
    assert report.as_dict()["entries"][1]["std"] == 1.0
    assert [line.split() for line in str(report).splitlines()[2:3]] == [["a", "kept", "frozen"]]
    with pytest.raises(KeyError):
        report["c"]


def test_a_report_names_patterns_once_within_eighty_columns():
    name = "model." + 9 * "a_long_name." + "{}.weight"
    why = "gain 1.23456e-05, residual 1/12, in-degree 1/2, " * 3
    entries = [ParamInit(name.format(i), "normal", 1.5e-7, why=why) for i in range(12)]
    report = InitReport(InitSettings(), (*entries, ParamInit("b", "zero", why="bias")))
    console = Console(width=80, file=io.StringIO())
    console.print(report)
    for text in (str(report), console.file.getvalue()):
        assert max(map(len, text.splitlines())) <= 80
        assert text.count("1.5e-07") == 1
        assert text.count("1.23456e-05") == 3
        assert ".*.weight (12)  std 1.5e-07  gain" in text
        assert text.splitlines()[-1].split() == ["b", "zero", "bias"]
