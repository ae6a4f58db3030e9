"""Ray: a lost worker changes nothing; only what was started here is shut down."""

import socket
import subprocess
import sys
import threading
from functools import partial

import pytest

from etastar.errors import MissingExtraError, TrialError
from etastar.sweep.executors import Sequential
from etastar.sweep.executors.ray import Ray


def test_without_ray_the_extra_is_named(cases, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"pip install .*\[ray\]"):
        list(Ray().run(cases.recipe(), cases.SIZE, cases.POINTS))


def test_what_cannot_be_sent_is_refused_before_anything_starts(cases):
    pytest.importorskip("ray")
    locked = cases.recipe(make_model=partial(cases.network, threading.Lock()))
    with pytest.raises(TrialError, match="cannot be sent to Ray: TypeError"):
        Ray().require(locked)
    Ray().require(cases.recipe(make_model=lambda depth, width: None))


@pytest.mark.slow
def test_a_worker_killed_in_the_middle_of_a_sweep_changes_no_record(cases, tmp_path, monkeypatch):
    ray = pytest.importorskip("ray")
    flag = tmp_path / "killed"
    deadly = cases.recipe(batches=partial(cases.deadly_batches, str(flag)))
    with Ray() as executor:
        records = list(executor.run(deadly, cases.SIZE, cases.POINTS))
        assert flag.exists()
        always = cases.recipe(batches=cases.always_deadly_batches)
        monkeypatch.setattr("etastar.sweep.executors.ray.RETRIES", 0)
        with Ray() as other, pytest.raises(TrialError, match="WorkerCrashedError"):
            list(other.run(always, cases.SIZE, cases.POINTS[:1]))
        assert ray.is_initialized()  # the other one did not start it
    assert not ray.is_initialized()
    expected = Sequential().run(cases.recipe(), cases.SIZE, cases.POINTS)
    assert len(records) == len(cases.POINTS)
    assert {r.point: r for r in records} == {r.point: r for r in expected}


IMPORTED_BEFORE = """
import ray
from etastar.sweep.executors.ray import Ray
with Ray() as executor:
    print(ray.nodes()[0]["NodeManagerAddress"])
"""


@pytest.mark.slow
def test_a_ray_that_was_imported_before_is_on_loopback_too():
    pytest.importorskip("ray")
    command = [sys.executable, "-c", IMPORTED_BEFORE]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.stdout.split()[-1:] == ["127.0.0.1"], done.stderr


def silent(patch):
    """An address that takes connections and never answers."""
    patch.setattr("etastar.sweep.executors.ray._PATIENCE", 3.0)
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    return listener


@pytest.mark.parametrize("form", ["{}", "ray://{}"])
def test_an_address_that_does_not_answer_is_an_error(cases, form):
    pytest.importorskip("ray")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = form.format(f"127.0.0.1:{unused.getsockname()[1]}")
    with pytest.raises(TrialError, match="a cluster that answers"), Ray(address) as executor:
        list(executor.run(cases.recipe(), cases.SIZE, cases.POINTS))


@pytest.mark.slow
def test_an_address_that_takes_the_connection_and_says_nothing_is_an_error(cases, monkeypatch):
    pytest.importorskip("ray")
    with silent(monkeypatch) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(TrialError, match="no answer"), Ray(address) as executor:
            list(executor.run(cases.recipe(), cases.SIZE, cases.POINTS))
