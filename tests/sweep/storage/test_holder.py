"""Who holds a claim is said while it is waited for, and what is over holds nothing."""

import os
import re
import subprocess
import sys
import time
from uuid import uuid4

import pytest

from etastar.sweep.recipe import Point
from etastar.sweep.storage import OptunaStore
from etastar.sweep.storage.connection import is_over, new_holder

SIZE = (("depth", 3),)
POINTS = (Point(0.1, 0), Point(0.2, 0))


LOCATIONS = ["{}/runs.log", "sqlite:///{}/runs.db", pytest.param("", marks=pytest.mark.slow)]


@pytest.fixture(params=LOCATIONS, ids=["journal", "sqlite", "postgres"])
def make_store(request, tmp_path):
    made, name = [], uuid4().hex
    location = request.param.format(tmp_path) or request.getfixturevalue("postgres_url")

    def make(holder=None):
        store = OptunaStore(location, name=name)
        store.open({"model": "mlp"})
        store._holder = f"{holder} {uuid4().hex}" if holder else store._holder
        made.append(store)
        return store

    yield make
    for store in made:
        store.close()


@pytest.fixture
def over():
    """The holder of a process of this machine that has ended."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    host, _, numbered, _ = new_holder().split()
    return f"{host} {ended.pid} {numbered}"


def test_the_run_of_a_process_that_ended_here_is_taken_over_at_once(make_store, over):
    dead, alive = make_store(over), make_store()
    assert dead.begin(SIZE, POINTS) == POINTS
    assert alive.begin(SIZE, POINTS) == POINTS
    alive._claims(SIZE).mine.clear()
    assert make_store().begin(SIZE, POINTS) == ()


def test_a_process_of_another_machine_or_container_with_that_number_is_not_over(make_store, over):
    host, process, _ = over.split()
    make_store(f"{host} {process} elsewhere").begin(SIZE, POINTS)
    assert make_store().begin(SIZE, POINTS) == ()


def test_who_is_waited_for_is_said(make_store):
    elsewhere, here = make_store("gpu3 123 elsewhere"), make_store()
    assert elsewhere.begin(SIZE, POINTS[:1]) == POINTS[:1]
    assert here.begin(SIZE, POINTS) == POINTS[1:]
    line = here.awaited(SIZE, POINTS[:1])
    assert line.startswith("waits for lr=0.1, seed=0 on gpu3 (process 123); ")
    assert re.search(r"silent for \d+ s, taken over after \d+ s$", line)
    elsewhere.close()
    assert here.awaited(SIZE, POINTS[:1]) == ""


def test_a_run_without_a_heartbeat_holds_for_a_minute(make_store, monkeypatch):
    from etastar.sweep.storage import claims

    dead, alive = make_store("gpu3 123 elsewhere"), make_store()
    monkeypatch.setattr(claims, "seconds_silent", lambda *_: None)  # it died before the first
    dead.begin(SIZE, POINTS)
    now = time.monotonic()
    for later, begun in ((0, ()), (20, ()), (80, POINTS)):
        monkeypatch.setattr(claims.time, "monotonic", lambda later=later: now + later)
        assert alive.begin(SIZE, POINTS) == begun


@pytest.mark.parametrize("text", ["", "gpu3", "gpu3 x y z", "a b c d e f"])
def test_what_an_older_version_or_another_program_wrote_is_no_end(text):
    assert not is_over(text)


def test_this_process_is_not_over():
    assert f" {os.getpid()} " in new_holder()
    assert not is_over(new_holder())
