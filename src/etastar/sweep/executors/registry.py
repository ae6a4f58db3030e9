"""Executors by name."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from etastar.errors import TrialError
from etastar.sweep.executors.batched import Batched
from etastar.sweep.executors.processes import Processes
from etastar.sweep.executors.ray import Ray
from etastar.sweep.executors.sequential import Sequential

if TYPE_CHECKING:
    from etastar.sweep.executors.base import Executor

__all__ = ["EXECUTORS", "get_executor"]

EXECUTORS: dict[str, type[Executor]] = {
    executor.name: executor for executor in (Sequential, Batched, Processes, Ray)
}


def get_executor(name: str, **options: Any) -> Executor:
    """The executor of that name.

    Args:
        name: A key of `EXECUTORS`.
        **options: Arguments of its class.

    Returns:
        The executor; it starts nothing before its first run.

    Raises:
        TrialError: The name or an option is unknown, or a number is out of range.

    Example:
        >>> get_executor("processes", workers=2).name
        'processes'
    """
    if name not in EXECUTORS:
        raise TrialError(
            f"executor {name!r}", f"one of: {', '.join(EXECUTORS)}", "choose a listed one"
        )
    accepted = inspect.signature(EXECUTORS[name]).parameters
    unknown = [option for option in options if option not in accepted]
    if unknown:
        raise TrialError(
            f"{name} with {', '.join(unknown)}",
            "options out of: " + ", ".join(accepted),
            "leave out or rename what is not listed",
        )
    return EXECUTORS[name](**options)
