"""A journal file survives torn lines, full disks and stale locks, and is not mistaken."""

import os
import resource
import time

import pytest

from etastar.errors import StorageError
from etastar.sweep.recipe import Point
from etastar.sweep.storage import OptunaStore
from etastar.sweep.trial import TrialRecord

SIZE = (("depth", 3),)
POINTS = [Point(0.1, seed) for seed in range(20)]


def record(point, num_losses=2):
    return TrialRecord(SIZE, point, 0.5, (0.1 + 0.2,) * num_losses, False, 2, 1.0)


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "runs.log"
    with OptunaStore(path) as store:
        store.open({"model": "mlp"})
        store.finish(record(POINTS[0]))
    return path


def finish_all(store):
    for point in POINTS:
        store.finish(record(point))


def reopened(path):
    store = OptunaStore(path)
    store.open({"model": "mlp"})
    return store


def test_a_line_that_a_kill_tore_is_dropped_and_writing_goes_on(path):
    whole = path.read_bytes()
    last = whole.splitlines(keepends=True)[-1]
    for torn in (last[:-1], last[:7], b"{"):
        path.write_bytes(whole + torn)
        with reopened(path) as store:
            assert store.records(SIZE) == (record(POINTS[0]),)
        lines = path.read_bytes()
        assert lines.startswith(whole)
        assert torn + b"{" not in lines
    with reopened(path) as store:
        store.finish(record(POINTS[1]))
    with reopened(path) as store:
        assert len(store.records(SIZE)) == 2


def test_a_line_torn_while_a_store_is_open_does_not_spoil_its_next(path):
    with reopened(path) as store:
        with path.open("ab") as file:
            file.write(b'{"op_code":4,"worker')
        store.finish(record(POINTS[1]))
        assert len(store.records(SIZE)) == 2
    with reopened(path) as store:
        assert len(store.records(SIZE)) == 2


def test_a_damaged_line_in_the_middle_is_an_error_and_is_left_alone(path):
    lines = path.read_bytes().splitlines(keepends=True)
    damaged = b"".join([*lines[:2], b"?" * 9 + b"\n", *lines[2:]])
    path.write_bytes(damaged)
    with pytest.raises(StorageError, match="damaged"):
        OptunaStore(path).records(SIZE)
    assert path.read_bytes() == damaged


@pytest.mark.parametrize("content", [b"weights without a line end", b"a,b\n1,2", b"[1]\n"])
def test_a_file_of_another_kind_is_refused_and_left_alone(tmp_path, content):
    path = tmp_path / "other"
    path.write_bytes(content)
    with pytest.raises(StorageError, match="not a journal"):
        OptunaStore(path).open({"model": "mlp"})
    assert path.read_bytes() == content
    assert os.listdir(tmp_path) == ["other"]


def test_reading_makes_no_file(tmp_path):
    store = OptunaStore(tmp_path / "absent.log")
    assert (store.settings(), store.sizes(), store.records(SIZE)) == ({}, (), ())
    assert os.listdir(tmp_path) == []


def test_a_full_disk_is_an_error_and_keeps_the_records(path):
    store = reopened(path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    room = path.stat().st_size + 1500
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
    try:
        with pytest.raises(StorageError, match="make room") as caught:
            finish_all(store)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert str(path) in caught.value.received
    assert path.stat().st_size == room  # the line that did not fit is torn
    kept = store.records(SIZE)
    store.close()
    with reopened(path) as store:
        assert store.records(SIZE) == kept
        assert record(POINTS[0]) in kept
        finish_all(store)
        assert len(store.records(SIZE)) == len(POINTS)


def test_after_a_full_disk_the_same_process_waits_for_nothing(path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with reopened(path) as store:
        store.begin(SIZE, POINTS)
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size, limits[1]))
        try:
            with pytest.raises(StorageError, match="make room"):
                store.finish(record(POINTS[1]))
            store.close()  # nor can the claims be given back
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    with reopened(path) as store:
        assert store.begin(SIZE, POINTS) == tuple(POINTS[1:])


def test_a_store_that_cannot_be_written_is_an_error_and_can_be_read(path, monkeypatch):
    import builtins

    plain = builtins.open

    def read_only(file, mode="r", *args, **kwargs):
        if str(file) == str(path) and mode != "rb":
            raise OSError(30, "Read-only file system")
        return plain(file, mode, *args, **kwargs)

    monkeypatch.setattr(builtins, "open", read_only)
    store = OptunaStore(path)
    with pytest.raises(StorageError, match="write access"):
        store.open({"model": "mlp"})
    assert store.records(SIZE) == (record(POINTS[0]),)
    store.close()


def test_a_lock_that_a_killed_writer_left_holds_nobody_up_for_long(path):
    os.symlink(path, f"{path}.lock")
    began = time.monotonic()
    with reopened(path) as store:
        assert len(store.records(SIZE)) == 1
    assert not os.path.lexists(f"{path}.lock")
    assert time.monotonic() - began < 30  # optuna's own period is as long


def test_another_format_is_refused_and_left_as_it_is(path):
    path.write_text(path.read_text().replace('"format":1', '"format":2'))
    before = path.read_bytes()
    with pytest.raises(StorageError, match="in format 2") as caught:
        reopened(path)
    assert "format 1" in caught.value.expected
    assert path.read_bytes() == before


def test_a_trial_of_another_program_is_refused(path):
    with path.open() as file:
        text = file.read()
    path.write_text(text.replace('"steps"', '"paces"'))
    with pytest.raises(StorageError, match="do not make a run"):
        OptunaStore(path).records(SIZE)


def test_a_server_that_is_not_there_is_an_error_without_the_password():
    store = OptunaStore("postgresql+psycopg2://me:secret@127.0.0.1:1/none")
    with pytest.raises(StorageError, match=r"127\.0\.0\.1:1") as caught:
        store.open({"model": "mlp"})
    assert "secret" not in str(caught.value)


def test_optuna_itself_opens_the_store(path):
    import optuna
    from optuna.storages.journal import JournalFileBackend

    storage = optuna.storages.JournalStorage(JournalFileBackend(str(path)))
    study = optuna.load_study(study_name="sweep/depth=3", storage=storage)
    assert study.best_params == {"lr": 0.1}
    assert study.best_value == 0.5
    assert study.best_trial.user_attrs["seed"] == 0


def test_a_claim_in_a_journal_holds_until_it_took_far_longer_than_the_others(path, monkeypatch):
    from etastar.sweep.storage import claims

    elsewhere = reopened(path)
    elsewhere.begin(SIZE, POINTS[1:3])
    with reopened(path) as store:
        assert store.begin(SIZE, POINTS[1:2]) == ()
        now = time.monotonic()
        monkeypatch.setattr(claims.time, "monotonic", lambda: now + 4)
        assert store.begin(SIZE, POINTS[1:2]) == ()
        monkeypatch.setattr(claims.time, "monotonic", lambda: now + 60)
        assert store.begin(SIZE, POINTS[1:2]) == (POINTS[1],)
        # it lives after all, and is first
        elsewhere.finish(record(POINTS[1]))
        store.finish(record(POINTS[1], num_losses=9))
        assert record(POINTS[1]) in store.records(SIZE)
    elsewhere.close()


def test_in_a_database_a_claim_holds_as_long_as_its_heart_beats(tmp_path):
    from datetime import datetime, timedelta

    url = f"sqlite:///{tmp_path}/runs.db"
    elsewhere, store = reopened(url), reopened(url)
    elsewhere.begin(SIZE, POINTS[:1])
    trial_id = elsewhere._claims(SIZE).mine[POINTS[0]]
    assert store.begin(SIZE, POINTS[:1]) == ()
    from optuna.storages._rdb.models import TrialHeartbeatModel

    backend = elsewhere._storage._backend
    session = backend.scoped_session()
    beat = TrialHeartbeatModel.where_trial_id(trial_id, session)
    beat.heartbeat = datetime.now() - timedelta(days=2)
    session.commit()
    assert store.begin(SIZE, POINTS[:1]) == tuple(POINTS[:1])
    store.finish(record(POINTS[0]))
    elsewhere.finish(record(POINTS[0], num_losses=9))
    assert store.records(SIZE) == (record(POINTS[0]),)
    store.close()
    elsewhere.close()


def test_a_waiting_trial_that_an_older_version_left_holds_nothing(path):
    from optuna.trial import TrialState

    with reopened(path) as store:
        (point,) = store.begin(SIZE, POINTS[1:2])
        claims = store._claims(SIZE)
        waiting = claims._make(POINTS[2], TrialState.WAITING)
        assert claims._live().keys() == {point}
        assert store.begin(SIZE, POINTS[1:3]) == tuple(POINTS[1:3])
        assert waiting not in claims.mine.values()


def test_a_point_that_another_process_claimed_a_moment_ago_is_not_won(path, monkeypatch):
    from etastar.sweep.storage.claims import Claims

    first, second = reopened(path), reopened(path)
    first.begin(SIZE, POINTS[1:2])
    seen = Claims._live
    looks = []

    def too_early(self):
        looks.append(self)
        return {} if len(looks) == 1 else seen(self)

    monkeypatch.setattr(Claims, "_live", too_early)
    assert second.begin(SIZE, POINTS[:3]) == (POINTS[2],)
    monkeypatch.undo()
    every = first._storage.get_all_trials(first._claims(SIZE).study_id, states=None)
    assert [trial.state.name for trial in every].count("RUNNING") == 2
    first.close()
    second.close()


@pytest.mark.parametrize("path", ["/dev/full", "/dev/zero"])
def test_what_is_no_ordinary_file_is_refused_at_once(path):
    with pytest.raises(StorageError, match="no ordinary file"):
        OptunaStore(path).open({"model": "mlp"})
