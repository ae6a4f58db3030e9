"""Runs as Ray tasks, on this machine or a cluster."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import torch

from etastar.errors import EtastarError, MissingExtraError, TrialError, foreign_errors_as
from etastar.sweep.executors.processes import RETRIES, Executor, Processes
from etastar.sweep.recipe import Point, Recipe, Size
from etastar.sweep.trial import TrialRecord, run_trial
from etastar.typed import require_number

if TYPE_CHECKING:
    from typing_extensions import Self


_CLUSTER = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
_PATIENCE = 20.0
"""Seconds to wait for a cluster's answer."""


class Ray(Executor):
    """Runs each point as a Ray task with its resources; Ray repeats what a lost worker was at.

    Without an address, a Ray that this process is already connected to is used; else one is
    started on this machine's loopback interface, and shut down on exit. A trial with a GPU trains
    on "cuda", of which Ray shows it its share.

    Args:
        address: Of a Ray cluster ("auto", "host:port", "ray://host:port"); None for this machine.
        num_cpus: CPUs that a trial takes, also PyTorch's threads in it (at least 1).
        num_gpus: GPUs that a trial takes; a fraction shares one.
        run_timeout: Seconds after which a run is ended and counts as failed; None for no end. The
            time that it waits for a worker does not count. The worker ends it, by a process that
            it keeps for its runs.

    Raises:
        TrialError: A number is out of range.
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        num_cpus: float = 1,
        num_gpus: float = 0,
        run_timeout: float | None = None,
    ) -> None:
        require_number("num_cpus", num_cpus, error=TrialError, least=0)
        require_number("num_gpus", num_gpus, error=TrialError, least=0)
        if not isinstance(address, (str, type(None))):
            raise TrialError(f"address {address!r}", "text", 'give "host:port" or "auto"')
        self._address = address
        self._resources = {"num_cpus": num_cpus, "num_gpus": num_gpus, "max_retries": RETRIES}
        if run_timeout is not None:
            require_number("run_timeout", run_timeout, error=TrialError, above=0)
        self.run_timeout = run_timeout
        self._where = "cuda" if num_gpus else "cpu", max(1, int(num_cpus))
        self._started: Any = None
        self._on_sigterm: Any = None

    def run(self, recipe: Recipe, size: Size, points: Sequence[Point]) -> Iterator[TrialRecord]:
        """Run every point once, side by side; see `Executor.run`."""
        ray = self._connected()
        task = ray.remote(_run).options(**self._resources)
        sent, where = (ray.put(recipe), size), (*self._where, self.run_timeout)
        pending = [task.remote(*sent, point, *where) for point in points]
        try:
            while pending:
                (run,), pending = ray.wait(pending)
                yield _result(ray, run)
        finally:
            for run in pending:
                ray.cancel(run, force=True)

    def require(self, recipe: Recipe) -> None:
        """Refuse what cannot be sent to Ray."""
        with foreign_errors_as(
            TrialError,
            "a recipe that cannot be sent to Ray",
            "functions and objects that can be pickled",
            "move what it names (a lock, an open file) into the functions, or give workers=0",
        ):
            _imported(self._address).cloudpickle.dumps(recipe)

    def __enter__(self) -> Self:
        self._connected()  # an address that does not answer is told before a store is made
        return self

    def close(self) -> None:
        """Shut down, or leave, the Ray that was started here; another one stays as it is."""
        if self._started is not None:
            self._started.shutdown()
            self._started = None
            _set_sigterm(self._on_sigterm)

    def _connected(self) -> Any:
        ray = _imported(self._address)
        # with an address, Ray itself refuses a second connection
        is_usable = self._address is None or self._started is not None
        if not (ray.is_initialized() and is_usable):
            before = signal.getsignal(signal.SIGTERM)
            try:
                _start(ray, self._address)
            except (RuntimeError, ValueError, OSError) as error:
                where = "on this machine" if self._address is None else f"at {self._address!r}"
                raise TrialError(
                    f"{type(error).__name__} from Ray {where}: {error}",
                    "a Ray that starts, or a cluster that answers",
                    "check the address, or train in processes of this machine: workers=4",
                ) from error
            self._started, self._on_sigterm = ray, before
            # Ray exits with 15, and in the midst of whatever is under way
            _set_sigterm(_exit if before == signal.SIG_DFL else before)
        return ray


def _run(
    recipe: Recipe, size: Size, point: Point, device: str, threads: int, limit: float | None
) -> TrialRecord:
    """One point, in a worker of Ray; with a limit, in a process that the worker can end."""
    if limit is None:
        torch.set_num_threads(threads)
        return run_trial(recipe, size, point, device=device)
    process = _process(device, threads)
    process.run_timeout = limit
    (record,) = process.run(recipe, size, [point])
    return record


@lru_cache(maxsize=1)
def _process(device: str, threads: int) -> Processes:
    """Kept for the worker's next run; it ends with the worker, which Ray keeps for no GPU's."""
    return _Cloudpickled(1, threads=threads, device=device)


class _Cloudpickled(Processes):
    """Sends on what Ray could send."""

    def _pickled(self, recipe: Recipe) -> bytes:
        sent: bytes = import_module("ray.cloudpickle").dumps(recipe)
        return sent


def _set_sigterm(handler: Any) -> None:
    """Only the main thread may; None is a handler that is not of Python."""
    if handler is not None and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, handler)


def _exit(*_: object) -> NoReturn:
    """What a shell expects after SIGTERM, once the sweep has let go of all that it holds."""
    raise SystemExit(128 + signal.SIGTERM)


def _imported(address: str | None) -> Any:
    if address is None:  # the processes that Ray starts read it: they bind loopback alone
        os.environ.setdefault(_CLUSTER, "0")
    try:
        import ray
    except ImportError as error:
        raise MissingExtraError("ray", "ray") from error
    return ray


def _start(ray: Any, address: str | None) -> None:
    if address is not None:

        def connect() -> None:
            _require_answer(address)
            ray.init(address, log_to_driver=False, logging_level="ERROR")

        _within(_PATIENCE, connect)
        return
    if not os.access(Path.home(), os.W_OK):  # where Ray keeps its token
        os.environ.setdefault("RAY_AUTH_MODE", "disabled")  # on loopback only
    with _on_loopback():
        ray.init("local", include_dashboard=False, log_to_driver=False, logging_level="ERROR")


@contextmanager
def _on_loopback() -> Iterator[None]:
    """Ray reads the variable when it is imported, which may have been before."""
    constants: Any = import_module("ray._private.ray_constants")
    before = constants.ENABLE_RAY_CLUSTER
    constants.ENABLE_RAY_CLUSTER = os.environ.get(_CLUSTER, "0").lower() in ("1", "true")
    try:
        yield
    finally:
        constants.ENABLE_RAY_CLUSTER = before


def _require_answer(address: str) -> None:
    """Knock at the address: Ray itself waits for minutes where nobody answers."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=_PATIENCE).close()


def _within(seconds: float, call: Callable[[], object]) -> None:
    """Call in a thread that is left behind when it takes too long."""
    raised: list[BaseException] = []

    def called() -> None:
        try:
            call()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=called, daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise TimeoutError(f"no answer in {seconds:g} s")
    if raised:
        raise raised[0]


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
            "find out in Ray's log why its workers end",
        ) from error
    return record
