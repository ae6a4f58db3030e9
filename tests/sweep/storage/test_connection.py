"""What drivers and the system say reaches the user, with what to do about it."""

import errno
import os
import socket
import sqlite3
import sys
from contextlib import closing

import pytest
from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import OperationalError

from etastar.errors import StorageError
from etastar.sweep.storage.connection import (
    connect,
    disconnect,
    shown_location,
    storage_errors,
)


def of_database(text):
    """An error as Optuna raises it: the driver's, inside SQLAlchemy's, inside its own."""
    try:
        try:
            try:
                raise sqlite3.OperationalError(text)
            except sqlite3.OperationalError as error:
                raise OperationalError("INSERT INTO trials", {}, error) from error
        except OperationalError as error:
            raise StorageInternalError("typically happens due to invalid data") from error
    except StorageInternalError as error:
        return error


def of_system(number):
    return OSError(number, os.strerror(number), "runs.log")


@pytest.mark.parametrize(
    ("error", "said", "advice"),
    [
        (of_database("database or disk is full"), "disk is full", "make room"),
        (of_database("could not extend file: No space left on device"), "No space", "make room"),
        (of_database("attempt to write a readonly database"), "readonly", "write access"),
        (of_database("server closed the connection unexpectedly"), "closed", "its server"),
        (of_database("a\nb"), "writing runs: OperationalError: a", "write access"),
        (of_system(errno.ENOSPC), "No space left", "make room"),
        (of_system(errno.EDQUOT), "quota", "make room"),
        (of_system(errno.EROFS), "Read-only", "write access"),
        (of_system(errno.ENOENT), "No such file", "make the folder"),
        (of_system(errno.EISDIR), "Is a directory", "give another path"),
    ],
)
def test_a_failure_is_told_in_the_words_of_its_cause(error, said, advice):
    with pytest.raises(StorageError) as caught, storage_errors("runs", "writing"):
        raise error
    assert said in caught.value.received
    assert "\n" not in caught.value.received
    assert "invalid data" not in caught.value.received
    assert advice in caught.value.action


@pytest.mark.parametrize("url", ["nothing://me:secret@host:port/runs", "://me:secret@host/runs"])
def test_no_password_is_shown_of_a_url_that_cannot_be_read(url):
    assert shown_location(url) == f"{url.partition(':')[0]}://..."


def test_no_password_is_shown_without_sqlalchemy(monkeypatch):
    monkeypatch.setitem(sys.modules, "sqlalchemy.engine", None)
    assert shown_location("postgresql://me:secret@host/runs") == "postgresql://..."


def test_no_password_is_shown_wherever_it_stands():
    url = "postgresql://me:secret@host/runs?password=secret&sslmode=require"
    assert shown_location(url) == "postgresql://me:***@host/runs?..."


def test_a_transaction_on_sqlite_locks_before_it_reads(tmp_path):
    """Else what two processes read is out of date when they write."""
    storage = connect(f"sqlite:///{tmp_path}/runs.db", create=True)
    with storage._backend.engine.begin() as transaction:
        transaction.exec_driver_sql("SELECT * FROM trials").fetchall()
        other = sqlite3.connect(tmp_path / "runs.db", timeout=0)
        with closing(other), pytest.raises(sqlite3.OperationalError, match="locked"):
            other.execute("BEGIN IMMEDIATE")
    disconnect(storage)


@pytest.mark.parametrize("secret", ["x@y:z/w", "x@y:1z"])
def test_no_part_of_a_password_with_odd_signs_is_in_the_error(secret):
    with pytest.raises(StorageError, match="%40") as caught, storage_errors("runs", "reading"):
        connect(f"postgresql+psycopg2://me:{secret}@host/runs", create=True)
    assert not any(part in str(caught.value) for part in ("x@", "y:", "z"))
    assert caught.value.__suppress_context__


def test_a_server_that_takes_the_connection_and_says_nothing_is_an_error(monkeypatch):
    monkeypatch.setattr("etastar.sweep.storage.connection._CONNECT_PATIENCE", 2)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        url = f"postgresql+psycopg2://me:hunter2@127.0.0.1:{listener.getsockname()[1]}/runs"
        refused = pytest.raises(StorageError, match="timeout")
        with refused as caught, storage_errors("runs", "reading"):
            connect(url, create=True)
    assert "hunter2" not in str(caught.value)
