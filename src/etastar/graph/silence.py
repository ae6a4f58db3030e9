"""Warnings left out for a while, though the list of their filters belongs to all threads."""

from __future__ import annotations

import logging
import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["nothing_said", "warnings_ignored"]

_FILTERS = threading.Lock()


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
def warnings_ignored(
    category: type[Warning] = Warning, message: str | None = None
) -> Iterator[None]:
    """Leave warnings of a category out, in whatever thread.

    `warnings.catch_warnings` would put back the list of filters that it found. Another thread may
    be within one of its own, and would then put back ours: so the filter is added to the list as it
    is, and taken from wherever it lies afterwards.

    Args:
        category: Of the warnings.
        message: Pattern that theirs begin with; None for any.
    """
    filters: Any = warnings.filters
    pattern = None if message is None else re.compile(message, re.IGNORECASE)
    silence = _Silence(("ignore", pattern, category, None, 0))
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
