"""How best rates went over depth in networks of many kinds: what the default choice knows.

The table beside this file comes from stored studies (`studies/experience.py`) and is read when it
is first asked for.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import resources
from typing import Any, Final, Literal, TypeAlias

from etastar.errors import LawError
from etastar.fit.random_effects import random_effects
from etastar.transfer.network_kind import NetworkKind

EXPERIENCE_FORMAT: Final = 1
"""Of the table; raised when what it holds changes its meaning."""

Parametrization = Literal["own", "stabilized", "complete-p", "depth-mup"]
"""What is in force beside one rate: the network's own initialization and nothing else; that of
`initialize_`, 1/K on every branch weight; a law's branch multipliers on the network's own."""

NO_FAMILY_SD: Final = 0.5
"""Standard deviation of an exponent that no family speaks of, and the most of any (a choice)."""

_LEAST_FAMILIES = 2  # one family cannot be judged without itself
_LEAST_FREEDOM = 3  # of a spread; with fewer, families that are less alike tell it together


@dataclass(frozen=True)
class ExperienceRecord:
    """How the best rate of one family of networks went over depth.

    Attributes:
        family: Its name; all records of a name are left out together.
        kind: Of its networks and optimizer.
        optimizer: Name of the optimizer.
        parametrization: What was in force.
        exponent: d log(lr) / d log(effective depth), lr the best value of the one rate that is
            tuned (of a plan, the base's): 0 where the parametrization leaves nothing to do.
        exponent_sd: Standard deviation of the fit.
        depths: Effective depths, the smallest first.
        well_posed: Whether its optima are optima: only such exponents count.
        advantage: How much more the best rate gained at the largest size than the best one of the
            network's own initialization, as a share of what that gained; None if not compared.
    """

    family: str
    kind: NetworkKind
    optimizer: str
    parametrization: Parametrization
    exponent: float
    exponent_sd: float
    depths: tuple[int, ...]
    well_posed: bool = True
    advantage: float | None = None


@dataclass(frozen=True)
class CriterionRecord:
    """How far the measured criterion was off in one family.

    Attributes:
        family: Its name.
        kind: Of its networks and optimizer.
        log_error: log(rate that the criterion carried to the target / best rate there).
        depths: Effective depths of base and target.
    """

    family: str
    kind: NetworkKind
    log_error: float
    depths: tuple[int, int]


@dataclass(frozen=True)
class Prior:
    """What is expected of a family that is not stored.

    Attributes:
        mean: Of its exponent.
        sd: Standard deviation of the normal distribution with the 95% interval that is expected.
        exponents: Of the stored families of the kind; empty where there were too few.
    """

    mean: float
    sd: float
    exponents: tuple[float, ...] = ()


_Key: TypeAlias = "tuple[NetworkKind, Parametrization]"


@dataclass(frozen=True)
class Experience:
    """All stored records.

    Attributes:
        records: Exponents of families.
        criterion: Errors of the criterion.
    """

    records: tuple[ExperienceRecord, ...] = ()
    criterion: tuple[CriterionRecord, ...] = ()

    def without(self, *families: str) -> Experience:
        """What is known without some families: to judge them by the others.

        Args:
            *families: Their names.

        Returns:
            The rest.

        Raises:
            LawError: A name is not there.

        Example:
            >>> kind = NetworkKind("residual", "pre", False, False, 2, "adam")
            >>> Experience(criterion=(CriterionRecord("gpt", kind, 0.1, (4, 32)),)).without("gpt")
            Experience(records=(), criterion=())
        """
        known = {one.family for one in self.records} | {one.family for one in self.criterion}
        if unknown := [name for name in families if name not in known]:
            raise LawError(
                f"the family {unknown[0]!r}",
                f"a stored one: {', '.join(sorted(known)) or '(none)'}",
                "name a family of the table",
            )
        return Experience(
            tuple(record for record in self.records if record.family not in families),
            tuple(record for record in self.criterion if record.family not in families),
        )

    @cached_property
    def _families(self) -> Mapping[_Key, Mapping[str, tuple[float, float]]]:
        """Exponent and its standard deviation of every family, its well-posed records together."""
        found: defaultdict[_Key, defaultdict[str, list[tuple[float, float]]]] = defaultdict(
            lambda: defaultdict(list)
        )
        for one in self.records:
            if one.well_posed:
                rows = found[one.kind, one.parametrization][one.family]
                rows.append((one.exponent, one.exponent_sd))
        return {k: {name: _together(rows) for name, rows in v.items()} for k, v in found.items()}

    def prior(self, kind: NetworkKind | None, parametrization: Parametrization) -> Prior | None:
        """What the families of a kind let expect of another one.

        Args:
            kind: See `network_kind`.
            parametrization: What is in force.

        Returns:
            Mean and spread by random effects; None with fewer than two families of the kind. The
            spread is that of all kinds of this parametrization and optimizer; where those are few,
            of all with this optimizer, or of all. As two or three families may agree by chance,
            theirs is at least that of all.
        """
        groups = {key: list(own.values()) for key, own in self._families.items()}
        if kind is None or len(groups.get((kind, parametrization), ())) < _LEAST_FAMILIES:
            return None
        like = {key: rows for key, rows in groups.items() if key[0].update == kind.update}
        most = {key: rows for key, rows in like.items() if key[1] == parametrization}
        enough = (g for g in (most, like) if sum(len(r) - 1 for r in g.values()) >= _LEAST_FREEDOM)
        own = (kind, parametrization)
        mean, sd = random_effects(next(enough, groups))[own]
        if len(groups[own]) - 1 < _LEAST_FREEDOM:
            sd = max(sd, random_effects(groups)[own][1])
        return Prior(mean, min(sd, NO_FAMILY_SD), tuple(exponent for exponent, _ in groups[own]))

    def advantages(
        self, kind: NetworkKind | None, parametrization: Parametrization
    ) -> tuple[float, ...]:
        """What the best rate of a parametrization gained over the network's own, in each family.

        Args:
            kind: See `network_kind`.
            parametrization: What is in force.

        Returns:
            An advantage for each family of the kind that was compared, ascending; () with fewer
            than two.
        """
        found = {
            one.family: one.advantage
            for one in self.records
            if (one.kind, one.parametrization) == (kind, parametrization)
            and one.advantage is not None
        }
        return tuple(sorted(found.values())) if len(found) >= _LEAST_FAMILIES else ()

    def criterion_sd(self, kind: NetworkKind | None) -> float:
        """Standard deviation of an exponent that the criterion measured.

        Args:
            kind: See `network_kind`.

        Returns:
            (mean of (log_error / log(depth ratio))^2)^(1/2) over the records of the kind; where it
            has no two families over all records, and without those `NO_FAMILY_SD`.
        """
        for own in ([one for one in self.criterion if one.kind == kind], self.criterion):
            if len({one.family for one in own}) >= _LEAST_FAMILIES:
                squares = [
                    (one.log_error / math.log(one.depths[1] / one.depths[0])) ** 2 for one in own
                ]
                return math.sqrt(sum(squares) / len(squares))
        return NO_FAMILY_SD


def _together(rows: Sequence[tuple[float, float]]) -> tuple[float, float]:
    weights = [sd**-2 for _, sd in rows]
    mean = sum(w * y for w, (y, _) in zip(weights, rows, strict=True)) / sum(weights)
    return mean, sum(weights) ** -0.5


def read_experience(text: str) -> Experience:
    """The records of a table that `studies/experience.py` wrote.

    Example:
        >>> read_experience('{"format": 1, "records": [], "criterion": []}')
        Experience(records=(), criterion=())
    """
    data = json.loads(text)
    assert data["format"] == EXPERIENCE_FORMAT, data["format"]
    return Experience(
        tuple(ExperienceRecord(**_typed(one)) for one in data["records"]),
        tuple(CriterionRecord(**_typed(one)) for one in data["criterion"]),
    )


def _typed(one: Mapping[str, Any]) -> dict[str, Any]:
    return {**one, "kind": NetworkKind(**one["kind"]), "depths": tuple(one["depths"])}


@cache
def stored_experience() -> Experience:
    """The records that come with the package, read once."""
    place = resources.files("etastar.transfer").joinpath("experience.json")
    return read_experience(place.read_text(encoding="utf-8"))
