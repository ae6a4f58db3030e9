"""Every executor: the records of sequential runs, one per point, and nothing left behind."""

import multiprocessing
import os
from dataclasses import replace
from math import inf
from pathlib import Path

import pytest
import torch

from etastar.errors import TrialError
from etastar.sweep.executors import EXECUTORS, get_executor

SETTINGS = {
    "sequential": ("sequential", {}),
    "batched": ("batched", {"probe_steps": 0, "max_batch": 4}),
    "batched, if faster": ("batched", {}),
    "processes": ("processes", {"workers": 2}),
    "ray": ("ray", {}),
}
PARAMS = [pytest.param(name, marks=pytest.mark.slow if name == "ray" else ()) for name in SETTINGS]


@pytest.fixture(scope="module")
def cases():
    """The module of experiments, importable by other processes too."""
    with pytest.MonkeyPatch.context() as patch:
        here = str(Path(__file__).parent)
        patch.syspath_prepend(here)
        before = os.environ.get("PYTHONPATH")
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (here, before))))
        import executor_cases

        yield executor_cases


@pytest.fixture(scope="module", params=PARAMS)
def executor(request, cases):
    name, options = SETTINGS[request.param]
    if name == "ray":
        pytest.importorskip("ray")
    with get_executor(name, **options) as executor:
        yield executor


@pytest.fixture(scope="module")
def expected(cases):
    records = get_executor("sequential").run(cases.experiment(), cases.SIZE, cases.POINTS)
    return {record.point: record for record in records}


def assert_same(record, other):
    assert (record.size, record.diverged, record.steps) == (other.size, other.diverged, other.steps)
    finite = len(record.losses) - record.diverged
    assert len(record.losses) == len(other.losses)
    assert record.losses[:finite] == pytest.approx(other.losses[:finite], rel=1e-9)
    assert record.loss == pytest.approx(other.loss, rel=1e-9)
    assert record.initial_loss == pytest.approx(other.initial_loss, rel=1e-9)
    assert record.versions == other.versions


def test_every_kind_is_under_contract():
    assert {name for name, _ in SETTINGS.values()} == set(EXECUTORS)


def test_records_are_those_of_sequential_runs_and_one_per_point(executor, cases, expected):
    records = list(executor.run(cases.experiment(), cases.SIZE, cases.POINTS))
    assert sorted(record.point for record in records) == sorted(cases.POINTS)
    assert {record.diverged for record in records} == {True, False}
    for record in records:
        assert_same(record, expected[record.point])


def test_a_ceiling_ends_a_run_at_the_step_that_makes_it_certain(executor, cases):
    whole = cases.experiment(budget=cases.Budget(20, 4), evaluate=None)
    runs = list(get_executor("sequential").run(whole, cases.SIZE, cases.POINTS[:4]))
    points = [replace(run.point, ceiling=0.6 * run.loss) for run in runs[:3]] + [runs[3].point]
    found = {run.point: run for run in executor.run(whole, cases.SIZE, points)}
    for run, point in zip(runs, points, strict=True):
        sums = [sum(run.losses[:step]) / 20 for step in range(1, 21)]
        steps = next((step for step, s in enumerate(sums, start=1) if s > point.ceiling), 20)
        record = found[point]
        assert (record.steps, record.stopped) == (steps, steps < 20)
        assert record.losses == pytest.approx(run.losses[:steps], rel=1e-9)
        assert record.loss == (inf if record.stopped else pytest.approx(run.loss, rel=1e-9))
    assert [found[point].stopped for point in points] == [True, True, True, False]


def test_a_ceiling_is_for_the_mean_alone(executor, cases, expected):
    points = [replace(point, ceiling=1e-9) for point in cases.POINTS[:2]]
    for record in executor.run(cases.experiment(), cases.SIZE, points):
        assert not record.stopped
        assert_same(record, expected[record.point])


def test_no_points_are_no_records(executor, cases):
    assert list(executor.run(cases.experiment(), cases.SIZE, ())) == []


def test_steps_are_reported_in_full(executor, cases):
    counts = []
    records = executor.run(cases.experiment(), cases.SIZE, cases.POINTS, on_step=counts.append)
    assert sum(record.steps for record in records) == sum(counts)
    assert min(counts) > 0


def test_the_error_of_a_factory_is_told_and_the_executor_goes_on(executor, cases):
    broken = cases.experiment(factory=cases.broken_network)
    with pytest.raises(TrialError, match="ZeroDivisionError: no network today"):
        list(executor.run(broken, cases.SIZE, cases.POINTS))
    assert len(list(executor.run(cases.experiment(), cases.SIZE, cases.POINTS[:3]))) == 3


def test_runs_that_are_left_early_leave_nothing_to_the_next(executor, cases, expected):
    first = next(executor.run(cases.experiment(), cases.SIZE, cases.POINTS))
    assert_same(first, expected[first.point])
    records = list(executor.run(cases.experiment(), cases.SIZE, cases.POINTS[2:]))
    assert sorted(record.point for record in records) == sorted(cases.POINTS[2:])


def test_random_numbers_and_threads_are_as_before(executor, cases):
    torch.manual_seed(7)
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    list(executor.run(cases.experiment(), cases.SIZE, cases.POINTS))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize(("name", "options"), [("batched", {}), ("processes", {"workers": 1})])
def test_no_process_is_left(name, options, cases):
    before = set(multiprocessing.active_children())
    with get_executor(name, **options) as executor:
        next(executor.run(cases.experiment(), cases.SIZE, cases.POINTS))
    assert set(multiprocessing.active_children()) <= before


def test_an_unknown_executor_or_option_is_told():
    with pytest.raises(TrialError, match="one of: sequential, batched, processes, ray"):
        get_executor("threads")
    with pytest.raises(TrialError, match="options out of: workers, threads, retries"):
        get_executor("processes", cores=3)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("processes", {"workers": 0}),
        ("processes", {"threads": 0}),
        ("processes", {"retries": -1}),
        ("batched", {"max_batch": 0}),
        ("batched", {"probe_steps": -1}),
        ("ray", {"num_cpus": -1}),
    ],
)
def test_a_number_out_of_range_is_refused_before_anything_starts(name, options):
    (option,) = options
    with pytest.raises(TrialError, match=f"{option}={options[option]}"):
        get_executor(name, **options)
