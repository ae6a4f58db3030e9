"""A run that takes too long is ended, whatever it does; the others go on."""

from functools import partial

import pytest

from etastar.errors import TrialError
from etastar.sweep.executors import Processes, Ray, Sequential


def assert_ended(executor, cases):
    stubborn = cases.recipe(batches=cases.stubborn_batches)
    points = cases.POINTS[:4]
    records = {record.point: record for record in executor.run(stubborn, cases.SIZE, points)}
    assert set(records) == set(points)
    stopped = [record for record in records.values() if record.failed]
    assert {record.point for record in stopped} == {p for p in points if p.seed == 1}
    assert {record.failed for record in stopped} == {"stopped, as it took longer than 20 s"}
    assert {record.loss for record in stopped} == {float("inf")}
    good = [point for point in points if point.seed == 0]
    for record in Sequential().run(cases.recipe(), cases.SIZE, good):
        assert records[record.point] == record


@pytest.mark.slow
def test_processes_end_a_run_that_hears_nothing(cases):
    with Processes(2, run_timeout=20, retries=0) as executor:
        assert_ended(executor, cases)


@pytest.mark.slow
def test_ray_ends_a_run_that_hears_nothing(cases):
    pytest.importorskip("ray")
    with Ray(run_timeout=20, retries=0) as executor:
        assert_ended(executor, cases)


@pytest.mark.parametrize("kind", [Processes, Ray])
@pytest.mark.parametrize("seconds", [0, -1, float("nan"), "5"])
def test_a_limit_that_is_none_is_refused(kind, seconds):
    with pytest.raises(TrialError, match="run_timeout"):
        partial(kind, run_timeout=seconds)()
