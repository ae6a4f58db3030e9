"""Ray: a lost worker changes nothing; only what was started here is shut down."""

import sys
from functools import partial

import pytest

from etastar.errors import MissingExtraError, TrialError
from etastar.sweep.executors.ray import Ray
from etastar.sweep.executors.sequential import Sequential


def test_without_ray_the_extra_is_named(cases, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r'pip install "etastar\[ray\]"'):
        list(Ray().run(cases.experiment(), cases.SIZE, cases.POINTS))


@pytest.mark.slow
def test_a_worker_killed_in_the_middle_of_a_sweep_changes_no_record(cases, tmp_path):
    ray = pytest.importorskip("ray")
    flag = tmp_path / "killed"
    deadly = cases.experiment(batches=partial(cases.deadly_batches, str(flag)))
    with Ray() as executor:
        records = list(executor.run(deadly, cases.SIZE, cases.POINTS))
        assert flag.exists()
        always = cases.experiment(batches=cases.always_deadly_batches)
        with Ray(retries=0) as other, pytest.raises(TrialError, match="WorkerCrashedError"):
            list(other.run(always, cases.SIZE, cases.POINTS[:1]))
        assert ray.is_initialized()  # the other one did not start it
    assert not ray.is_initialized()
    expected = Sequential().run(cases.experiment(), cases.SIZE, cases.POINTS)
    assert len(records) == len(cases.POINTS)
    assert {r.point: r for r in records} == {r.point: r for r in expected}
