"""A sweep killed at random moments, again and again, ends in the table of an undisturbed one."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

NUM_KILLS = int(os.environ.get("ETASTAR_KILLS", "4"))  # the full proof takes 50, and minutes
VICTIM = Path(__file__).parent / "victim.py"


class Sweeps:
    """The forking process, and the children that it makes."""

    def __init__(self, log):
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", str(VICTIM)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        assert self.answer() == {"ready": True}

    def answer(self):
        return json.loads(self.process.stdout.readline())

    def ask(self, task):
        self.process.stdin.write(json.dumps(task) + "\n")
        self.process.stdin.flush()
        return self.answer()

    def start(self, **task):
        return self.ask(task)["pid"]

    def wait(self):
        return self.ask("wait")["status"]

    def run(self, **task):
        self.start(**task)
        assert self.wait() == 0

    def table(self, path, **task):
        self.run(result=str(path), **task)
        return json.loads(path.read_text())


@pytest.fixture
def sweeps(tmp_path):
    with open(tmp_path / "stderr", "wb") as log:
        running = Sweeps(log)
        try:
            yield running
        finally:
            running.process.stdin.close()
            running.process.wait(60)
            running.process.stdout.close()


def finished_per_point(location, name):
    """How many COMPLETE trials each point of an experiment has, as Optuna itself sees it."""
    import optuna
    from optuna.storages.journal import JournalFileBackend

    if "://" in location:
        storage = optuna.storages.RDBStorage(location)
    else:
        storage = optuna.storages.JournalStorage(JournalFileBackend(location))
    trials = [
        (study.study_name, trial)
        for study in storage.get_all_studies()
        if study.study_name.startswith(f"{name}/")
        for trial in storage.get_all_trials(storage.get_study_id_from_name(study.study_name))
    ]
    storage.remove_session()
    if "://" in location:
        storage.engine.dispose()
    return Counter(
        (study, trial.params["lr"], trial.user_attrs["seed"])
        for study, trial in trials
        if trial.state == optuna.trial.TrialState.COMPLETE
    )


def kill_until(sweeps, location, began, *, seed, longest):
    """Start sweeps and kill them until enough kills have hit one that runs; names and searches.

    The moment is drawn from when the sweep has begun: it may first wait for a killed one's lock.
    """
    moments = random.Random(seed)
    rounds, num_hit = [("round0", "grid")], 0
    while num_hit < NUM_KILLS:
        name, search = rounds[-1]
        began.unlink(missing_ok=True)
        pid = sweeps.start(storage=location, name=name, search=search, began=str(began))
        patience = time.monotonic() + 10
        while not began.exists() and time.monotonic() < patience:
            time.sleep(0.005)
        time.sleep(moments.uniform(0, longest))
        os.kill(pid, signal.SIGKILL)
        status = sweeps.wait()
        assert status in (0, -signal.SIGKILL)
        if status == 0:
            rounds.append((f"round{len(rounds)}", ("grid", "bracket")[len(rounds) % 2]))
        num_hit += status == -signal.SIGKILL and began.exists()
    return rounds


def assert_survives(sweeps, location, tmp_path, *, seed):
    undisturbed = {
        search: sweeps.table(tmp_path / search, storage=None, name="alone", search=search)
        for search in ("grid", "bracket")
    }
    start = time.monotonic()  # so that most kills hit, on a fast machine and on a slow one
    sweeps.run(storage=location, name="timed", search="grid")
    longest = time.monotonic() - start
    rounds = kill_until(sweeps, location, tmp_path / "began", seed=seed, longest=longest)
    for name, search in rounds:
        table = sweeps.table(tmp_path / name, storage=location, name=name, search=search)
        assert table == undisturbed[search]
        counts = finished_per_point(location, name)
        assert set(counts.values()) == {1}
        assert len(counts) == len(table["trials"])


@pytest.mark.slow
def test_kills_on_a_journal_file_change_nothing(sweeps, tmp_path):
    assert_survives(sweeps, str(tmp_path / "runs.log"), tmp_path, seed=1)


@pytest.mark.slow
@pytest.mark.skipif("ETASTAR_KILLS" not in os.environ, reason="takes minutes: set ETASTAR_KILLS=50")
def test_kills_on_postgresql_change_nothing(sweeps, tmp_path, postgres_url):
    assert_survives(sweeps, postgres_url, tmp_path, seed=2)


def assert_shared(sweeps, location, tmp_path):
    journal = tmp_path / "runs"
    for _ in range(2):
        sweeps.start(storage=location, name="shared", search="grid", journal=str(journal))
    assert [sweeps.wait(), sweeps.wait()] == [0, 0]
    runs = [line.split() for line in journal.read_text().splitlines()]
    assert len({pid for pid, *_ in runs}) == 2
    assert set(Counter(tuple(point) for _, *point in runs).values()) == {1}
    assert len(runs) == 3 * 8 * 2
    alone = sweeps.table(tmp_path / "alone", storage=None, name="alone", search="grid")
    shared = sweeps.table(tmp_path / "shared", storage=location, name="shared", search="grid")
    assert shared == alone


@pytest.mark.parametrize("location", ["runs.log", "sqlite:///{}/runs.db"])
def test_two_processes_share_a_sweep_and_run_no_point_twice(sweeps, tmp_path, location):
    where = location.format(tmp_path) if "://" in location else str(tmp_path / location)
    assert_shared(sweeps, where, tmp_path)


@pytest.mark.slow
def test_two_processes_share_a_sweep_on_postgresql(sweeps, tmp_path, postgres_url):
    assert_shared(sweeps, postgres_url, tmp_path)
