import pytest

from etastar.errors import InitError
from etastar.init.schemes import InitReport, InitSettings, ParamInit


@pytest.mark.parametrize(
    "options",
    [
        {"scheme": "xavier"},
        {"residual": "first"},
        {"readout": "big"},
        {"bias_variance": -1.0, "scheme": "edge-of-chaos"},
        {"bias_variance": float("nan"), "scheme": "edge-of-chaos"},
        {"bias_variance": 0.1},
        {"bias_variance": "x", "scheme": "edge-of-chaos"},
        {"seed": "x"},
        {"seed": 1.5},
        {"seed": float("nan")},
        {"seed": True},
        {"seed": None},
    ],
)
def test_options_that_do_not_exist_or_do_not_go_together_are_refused(options):
    with pytest.raises(InitError) as error:
        InitSettings(**options)
    assert str(next(iter(options.values()))) in error.value.received


def test_a_report_is_looked_up_by_name_and_lists_what_was_kept():
    entries = (
        ParamInit("a", (1,), "kept", why="frozen"),
        ParamInit("b", (1, 1), "normal", std=1.0, why="gain 1: activation not measured, x"),
    )
    report = InitReport(InitSettings(), entries)
    assert report["b"] is entries[1]
    assert report.kept == entries[:1]
    assert report.as_dict()["entries"][1]["std"] == 1.0
    with pytest.raises(KeyError):
        report["c"]
