"""BibTeX of the papers whose results a plan used."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from importlib import resources
from types import MappingProxyType
from typing import Final

from etastar.errors import PlanError
from etastar.transfer.plan import TransferPlan

PAPERS_OF_LAWS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "effective-depth": ("WU", "JE"),
        "path-sum": ("CH",),
        "structure": ("JE", "AM"),
        "depth-mup": ("TP6",),
        "complete-p": ("CP",),
        "batch-size": ("CDP", "SDE"),
        "duration": ("CDP",),
        "decay-timescale": ("WA",),
        "measured": ("JE", "AM"),
        "width": ("TP5", "CP"),
        "constant": (),
        "fitted": (),
    }
)
"""Keys of the papers that a law's docstring names as its source."""

_DEPTH, _BRANCH_INITIALIZATION = "WU", "AM"


def cite(plan: TransferPlan | None = None) -> str:
    """BibTeX of the papers that a plan used: its laws, its depth, and its initialization.

    Args:
        plan: A plan, as it was made or read from a file; None for every paper there is.

    Returns:
        One entry for each paper, with the keys of arXiv, in order of the first use. A law of your
        own is named in a comment, as its paper is not known here.

    Raises:
        PlanError: This is no plan.

    Example:
        >>> print(cite().splitlines()[0])
        @misc{arxiv.2602.07494,
    """
    if plan is None:
        return "\n".join(_papers().values())
    if not isinstance(plan, TransferPlan):
        raise PlanError(
            f"a {type(plan).__name__} in place of a plan",
            "a TransferPlan, or nothing for every paper",
            "pass what plan_transfer returned, or TransferPlan.load(path)",
        )
    names = [law.name for law in plan.laws]
    keys = [_DEPTH, *(key for name in names for key in PAPERS_OF_LAWS.get(name, ()))]
    if plan.initialization.residual in ("all", "last"):
        keys.append(_BRANCH_INITIALIZATION)
    unknown = [f"% no paper is known for the law {n}\n" for n in names if n not in PAPERS_OF_LAWS]
    return "\n".join([*(_papers()[key] for key in dict.fromkeys(keys)), *unknown])


@cache
def _papers() -> dict[str, str]:
    """Entries by the keys of docs/definitions.md."""
    text = resources.files("etastar.transfer").joinpath("papers.bib").read_text(encoding="utf-8")
    return dict(re.findall(r"\[(\w+)\]\n(@misc\{.*?\n\}\n)", text, re.DOTALL))
