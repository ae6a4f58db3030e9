"""Errors a user can meet. Every message says what was received, what was expected, what to do.

And what is done about the errors and warnings of others' code: given a form, or left out.
"""

from __future__ import annotations

import logging
import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class EtastarError(Exception):
    """Base of all errors of etastar; its message has three parts.

    Args:
        received: What was received.
        expected: What was expected instead.
        action: What the caller can do about it.

    Example:
        >>> print(LawError("law 'warp'", "one of: constant", "choose a listed law"))
        received: law 'warp'
        expected: one of: constant
        what to do: choose a listed law
    """

    def __init__(self, received: str, expected: str, action: str) -> None:
        super().__init__(f"received: {received}\nexpected: {expected}\nwhat to do: {action}")
        self.received = received
        self.expected = expected
        self.action = action

    def __reduce__(self) -> tuple[type[EtastarError], tuple[str, str, str]]:
        return type(self), (self.received, self.expected, self.action)


class EtastarWarning(UserWarning):
    """What a user should not overlook, where going on is still right; silenced as any warning.

    Example:
        >>> issubclass(EtastarWarning, UserWarning)
        True
    """


class CaptureError(EtastarError, ValueError):
    """The model could not be run on the example inputs."""

    place: tuple[str, str | None] | None = None
    """Module and, if it was one, operation that raised in a forward pass."""


class DepthError(EtastarError, ValueError):
    """The graph has no effective depth: no path, no weight layer, an unknown source or output."""


class RecurrentError(EtastarError, ValueError):
    """The network applies a parameter again on one path; the depth laws do not cover it."""


class InitError(EtastarError, ValueError):
    """An initialization cannot be computed for, or applied to, this model."""


class LawError(EtastarError, ValueError):
    """A law is unknown, in conflict with another, or has a bad setting."""


class MeasureError(EtastarError, ValueError):
    """The criterion cannot be measured on this model, batch or optimizer."""


class MeasureWarning(EtastarWarning):
    """The criterion was measured, but its numbers are lost in rounding."""


class OptimizerError(EtastarError, TypeError):
    """The optimizer is of no known kind and was not declared."""


class PlanError(EtastarError, ValueError):
    """A plan cannot be made, loaded, or applied to this model."""


class ScheduleError(EtastarError, ValueError):
    """A learning-rate scheduler would flatten the plan's parameter groups."""


class ModelSpecError(EtastarError, ValueError):
    """A model, data set or argument named on the command line cannot be built."""


class FitError(EtastarError, ValueError):
    """An optimum, a power law or a regret cannot be found from these numbers."""


class ReportError(EtastarError, ValueError):
    """There is nothing to show of this: no result of the package, or a file that holds none."""


class TrialError(EtastarError, ValueError):
    """A training run cannot be started, or its data ends before it does."""


class MissingExtraError(EtastarError, ImportError):
    """An optional dependency is not installed.

    Args:
        package: The package that could not be imported.
        extra: The extra of etastar that brings it.
    """

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(
            f"no installed package {package!r}",
            f"the extra {extra!r} of etastar",
            _install_command(extra),
        )
        self.package = package
        self.extra = extra

    def __reduce__(self) -> tuple[type[EtastarError], tuple[str, str]]:  # type: ignore[override]
        return type(self), (self.package, self.extra)


class StorageError(EtastarError, OSError):
    """A store of a sweep cannot be read, written, or is of another experiment."""


def _install_command(extra: str) -> str:
    """What installs an extra from where etastar came; an index only if it came from one."""
    import json
    from importlib.metadata import PackageNotFoundError, distribution

    try:
        origin = json.loads(distribution("etastar").read_text("direct_url.json") or "{}")
    except PackageNotFoundError:
        return f'pip install ".[{extra}]" in the folder of etastar\'s source'
    place = "+".join(filter(None, (origin.get("vcs_info", {}).get("vcs"), origin.get("url"))))
    if origin.get("dir_info", {}).get("editable"):
        return f'pip install -e "{place}[{extra}]"'
    return f'pip install "etastar[{extra}]{place and " @ "}{place}"'


def cause_of(error: BaseException) -> str:
    """An error of other code in one line: its type, and its message up to what a colon announces.

    Example:
        >>> cause_of(ZeroDivisionError("division by zero"))
        'ZeroDivisionError: division by zero'
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or ["no message"]
    announced = next((n for n, line in enumerate(lines) if not line.endswith(":")), 0)
    return " ".join([f"{type(error).__name__}:", *lines[: announced + 1]])


@contextmanager
def foreign_errors_as(
    kind: type[EtastarError], received: str, expected: str, action: str
) -> Iterator[None]:
    """Run code of others (a factory, a constructor, a forward pass) and give its errors a form.

    Code that a user names may raise anything, `SystemExit` and what is no `Exception` as well.
    Errors of ours and Ctrl-C pass as they are.

    Args:
        kind: Error to raise instead.
        received: What was run, "zoo:mlp with {'width': 0}".
        expected: See `EtastarError`.
        action: See `EtastarError`.

    Example:
        >>> with foreign_errors_as(ModelSpecError, "f()", "a model", "mend f"):
        ...     raise SystemExit(0)
        Traceback (most recent call last):
        ...
        etastar.errors.ModelSpecError: received: f(): SystemExit: 0
        expected: a model
        what to do: mend f
    """
    try:
        yield
    except (EtastarError, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise kind(f"{received}: {cause_of(error)}", expected, action) from error


_FILTERS = threading.Lock()  # the list of filters belongs to all threads


@contextmanager
def nothing_said() -> Iterator[None]:
    """No warnings of a pass that is not a real one, no tracebacks of what fake tensors refuse."""
    logger = logging.getLogger("torch._subclasses.fake_tensor")
    is_disabled, filters = logger.disabled, warnings.filters
    content = [one for one in filters if not isinstance(one, _Silence)]
    logger.disabled = True
    try:
        with warnings_ignored():
            yield
    finally:
        logger.disabled = is_disabled
        with _FILTERS:
            if warnings.filters is filters:
                ours = [one for one in filters if isinstance(one, _Silence)]  # of other threads
                filters[:] = [*ours, *content]  # type: ignore[index]


@contextmanager
def warnings_ignored(message: str | None = None) -> Iterator[None]:
    """Leave warnings out, in whatever thread.

    `warnings.catch_warnings` would put back the list of filters that it found. Another thread may
    be within one of its own, and would then put back ours: so the filter is added to the list as it
    is, and taken from wherever it lies afterwards.

    Args:
        message: Pattern that theirs begin with; None for any.
    """
    filters: Any = warnings.filters
    pattern = None if message is None else re.compile(message, re.IGNORECASE)
    silence = _Silence(("ignore", pattern, Warning, None, 0))
    with _FILTERS:
        filters.insert(0, silence)
    try:
        yield
    finally:
        with _FILTERS:
            for found in (filters, warnings.filters):
                found[:] = [one for one in found if one is not silence]  # type: ignore[index]


class _Silence(tuple[Any, ...]):
    """A filter of warnings that is ours."""

    __slots__ = ()
