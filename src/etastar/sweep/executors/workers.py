"""Training runs on several processes of fixed threads each, or one after another in this one."""

from __future__ import annotations

import atexit
import multiprocessing
import pickle
import signal
import threading
from collections import Counter, deque
from contextlib import contextmanager, suppress
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, Generic, TypeVar

import torch

from etastar.errors import TrialError
from etastar.sweep.executors import worker_process as remote

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

__all__ = ["WorkerPool", "Workers", "worker_pool"]

Task = TypeVar("Task")
Outcome = TypeVar("Outcome")

GRACE_SECONDS = 1.0  # for a process to see that it is to end, before it is killed


class _Worker:
    """One process and what it is doing."""

    def __init__(self, threads: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=remote.serve, args=(theirs, threads))
        self.process.start()
        theirs.close()  # so that the death of the process is the end of the connection
        self.is_ready = False
        self.index: int | None = None  # of the task it is at
        self._function: bytes | None = None

    def give(self, index: int, function: bytes, task: bytes) -> None:
        """Send a task; the function only where it is a new one."""
        self.index = index
        new = None if function == self._function else function
        self._function = function
        with suppress(OSError):  # of a dead process; it is found at the next `receive`
            remote.send(self.connection, remote.Order(new, task))

    def finish(self) -> int:
        """It is idle again; returns the index of the task it was at."""
        index, self.index = self.index, None
        assert index is not None, "an idle worker sends no outcome"
        return index

    def receive(self) -> Any:
        """Its next message; None when it is dead."""
        try:
            return pickle.loads(self.connection.recv_bytes())
        except (EOFError, OSError):
            return None


class WorkerPool:
    """Processes that call functions; each is replaced when it dies.

    Args:
        workers: Number of processes, 1 or more; they start when they are needed.
        threads: PyTorch's threads in each.
        retries: How often a task is run again whose process died.

    Raises:
        TrialError: A number is out of range.
    """

    def __init__(self, workers: int, *, threads: int = 1, retries: int = 0) -> None:
        if workers < 1 or threads < 1 or retries < 0:
            raise TrialError(
                f"workers={workers}, threads={threads}, retries={retries}",
                "1 or more workers, 1 or more threads each, 0 or more retries",
                "change the number that is out of range",
            )
        self._size = workers
        self._threads = threads
        self._retries = retries
        self._workers: list[_Worker] = []

    def outcomes(
        self,
        function: Callable[[Task, Callable[[], None]], Outcome],
        tasks: Sequence[Task],
        *,
        on_step: Callable[[int], None] | None = None,
    ) -> Iterator[tuple[Task, Outcome]]:
        """Each task with its outcome, in the order in which they end.

        Args:
            function: A function of a module, or a partial of one. It is to call `check()` at each
                step; that raises when the run is to end.
            tasks: All different.
            on_step: Called now and then with the number of steps since the last call.

        Yields:
            (task, outcome).

        Raises:
            TrialError: A task's process died too often, or the function cannot be pickled.
            Exception: What a task raised.
        """
        payload, waiting = _pickled(function), deque(range(len(tasks)))
        losses: Counter[int | None] = Counter()
        try:
            while waiting or self._busy():
                self._start(len(waiting) + len(self._busy()))
                for worker, index in zip(self._idle(), list(waiting), strict=False):
                    waiting.remove(index)
                    worker.give(index, payload, _pickled(tasks[index]))
                for worker, message in self._messages():
                    if message is None:
                        self._replace(worker, waiting, losses)
                    elif isinstance(message, remote.Outcome):
                        yield tasks[worker.finish()], message.value
                    else:
                        _note(worker, message, on_step)
        finally:
            self._discard(self._busy())

    def close(self) -> None:
        """End all processes; the pool starts new ones when it is used again."""
        self._discard(self._workers)
        atexit.unregister(self.close)

    def _busy(self) -> list[_Worker]:
        return [worker for worker in self._workers if worker.index is not None]

    def _idle(self) -> list[_Worker]:
        return [worker for worker in self._workers if worker.is_ready and worker.index is None]

    def _start(self, wanted: int) -> None:
        if not self._workers:
            atexit.register(self.close)  # else a pool that was left open would hold up the exit
        with _interrupt_ignored():  # which processes inherit
            while len(self._workers) < min(wanted, self._size):
                self._workers.append(_Worker(self._threads))

    def _messages(self) -> Iterator[tuple[_Worker, Any]]:
        awake = wait([worker.connection for worker in self._workers])
        for worker in [worker for worker in self._workers if worker.connection in awake]:
            yield worker, worker.receive()

    def _replace(self, worker: _Worker, waiting: deque[int], losses: Counter[int | None]) -> None:
        """Forget a dead process; its task is the next to be run."""
        self._discard([worker])
        if worker.is_ready and worker.index is None:
            return  # it was idle
        losses[worker.index] += 1
        if losses[worker.index] > self._retries:
            raise TrialError(
                f"a worker process that ended by itself (exit code {worker.process.exitcode})",
                "processes that can import the main module again, and enough memory",
                'call it under `if __name__ == "__main__":`, or in this process alone '
                '(workers=0, or the executor "sequential")',
            )
        if worker.index is not None:
            waiting.appendleft(worker.index)

    def _discard(self, workers: Sequence[_Worker]) -> None:
        with _interrupt_ignored():
            gone = list(workers)
            self._workers = [worker for worker in self._workers if worker not in gone]
            for worker in gone:
                worker.connection.close()
            for worker in gone:
                worker.process.join(GRACE_SECONDS)
                worker.process.kill()
                worker.process.join()


class Workers(Generic[Task, Outcome]):
    """Calls `function(task, check)` for many tasks; made by `worker_pool`.

    Args:
        function: A function of a module. It is to call `check()` often; that raises when the run
            is to end.
        pool: The processes; None to call it here.
    """

    def __init__(
        self, function: Callable[[Task, Callable[[], None]], Outcome], pool: WorkerPool | None
    ) -> None:
        self._function = function
        self._pool = pool

    def outcomes(self, tasks: Sequence[Task]) -> Iterator[tuple[Task, Outcome]]:
        """Each task with its outcome, in the order in which they end.

        Args:
            tasks: All different.

        Yields:
            (task, outcome).

        Raises:
            TrialError: A process ended by itself.
        """
        if self._pool is not None:
            yield from self._pool.outcomes(self._function, tasks)
            return
        for task in tasks:
            yield task, self._function(task, _go_on)


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
    if workers == 0:
        with _one_thread():
            yield Workers(function, None)
        return
    pool = WorkerPool(workers)
    try:
        yield Workers(function, pool)
    finally:
        pool.close()


def _note(worker: _Worker, message: Any, on_step: Callable[[int], None] | None) -> None:
    """Take in a message that ends no task, or raise the error that a task ended with."""
    if isinstance(message, remote.Failure):
        worker.index = None
        raise remote.raised_error(message)
    if isinstance(message, remote.Ready):
        worker.is_ready = True
    elif isinstance(message, remote.Steps) and on_step is not None:
        on_step(message.count)


def _pickled(value: object) -> bytes:
    try:
        return pickle.dumps(value)
    except Exception as error:
        raise TrialError(
            f"what cannot be sent to another process ({type(error).__name__}: {error})",
            "functions of a module, or functools.partial of them",
            'define them in a module, or use the executor "sequential"',
        ) from error


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
