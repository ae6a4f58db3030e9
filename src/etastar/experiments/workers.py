"""Training runs on several processes of one thread each, or one after another in this one."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import TYPE_CHECKING, Generic, TypeVar

import torch

from etastar.errors import TrialError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from multiprocessing.synchronize import Event

__all__ = ["Workers", "worker_pool"]

Task = TypeVar("Task")
Outcome = TypeVar("Outcome")

_stop: Event | None = None  # set in worker processes only


class _StoppedError(Exception):
    """The main process asked for the end of this run."""


class Workers(Generic[Task, Outcome]):
    """Calls `function(task, check)` for many tasks; made by `worker_pool`.

    Args:
        function: A function of a module. It is to call `check()` often; that raises when the run
            is to end.
        executor: The processes; None to call it here.
    """

    def __init__(
        self,
        function: Callable[[Task, Callable[[], None]], Outcome],
        executor: ProcessPoolExecutor | None,
    ) -> None:
        self._function = function
        self._executor = executor

    def outcomes(self, tasks: Sequence[Task]) -> Iterator[tuple[Task, Outcome]]:
        """Each task with its outcome, in the order in which they end.

        Args:
            tasks: All different.

        Yields:
            (task, outcome).

        Raises:
            TrialError: A process ended by itself.
        """
        if self._executor is None:
            for task in tasks:
                yield task, self._function(task, _go_on)
            return
        try:
            with _interrupt_ignored():  # the processes start here, and inherit that
                running = {
                    self._executor.submit(_call, self._function, task): task for task in tasks
                }
            for done in as_completed(running):
                yield running[done], done.result()
        except BrokenProcessPool as error:
            raise TrialError(
                "a worker process that ended by itself",
                "processes that can import the main module again, and enough memory",
                'call it under `if __name__ == "__main__":`, or with workers=0',
            ) from error


@contextmanager
def worker_pool(
    function: Callable[[Task, Callable[[], None]], Outcome], *, workers: int
) -> Iterator[Workers[Task, Outcome]]:
    """Processes for the time of a with statement; none of them outlives it, nor this process.

    Every run has one thread, here too, so that outcomes do not depend on the number of workers.
    When the with statement is left by an exception (Ctrl-C), runs are stopped at their next
    check.

    Args:
        function: See `Workers`.
        workers: Number of processes; 0 for none but this one.

    Yields:
        The workers.

    Raises:
        TrialError: A negative number of workers.
    """
    if workers < 0:
        raise TrialError(f"workers={workers}", "0 or more", "leave workers out for two")
    if workers == 0:
        with _one_thread():
            yield Workers(function, None)
        return
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    executor = ProcessPoolExecutor(workers, context, _start_worker, (stop,))
    try:
        yield Workers(function, executor)
    except BaseException:
        stop.set()
        raise
    finally:
        executor.shutdown(cancel_futures=True)


def _start_worker(stop: Event) -> None:
    global _stop  # the only way from a pool's initializer to its tasks
    _stop = stop
    torch.set_num_threads(1)
    threading.Thread(target=_follow_parent, daemon=True).start()


def _follow_parent() -> None:
    """End with the main process, also when that is killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _call(function: Callable[[Task, Callable[[], None]], Outcome], task: Task) -> Outcome:
    return function(task, _check)


def _check() -> None:
    if _stop is not None and _stop.is_set():
        raise _StoppedError


def _go_on() -> None:
    """Nothing stops a run in this process but an exception of its own."""


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def _interrupt_ignored() -> Iterator[None]:
    """Ctrl-C does nothing inside; handlers can be set in the main thread only."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
