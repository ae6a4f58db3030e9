"""Runs side by side, in processes of this machine."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import threading
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from functools import lru_cache
from typing import TYPE_CHECKING

import torch

from etastar.errors import TrialError
from etastar.sweep.executors.base import Executor, device_name
from etastar.sweep.trial import run_trial
from etastar.typed import require_number

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from multiprocessing.connection import Connection

    from etastar.sweep.recipe import Point, Recipe, Size
    from etastar.sweep.trial import TrialRecord

__all__ = ["Processes"]

_SPAWN = multiprocessing.get_context("spawn")


class Processes(Executor):
    """Runs points on a `ProcessPoolExecutor`, each process with a fixed number of threads.

    Processes start at the first run and stay for the next. The callables of the recipe are sent to
    them, so they must be functions of a module, or `functools.partial` of them; and the main module
    must not start the sweep when it is imported (`if __name__ == "__main__":`).

    Args:
        workers: Number of processes.
        threads: PyTorch's threads in each.
        retries: How often points are run again because a process died.
        device: Where each of them trains.

    Raises:
        TrialError: A number is out of range, or there is no such device.
    """

    def __init__(
        self,
        workers: int = 2,
        *,
        threads: int = 1,
        retries: int = 2,
        device: torch.device | str = "cpu",
    ) -> None:
        for name, count, least in (
            ("workers", workers, 1),
            ("threads", threads, 1),
            ("retries", retries, 0),
        ):
            require_number(name, count, error=TrialError, least=least, whole=True)
        self._workers, self._threads, self._retries = workers, threads, retries
        self._device = device_name(device)
        self._pool: ProcessPoolExecutor | None = None
        self._alive: Connection | None = None
        self.max_points = 4 * workers  # enough that no worker waits long for the last of them

    def run(self, recipe: Recipe, size: Size, points: Sequence[Point]) -> Iterator[TrialRecord]:
        """Run every point once, side by side; see `Executor.run`."""
        sent, missing = _pickled(recipe), list(points)
        left = self._retries
        while missing:
            try:
                for record in self._records(sent, size, missing):
                    missing.remove(record.point)
                    yield record
            except BrokenProcessPool as error:  # noqa: PERF203  once, or a few times, in a sweep
                self.close()
                left -= 1
                if left < 0:
                    raise TrialError(
                        f"a worker process that ended by itself: {error}",
                        "workers that live to the end of a run",
                        "look for what ends them (memory, a crash in a library; a script needs "
                        '`if __name__ == "__main__":` around its sweep), or give workers=0',
                    ) from error

    def close(self) -> None:
        """End the processes, with the runs under way."""
        if self._pool is not None and self._alive is not None:
            self._alive.close()
            self._pool.shutdown(cancel_futures=True)
            self._pool = self._alive = None

    def _records(self, recipe: bytes, size: Size, points: Sequence[Point]) -> Iterator[TrialRecord]:
        if self._pool is None:
            watched, self._alive = _SPAWN.Pipe(duplex=False)
            self._pool = ProcessPoolExecutor(
                self._workers, _SPAWN, initializer=_begin, initargs=(self._threads, watched)
            )
        tasks = [self._pool.submit(_run, recipe, size, p, self._device) for p in points]
        try:
            for task in as_completed(tasks):
                yield task.result()
        finally:
            for task in tasks:
                task.cancel()


def _begin(threads: int, watched: Connection) -> None:
    """Prepare a worker: Ctrl-C is for the main process, with which the worker ends anyway."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_follow, args=(watched,), daemon=True).start()
    torch.set_num_threads(threads)


def _run(recipe: bytes, size: Size, point: Point, device: str) -> TrialRecord:
    """One point, in a worker."""
    return run_trial(_unpickled(recipe), size, point, device=device)


@lru_cache(maxsize=1)
def _unpickled(recipe: bytes) -> Recipe:
    found: Recipe = pickle.loads(recipe)
    return found


def _pickled(recipe: Recipe) -> bytes:
    try:
        return pickle.dumps(recipe)
    except Exception as error:
        raise TrialError(
            f"a recipe that cannot be sent to another process: {error}",
            "functions of a module, or functools.partial of them",
            "move the functions out of functions and lambdas, or give workers=0",
        ) from error


def _follow(watched: Connection) -> None:
    """End once the main process has closed its end of the pipe, or was killed."""
    with suppress(EOFError, OSError):
        watched.recv_bytes()
    os._exit(1)
