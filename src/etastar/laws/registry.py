"""Laws by name, and which of them exclude each other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Final

from etastar.errors import LawError
from etastar.laws.base import Effect, Law, ScaledWeights
from etastar.laws.branch_laws import CompleteP, DepthMuP
from etastar.laws.path_laws import Constant, EffectiveDepth, PathSum
from etastar.laws.structure import Structure
from etastar.laws.training_laws import BatchSize, DecayTimescale, Duration

_OVER_DEPTH: Final = (EffectiveDepth, PathSum, Structure, DepthMuP, CompleteP, Constant)
_OF_TRAINING: Final = (BatchSize, Duration, DecayTimescale)
_TRAINING: Final = frozenset[Effect]({"batch size", "duration"})
_DEPTH: Final = frozenset[Effect]({"branch multiplier", "learning rate over depth"})

LAWS: Final[Mapping[str, type[Law]]] = MappingProxyType(
    {law.name: law for law in (*_OVER_DEPTH, *_OF_TRAINING)}
)
"""The laws by name that need no more than base and target."""


def get_laws(
    laws: str | Law | Sequence[str | Law], *, known: Mapping[str, type[Law]] = LAWS
) -> tuple[Law, ...]:
    """One law or several, whose factors multiply; by name with its default options.

    Args:
        laws: One law or a sequence of laws, by name or instance, e.g.
            `EffectiveDepth(exponent=-1.0)`.
        known: The laws by name.

    Returns:
        The laws, in the order given.

    Raises:
        LawError: A law is unknown or given twice, there is none, or two of them exclude each other.

    Example:
        >>> [law.name for law in get_laws(["path-sum", "constant"])]
        ['path-sum', 'constant']
    """
    several = [laws] if isinstance(laws, str) or not isinstance(laws, Sequence) else laws
    found = tuple(_law(law, known) for law in several)
    if not found:
        raise LawError(
            "no law", "at least one law", "pass law='constant' to keep the learning rate"
        )
    for position, law in enumerate(found):
        for other in found[:position]:
            _refuse_conflict(other, law)
    return found


def residual_rule(laws: Iterable[Law]) -> ScaledWeights:
    """The initialization of residual branches at which laws are at home together.

    Example:
        >>> residual_rule(get_laws(["complete-p"]))
        'none'
    """
    return next((law.residual for law in laws if law.residual != "all"), "all")


def _law(law: object, known: Mapping[str, type[Law]]) -> Law:
    if isinstance(law, Law):
        return law
    if not isinstance(law, str) or law not in known:
        raise LawError(
            f"law {law!r}",
            f"one of: {', '.join(known)}; or an instance of a law",
            "choose a listed law; options are given by an instance, EffectiveDepth(exponent=-1.0)",
        )
    return known[law]()


def _refuse_conflict(first: Law, second: Law) -> None:
    both, shared = first.effects | second.effects, first.effects & second.effects
    pair = f"the laws {first.name!r} and {second.name!r} together"
    choose = f"choose {first.name!r} or {second.name!r}"
    if first.name == second.name:
        raise LawError(
            f"the law {first.name!r} twice", "every law once", "give its options in one instance"
        )
    alone = next((law.name for law in (first, second) if law.alone), None)
    if alone is not None and not both & {"width", *_TRAINING}:
        raise LawError(
            f"law {alone!r} together with {(second if first.alone else first).name!r}",
            f"no other law over depth: {alone!r} chooses it",
            "leave the other law out, or name the laws yourself",
        )
    if "branch multiplier" in both and first.effects & _DEPTH and second.effects & _DEPTH:
        twice = "a branch multiplier and another correction over depth count depth twice"
        raise LawError(pair, f"one of them: {twice}", choose)
    if shared & _TRAINING:
        raise LawError(pair, "one law for weight decay over batch size and duration", choose)
    if "width" in shared:
        advice = "name the width rule by width=..., not among the laws"
        raise LawError(pair, "one width rule", advice)
