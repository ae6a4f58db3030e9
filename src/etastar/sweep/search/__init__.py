"""Search strategies, and the search that a caller means."""

from __future__ import annotations

from collections.abc import Sequence

from etastar.errors import TrialError
from etastar.sweep.search.base import Context, Grid, Search
from etastar.sweep.search.bracket import Bracket

__all__ = ["Bracket", "Context", "Grid", "Search", "as_search"]


def as_search(given: Search | str | Sequence[float]) -> Search:
    """The search that a caller means.

    Args:
        given: A search; "bracket"; or the rates of a grid.

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
    if given == "bracket":
        return Bracket()
    if isinstance(given, str) or not hasattr(given, "__iter__"):
        raise TrialError(
            f"search={given!r}",
            '"bracket", a search such as Bracket(start=0.1), or the rates of a grid',
            "choose one of these: run_sweep(..., search=[0.01, 0.1, 1.0])",
        )
    return Grid(given)
