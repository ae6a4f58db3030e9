"""SIGTERM ends a sweep as shells expect, with its processes; the store can be gone on with."""

import os
import signal
import subprocess
import sys
import time

import pytest
from typer.testing import CliRunner

from etastar.cli import app
from etastar.cli.application import end_on_sigterm
from etastar.sweep.storage import OptunaStore

OWN = """
import os, signal, time
from pathlib import Path
import torch
from torch import nn
from etastar import Recipe

def batches(seed):
    begun = Path(__file__).with_name("begun")
    with begun.open("a") as file:
        file.write(f"{os.getpid()}\\n")
    if len(begun.read_text().split()) > 2:
        HERE
    for _ in range(3):
        yield torch.ones(4, 2), torch.zeros(4, 1)

def make_model(depth):
    return nn.Linear(2, 1)

def make_optimizer(model, lr, **size):
    return torch.optim.SGD(model.parameters(), lr)

def depth(depth):
    return 1.0

recipe = Recipe(make_model, batches, nn.functional.mse_loss, make_optimizer, 3, 4, depth=depth)
"""
WORDS = "sweep own.py:recipe --sizes depth=2 --lrs 0.1,0.2,0.3,0.4 --seeds 1".split()
WORDS += ["--storage", "runs.log"]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(folder, here):
    (folder / "own.py").write_text(OWN.replace("HERE", here))


def assert_resumes(folder):
    with OptunaStore("runs.log") as store:
        assert len(store.records((("depth", 2),))) == 2
    write(folder, "pass")
    assert CliRunner().invoke(app, WORDS).exit_code == 0
    with OptunaStore("runs.log") as store:
        assert len(store.records((("depth", 2),))) == 4


def test_it_ends_with_143_and_keeps_the_store(folder):
    before = signal.getsignal(signal.SIGTERM)
    write(folder, "os.kill(os.getpid(), signal.SIGTERM)")
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        end_on_sigterm()
        result = CliRunner().invoke(app, WORDS)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert (result.exit_code, "stopped by SIGTERM" in result.output) == (143, True)
    assert_resumes(folder)


def test_where_it_is_ignored_it_stays_so():
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        end_on_sigterm()
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)


def is_gone(pid):
    limit = time.monotonic() + 60
    while os.path.exists(f"/proc/{pid}") and time.monotonic() < limit:
        time.sleep(0.1)
    return not os.path.exists(f"/proc/{pid}")


@pytest.mark.slow
@pytest.mark.parametrize("where", ["--workers 1", "--executor ray"])
def test_no_process_is_left(where, folder):
    if "ray" in where:
        pytest.importorskip("ray")
    write(folder, "time.sleep(10_000)")
    command = [sys.executable, "-m", "etastar", *WORDS, *where.split()]
    paths = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    running = subprocess.Popen(command, env=paths, stderr=subprocess.PIPE, text=True)
    begun = folder / "begun"
    while not begun.exists() or len(begun.read_text().split()) < 3:
        assert running.poll() is None
        time.sleep(0.1)
    children = {int(pid) for pid in begun.read_text().split()}
    if "ray" in where:
        listed = subprocess.run(["pgrep", "-P", str(running.pid)], capture_output=True, text=True)
        children |= {int(pid) for pid in listed.stdout.split()}
    running.terminate()
    errors = running.communicate(timeout=120)[1]
    assert running.returncode == 143, errors
    assert all(map(is_gone, children))
    assert_resumes(folder)
