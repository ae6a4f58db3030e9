"""Errors a user can meet. Every message says what was received, what was expected, what to do."""

from __future__ import annotations

__all__ = [
    "CaptureError",
    "DepthError",
    "EtastarError",
    "FitError",
    "InitError",
    "LawError",
    "MeasureError",
    "MeasureWarning",
    "MissingExtraError",
    "ModelSpecError",
    "OptimizerError",
    "PlanError",
    "RecurrentError",
    "ScheduleError",
    "StorageError",
    "TrialError",
]


def _three_parts(received: str, expected: str, action: str) -> str:
    return f"received: {received}\nexpected: {expected}\nwhat to do: {action}"


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
        super().__init__(_three_parts(received, expected, action))
        self.received = received
        self.expected = expected
        self.action = action

    def __reduce__(self) -> tuple[type[EtastarError], tuple[str, str, str]]:
        return type(self), (self.received, self.expected, self.action)


class CaptureError(EtastarError, ValueError):
    """The model could not be run on the example inputs."""


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


class MeasureWarning(UserWarning):
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
            f'pip install "etastar[{extra}]"',
        )
        self.package = package
        self.extra = extra

    def __reduce__(self) -> tuple[type[EtastarError], tuple[str, str]]:  # type: ignore[override]
        return type(self), (self.package, self.extra)


class StorageError(EtastarError, OSError):
    """A store of a sweep cannot be read, written, or is of another experiment."""
