"""A sweep killed at random moments, again and again, ends in the table of an undisturbed one."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest

NUM_KILLS = int(os.environ.get("ETASTAR_KILLS", "4"))  # the full proof takes 50, and some minutes
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

    def wait(self, pid):
        return self.ask({"wait": pid})["status"]

    def is_over(self, pid):
        return self.ask({"look": pid})["over"]

    def run(self, **task):
        assert self.wait(self.start(**task)) == 0

    def table(self, path, **task):
        self.run(result=str(path), **task)
        return json.loads(path.read_text())


@pytest.fixture(scope="module")  # its imports take longer than most tests
def sweeps(tmp_path_factory):
    with open(tmp_path_factory.mktemp("victim") / "stderr", "wb") as log:
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


def kill_until(sweeps, pulse, *, seed, num_runs, pause, in_processes=False, **task):
    """Start sweeps and kill them until enough kills have hit one that runs; names and searches.

    The moment is when some number of runs has begun, at most as many as are left to run, and a part
    of a run's time later. A sweep may first wait for a killed one's lock, and until its run counts
    as dead.
    """
    moments = random.Random(seed)
    rounds, left, num_hit = [], 0, 0
    while num_hit < NUM_KILLS:
        if not left:
            rounds.append((f"round{len(rounds)}", ("grid", "bracket")[len(rounds) % 2]))
            left = num_runs[rounds[-1][1]]
        pulse.unlink(missing_ok=True)
        if in_processes:
            task |= {"workers": 2, "threads": moments.randint(1, 3)}
        pid = sweeps.start(pulse=str(pulse), name=rounds[-1][0], search=rounds[-1][1], **task)
        num_begun = moments.randint(0, left)
        while begun_runs(pulse) < num_begun and not sweeps.is_over(pid):
            time.sleep(0.002)
        time.sleep(moments.uniform(0, pause))
        os.kill(pid, signal.SIGKILL)
        status = sweeps.wait(pid)
        with suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
        assert status in (0, -signal.SIGKILL)
        num_hit += status == -signal.SIGKILL
        left -= min(left, max(0, begun_runs(pulse)))
    return rounds


def begun_runs(pulse):
    """How many runs a sweep has begun; -1 before its store is open."""
    return pulse.stat().st_size - 1 if pulse.exists() else -1


def assert_survives(sweeps, location, tmp_path, *, seed, in_processes=False):
    undisturbed = {
        search: sweeps.table(tmp_path / search, storage=None, name="alone", search=search)
        for search in ("grid", "bracket")
    }
    num_runs = {search: len(table["trials"]) for search, table in undisturbed.items()}
    start = time.monotonic()
    sweeps.run(storage=location, name="timed", search="grid")
    pause = (time.monotonic() - start) / num_runs["grid"]
    pulse = tmp_path / "pulse"
    where = {"storage": location, "impatient": True}
    how = {"seed": seed, "num_runs": num_runs, "pause": pause, "in_processes": in_processes}
    rounds = kill_until(sweeps, pulse, **how, **where)
    where |= {"workers": 1, "threads": 4} if in_processes else {}
    for name, search in rounds:
        table = sweeps.table(tmp_path / name, name=name, search=search, **where)
        assert table == undisturbed[search]
        counts = finished_per_point(location, name)
        assert set(counts.values()) == {1}
        assert len(counts) == len(table["trials"])


@pytest.mark.slow
def test_kills_on_a_journal_file_change_nothing(sweeps, tmp_path):
    assert_survives(sweeps, str(tmp_path / "runs.log"), tmp_path, seed=1)


@pytest.mark.slow
def test_kills_on_postgresql_change_nothing(sweeps, tmp_path, postgres_url):
    assert_survives(sweeps, postgres_url, tmp_path, seed=2)


@pytest.mark.slow
@pytest.mark.parametrize("location", ["{}/runs.log", "sqlite:///{}/runs.db"])
def test_kills_of_a_sweep_in_processes_change_nothing(sweeps, tmp_path, location):
    assert_survives(sweeps, location.format(tmp_path), tmp_path, seed=3, in_processes=True)


def assert_shared(sweeps, location, tmp_path, *hosts, name="shared"):
    journal = tmp_path / "runs"
    task = {"storage": location, "name": name, "search": "grid", "journal": str(journal)}
    places = [{"host": host} for host in hosts] or [{}, {}]
    pids = [sweeps.start(**task, **place) for place in places]
    assert [sweeps.wait(pid) for pid in pids] == [0, 0]
    runs = [line.split() for line in journal.read_text().splitlines()]
    assert len({pid for pid, *_ in runs}) == 2
    assert len({tuple(point) for _, *point in runs}) == 2 * 6 * 2
    assert set(finished_per_point(location, name).values()) == {1}
    assert len(runs) == 2 * 6 * 2
    alone = sweeps.table(tmp_path / "alone", storage=None, name="alone", search="grid")
    shared = sweeps.table(tmp_path / "shared", storage=location, name=name, search="grid")
    assert shared == alone


@pytest.mark.parametrize("location", ["runs.log", "sqlite:///{}/runs.db"])
def test_two_processes_share_a_sweep(sweeps, tmp_path, location):
    where = location.format(tmp_path) if "://" in location else str(tmp_path / location)
    assert_shared(sweeps, where, tmp_path)


@pytest.mark.slow
def test_two_processes_share_a_sweep_on_postgresql(sweeps, tmp_path, postgres_url):
    assert_shared(sweeps, postgres_url, tmp_path)


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="only root may name a host")
def test_two_hosts_share_a_sweep_on_postgresql(sweeps, tmp_path, postgres_url):
    assert_shared(sweeps, postgres_url, tmp_path, "east", "west", name="hosts")
    assert holders(postgres_url, "hosts") == {"east", "west"}


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="only root may name a host")
def test_what_a_dead_host_began_is_taken_over(sweeps, tmp_path, postgres_url):
    alone = sweeps.table(tmp_path / "alone", storage=None, name="alone", search="grid")
    task = {"storage": postgres_url, "name": "left", "search": "grid", "impatient": True}
    pulse = tmp_path / "pulse"
    pid = sweeps.start(**task, host="east", pulse=str(pulse))
    while begun_runs(pulse) < 3:
        assert not sweeps.is_over(pid)
        time.sleep(0.002)
    os.kill(pid, signal.SIGKILL)
    assert sweeps.wait(pid) == -signal.SIGKILL
    assert sweeps.table(tmp_path / "left", host="west", **task) == alone
    assert holders(postgres_url, "left") == {"east", "west"}
    assert set(finished_per_point(postgres_url, "left").values()) == {1}


def holders(location, name):
    """Hosts on which the finished runs of an experiment were made."""
    import optuna

    storage = optuna.storages.RDBStorage(location)
    found = {
        trial.user_attrs["holder"].split()[0]
        for study in storage.get_all_studies()
        if study.study_name.startswith(f"{name}/")
        for trial in storage.get_all_trials(storage.get_study_id_from_name(study.study_name))
        if trial.state == optuna.trial.TrialState.COMPLETE
    }
    storage.remove_session()
    storage.engine.dispose()
    return found
