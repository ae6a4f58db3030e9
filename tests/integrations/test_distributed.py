"""Two gloo processes under a plan train, and measure, like one."""

import importlib.util
import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("several_processes.py")
pytestmark = pytest.mark.slow


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return str(taken.getsockname()[1])


def two_processes(kind):
    port = free_port()
    command = [sys.executable, str(SCRIPT)]
    started = [
        subprocess.Popen(
            [*command, str(rank), port, kind],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    ended = [process.communicate(timeout=400) for process in started]
    assert [process.returncode for process in started] == [0, 0], ended
    return json.loads(ended[0][0].splitlines()[-1])


@pytest.fixture(scope="module")
def one_process():
    spec = importlib.util.spec_from_file_location("several_processes", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return json.loads(json.dumps(module.run("one", 0, 1)))


def flat(figures, path=""):
    if isinstance(figures, dict):
        return {k: v for n, one in figures.items() for k, v in flat(one, f"{path}/{n}").items()}
    if isinstance(figures, list):
        return {k: v for n, one in enumerate(figures) for k, v in flat(one, f"{path}/{n}").items()}
    return {path: figures}


@pytest.mark.parametrize("kind", ["ddp", "fsdp2", "tp"])
def test_two_processes_train_like_one(one_process, kind):
    found = two_processes(kind)
    for name, one in one_process.items():
        assert found[name]["losses"] == pytest.approx(one["losses"], rel=1e-6)
        assert one["losses"][-1] < one["losses"][0]
        if kind != "ddp":
            assert found[name]["rescaled whole"] == pytest.approx(one["losses"], rel=1e-6)
            said = found[name]["refused"]
            assert len(said) == 3
            assert all("a sharded model: parameter" in one for one in said)
        else:
            ours, theirs = flat(one["measured"]), flat(found[name]["measured"])
            assert ours.keys() == theirs.keys()
            assert len(ours) > 20
            numbers = {path for path, one in ours.items() if isinstance(one, float)}
            assert {p: theirs[p] for p in ours.keys() - numbers} == {
                p: ours[p] for p in ours.keys() - numbers
            }
            pairs = [(theirs[p], pytest.approx(ours[p], rel=1e-3, nan_ok=True)) for p in numbers]
            assert [one for one, other in pairs if one != other] == []
