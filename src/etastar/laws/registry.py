"""Laws by name, and which of them exclude each other."""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from etastar.errors import LawError
from etastar.laws.base import Law
from etastar.laws.complete_p import CompleteP
from etastar.laws.constant import Constant
from etastar.laws.depth_mup import DepthMuP
from etastar.laws.effective_depth import EffectiveDepth
from etastar.laws.nominal_depth import NominalDepth
from etastar.laws.path_sum import PathSum
from etastar.laws.structure import Structure

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["LAWS", "get_law", "get_laws"]

LAWS: Final[Mapping[str, type[Law]]] = MappingProxyType(
    {
        law.name: law
        for law in (EffectiveDepth, PathSum, NominalDepth, Structure, DepthMuP, CompleteP, Constant)
    }
)
"""The depth laws by name."""


def get_law(law: str | Law) -> Law:
    """A law by name, with its default options, or the law itself.

    Args:
        law: Name of a law, or an instance, e.g. `EffectiveDepth(exponent=-1.0)`.

    Returns:
        The law.

    Raises:
        LawError: No law has this name, or it is no law.

    Example:
        >>> get_law("effective-depth")
        EffectiveDepth(exponent=-1.5)
    """
    if isinstance(law, Law):
        return law
    if not isinstance(law, str) or law not in LAWS:
        raise LawError(
            f"law {law!r}",
            f"one of: {', '.join(LAWS)}; or an instance of a law",
            "choose a listed law; options are given by an instance, EffectiveDepth(exponent=-1.0)",
        )
    return LAWS[law]()


def get_laws(laws: str | Law | Sequence[str | Law]) -> tuple[Law, ...]:
    """One law or several, whose factors multiply.

    Args:
        laws: One law or a sequence of laws, by name or instance.

    Returns:
        The laws, in the order given.

    Raises:
        LawError: A law is unknown or named twice, there is none, or two of them exclude each other.

    Example:
        >>> [law.name for law in get_laws(["path-sum", "constant"])]
        ['path-sum', 'constant']
    """
    if isinstance(laws, (str, Law)) or not isinstance(laws, Sequence):
        found: tuple[Law, ...] = (get_law(laws),)
    else:
        found = tuple(get_law(law) for law in laws)
    if not found:
        raise LawError(
            "no law", "at least one law", "pass law='constant' to keep the learning rate"
        )
    for position, law in enumerate(found):
        for other in found[:position]:
            _refuse_conflict(other, law)
    return found


def _refuse_conflict(first: Law, second: Law) -> None:
    if first.name == second.name:
        raise LawError(
            f"the law {first.name!r} twice", "every law once", "give its options in one instance"
        )
    over_depth = {"branch multiplier", "learning rate over depth"}
    both = first.effects | second.effects
    if "branch multiplier" in both and first.effects & over_depth and second.effects & over_depth:
        raise LawError(
            f"the laws {first.name!r} and {second.name!r} together",
            "one of them: a branch multiplier and another correction over depth count depth twice",
            f"choose {first.name!r} or {second.name!r}",
        )
    if "width" in first.effects & second.effects:
        raise LawError(
            f"the laws {first.name!r} and {second.name!r} together",
            "one width rule",
            "name the width rule by width=..., not among the laws",
        )
