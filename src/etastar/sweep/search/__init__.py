"""Search strategies."""

from __future__ import annotations

from etastar.sweep.search.base import Context, Grid, Search
from etastar.sweep.search.bracket import Bracket

__all__ = ["Bracket", "Context", "Grid", "Search"]
