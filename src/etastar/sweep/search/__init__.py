"""Search strategies: which points of a size to run."""

from __future__ import annotations

from etastar.sweep.search.base import Context, Search
from etastar.sweep.search.bracket import Bracket
from etastar.sweep.search.grid import Grid
from etastar.sweep.search.optuna_search import OptunaSearch
from etastar.sweep.search.registry import SEARCHES, get_search

__all__ = ["SEARCHES", "Bracket", "Context", "Grid", "OptunaSearch", "Search", "get_search"]
