"""What an experiment came to: optima, exponents, transfer regrets, and what was claimed."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from math import isfinite
from typing import Any, Literal

from etastar.fit import TransferRegret
from etastar.sweep.recipe import Size
from etastar.sweep.result import SizeResult
from etastar.sweep.trial import TrialRecord

Verdict = Literal["agrees", "contradicts", "undecided"]
"""Whether a measured interval holds what was claimed; see `studies.verdicts`."""


@dataclass(frozen=True)
class Claim:
    """What a paper says of an exponent, or of the difference of two.

    Attributes:
        statement: In words.
        source: Key of the paper, as docs/definitions.md lists them.
        family: Whose exponent.
        value: What it is claimed to be.
        relation: Whether the exponent is claimed to equal the value or to lie below it.
        against: Family whose exponent is subtracted first; None for none.
        axis: What the exponent is in.
    """

    statement: str
    source: str
    family: str
    value: float
    relation: Literal["equal", "below"] = "equal"
    against: str | None = None
    axis: str = "effective-depth"


@dataclass(frozen=True)
class Neighbours:
    """The exponent between two sizes that are next to each other on the axis."""

    from_value: float
    to_value: float
    exponent: float
    interval: tuple[float, float] | None


@dataclass(frozen=True)
class ExponentFit:
    """The power law through a family's optima, in one axis.

    Attributes:
        axis: What the exponent is in.
        exponent: By `fit_power_law`.
        seed_interval: From the optima's own intervals; None with a single seed.
        scatter_interval: Student's interval from how the optima lie about the line; None for fewer
            than three sizes.
        r_squared: Share of the variance that the line explains.
        neighbours: Exponents from each size to the next.
        flags: What makes it less trustworthy: "edge", "no optimum", "two sizes".
    """

    axis: str
    exponent: float
    seed_interval: tuple[float, float] | None
    scatter_interval: tuple[float, float] | None
    r_squared: float
    neighbours: tuple[Neighbours, ...]
    flags: tuple[str, ...] = ()

    @property
    def interval(self) -> tuple[float, float] | None:
        """The hull of both intervals: seeds are few, and a power law need not be the truth."""
        known = [ends for ends in (self.seed_interval, self.scatter_interval) if ends is not None]
        if not known:
            return None
        return min(low for low, _ in known), max(high for _, high in known)

    def as_dict(self) -> dict[str, Any]:
        """The fields, and the interval, as plain data."""
        return {**asdict(self), "interval": self.interval}


@dataclass(frozen=True)
class RegretRow:
    """One rate that one rule carried to one target, trained there.

    Attributes:
        family: Whose networks.
        group: Families that differ in the parametrization alone.
        rule: Name of the rule, or of the law that the parametrization applies.
        optimizer: Name of the optimizer.
        bases: Sizes that the rule was tuned on.
        target: Size that it was carried to.
        ratio: Target over first base, in the argument that grows most.
        lr: Transferred rate.
        reference_lr: Rate of the target's own optimum.
        loss: Mean loss at the transferred rate; +inf where a seed diverged.
        reference_loss: Mean loss at the target's own optimum.
        regret: With intervals over seeds.
        cost_steps: Optimizer steps that the rule cost: tuning of its bases and its own.
    """

    family: str
    group: str
    rule: str
    optimizer: str
    bases: tuple[Size, ...]
    target: Size
    ratio: float
    lr: float
    reference_lr: float
    loss: float
    reference_loss: float
    regret: TransferRegret
    cost_steps: int

    def as_dict(self) -> dict[str, Any]:
        """The fields as JSON-safe values; what is not finite is None, and says so in `diverged`."""
        found = asdict(self)
        found["bases"] = [dict(size) for size in self.bases]
        found["target"] = dict(self.target)
        found |= {key: _number(value) for key, value in found.pop("regret").items()}
        found |= {"lr": _number(self.lr), "loss": _number(self.loss)}
        found["diverged"] = self.regret.num_diverged > 0
        return found


def _number(value: Any) -> Any:
    """A number or an interval, None in place of what is not finite."""
    if isinstance(value, tuple):
        return [_number(one) for one in value]
    return None if isinstance(value, float) and not isfinite(value) else value


@dataclass(frozen=True)
class FamilyEvidence:
    """What one family came to.

    Attributes:
        name: Of the family.
        group: Families that differ in the parametrization alone.
        settings: What the family is, as (name, text) pairs.
        sizes: Runs and optimum of each size.
        axes: Name of each axis, and where the sizes lie on it, in their order.
        fits: Power laws, one for each axis on which two sizes differ.
        regrets: What each rule's rates came to.
        transfers: The runs at the transferred rates.
    """

    name: str
    group: str
    settings: tuple[tuple[str, str], ...]
    sizes: tuple[SizeResult, ...]
    axes: tuple[tuple[str, tuple[float, ...]], ...]
    fits: tuple[ExponentFit, ...]
    regrets: tuple[RegretRow, ...] = ()
    transfers: tuple[TrialRecord, ...] = ()

    def fit(self, axis: str) -> ExponentFit | None:
        """The power law in an axis; None where there is none.

        Args:
            axis: Its name.

        Returns:
            The fit.
        """
        return next((fit for fit in self.fits if fit.axis == axis), None)

    @property
    def steps(self) -> int:
        """Optimizer steps of all runs."""
        runs = [*(trial for size in self.sizes for trial in size.trials), *self.transfers]
        return sum(run.steps for run in runs)


@dataclass(frozen=True)
class Judgement:
    """A claim beside what was measured.

    Attributes:
        claim: What was said.
        measured: The exponent, or the difference; None where there is no fit.
        interval: Its interval; None where there is none.
        verdict: See `Verdict`.
        reason: Why it is so, in words.
    """

    claim: Claim
    measured: float | None
    interval: tuple[float, float] | None
    verdict: Verdict
    reason: str


@dataclass(frozen=True)
class Evidence:
    """What an experiment came to.

    Attributes:
        name: As the command line takes it.
        title: One line.
        papers: Keys and numbers of the papers.
        scale: "smoke", "cpu" or "paper".
        command: What reproduces it.
        versions: Packages that the numbers depend on.
        notes: What a reader must know of the protocol.
        families: One for each family.
        judgements: One for each claim.
    """

    name: str
    title: str
    papers: tuple[str, ...]
    scale: str
    command: str
    versions: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]
    families: tuple[FamilyEvidence, ...]
    judgements: tuple[Judgement, ...]

    @property
    def steps(self) -> int:
        """Optimizer steps of all runs."""
        return sum(family.steps for family in self.families)

    @property
    def regrets(self) -> tuple[RegretRow, ...]:
        """Every transferred rate, family by family."""
        return tuple(row for family in self.families for row in family.regrets)
