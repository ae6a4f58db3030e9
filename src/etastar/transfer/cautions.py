"""What a plan takes for granted and base or target do not show, in sentences for its notes."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from etastar.applied import Applied, recall
from etastar.formatting import first_few, name_pattern, number
from etastar.graph import Graph
from etastar.init.init_plan import plan_initialization
from etastar.init.param_rules import residual_share
from etastar.init.schemes import InitSettings
from etastar.laws import DepthMuP, Law, ScaledWeights, Structure, TransferCase, Width
from etastar.naming import canonical_parameters, name_template, separated_indices
from etastar.parameter import ParamInfo
from etastar.transfer.found_weights import FoundWeights, Spread, model_of, powers_of_branches

_SURE: Final = 5.0  # standard errors: one false alarm in a million weights that were drawn alike
_SAME: Final = 2 * math.log(1.05)  # log variance: 5% of a standard deviation is no other rule
_POWERS: Final = (0.0, 0.5, 1.0, 2.0)  # of 1/K: none; DeepNorm, Fixup; [TP6] and [AM]; [CP]
_SMALL: Final = 0.1  # mean size of a gain that lets little of a branch through
_FEW_BLOCKS: Final = 2
_FARTHEST: Final = 8  # times the base's effective depth: as far as the stored cases go
_SHOWN: Final = 3  # patterns of names in a sentence


@dataclass(frozen=True)
class Initial:
    """The initial weights of base and target beside what a plan has for them.

    Attributes:
        networks: Base and target, as `Tuned` and `Target` take them.
        found: Their weights, from `found_weights`.
        graph: The target's graph.
        residual: Branch weights to which `plan.initialize_` gives 1/K; "own" for a plan that is
            made for the networks' own initialization.
    """

    networks: tuple[object, object]
    found: tuple[FoundWeights, ...]
    graph: Graph
    residual: ScaledWeights | Literal["own"]


def cautions(case: TransferCase, *, laws: Sequence[Law], initial: Initial) -> tuple[str, ...]:
    """What to know of this base, this target and these laws before a plan is followed.

    Numbers that are compared differ by five standard errors and 5% of a standard deviation at
    least, so that no sentence comes from chance.
    """
    return (
        *_initialization(initial),
        *_one_size(initial, laws),
        *_powers(initial, laws),
        *_closed_branches(initial),
        *_without_branches(case, laws),
        *_first_layers(case, laws),
        *_distance(case),
    )


def _initialization(initial: Initial) -> Iterator[str]:
    """Base and target against each other, and against what `initialize_` of the plan draws."""
    models = [model_of(network) for network in initial.networks]
    known = [None if model is None else recall(model) or Applied() for model in models]
    drawn = [one is not None and one.residual is not None for one in known]
    drawn_otherwise = _other_than_drawn(initial, drawn)
    if drawn == [True, False] and known[1] is not None:
        yield (
            "the base was initialized by initialize_, the target is not: initialize both alike, by "
            "plan.initialize_(model)"
        )
    elif drawn == [False, True] and known[0] is not None:
        seen = next(iter(drawn_otherwise.values()), "")
        yield (
            f"the target was initialized by initialize_, the base is not{seen and f' ({seen})'}: "
            "initialize both alike"
        )
    rules = {(one.residual, one.readout) for one in known if one is not None}
    if all(drawn) and len(rules) > 1:
        said = " and ".join(f"residual={r!r}, readout={o!r}" for r, o in sorted(rules, key=str))
        yield f"base and target were initialized by initialize_ with {said}: initialize both alike"
    elif (
        drawn[0]
        and known[0]
        and initial.residual not in ("own", known[0].residual)
        and any(one.pair.target.in_branch for one in initial.found)
    ):
        yield (
            f"the base was initialized with residual={known[0].residual!r}, plan.initialize_ draws "
            f"with residual={initial.residual!r}: initialize both alike"
        )
    if not any(drawn):
        yield from _unlike(initial.found)
        for who, seen in drawn_otherwise.items():
            yield f"{who}: {seen} as plan.initialize_ draws: initialize both alike"


def _other_than_drawn(initial: Initial, drawn: Sequence[bool]) -> dict[str, str]:
    """For each network that `initialize_` did not draw, or for both, how its weights differ."""
    residual = initial.residual
    if not initial.found or residual == "own":
        return {}
    model = model_of(initial.networks[1])
    values = {} if model is None else canonical_parameters(model)
    values = {name: value for name, value in values.items() if not value.is_meta}
    report = plan_initialization(
        initial.graph, parameters=values, settings=InitSettings(residual=residual)
    )
    entries = {entry.name: entry for entry in report.entries}
    every: list[list[_Drawn]] = [[], []]
    for one in initial.found:
        base, info, entry = one.pair.base, one.pair.target, entries[one.pair.target.name]
        if entry.std is None or entry.effective is not None or not info.is_weight:
            continue
        scaled = residual == "all" or (residual == "last" and info.branch_last)
        due = entry.std**2
        shares = [residual_share(i) if scaled and i.in_branch else 1.0 for i in (base, info)]
        before = due * math.exp(one.log_fans) * shares[0] / shares[1]
        both = ((base, one.base, before), (info, one.target, due))
        for side, (own, spread, variance) in enumerate(both):
            if spread is not None and spread.variance and not drawn[side]:
                every[side].append(_Drawn(one.names, own, spread, variance))
    which = [[d.names for d in side if d.differs] for side in every]
    if which[0] and which[0] == which[1]:
        return {"base and target": _described([*every[0], *every[1]])}
    who = zip(("base", "target"), every, strict=True)
    return {name: _described(side) for name, side in who if any(d.differs for d in side)}


@dataclass(frozen=True)
class _Drawn:
    """Weights of one network beside the variance that is due."""

    names: tuple[str, ...]
    info: ParamInfo
    spread: Spread
    due: float

    @property
    def differs(self) -> bool:
        """Beyond chance; of a table the size is a matter of taste."""
        gap = abs(math.log(self.spread.variance / self.due))
        return self.info.role != "embedding" and gap > _tolerance(2 / self.spread.elements)


def _described(every: Sequence[_Drawn]) -> str:
    """How weights differ from 1/fan_in: one standard deviation for all, or another gain."""
    bulk = [d for d in every if not d.info.branch_last] or every
    read = [d.spread for d in bulk]
    pooled = sum(s.variance * s.elements for s in read) / sum(s.elements for s in read)
    alike = all(abs(math.log(s.variance / pooled)) < _tolerance(2 / s.elements) for s in read)
    if alike and len({d.info.fan_in for d in bulk}) > 1:
        return f"std {math.sqrt(pooled):.2g} everywhere, not 1/fan_in"
    differing = [d for d in every if d.differs]
    found = _range(d.spread.variance * d.info.fan_in for d in differing)
    due = _range(d.due * d.info.fan_in for d in differing)
    names = dict.fromkeys(name for d in differing for name in d.names)
    all_of_them = all(d.differs for d in every if d.info.role != "embedding")
    where = "every weight" if all_of_them else _patterns(names)
    return f"variance {found} / fan_in in {where}, not {due} / fan_in"


def _range(values: Iterable[float]) -> str:
    ordered = sorted(values)
    low, high = f"{ordered[0]:.2g}", f"{ordered[-1]:.2g}"
    return low if low == high else f"{low} to {high}"


def _patterns(names: Iterable[str]) -> str:
    return first_few(name_pattern(names).split(", "), _SHOWN, separator=", ")


def _tolerance(variance: float) -> float:
    return max(_SAME, _SURE * math.sqrt(variance))


def _unlike(found: Iterable[FoundWeights]) -> Iterator[str]:
    """Weights for which no rule of fans and K gives what both networks have."""
    differing = [one for one in found if one.pair.target.is_weight and _is_unlike(one)]
    if not differing:
        return
    shown = [
        f"{name_pattern(one.names)} std {one.base.std:.2g} against {one.target.std:.2g}"
        for one in differing
        if one.base and one.target
    ]
    yield (
        "base and target were initialized by different rules, "
        f"{first_few(shown, _SHOWN, separator=', ')}: initialize both alike, and give the base as "
        "it was before it was trained"
    )


def _is_unlike(one: FoundWeights) -> bool:
    if one.base is None or one.target is None:
        return False
    if one.log_ratio is None:
        return (one.base.variance > 0) != (one.target.variance > 0)
    base, target = one.pair.base, one.pair.target
    sums = (target.fan_in + target.fan_out) / (base.fan_in + base.fan_out)
    ratios = (1.0, target.fan_in / base.fan_in, target.fan_out / base.fan_out, sums)
    rules = [0.0 - math.log(ratio) for ratio in (*ratios, ratios[1] ** 2, one.pair.units_ratio)]
    powers = _POWERS if one.log_k else (0.0,)
    plain = replace(one, fan_power=0).log_ratio or 0.0
    return all(
        abs(plain - rule + power * one.log_k) > _tolerance(one.error**2)
        for rule in rules
        for power in powers
    )


def _one_size(initial: Initial, laws: Sequence[Law]) -> Iterator[str]:
    """One standard deviation at both widths, in networks that keep it, for the width rule."""
    if initial.residual != "own" or not any(isinstance(law, Width) for law in laws):
        return
    alike = [
        one
        for one in initial.found
        if one.pair.target.is_weight and one.log_fans and not one.fan_power and one.is_plain
    ]
    if alike:
        yield (
            f"{_patterns(name for one in alike for name in one.names)} of std "
            f"{_range(one.target.std for one in alike if one.target)} at both widths: the width "
            "rule takes 1/fan_in for granted, so let std follow the target's fan_in^(-1/2)"
        )


def _powers(initial: Initial, laws: Sequence[Law]) -> Iterator[str]:
    """Power of 1/K in the branches against what a law says of them."""
    model = model_of(initial.networks[1])
    if model is not None and (recall(model) or Applied()) != Applied():
        return
    found = powers_of_branches(initial.found)
    for law in laws if found else ():
        assert found is not None
        if isinstance(law, Structure) and any(
            abs(p - q) > 1 / 4 for p, q in zip(found, law.powers, strict=True)
        ):
            yield (
                "power of 1/K in the variance of the inner and the last weights of branches: found "
                f"{number(found[0])} and {number(found[1])}, {law.name} assumes "
                f"{number(law.powers[0])} and {number(law.powers[1])}"
            )
        elif "branch multiplier" in law.effects and found[1] > 1 / 2:
            last = (
                name
                for one in initial.found
                if one.power is not None and one.pair.target.branch_last
                for name in one.names
            )
            keeps = initial.residual == "own"  # plan.initialize_ is refused there
            instead = "draw them with the K of the base" if keeps else "plan.initialize_ does not"
            yield (
                f"{law.name} scales the branches, and {_patterns(last)} hold 1/K already: "
                f"plan.rescale_ would count depth twice, {instead}"
            )


def _closed_branches(initial: Initial) -> Iterator[str]:
    """Gains and last weights that let (nearly) nothing of a branch through at the start."""
    small = [
        (one, spread)
        for one in initial.found
        if (spread := one.target or one.base) is not None and _is_closed(one, spread)
    ]
    if small:
        names = _patterns(name for one, _ in small for name in one.names)
        yield (
            f"branches start (nearly) closed: {names} of mean size "
            f"{_range(spread.size for _, spread in small)}; laws over depth speak of branches that "
            "contribute from the first step"
        )


def _is_closed(one: FoundWeights, spread: Spread) -> bool:
    info = one.pair.target
    small = spread.size < _SMALL if info.role == "norm" else info.is_weight and spread.size == 0
    return info.branch_scale and small


def _without_branches(case: TransferCase, laws: Sequence[Law]) -> Iterator[str]:
    """Laws of branches where no branch was found, or no stream grows: they change nothing."""
    scaling = [law.name for law in laws if "branch multiplier" in law.effects]
    networks = (case.base, case.target)
    theirs, ours = ({p.stream_additions for p in n.parameters if p.in_branch} for n in networks)
    is_deeper = len({network.report.layer_longest_path for network in networks}) > 1
    if scaling and (not ours or (ours == theirs and is_deeper)):
        found = "no residual branch was found" if not ours else "no residual stream grows"
        yield (
            f"{' and '.join(scaling)}: {found}, so nothing is scaled over depth; take a law for "
            "chains, or a second size"
        )


def _first_layers(case: TransferCase, laws: Sequence[Law]) -> Iterator[str]:
    grown = any(
        info.branch_length > 1 and info.stream_additions > 1 for info in case.target.parameters
    )
    deeper = case.target.report.effective_depth > case.base.report.effective_depth
    if grown and deeper and any(isinstance(law, DepthMuP) for law in laws):
        yield (
            "depth-mup with branches of two layers or more: as depth grows their first layer stops "
            "learning (2512.21075)"
        )


def _distance(case: TransferCase) -> Iterator[str]:
    """A base that is a weak guide, or too far away."""
    base, target = (network.report.effective_depth for network in (case.base, case.target))
    read = separated_indices(
        [info.name for info in case.base.parameters], [info.name for info in case.target.parameters]
    )
    ours, theirs = (_blocks(n.parameters, read) for n in (case.target, case.base))
    if 0 < theirs <= _FEW_BLOCKS and theirs < ours:
        yield (
            f"a base of {theirs} {'block' if theirs == 1 else 'blocks'} is a weak guide to deep "
            f"networks: tune one of {_FEW_BLOCKS + 1} or more, or a second size"
        )
    if target > _FARTHEST * base > 0:
        yield (
            f"the target is {target / base:.3g} times as deep as the base, beyond the {_FARTHEST} "
            "times of the stored cases: tune a deeper base"
        )


def _blocks(parameters: Iterable[ParamInfo], read: dict[str, str]) -> int:
    """Additions of the kind that occurs most often, by the names behind the last index.

    So a Transformer block, which adds twice, counts once, and the blocks of all stages together.
    """
    additions: defaultdict[tuple[int | None, int], set[str]] = defaultdict(set)
    for info in parameters:
        if info.branch is not None:
            own = name_template(read[info.name]).rpartition("*")[2]
            additions[info.stream, info.branch].add(own)
    return max(Counter(map(frozenset, additions.values())).values(), default=0)
