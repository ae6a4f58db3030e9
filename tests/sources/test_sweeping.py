"""Sizes from text, depths of named models, and the power law that a store shows."""

import pytest

from etastar.errors import FitError, ModelSpecError, StorageError
from etastar.sources.sweeping import fit_store, parse_sizes, size_depths
from etastar.sweep.record import TrialRecord
from etastar.sweep.space import Point
from etastar.sweep.storage.opening import as_store

VERSIONS = (("torch", "2"),)


def record(size, lr, seed, loss):
    return TrialRecord(size, Point(lr, seed), loss, (loss,), False, 1, 3.0, "cpu", VERSIONS)


def filled(path, settings, optima):
    """A store of parabolas in log2 lr whose minima are known."""
    with as_store(path) as store:
        store.open(settings)
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


@pytest.mark.parametrize("texts", [[], ["depth"], ["depth=a"], ["depth=3", "depth=4"], ["=3"]])
def test_what_are_no_sizes(texts):
    with pytest.raises(ModelSpecError, match="depth=3,6,12"):
        parse_sizes(texts)


def test_depths_are_effective_depths():
    depths = size_depths("zoo:gpt", {"width": 16}, [{"depth": 1}, {"depth": 4}])
    assert depths == {(("depth", 1),): 4.0, (("depth", 4),): 10.0}


def test_the_law_is_fitted_in_effective_depth_of_the_named_model(tmp_path):
    settings = {"model": "zoo:resmlp", "model settings": '{"width": 8}'}
    optima = {(("depth", k),): (k + 2.0) ** -0.7 for k in (2, 6, 14)}
    found = fit_store(filled(tmp_path / "runs.log", settings, optima))
    assert found.fit.exponent == pytest.approx(-0.7)
    assert [depth for _, depth, _ in found.optima] == [4.0, 8.0, 16.0]
    data = found.as_dict()
    assert set(data) >= {"exponent", "exponent_interval", "optima", "r_squared"}
    assert data["settings"] == settings


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
