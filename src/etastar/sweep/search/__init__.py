"""Search strategies by name, and the search that a caller means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

from etastar.errors import TrialError
from etastar.sweep.search.base import Context, Grid, Search
from etastar.sweep.search.bracket import Bracket

__all__ = ["SEARCHES", "Bracket", "Context", "Grid", "Search", "as_search"]

SEARCHES: Final[Mapping[str, type[Search]]] = MappingProxyType(
    {search.name: search for search in (Grid, Bracket)}
)
"""The search strategies by name."""


def as_search(given: Search | str | Sequence[float]) -> Search:
    """The search that a caller means.

    Args:
        given: A search; the name of one that needs no settings; or the rates of a grid.

    Returns:
        The search.

    Raises:
        TrialError: It is none of these.

    Example:
        >>> as_search("bracket").name, as_search([0.1, 0.2])
        ('bracket', Grid(lrs=(0.1, 0.2)))
    """
    if isinstance(given, Search):
        return given
    if isinstance(given, str) and given in SEARCHES:
        try:
            return SEARCHES[given]()
        except TypeError as error:
            raise TrialError(
                f"search={given!r} alone: {error}", "its settings", "give Grid([0.01, 0.1, 1.0])"
            ) from error
    if isinstance(given, str) or not hasattr(given, "__iter__"):
        raise TrialError(
            f"search={given!r}",
            f"one of: {', '.join(SEARCHES)}; a search such as Bracket(start=0.1); or rates",
            "choose one of these",
        )
    return Grid(tuple(given))
