"""The other side of a worker: the process that receives tasks and sends back what they came to."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import threading
import time
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from etastar.errors import TrialError

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection

__all__ = ["Failure", "Order", "Outcome", "Ready", "Steps", "raised_error", "send", "serve"]

REPORT_SECONDS = 0.1  # between two reports of a run; short beside what a person notices


@dataclass(frozen=True)
class Order:
    """A task for a worker, pickled; `function` is None when it is that of the task before."""

    function: bytes | None
    task: bytes


@dataclass(frozen=True)
class Ready:
    """The process has started."""


@dataclass(frozen=True)
class Steps:
    """The task made this many steps since the last report."""

    count: int


@dataclass(frozen=True)
class Outcome:
    """The task has ended well."""

    value: Any


@dataclass(frozen=True)
class Failure:
    """The task raised; the text is its traceback."""

    error: Exception
    text: str


class _StoppedError(BaseException):
    """Nobody waits for this run any more; no Exception, so that no run takes it for its own."""


def send(connection: Connection, message: object) -> None:
    """Send a message by value; a tensor in it does not become shared memory.

    Args:
        connection: To the other process.
        message: Anything that can be pickled.
    """
    connection.send_bytes(pickle.dumps(message))


def serve(connection: Connection, threads: int) -> None:
    """Work on one order after another until the connection ends.

    Args:
        connection: To the process that gives the orders.
        threads: PyTorch's threads in this process.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_follow_parent, daemon=True).start()
    torch.set_num_threads(threads)
    steps = _StepReports(connection)
    function: Callable[[Any, Callable[[], None]], Any] | None = None
    try:
        send(connection, Ready())
        while True:
            order: Order = pickle.loads(connection.recv_bytes())
            try:
                function = pickle.loads(order.function) if order.function else function
                assert function is not None
                answer = pickle.dumps(Outcome(function(pickle.loads(order.task), steps.check)))
            except Exception as error:
                answer = pickle.dumps(Failure(_portable(error), traceback.format_exc()))
            steps.report()
            connection.send_bytes(answer)
    except (EOFError, OSError, _StoppedError):
        return  # the other side has closed the connection


def raised_error(failure: Failure) -> Exception:
    """The error of a task, with the worker's traceback as its cause.

    Args:
        failure: As the worker sent it.

    Returns:
        The error, to be raised.
    """
    failure.error.__cause__ = RuntimeError(f"in the worker process:\n{failure.text}")
    return failure.error


class _StepReports:
    """Counts steps, sends the count now and then, and ends a run that nobody waits for."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._count = 0
        self._last = time.monotonic()

    def check(self) -> None:
        self._count += 1
        now = time.monotonic()
        if now - self._last > REPORT_SECONDS:
            self._last = now
            if self._connection.poll():  # in the middle of a task only the end can come
                raise _StoppedError
            self.report()

    def report(self) -> None:
        if self._count:
            send(self._connection, Steps(self._count))
            self._count = 0


def _portable(error: Exception) -> Exception:
    """The error itself where it survives pickling, else a TrialError that quotes it."""
    try:
        copy = pickle.loads(pickle.dumps(error))
    except Exception:
        copy = None
    if type(copy) is type(error) and str(copy) == str(error):
        return error
    return TrialError(
        f"{type(error).__name__}: {error}",
        "a run that ends without an error",
        "mend the function that raised it",
    )


def _follow_parent() -> None:
    """End with the main process, also when that is killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
