"""Processes: a worker that is killed is replaced, and only its run is done again."""

import multiprocessing
from functools import partial

import pytest
import torch

from etastar.errors import TrialError
from etastar.sweep.executors.processes import Processes
from etastar.sweep.executors.sequential import Sequential


def by_point(records):
    return {record.point: record for record in records}


def test_a_worker_killed_in_the_middle_of_its_run_changes_no_record(cases):
    slow = cases.experiment(batches=cases.slow_batches)
    points = cases.POINTS[:4]
    killed = []

    def kill_one(count):
        if not killed:
            (victim, *_) = multiprocessing.active_children()
            victim.kill()
            killed.append(victim.pid)

    with Processes(2) as executor:
        records = list(executor.run(slow, cases.SIZE, points, on_step=kill_one))
    assert killed
    assert len(records) == len(points)
    assert by_point(records) == by_point(Sequential().run(slow, cases.SIZE, points))


def test_a_run_that_always_kills_its_worker_is_an_error(cases):
    deadly = cases.experiment(batches=cases.always_deadly_batches)
    with (
        Processes(1, retries=0) as executor,
        pytest.raises(TrialError, match=r"ended by itself \(exit code -9\)"),
    ):
        list(executor.run(deadly, cases.SIZE, cases.POINTS[:1]))


def test_what_cannot_be_pickled_is_told(cases):
    unnamed = cases.experiment(factory=lambda depth, width: None)
    with Processes(1) as executor, pytest.raises(TrialError, match="functions of a module"):
        list(executor.run(unnamed, cases.SIZE, cases.POINTS))


def test_one_worker_runs_one_experiment_after_another_on_its_threads(cases):
    with Processes(1, threads=3) as executor:
        for num_steps in (5, 7, 5):
            short = cases.experiment(num_steps)
            (record,) = executor.run(short, cases.SIZE, cases.POINTS[:1])
            assert record == next(Sequential().run(short, cases.SIZE, cases.POINTS[:1]))
        few = cases.experiment(factory=partial(cases.network_of_threads, 3))
        assert len(list(executor.run(few, cases.SIZE, cases.POINTS[:1]))) == 1
        other = cases.experiment(factory=partial(cases.network_of_threads, 2))
        with pytest.raises(TrialError, match="RuntimeError: 3 threads") as caught:
            list(executor.run(other, cases.SIZE, cases.POINTS[:1]))
    assert "in network_of_threads" in str(caught.value.__cause__)
    assert torch.get_num_threads() == 1
