"""The protocol of executors, and those of this machine: this process, or several side by side."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import threading
import time
from abc import abstractmethod
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, suppress
from functools import lru_cache
from math import inf, nan

import torch

from etastar.errors import TrialError, foreign_errors_as
from etastar.sweep.recipe import Point, Recipe, Size
from etastar.sweep.trial import TrialRecord, run_trial
from etastar.typed import require_number

_SPAWN = multiprocessing.get_context("spawn")

RETRIES = 2
"""How often what a lost worker was at is run again."""


class Executor(AbstractContextManager["Executor"]):
    """Runs points of one size, in this process or elsewhere.

    The contract:

    - `run` yields exactly one record per point, in whatever order the runs end.
    - The same point gives the same record whichever executor ran it, up to rounding (and the
      fields that say where it ran).
    - A run that diverges is a record. A run that raises ends the call: the error of the model, the
      data or the loss comes out as a TrialError with its type and message; records that were
      yielded before stay valid.
    - A run that takes longer than a `run_timeout`, where the executor has one, is ended, and its
      record says so in `failed`; its loss is +inf. The other runs go on.
    - A worker that dies is replaced and its point run again, at most `RETRIES` times; then it is a
      TrialError.
    - It is a context manager: on exit, by Ctrl-C too, no process of it is left.
    - The global random numbers and thread counts of the calling process are as before.
    - `run_timeout` is the time limit of a run in seconds; None where there is none.
    - `max_points` is how many points a sweep hands over at a time: enough to keep the executor
      busy, few enough to leave work for other processes on the same store; None is all.
    """

    max_points: int | None = None
    run_timeout: float | None = None

    @abstractmethod
    def run(self, recipe: Recipe, size: Size, points: Sequence[Point]) -> Iterator[TrialRecord]:
        """Run every point of a size once, all different, and yield a record per point."""

    def require(self, recipe: Recipe) -> None:
        """Refuse, by a TrialError, a recipe that cannot run here, before anything is written."""

    def _over_time(self, size: Size, point: Point, device: str) -> TrialRecord:
        """The record of a run that was ended as it took too long."""
        why = f"stopped, as it took longer than {self.run_timeout:g} s"
        return TrialRecord(size, point, inf, (), False, 0, nan, device, failed=why)

    def __exit__(self, *raised: object) -> None:
        self.close()

    def close(self) -> None:
        """Release what the executor holds."""


class Sequential(Executor):
    """Runs one point after another in this process; what other executors are compared with.

    Args:
        device: Where to train.

    Raises:
        TrialError: There is no such device.
    """

    max_points = 1

    def __init__(self, *, device: torch.device | str = "cpu") -> None:
        self._device = device_name(device)

    def run(self, recipe: Recipe, size: Size, points: Sequence[Point]) -> Iterator[TrialRecord]:
        """Run every point once, in order; see `Executor.run`."""
        for point in points:
            yield run_trial(recipe, size, point, device=self._device)


def device_name(device: torch.device | str) -> str:
    """A device as text, which other processes can be sent; refused if this machine has none."""
    with foreign_errors_as(
        TrialError, f"device {device!r}", "a device of PyTorch", 'give "cpu" or "cuda:0"'
    ):
        found = torch.device(device)
        present = 1
        if found.type not in ("cpu", "meta"):
            present = torch.get_device_module(found.type).device_count()
    if (found.index or 0) >= present:
        here = f"one of the {present} of this machine" if present else "a device of this machine"
        raise TrialError(f"device {device!r}", here, "choose another device")
    return str(found)


class Processes(Executor):
    """Runs points side by side, each in a process with a fixed number of threads.

    Processes start at the first run and stay for the next. The callables of the recipe are sent to
    them, so they must be functions of a module, or `functools.partial` of them; and the main module
    must not start the sweep when it is imported (`if __name__ == "__main__":`).

    Args:
        workers: Number of processes.
        threads: PyTorch's threads in each.
        device: Where each of them trains.
        run_timeout: Seconds after which a run is ended and counts as failed; None for no end.

    Raises:
        TrialError: A number is out of range, or there is no such device.
    """

    def __init__(
        self,
        workers: int = 2,
        *,
        threads: int = 1,
        device: torch.device | str = "cpu",
        run_timeout: float | None = None,
    ) -> None:
        for name, count in (("workers", workers), ("threads", threads)):
            require_number(name, count, error=TrialError, least=1, whole=True)
        self._size, self._threads = workers, threads
        self._device = device_name(device)
        if run_timeout is not None:
            require_number("run_timeout", run_timeout, error=TrialError, above=0)
        self.run_timeout = run_timeout
        self._workers: list[_Worker] = []
        self.max_points = 4 * workers  # enough that no worker waits long for the last of them

    def require(self, recipe: Recipe) -> None:
        """Refuse what cannot be sent to another process."""
        self._pickled(recipe)

    def run(self, recipe: Recipe, size: Size, points: Sequence[Point]) -> Iterator[TrialRecord]:
        """Run every point once, side by side; see `Executor.run`."""
        sent, missing, left = self._pickled(recipe), list(points), RETRIES
        limit = self.run_timeout or inf
        under_way: dict[Future[TrialRecord], _Worker] = {}
        try:
            while missing or under_way:
                for worker in self._idle(len(missing), under_way.values()):
                    under_way[worker.start(sent, size, missing.pop(0), self._device)] = worker
                look_again = None if limit == inf else min(1.0, limit / 4)
                done, _ = wait(under_way, look_again, FIRST_COMPLETED)
                records: list[TrialRecord] = []
                for task in done:
                    worker = under_way.pop(task)
                    try:
                        records.append(task.result())
                    except BrokenProcessPool as error:
                        self._end(worker)
                        left -= 1
                        if left < 0:
                            raise _lost(error) from error
                        missing.insert(0, worker.point)
                for task, worker in list(under_way.items()):
                    if worker.seconds > limit and not task.done():
                        del under_way[task]
                        self._end(worker)
                        records.append(self._over_time(size, worker.point, self._device))
                yield from records
        finally:
            for worker in under_way.values():
                self._end(worker)

    def close(self) -> None:
        """End the processes, with the runs under way."""
        for worker in list(self._workers):
            self._end(worker)

    def _idle(self, most: int, busy: Collection[_Worker]) -> list[_Worker]:
        """Workers without a run, started where there are too few; as many as are wanted."""
        while len(self._workers) < min(self._size, most + len(busy)):
            self._workers.append(_Worker(self._threads))
        return [worker for worker in self._workers if worker not in busy][:most]

    def _pickled(self, recipe: Recipe) -> bytes:
        try:
            return pickle.dumps(recipe)
        except Exception as error:
            raise TrialError(
                f"a recipe that cannot be sent to another process: {error}",
                "functions of a module, or functools.partial of them",
                "move the functions out of functions and lambdas, or give workers=0",
            ) from error

    def _end(self, worker: _Worker) -> None:
        self._workers.remove(worker)
        worker.end()


class _Worker:
    """A pool of one process: to end a run that takes too long ends no other."""

    point: Point

    def __init__(self, threads: int) -> None:
        self._pool = ProcessPoolExecutor(1, _SPAWN, initializer=_begin, initargs=(threads,))
        self._began = inf
        self._pid = self._pool.submit(os.getpid)
        self._pid.add_done_callback(self._is_there)

    def start(self, recipe: bytes, size: Size, point: Point, device: str) -> Future[TrialRecord]:
        """Give it a run."""
        self.point = point
        if self._pid.done():  # else its time begins when the process is there
            self._began = time.monotonic()
        return self._pool.submit(_run, recipe, size, point, device)

    @property
    def seconds(self) -> float:
        """For how long its run has been under way; below 0 while the process starts."""
        return time.monotonic() - self._began

    def end(self) -> None:
        """End the process, whatever it does, once it is there."""
        with suppress(OSError, BrokenProcessPool):
            os.kill(self._pid.result(), getattr(signal, "SIGKILL", signal.SIGTERM))
        self._pool.shutdown(cancel_futures=True)

    def _is_there(self, _: object) -> None:
        self._began = time.monotonic()


def _lost(error: BrokenProcessPool) -> TrialError:
    return TrialError(
        f"a worker process that ended by itself: {error}",
        "workers that live to the end of a run",
        "look for what ends them (memory, a crash in a library; a script needs "
        '`if __name__ == "__main__":` around its sweep), or give workers=0',
    )


def _begin(threads: int) -> None:
    """Prepare a worker: Ctrl-C is for the main process, with which the worker ends anyway."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_follow, daemon=True).start()
    torch.set_num_threads(threads)


def _run(recipe: bytes, size: Size, point: Point, device: str) -> TrialRecord:
    """One point, in a worker."""
    return run_trial(_unpickled(recipe), size, point, device=device)


@lru_cache(maxsize=1)
def _unpickled(recipe: bytes) -> Recipe:
    found: Recipe = pickle.loads(recipe)
    return found


def _follow() -> None:
    """End once the main process has ended, or was killed."""
    main = multiprocessing.parent_process()
    assert main is not None, "a worker has been started"
    main.join()
    os._exit(1)
