"""Which parameters have which weight decay at the base, and what a plan says of it."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cached_property
from typing import TYPE_CHECKING, Final, get_args

from etastar.errors import PlanError
from etastar.formatting import name_pattern, shorten_middle
from etastar.naming import name_template
from etastar.parameter import Role

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from etastar.laws import ParamPair
    from etastar.parameter import ParamInfo
    from etastar.transfer.plan_record import ParamPlan

__all__ = ["NO_DECAY", "DecayAtBase", "decay_notes"]

NO_DECAY: Final = ("bias", "norm")
"""Roles without weight decay where nothing else is said ([CP], Table 1; common practice)."""

_NAMES: Final = 60  # characters
_ROLES: Final = get_args(Role)


@dataclass(frozen=True)
class DecayAtBase:
    """Weight decay of every parameter at the base.

    Attributes:
        usual: Of a parameter that is not named.
        base: Of parameters of the base, by name.
        target: Of parameters of the target, by name: an instance may be the target's.
        without: Roles, and patterns of names, without decay beside what a model marks itself; None
            where the groups of an optimizer say everything.
    """

    usual: float
    base: Mapping[str, float] = field(default_factory=dict)
    target: Mapping[str, float] = field(default_factory=dict)
    without: tuple[str, ...] | None = None

    def of(self, pair: ParamPair) -> float:
        """Weight decay of a parameter.

        Args:
            pair: The parameter at both sizes.

        Returns:
            Its own; of one that the base lacks, that of its namesakes there if they have one.
        """
        if self.reason(pair.target):
            return 0.0
        if pair.target.name in self.target:
            return self.target[pair.target.name]
        if pair.base.name in self.base:
            return self.base[pair.base.name]
        alike = self._of_namesakes.get(name_template(pair.target.name), set())
        return min(alike) if len(alike) == 1 else self.usual

    @cached_property
    def _of_namesakes(self) -> Mapping[str, set[float]]:
        """What the base's parameters have, by names with their indices left open."""
        found: defaultdict[str, set[float]] = defaultdict(set)
        for name, decay in self.base.items():
            found[name_template(name)].add(decay)
        return found

    def reason(self, info: ParamInfo) -> str:
        """The role or pattern for which a parameter has no decay, or the model; "" for none.

        Args:
            info: The parameter.
        """
        if self.without is None:
            return ""
        for word in self.without:
            if info.role == word or any(fnmatchcase(n, word) for n in (info.name, *info.aliases)):
                return word
        return "marked by the model" if info.no_decay else ""

    def require_matches(self, pairs: Sequence[ParamPair]) -> None:
        """Refuse a pattern that fits no parameter: it would be dropped silently.

        Args:
            pairs: All parameters of the target with their counterparts.

        Raises:
            PlanError: A word is no role and fits no name of the target or of the base.
        """
        every = [info for pair in pairs for info in (pair.target, pair.base)]
        names = {name for info in every for name in (info.name, *info.aliases)}
        for pattern in self.without or ():
            if pattern not in _ROLES and not any(fnmatchcase(n, pattern) for n in names):
                raise PlanError(
                    f"no_decay={pattern!r}, which fits no parameter",
                    f"roles ({', '.join(_ROLES)}) or patterns of names, as '*.A_log'",
                    "write * for what varies, or leave the pattern out",
                )


def decay_notes(
    decay: DecayAtBase, pairs: Sequence[ParamPair], entries: Sequence[ParamPlan]
) -> Iterator[str]:
    """Sentences on what has no weight decay, and on what has it and had better not.

    Args:
        decay: Weight decay at the base.
        pairs: All parameters of the target with their counterparts.
        entries: The plan's entry for each.

    Returns:
        The sentences; none where there is no decay at all.
    """
    if decay.usual > 0 and decay.without is not None:
        off: defaultdict[str, list[str]] = defaultdict(list)
        for pair in pairs:
            off[decay.reason(pair.target)].append(pair.target.name)
        said = [
            f"{len(names)} of role {word}" if word in _ROLES else f"{_shown(names)} ({word})"
            for word, names in off.items()
            if word
        ]
        if said:
            yield f"no weight decay on {', '.join(said)}"
    if decay.without is None:
        usually = [
            pair.target.name
            for pair in pairs
            if (pair.target.role in NO_DECAY or pair.target.no_decay) and decay.of(pair) > 0
        ]
        if usually:
            yield (
                f"weight decay on {_shown(usually)}, as in the groups of the optimizer; usual is "
                f"none there: Tuned(..., no_decay={NO_DECAY})"
            )
    undone = [e.name for e in entries if e.gain_offset and e.init != 1 and e.weight_decay > 0]
    if undone:
        yield (
            f"weight decay pulls {_shown(undone)}, read as 1 + w, to a factor of 1 and so undoes "
            "its multiplier over time: take it out by no_decay"
        )


def _shown(names: Sequence[str]) -> str:
    return shorten_middle(name_pattern(names), _NAMES)
