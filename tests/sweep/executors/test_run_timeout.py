"""A run that takes too long is ended, whatever it does; the others go on."""

from functools import partial

import pytest

from etastar.errors import TrialError
from etastar.sweep.executors import Processes, Ray, Sequential


def assert_ended(executor, cases, limit=10):
    good, hanging = points = cases.POINTS[:2]
    executor.run_timeout = 500  # what a first run imports takes long
    list(executor.run(cases.recipe(), cases.SIZE, points))
    executor.run_timeout = limit
    stubborn = cases.recipe(batches=cases.stubborn_batches)
    records = {record.point: record for record in executor.run(stubborn, cases.SIZE, points)}
    assert set(records) == set(points)
    assert records[hanging].failed == f"stopped, as it took longer than {limit} s"
    assert records[hanging].loss == float("inf")
    assert records[good].failed == ""
    assert_is_that_of_an_ordinary_run(records[good], cases)
    executor.run_timeout = None
    assert len(list(executor.run(cases.recipe(), cases.SIZE, points))) == 2


def assert_is_that_of_an_ordinary_run(record, cases):
    (expected,) = Sequential().run(cases.recipe(), cases.SIZE, [record.point])
    assert record.losses == pytest.approx(expected.losses, rel=1e-9)


@pytest.mark.slow
def test_processes_end_a_run_that_hears_nothing(cases):
    with Processes(2) as executor:
        assert_ended(executor, cases)


@pytest.mark.slow
def test_ray_ends_a_run_that_hears_nothing(cases):
    pytest.importorskip("ray")
    with Ray() as executor:
        assert_ended(executor, cases, limit=20)


def test_a_client_of_ray_may_limit_its_runs_which_the_workers_end():
    assert Ray("ray://host:10001", run_timeout=5).run_timeout == 5


@pytest.mark.parametrize("kind", [Processes, Ray])
@pytest.mark.parametrize("seconds", [0, -1, float("nan"), "5"])
def test_a_limit_that_is_none_is_refused(kind, seconds):
    with pytest.raises(TrialError, match="run_timeout"):
        partial(kind, run_timeout=seconds)()
