"""What a plan says of factors that the networks have themselves, and that differ between them."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING

from etastar.formatting import name_pattern, number

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from etastar.laws import Law, ParamPair, TransferCase

__all__ = ["notes_on_multipliers"]


def notes_on_multipliers(
    pairs: Iterable[ParamPair],
    laws: Sequence[Law],
    case_of: Callable[[ParamPair], TransferCase],
) -> Iterator[str]:
    """Sentences on constant factors in the forward pass that are others at base and target.

    Args:
        pairs: All parameters of the target with their counterparts.
        laws: The plan's laws.
        case_of: Base, target and the optimizer of a parameter.

    Returns:
        One sentence for each ratio of factors and what the laws make of it.
    """
    found: defaultdict[str, list[str]] = defaultdict(list)
    for pair in pairs:
        if not math.isclose(pair.own_ratio, 1.0, rel_tol=1e-9):
            found[_said(pair, laws, case_of(pair))].append(pair.target.name)
    for said, names in found.items():
        yield f"the network itself multiplies what {name_pattern(names)} makes {said}"


def _said(pair: ParamPair, laws: Sequence[Law], case: TransferCase) -> str:
    """By how much, and what is left of the multipliers of laws that have one there."""
    change = f"by {number(pair.own_ratio)} from base to target"
    alone = replace(pair, own_ratio=1.0)
    counted = []
    for law in laws:
        full, left = (law.factors(one, case).multiplier for one in (alone, pair))
        if full != left:
            counted.append((law.name, full, left))
    if not counted:
        return f"{change}: no law of this plan takes that into account"
    named, every_full, every_left = zip(*counted, strict=True)
    names, full, left = " x ".join(named), math.prod(every_full), math.prod(every_left)
    rest = "nothing is left to apply" if left == 1 else f"{number(left)} is left to apply"
    return f"{change}: of the multiplier {number(full)} of {names} {rest}"
