"""Sizes from text, and the power law that a store shows."""

import json

import pytest

from etastar.errors import FitError, ModelSpecError, StorageError
from etastar.report.sections import sections_of
from etastar.sources.model_spec import parse_sizes
from etastar.sources.stored_optima import fit_store
from etastar.sweep.recipe import Point
from etastar.sweep.storage import as_store
from etastar.sweep.trial import TrialRecord

VERSIONS = (("torch", "2"),)


def record(size, lr, seed, loss):
    return TrialRecord(size, Point(lr, seed), loss, (loss,), False, 1, 3.0, "cpu", VERSIONS)


def filled(path, settings, optima, depths=None):
    """A store of parabolas in log2 lr whose minima are known."""
    with as_store(path) as store:
        store.open(settings)
        for size, depth in (depths or {}).items():
            store.keep_depth(size, depth)
        for size, best in optima.items():
            for k in (-1, 0, 1):
                for seed in (0, 1):
                    point = Point(best * 2.0**k, seed)
                    store.begin(size, [point])
                    store.finish(record(size, point.lr, seed, 1.0 + k * k + 0.1 * seed))
    return str(path)


def test_sizes():
    assert parse_sizes(["depth=3,6"]) == ({"depth": 3}, {"depth": 6})
    assert len(parse_sizes(["depth=3,6,12", "width=8,16"])) == 6


def test_sizes_that_are_varied_one_at_a_time():
    assert len(parse_sizes([], ["depth=3,6,12", "width=8,16"])) == 4
    crossed = parse_sizes(["width=8,16"], ["depth=3,6"])
    assert crossed == tuple({"width": w, "depth": d} for w in (8, 16) for d in (3, 6))
    with pytest.raises(ModelSpecError, match="each name once"):
        parse_sizes(["depth=3"], ["depth=6"])


@pytest.mark.parametrize("texts", [[], ["depth"], ["depth=a"], ["depth=3", "depth=4"], ["=3"]])
def test_what_are_no_sizes(texts):
    with pytest.raises(ModelSpecError, match="depth=3,6,12"):
        parse_sizes(texts)


def test_without_a_name_the_depth_of_the_size_is_taken(tmp_path):
    optima = {(("depth", k),): 1.0 / k for k in (2, 4)}
    found = fit_store(filled(tmp_path / "runs.log", {"who": "me"}, optima))
    assert found.fit.exponent == pytest.approx(-1.0)
    with pytest.raises(FitError, match="sizes with a depth"):
        fit_store(filled(tmp_path / "wide.log", {"who": "me"}, {(("width", 4),): 0.1}))


def test_an_empty_or_absent_store(tmp_path):
    with pytest.raises(StorageError):
        fit_store(str(tmp_path / "absent.log"))
    filled(tmp_path / "runs.log", {"who": "me"}, {(("depth", 2),): 0.1})
    with pytest.raises(StorageError, match="'other'"):
        fit_store(str(tmp_path / "runs.log"), name="other")


OPTIMA = {(("depth", k),): (k + 2.0) ** -0.7 for k in (2, 6, 14)}
DEPTHS = {size: dict(size)["depth"] + 2.0 for size in OPTIMA}


def test_the_depths_are_those_that_the_store_holds(tmp_path):
    settings = {"model": "nowhere.to:be", "model settings": "{}"}
    found = fit_store(filled(tmp_path / "runs.log", settings, OPTIMA, DEPTHS))
    assert found.fit.exponent == pytest.approx(-0.7)
    assert [depth for _, depth, _ in found.optima] == [4.0, 8.0, 16.0]
    data = found.as_dict()
    assert set(data) >= {"exponent", "exponent_interval", "optima", "r_squared"}
    assert data["settings"] == settings


def test_the_fit_shows_itself_in_80_columns(tmp_path):
    found = fit_store(filled(tmp_path / "runs.log", {"who": "me"}, OPTIMA, DEPTHS))
    shown = str(found)
    assert "depth^-0.700" in shown
    assert "depth=14" in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_the_line_over_depth_goes_through_sizes_between_which_one_setting_changes(tmp_path):
    pairs = [(w, d) for w in (8, 64) for d in (2, 6, 14) if (w, d) != (64, 2)]
    optima = {(("layers", d), ("width", w)): (d + 2) ** -0.7 * 8 / w for w, d in pairs}
    depths = {size: dict(size)["layers"] + 2.0 for size in optima}
    store = filled(tmp_path / "runs.log", {"who": "me"}, optima, depths)
    found = fit_store(store)
    assert found.fit.exponent == pytest.approx(-0.7)
    assert found.as_dict()["at"] == {"width": 8}
    assert len(found.as_dict()["optima"]) == 5
    assert str(found).startswith("at width=8: lr ~ depth^-0.700")
    assert [line.split("│")[5].strip() for line in str(found).splitlines() if "=64" in line] == [
        "-"
    ] * 2
    (fact,) = [one.facts["exponent"] for one in sections_of(store) if "r squared" in one.facts]
    assert fact.startswith("exponent -0.700")
    assert fact.endswith(", at width=8")


@pytest.mark.parametrize("names", [["width"], ["layers", "width"]])
def test_sizes_that_no_line_over_depth_goes_through_are_named(tmp_path, names):
    sizes = [tuple((name, k) for name in names) for k in (4, 8)]
    depths = {size: float(dict(size).get("layers", 3)) for size in sizes}
    store = filled(tmp_path / "runs.log", {"who": "me"}, dict.fromkeys(sizes, 0.1), depths)
    with pytest.raises(FitError, match=r"width=4; .*width=8\n.*one setting changes"):
        fit_store(store)


FILE = """
from pathlib import Path
Path(__file__).with_name("ran").touch()

def make(depth):
    Path(__file__).with_name("ran").touch()
"""


@pytest.mark.parametrize(
    "model",
    [
        "subprocess:call",
        "{}/evil.py:make",
        "hf:{}/evil.py:make",
        "zoo:subprocess:call",
        "os:system",
    ],
)
@pytest.mark.parametrize("kept", [True, False])
def test_a_store_is_data_and_runs_nothing_that_it_names(tmp_path, monkeypatch, model, kept):
    import subprocess

    (tmp_path / "evil.py").write_text(FILE)
    called = []
    monkeypatch.setattr(subprocess, "call", lambda *args, **settings: called.append(settings))
    settings = {
        "model": model.format(tmp_path),
        "model settings": '{"args": "touch ran", "shell": true}',
    }
    store = filled(tmp_path / "runs.log", settings, OPTIMA, DEPTHS if kept else None)
    if kept:
        assert fit_store(store).fit.exponent == pytest.approx(-0.7)
        with pytest.raises(ModelSpecError, match="not run unasked"):
            fit_store(store, target={"depth": 30}, optimizer="sgd")
    else:
        with pytest.raises(FitError, match="run the sweep again"):
            fit_store(store)
    assert called == []
    assert not (tmp_path / "ran").exists()


def test_a_model_that_the_person_names_is_built(tmp_path):
    (tmp_path / "own.py").write_text(
        "from etastar.models import build, example_inputs\n"
        "def make(**size):\n"
        "    return build('resmlp', **size), example_inputs('resmlp', **size)\n"
    )
    own = f"{tmp_path}/own.py:make"
    settings = {"model": own, "model settings": '{"width": 8}', "optimizer": "sgd"}
    store = filled(tmp_path / "runs.log", settings, OPTIMA, DEPTHS)
    with pytest.raises(ModelSpecError, match="--model"):
        fit_store(store, target={"depth": 30})
    assert fit_store(store, target={"depth": 30}, model=own).plan.target_depth == 32


def test_model_settings_that_are_no_json_are_an_error(tmp_path):
    settings = {"model": "zoo:resmlp", "model settings": "{width", "optimizer": "sgd"}
    store = filled(tmp_path / "runs.log", settings, OPTIMA, DEPTHS)
    with pytest.raises(StorageError, match="a JSON object"):
        fit_store(store, target={"depth": 20})


@pytest.mark.parametrize(
    ("model", "setting"),
    [
        ("hf:GPT2LMHeadModel", {"attn_implementation": "somebody/kernel"}),
        ("timm:resnet18", {"checkpoint_path": "weights.pth"}),
        ("zoo:resmlp", {"width": 8, "deeper": [{"from": "https://host"}]}),
        ("timm:hub/net", {}),
    ],
)
def test_settings_of_a_store_that_may_name_code_or_weights_are_not_used_unasked(
    tmp_path, model, setting
):
    settings = {"model": model, "model settings": json.dumps(setting), "optimizer": "sgd"}
    store = filled(tmp_path / "runs.log", settings, OPTIMA, DEPTHS)
    with pytest.raises(ModelSpecError, match="not run unasked"):
        fit_store(store, target={"depth": 20})
