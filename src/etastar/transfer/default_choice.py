"""`law="auto"`: the law whose rate at the target is known best, by a posterior of its exponent.

For every parametrization that the network can carry, log eta*(L) = a + b log(L / L_0) for the one
rate that is tuned. b has a prior from families of the same kind (`Experience.prior`), or without
two of them the structure law's exponent and a wide spread; the user's tuned sizes, and the measured
criterion where there is a batch, are data. What is taken loses least: regret grows with the square
of the rate's error, so the narrowest interval loses least, unless the families of the kind say that
another parametrization ends lower by more than that. The centre is the posterior mean. And all laws
by the names under which `plan_transfer` takes them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, Final, final

from etastar.errors import LawError
from etastar.fit import power_law_posterior
from etastar.laws import (
    LAWS,
    Architecture,
    Bound,
    CompleteP,
    DepthMuP,
    EffectiveDepth,
    Evidence,
    FitSizes,
    Fitted,
    Law,
    Reads,
    Structure,
    TransferCase,
    UnboundLaw,
)
from etastar.laws.path_laws import counted_depth, depth_count, require_one_width
from etastar.transfer.experience import (
    NO_FAMILY_SD,
    Experience,
    Parametrization,
    Prior,
    stored_experience,
)
from etastar.transfer.measured_law import Criterion
from etastar.transfer.network_kind import NetworkKind, network_kind

_MULTIPLIERS: Final[Mapping[Parametrization, Callable[[], Law]]] = MappingProxyType(
    {"complete-p": CompleteP, "depth-mup": DepthMuP}
)
_Z = 1.96  # of a normal distribution, 97.5%
_TUNED_SD = 0.15  # of a tuned log rate where none is given, as in `power_law_posterior` (a choice)
_LEAST_SD = 0.02  # no tuned rate is known better (a choice)
_KEEPS = 0.2  # an exponent that keeps a rate: a factor of 1.5 at eight times the depth
_CURVATURE = 0.018  # relative regret of an error of one octave: median of the families' curves
_WIDE = 3.0  # high over low, beyond which another size is worth tuning
_DIGITS = 3
_OPTIMIZERS: Final = {"sgd": "SGD", "adam": "Adam", "adamw": "AdamW", "muon": "Muon"}
_NAMES: Final = {
    "own": "under the network's own initialization the rate",
    "stabilized": "under the initialization of initialize_ the rate",
    "complete-p": "CompleteP",
    "depth-mup": "Depth-muP",
}


@dataclass(frozen=True)
class _Candidate:
    """What one parametrization lets expect.

    Attributes:
        parametrization: Which one.
        prior: What is expected without the user's data.
        exponent: Posterior mean.
        exponent_sd: Posterior standard deviation.
        log_sd: Standard deviation of the logarithm of the target's best rate.
        laws: The multipliers' law, and what is left to do: a power of the depth.
        read: What of the evidence it is made from.
        advantage: What its best rate gains over that of the network's own initialization.
    """

    parametrization: Parametrization
    prior: Prior
    exponent: float
    exponent_sd: float
    log_sd: float
    laws: tuple[Law, ...]
    read: frozenset[Reads]
    advantage: float

    @property
    def expected_regret(self) -> float:
        """Relative regret against the best rate of the network's own initialization."""
        return _CURVATURE * (self.log_sd / math.log(2)) ** 2 - self.advantage


@final
@dataclass(frozen=True)
class DefaultChoice(UnboundLaw):
    """The law whose rate at the target is known best; see the file's head.

    Args:
        experience: What is known of other networks; None for the package's table. A family is
            judged without itself by `DefaultChoice(stored_experience().without(family))`.

    Example:
        >>> DefaultChoice().options
        {}
    """

    experience: Experience | None = None

    name: ClassVar[str] = "auto"
    reads: ClassVar[frozenset[Reads]] = frozenset({"network", "points", "criterion"})
    alone: ClassVar[bool] = True

    @property
    def options(self) -> dict[str, Any]:
        """None: a plan records the laws that were chosen."""
        return {}

    def bind(self, evidence: Evidence) -> Bound:
        """See `UnboundLaw.bind`: laws, their interval at the target, and why these."""
        known = stored_experience() if self.experience is None else self.experience
        kinds = [
            network_kind(network.features, evidence.optimizer) for network in _networks(evidence)
        ]
        kind = kinds[0] if kinds[0] == kinds[1] else None
        criterion_sd = known.criterion_sd(kind)
        candidates = [
            _candidate(
                parametrization,
                prior,
                evidence,
                criterion_sd,
                min(known.advantages(kind, parametrization), default=0.0),
            )
            for parametrization, prior in _carried(evidence, known, kind)
        ]
        best = min(candidates, key=lambda one: round(one.expected_regret, _DIGITS + 1))
        reach = _Z * best.log_sd
        return Bound(
            best.laws,
            best.read,
            why=f"{_reason(best, kinds, evidence)} {_expectation(reach, best.read)}",
            note=_initialized_before(best, known.advantages(kind, "stabilized"), evidence),
            log_reach=reach,
            residual=evidence.initialized or "own",
            prior=(candidates[0].prior.mean, candidates[0].prior.sd),
        )


def _carried(
    evidence: Evidence, known: Experience, kind: NetworkKind | None
) -> Iterator[tuple[Parametrization, Prior]]:
    """Parametrizations that the network can carry and that something is known of."""
    stabilized = evidence.initialized in ("all", "last")
    plain: Parametrization = "stabilized" if stabilized else "own"
    # families were given 1/K on all weights of a branch, not on the last alone
    prior = None if evidence.initialized == "last" else known.prior(kind, plain)
    yield plain, prior or Prior(_structure_exponent(evidence), NO_FAMILY_SD)
    if stabilized or evidence.keep:
        return
    for name, multiplier in _MULTIPLIERS.items():
        if (prior := known.prior(kind, name)) is None:
            continue
        try:
            multiplier().check(evidence.pairs)
        except LawError:
            continue
        yield name, prior


def _structure_exponent(evidence: Evidence) -> float:
    """The structure law's exponent in effective depth, between the base and the target.

    For the branches' initialization as it is known, else as it is found.
    """
    law = Structure(residual=evidence.initialized or "none")
    if evidence.initialized is None and evidence.powers is not None:
        law = Structure.with_powers(*evidence.powers)
    step = _log_depth(evidence)
    if step == 0:
        return law.exponent(evidence.target, optimizer=evidence.optimizer)
    case = TransferCase(*_networks(evidence), evidence.optimizer)
    return math.log(law.factors(evidence.pairs[0], case).lr) / step


def _networks(evidence: Evidence) -> tuple[Architecture, Architecture]:
    """Base and target."""
    return evidence.points[-1].network, evidence.target


def _log_depth(evidence: Evidence) -> float:
    """log(L_target / L_base)."""
    networks = _networks(evidence)
    base, target = (counted_depth(n.report, depth_count(networks)) for n in networks)
    return math.log(target / base)


def _candidate(
    parametrization: Parametrization,
    prior: Prior,
    evidence: Evidence,
    criterion_sd: float,
    advantage: float,
) -> _Candidate:
    """The posterior of one parametrization.

    Sizes tuned without the multipliers say nothing of a rate with them, but the one at which the
    multipliers are 1: the plan's base.
    """
    multiplier = _MULTIPLIERS.get(parametrization)
    points = evidence.points if multiplier is None else evidence.points[-1:]
    laws = () if multiplier is None else (multiplier(),)
    mean, sd = prior.mean, prior.sd
    read: set[Reads] = {"network"}
    if len(points) > 1:
        read.add("points")
    if evidence.measure is not None and _log_depth(evidence) != 0:
        read.add("criterion")
        mean, sd = _with_criterion((mean, sd), evidence, laws, criterion_sd)
    require_one_width([point.network for point in points])
    variances = [
        max(_TUNED_SD if point.log_lr_sd is None else point.log_lr_sd, _LEAST_SD) ** 2
        for point in points
    ]
    count = depth_count(_networks(evidence))
    *_, at_base = depths = [counted_depth(point.network.report, count) for point in points]
    fit = power_law_posterior(
        depths,
        [point.lr for point in points],
        prior_exponent=mean,
        prior_sd=sd,
        variances=variances,
        noise=_LEAST_SD,
    )
    depth = counted_depth(evidence.target.report, count)
    # at the base its own tuned rate stays
    variance = variances[-1] if depth == at_base else fit.line_variance(depth)
    left: Fitted | EffectiveDepth
    if "points" in read:
        offset = math.log(fit.predict(at_base) / points[-1].lr)
        left = Fitted(fit.exponent, offset, fit.exponent_sd, count)
    else:
        left = EffectiveDepth(round(fit.exponent, _DIGITS) + 0.0, count)  # to be read, and no -0
    by_count = math.hypot(fit.exponent, fit.exponent_sd) * _gap_of_counts(evidence)
    return _Candidate(
        parametrization,
        prior,
        exponent=fit.exponent,
        exponent_sd=fit.exponent_sd,
        log_sd=math.hypot(math.sqrt(variance), by_count),
        laws=laws if laws and not left.exponent else (*laws, left),
        read=frozenset(read),
        advantage=advantage,
    )


def _gap_of_counts(evidence: Evidence) -> float:
    """How far log(L_target / L_base) of effective depths is from that of the longest path's layers.

    Where the shortest path by-passes layers either may be the depth that counts; else, or where it
    passes none at all, 0.
    """
    base, target = (network.report for network in _networks(evidence))
    both = base.effective_depth and target.effective_depth
    if not both or not (base.bypassed_layers or target.bypassed_layers):
        return 0.0
    layers = target.layer_longest_path / base.layer_longest_path
    return abs(math.log(layers / (target.effective_depth / base.effective_depth)))


def _with_criterion(
    prior: tuple[float, float], evidence: Evidence, laws: tuple[Law, ...], sd: float
) -> tuple[float, float]:
    """The prior times the exponent that the criterion measures with the multipliers in force."""
    assert evidence.measure is not None
    found, _ = evidence.measure((*evidence.laws, *laws))
    exponent = math.log(found.factor) / _log_depth(evidence)
    weights = prior[1] ** -2, sd**-2
    mean = (weights[0] * prior[0] + weights[1] * exponent) / sum(weights)
    return mean, sum(weights) ** -0.5


def _reason(best: _Candidate, kinds: Sequence[NetworkKind | None], evidence: Evidence) -> str:
    """The first sentence: what was taken, and from what it is known."""
    optimizer = _OPTIMIZERS.get(evidence.optimizer.name, evidence.optimizer.name)
    exponent = f"exponent {best.exponent:.2f} +- {best.exponent_sd:.2f}"
    own = [f"{len(evidence.points)} tuned sizes"] if "points" in best.read else []
    own += ["the measured criterion"] if "criterion" in best.read else []
    families = best.prior.exponents
    if not families:
        whose = (
            f"No two stored families are like this {kinds[1]} with {optimizer}"
            if kinds[0] == kinds[1]
            else "Base and target are of different kinds"
        )
        return f"{whose}: {' and '.join(['the structure law', *own])} ({exponent})."
    kind = str(kinds[1])
    head = f"{kind[0].upper()}{kind[1:]} with {optimizer}: {_NAMES[best.parametrization]}"
    if best.parametrization in _MULTIPLIERS:
        kept = sum(abs(one) <= _KEEPS for one in families)
        said = f"keeps the rate over depth in {kept} of {len(families)} such families"
        if best.advantage > 0:
            said += f", gains at least {best.advantage:.1%} more than their own best rates"
    else:
        said = f"is that of {len(families)} such families"
    return f"{head} {' and '.join([said, *own])} ({exponent})."


def _expectation(reach: float, read: frozenset[Reads]) -> str:
    """The second sentence: how far from the optimum, and what to do where that is far."""
    expected = f"Expected within x{math.exp(-reach):.2g} to x{math.exp(reach):.2g} of the optimum"
    if math.exp(2 * reach) <= _WIDE:
        return f"{expected}."
    return f"{expected}: tune {'another size' if 'points' in read else 'a second size'}."


def _initialized_before(best: _Candidate, gains: Sequence[float], evidence: Evidence) -> str:
    """Where all families ended lower, or higher, with the other initialization of the base."""
    if not gains or evidence.keep:
        return ""
    families = f"ended {{}} in {len(gains)} of {len(gains)} such families at eight times the depth"
    if evidence.initialized is None and gains[0] > max(best.advantage, 0):
        return (
            "trained from scratch: etastar.initialize_ before the base is tuned "
            f"{families.format('lower')}, by at least {gains[0]:.1%} of what training gained (best "
            "rate of each): tune the base with it"
        )
    if evidence.initialized == "all" and gains[-1] < 0:
        return (
            f"etastar.initialize_ {families.format('higher')} than the networks' own weights, by "
            f"at least {-gains[-1]:.1%} of what training gained (best rate of each): tune without"
        )
    return ""


NAMED_LAWS: Final[Mapping[str, type[Law]]] = MappingProxyType(
    {**LAWS, **{law.name: law for law in (FitSizes, Criterion, DefaultChoice)}}
)
"""Every law that is taken by name; the last three are made from evidence."""
