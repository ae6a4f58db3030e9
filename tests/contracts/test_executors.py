"""Every executor: the records of sequential runs, one per point, and nothing left behind."""

import multiprocessing
import os
from pathlib import Path

import pytest
import torch

from etastar.errors import TrialError
from etastar.sweep.executors import Executor, Processes, Ray, Sequential

EXECUTORS = {
    "sequential": Sequential,
    "processes": lambda: Processes(2),
    "ray": Ray,
}
PARAMS = [pytest.param(name, marks=pytest.mark.slow if name == "ray" else ()) for name in EXECUTORS]


@pytest.fixture(scope="module")
def cases():
    """The module of recipes, importable by other processes too."""
    with pytest.MonkeyPatch.context() as patch:
        here = str(Path(__file__).parent)
        patch.syspath_prepend(here)
        before = os.environ.get("PYTHONPATH")
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (here, before))))
        import executor_cases

        yield executor_cases


@pytest.fixture(scope="module", params=PARAMS)
def executor(request, cases):
    if request.param == "ray":
        pytest.importorskip("ray")
    with EXECUTORS[request.param]() as executor:
        yield executor


@pytest.fixture(scope="module")
def expected(cases):
    records = Sequential().run(cases.recipe(), cases.SIZE, cases.POINTS)
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
    kinds = [kind for kind in Executor.__subclasses__() if kind.__module__.startswith("etastar")]
    assert {kind.__name__.lower() for kind in kinds} == set(EXECUTORS)


def test_records_are_those_of_sequential_runs_and_one_per_point(executor, cases, expected):
    records = list(executor.run(cases.recipe(), cases.SIZE, cases.POINTS))
    assert sorted(record.point for record in records) == sorted(cases.POINTS)
    assert {record.diverged for record in records} == {True, False}
    for record in records:
        assert_same(record, expected[record.point])


def test_no_points_are_no_records(executor, cases):
    assert list(executor.run(cases.recipe(), cases.SIZE, ())) == []


def test_the_error_of_a_factory_is_told_and_the_executor_goes_on(executor, cases):
    broken = cases.recipe(make_model=cases.broken_network)
    with pytest.raises(TrialError, match="ZeroDivisionError: no network today"):
        list(executor.run(broken, cases.SIZE, cases.POINTS))
    assert len(list(executor.run(cases.recipe(), cases.SIZE, cases.POINTS[:3]))) == 3


def test_runs_that_are_left_early_leave_nothing_to_the_next(executor, cases, expected):
    first = next(executor.run(cases.recipe(), cases.SIZE, cases.POINTS))
    assert_same(first, expected[first.point])
    records = list(executor.run(cases.recipe(), cases.SIZE, cases.POINTS[2:]))
    assert sorted(record.point for record in records) == sorted(cases.POINTS[2:])


def test_random_numbers_and_threads_are_as_before(executor, cases):
    torch.manual_seed(7)
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    list(executor.run(cases.recipe(), cases.SIZE, cases.POINTS))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads


def test_a_model_that_leaves_the_program_is_an_error(executor, cases):
    leaving = cases.recipe(make_model=cases.leaving_network)
    with pytest.raises(TrialError, match="SystemExit: 3"):
        list(executor.run(leaving, cases.SIZE, cases.POINTS[:1]))


def test_no_process_is_left(cases):
    before = set(multiprocessing.active_children())
    with Processes(1) as executor:
        next(executor.run(cases.recipe(), cases.SIZE, cases.POINTS))
    assert set(multiprocessing.active_children()) <= before


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (Processes, {"workers": 0}),
        (Processes, {"workers": 1.5}),
        (Processes, {"threads": 0}),
        (Processes, {"threads": "abc"}),
        (Ray, {"num_cpus": -1}),
        (Ray, {"num_gpus": "abc"}),
        (Ray, {"address": 5}),
        (Sequential, {"device": "nowhere"}),
    ],
)
def test_what_is_out_of_range_is_refused_before_anything_starts(kind, options):
    (option,) = options
    with pytest.raises(TrialError, match=f"{option}[= ].?{options[option]}"):
        kind(**options)
