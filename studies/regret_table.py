"""The regret table: what every rule's transferred rates came to, over all stored experiments."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import inf, isfinite
from pathlib import Path
from statistics import median
from typing import Any

from etastar.errors import StorageError


@dataclass(frozen=True)
class StoredRegret:
    """One rate that one rule carried to one target, as it is stored.

    Attributes:
        experiment: Its name.
        family: Whose networks.
        group: Families that differ in the parametrization alone.
        optimizer: Name of the optimizer.
        rule: Name of the rule.
        target: Size that the rate was carried to, as text.
        ratio: Target over base.
        relative: Relative regret; +inf where a seed diverged, None where the target's own optimum
            did not lower the loss.
        interval: 95% interval of it over seeds; None with a single seed, or where it diverged.
        cost_steps: Optimizer steps that the rule cost.
    """

    experiment: str
    family: str
    group: str
    optimizer: str
    rule: str
    target: str
    ratio: float
    relative: float | None
    interval: tuple[float, float] | None
    cost_steps: int

    @property
    def case(self) -> tuple[str, str, str]:
        """Family and target: what rules are compared on."""
        return self.experiment, self.family, self.target


@dataclass(frozen=True)
class RuleSummary:
    """What a rule came to over many cases.

    Attributes:
        rule: Its name.
        num_cases: Cases in which it gave a rate, and the target learned.
        num_diverged: Cases in which a seed diverged.
        median: Of the relative regret.
        worst: The same; +inf where a seed diverged.
        within: Share of the cases with a relative regret of at most 2%, and of at most 10%.
        median_cost: Of the optimizer steps that it cost.
    """

    rule: str
    num_cases: int
    num_diverged: int
    median: float
    worst: float
    within: tuple[float, float]
    median_cost: float


def read_regrets(results: str | os.PathLike[str], *, scale: str) -> tuple[StoredRegret, ...]:
    """Every stored rate of all experiments at a scale.

    Args:
        results: Folder of all results, as `python -m studies --out` takes it.
        scale: "smoke", "cpu" or "paper".

    Returns:
        The rates, by experiment.

    Raises:
        StorageError: A file cannot be read.
    """
    paths = sorted(Path(results).glob(f"*/{scale}/regret.json"))
    return tuple(row for path in paths for row in _read(path))


def _read(path: Path) -> list[StoredRegret]:
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        return [_row(path.parts[-3], row) for row in rows]
    except (OSError, ValueError, KeyError) as error:
        raise StorageError(
            f"{path}: {error!r}",
            "a regret.json that python -m studies wrote",
            "run the experiment again: what its store has is not trained again",
        ) from error


def _row(experiment: str, row: dict[str, Any]) -> StoredRegret:
    diverged, ends = bool(row["diverged"]), row["relative_interval"]
    known = ends is not None and None not in ends and not diverged
    return StoredRegret(
        experiment=experiment,
        family=row["family"],
        group=row["group"],
        optimizer=row["optimizer"],
        rule=row["rule"],
        target=", ".join(f"{name} {value}" for name, value in row["target"].items()),
        ratio=float(row["ratio"]),
        relative=inf if diverged else row["relative"],
        interval=(ends[0], ends[1]) if known else None,
        cost_steps=int(row["cost_steps"]),
    )


def summarize(rows: Iterable[StoredRegret], *, least_ratio: float = 0.0) -> tuple[RuleSummary, ...]:
    """What each rule came to, the lowest worst regret first.

    Args:
        rows: Stored rates.
        least_ratio: Targets nearer than this are left out.

    Returns:
        A summary for each rule.

    Example:
        >>> made = StoredRegret("e", "f", "f", "sgd", "constant", "depth 8", 4.0, 0.5, None, 100)
        >>> summarize([made])[0].worst
        0.5
    """
    by_rule: dict[str, list[StoredRegret]] = {}
    for row in rows:
        if row.relative is not None and row.ratio >= least_ratio:
            by_rule.setdefault(row.rule, []).append(row)
    made = [_summary(rule, found) for rule, found in by_rule.items()]
    return tuple(sorted(made, key=lambda one: (one.worst, one.num_diverged, one.median, one.rule)))


def _summary(rule: str, rows: Sequence[StoredRegret]) -> RuleSummary:
    values = [row.relative for row in rows if row.relative is not None]
    return RuleSummary(
        rule=rule,
        num_cases=len(rows),
        num_diverged=sum(not isfinite(value) for value in values),
        median=median(values),
        worst=max(values),
        within=(_share(values, 0.02), _share(values, 0.1)),
        median_cost=median(row.cost_steps for row in rows),
    )


def _share(values: Sequence[float], limit: float) -> float:
    return sum(value <= limit for value in values) / len(values)


def in_common(
    rows: Iterable[StoredRegret], *, least_share: float = 2 / 3
) -> tuple[tuple[StoredRegret, ...], tuple[StoredRegret, ...]]:
    """Rates that can be compared: those of the same cases.

    Args:
        rows: Stored rates.
        least_share: A rule that gave a rate in a smaller share of all cases, of those in which the
            rule with most of them did, is left aside.

    Returns:
        The rates of the other rules in the cases in which each of them gave one; and all rates of
        the rules left aside.

    Example:
        >>> both = [
        ...     StoredRegret("e", "f", "f", "sgd", rule, f"depth {n}", 4.0, 0.5, None, 100)
        ...     for rule, most in (("constant", 3), ("structure", 2), ("mup", 1))
        ...     for n in range(most)
        ... ]
        >>> common, aside = in_common(both)
        >>> [(row.rule, row.target[-1]) for row in common]
        [('constant', '0'), ('constant', '1'), ('structure', '0'), ('structure', '1')]
        >>> [row.rule for row in aside]
        ['mup']
    """
    told = [row for row in rows if row.relative is not None]
    cases: dict[str, set[tuple[str, str, str]]] = {}
    for row in told:
        cases.setdefault(row.rule, set()).add(row.case)
    most = max(map(len, cases.values()), default=0)
    broad = {rule: own for rule, own in cases.items() if len(own) >= least_share * most}
    shared = set.intersection(*broad.values()) if broad else set()
    return (
        tuple(row for row in told if row.rule in broad and row.case in shared),
        tuple(row for row in told if row.rule not in broad),
    )
