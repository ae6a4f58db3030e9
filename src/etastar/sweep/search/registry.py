"""Searches by name."""

from __future__ import annotations

import inspect
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from etastar.errors import TrialError
from etastar.sweep.search.bracket import Bracket
from etastar.sweep.search.grid import Grid
from etastar.sweep.search.optuna_search import OptunaSearch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from etastar.sweep.search.base import Search

__all__ = ["SEARCHES", "get_search"]

SEARCHES: Final[Mapping[str, type[Search]]] = MappingProxyType(
    {search.name: search for search in (Grid, Bracket, OptunaSearch)}
)
"""The search strategies by name."""


def get_search(name: str, **options: Any) -> Search:
    """The search of that name.

    Args:
        name: A key of `SEARCHES`.
        **options: Its settings.

    Returns:
        The search.

    Raises:
        TrialError: The name or an option is unknown, or a needed one is missing.

    Example:
        >>> get_search("bracket", start=0.1, factor=2.0).options["factor"]
        2.0
    """
    if name not in SEARCHES:
        raise TrialError(
            f"search {name!r}", f"one of: {', '.join(SEARCHES)}", "choose a listed search"
        )
    search = SEARCHES[name]
    signature = inspect.signature(search)
    try:
        signature.bind(**options)
    except TypeError as error:
        raise TrialError(
            f"search {name!r} with {sorted(options)}: {error}",
            "options out of: " + ", ".join(signature.parameters),
            "leave out or rename what is not listed, and give what has no default",
        ) from error
    return search(**options)
