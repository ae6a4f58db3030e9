"""Workers: none outlives its pool, one thread each, a lost one is an error."""

import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from etastar.errors import TrialError
from etastar.sweep.executors.workers import worker_pool

SCRIPT = """
import os, signal, sys, time
from etastar.sweep.executors.workers import worker_pool

# a shell's background jobs, and their children, ignore Ctrl-C; here it is to be heard
signal.signal(signal.SIGINT, signal.default_int_handler)

def wait(task, check):
    print(os.getpid(), flush=True)
    while True:
        check()
        time.sleep(0.01)

def die(task, check):
    os._exit(3)

if __name__ == "__main__":
    with worker_pool(globals()[sys.argv[1]], workers=int(sys.argv[2])) as pool:
        list(pool.outcomes([1, 2, 3, 4]))
"""


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "script.py"
    path.write_text(SCRIPT)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    started = []

    def start(function, workers):
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        command = [sys.executable, str(path), function, str(workers)]
        # a session of its own, so that a signal reaches its processes alone, as in a terminal
        process = subprocess.Popen(command, env=environment, start_new_session=True, **pipes)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def threads(task, check):
    check()
    return task * torch.get_num_threads()


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


def test_without_workers_runs_are_here_in_order_and_on_one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    with worker_pool(threads, workers=0) as pool:
        assert list(pool.outcomes([3, 1, 2])) == [(3, 3), (1, 1), (2, 2)]
    assert torch.get_num_threads() == 2
    torch.set_num_threads(before)


def test_a_negative_number_of_workers_is_refused():
    with pytest.raises(TrialError, match="workers=-1"), worker_pool(threads, workers=-1):
        pass


def test_interrupt_ends_all_processes_without_their_tracebacks(script):
    process = script("wait", 2)
    pids = [int(process.stdout.readline()) for _ in range(2)]
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == -signal.SIGINT
    assert errors.count("Traceback") == 1
    assert gone(pids)


def test_workers_end_when_the_main_process_is_killed(script):
    process = script("wait", 1)
    worker = int(process.stdout.readline())
    process.kill()
    process.wait()
    assert gone([worker])


def test_a_lost_worker_is_an_error_that_says_what_to_do(script):
    _, errors = script("die", 1).communicate(timeout=120)
    assert "TrialError: received: a worker process that ended by itself" in errors
    assert "workers=0" in errors
