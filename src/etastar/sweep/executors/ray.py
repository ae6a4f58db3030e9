"""Runs as Ray tasks, on this machine or a cluster."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from etastar.errors import EtastarError, MissingExtraError, TrialError
from etastar.sweep.executors.base import Executor
from etastar.sweep.running import run_point

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import TracebackType

    from etastar.sweep.record import TrialRecord
    from etastar.sweep.space import Experiment, Point, Size

__all__ = ["Ray"]


class Ray(Executor):
    """Runs each point as a Ray task with its resources; Ray repeats what a lost worker was at.

    Without an address, a Ray that this process is already connected to is used; else one is
    started on this machine's loopback interface, and shut down on exit. A trial with a GPU trains
    on "cuda", of which Ray shows it its share.

    Args:
        address: Of a Ray cluster ("auto", "host:port", "ray://host:port"); None for this machine.
        num_cpus: CPUs that a trial takes, also PyTorch's threads in it (at least 1).
        num_gpus: GPUs that a trial takes; a fraction shares one.
        retries: How often a point is run again whose worker was lost.

    Raises:
        TrialError: A number is out of range.

    Example:
        >>> Ray(num_cpus=2).name
        'ray'
    """

    name = "ray"

    def __init__(
        self,
        address: str | None = None,
        *,
        num_cpus: float = 1,
        num_gpus: float = 0,
        retries: int = 2,
    ) -> None:
        if num_cpus < 0 or num_gpus < 0 or retries < 0:
            raise TrialError(
                f"num_cpus={num_cpus}, num_gpus={num_gpus}, retries={retries}",
                "0 or more of each",
                "change the number that is out of range",
            )
        self._address = address
        self._resources = {"num_cpus": num_cpus, "num_gpus": num_gpus, "max_retries": retries}
        self._threads = max(1, int(num_cpus))
        self._device = "cuda" if num_gpus else "cpu"
        self._started: Any = None

    def run(
        self,
        experiment: Experiment,
        size: Size,
        points: Sequence[Point],
        *,
        on_step: Callable[[int], None] | None = None,
    ) -> Iterator[TrialRecord]:
        """Run every point once, side by side; see `Executor.run`.

        Raises:
            MissingExtraError: Ray is not installed.
            TrialError: A run raised, a worker was lost too often, or Ray cannot be reached.
        """
        ray = self._connected()
        task = ray.remote(_run).options(**self._resources)
        shared = ray.put(experiment)
        pending = [task.remote(shared, size, p, self._device, self._threads) for p in points]
        try:
            while pending:
                done, pending = ray.wait(pending)
                record = _result(ray, done[0])
                if on_step is not None:
                    on_step(record.steps)
                yield record
        finally:
            for reference in pending:
                ray.cancel(reference, force=True)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Shut down, or leave, the Ray that was started here; another one stays as it is."""
        if self._started is not None:
            self._started.shutdown()
            self._started = None

    def _connected(self) -> Any:
        ray = _imported(self._address)
        # with an address, Ray itself refuses a second connection
        is_usable = self._address is None or self._started is not None
        if not (ray.is_initialized() and is_usable):
            try:
                _start(ray, self._address)
            except (ConnectionError, RuntimeError, ValueError, TimeoutError, OSError) as error:
                where = "on this machine" if self._address is None else f"at {self._address!r}"
                raise TrialError(
                    f"{type(error).__name__} from Ray {where}: {error}",
                    "a Ray that starts, or a cluster that answers",
                    'check the address, or use the executor "processes"',
                ) from error
            self._started = ray
        return ray


def _run(
    experiment: Experiment, size: Size, point: Point, device: str, threads: int
) -> TrialRecord:
    """One point, in a worker of Ray."""
    torch.set_num_threads(threads)
    return run_point(experiment, size, point, device=device)


def _imported(address: str | None) -> Any:
    if address is None:  # it is read when Ray is imported: a local Ray then is on loopback only
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    try:
        import ray
    except ImportError as error:
        raise MissingExtraError("ray", "ray") from error
    return ray


def _start(ray: Any, address: str | None) -> None:
    if address is not None:
        ray.init(address, log_to_driver=False, logging_level="ERROR")
        return
    if not os.access(Path.home(), os.W_OK):  # where Ray keeps its token
        os.environ.setdefault("RAY_AUTH_MODE", "disabled")  # on loopback only
    ray.init("local", include_dashboard=False, log_to_driver=False, logging_level="ERROR")


def _result(ray: Any, reference: Any) -> TrialRecord:
    try:
        record: TrialRecord = ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        cause = error.cause
        if isinstance(cause, EtastarError):
            raise type(cause)(*cause.__reduce__()[1]) from error
        raise
    except ray.exceptions.RayError as error:
        raise TrialError(
            f"{type(error).__name__} from Ray: {error}",
            "workers that live to the end of a run",
            "give more retries, or find out in Ray's log why its workers end",
        ) from error
    return record
