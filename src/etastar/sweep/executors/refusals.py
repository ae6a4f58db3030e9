"""Why runs are not trained together."""

from __future__ import annotations

__all__ = ["NoGainError", "UnstackableError"]


class UnstackableError(Exception):
    """These runs cannot be trained as one; the message says why."""


class NoGainError(UnstackableError):
    """These runs are trained faster one after another, each from its first step to its last."""
