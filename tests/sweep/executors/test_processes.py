"""Processes: a worker that is killed is replaced, and only its run is done again."""

import os
import signal
import subprocess
import sys
import time
from functools import partial

import pytest
import torch

from etastar.errors import TrialError
from etastar.sweep.executors.processes import Processes, Sequential


def by_point(records):
    return {record.point: record for record in records}


def test_a_worker_killed_in_the_middle_of_its_run_changes_no_record(cases, tmp_path):
    flag = tmp_path / "killed"
    deadly = cases.recipe(batches=partial(cases.deadly_batches, str(flag)))
    points = cases.POINTS[:4]
    with Processes(2) as executor:
        records = list(executor.run(deadly, cases.SIZE, points))
    assert flag.exists()
    assert len(records) == len(points)
    assert by_point(records) == by_point(Sequential().run(cases.recipe(), cases.SIZE, points))


def test_what_cannot_be_pickled_is_told(cases):
    unnamed = cases.recipe(make_model=lambda depth, width: None)
    with Processes(1) as executor, pytest.raises(TrialError, match="functions of a module"):
        list(executor.run(unnamed, cases.SIZE, cases.POINTS))


def test_one_worker_runs_one_recipe_after_another_on_its_threads(cases):
    with Processes(1, threads=3) as executor:
        for num_steps in (5, 7, 5):
            short = cases.recipe(num_steps)
            (record,) = executor.run(short, cases.SIZE, cases.POINTS[:1])
            assert record == next(Sequential().run(short, cases.SIZE, cases.POINTS[:1]))
        few = cases.recipe(make_model=partial(cases.network_of_threads, 3))
        assert len(list(executor.run(few, cases.SIZE, cases.POINTS[:1]))) == 1
        other = cases.recipe(make_model=partial(cases.network_of_threads, 2))
        with pytest.raises(TrialError, match="RuntimeError: 3 threads") as caught:
            list(executor.run(other, cases.SIZE, cases.POINTS[:1]))
    assert "in network_of_threads" in str(caught.value.__cause__)
    assert torch.get_num_threads() == 1


SCRIPT = """
import os, signal, sys, time
import torch
from torch import nn
from etastar.sweep import Recipe, run_sweep

def batches(seed):
    os.write(1, f"{os.getpid()}\\n".encode())  # at once: two workers share the pipe
    while True:
        time.sleep(0.01)
        yield torch.ones(1, 1), torch.zeros(1, 1)

def make_model(depth):
    return nn.Linear(1, 1)

def make_optimizer(model, lr, **size):
    return torch.optim.SGD(model.parameters(), lr)

def depth(depth):
    return 1.0

# a shell's background jobs, and their children, ignore Ctrl-C; here it is to be heard
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    recipe = Recipe(
        make_model, batches, nn.functional.mse_loss, make_optimizer, 10**9, 1, depth=depth
    )
    run_sweep(recipe, [{"depth": 1}], search=[0.1, 0.2], seeds=1, workers=int(sys.argv[1]))
"""


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "script.py"
    path.write_text(SCRIPT)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    started = []

    def start(workers):
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        command = [sys.executable, str(path), str(workers)]
        # a session of its own, so that a signal reaches its processes alone, as in a terminal
        process = subprocess.Popen(command, env=environment, start_new_session=True, **pipes)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def gone(pids):
    limit = time.monotonic() + 60
    while any(map(alive, pids)) and time.monotonic() < limit:
        time.sleep(0.05)
    return not any(map(alive, pids))


def test_interrupt_ends_all_processes_without_their_tracebacks(script):
    process = script(2)
    pids = [int(process.stdout.readline()) for _ in range(2)]
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == -signal.SIGINT
    assert errors.count("Traceback") == 1
    assert gone(pids)


def test_workers_end_when_the_main_process_is_killed(script):
    process = script(1)
    worker = int(process.stdout.readline())
    process.kill()
    process.wait()
    assert gone([worker])


def test_a_run_that_always_kills_its_worker_is_an_error_that_says_what_to_do(cases, monkeypatch):
    monkeypatch.setattr("etastar.sweep.executors.processes.RETRIES", 1)
    deadly = cases.recipe(batches=cases.always_deadly_batches)
    with Processes(1) as executor, pytest.raises(TrialError) as caught:
        list(executor.run(deadly, cases.SIZE, cases.POINTS[:1]))
    assert "a worker process that ended by itself" in caught.value.received
    assert "workers=0" in caught.value.action
