"""The structure law: an exponent from the residual branches and how they were initialized."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import ClassVar, final

from etastar.errors import LawError
from etastar.laws.base import (
    Architecture,
    Effect,
    Factors,
    Law,
    ParamPair,
    ScaledWeights,
    TransferCase,
    learning_rate,
)
from etastar.optimizers import OptimizerKind
from etastar.parameter import ParamInfo
from etastar.typed import require_type, set_numbers

_CHAIN = -1.5  # [JE]: the Jacobian's singular values spread, sum_l u_l^2 grows as L^3
_HALF = 0.5
_ENDS = 2  # stem and head: their contribution does not change with depth


@final
@dataclass(frozen=True)
class Structure(Law):
    """The learning rate at which the coherent updates of all layers keep their summed size.

    For every parameter lr_target = lr_base g_target / g_base, with

    - no residual stream, a chain: g = L^(-3/2), L the effective depth;
    - residual streams: g = T^(-1/2) / max(S, T - 2), S the sum over streams of the mean over
      branches of K^max(0, 1 - a m),

    K the additions of the stream, T the weight layers of the trunk, outside of all branches (stem
    and head are two of them), and m the number of *other* weights on a way through the branch whose
    variance carries 1/K. A weight's update moves the branch's output in proportion to the variances
    of those other weights under SGD (a = 1), to their standard deviations where an update has a
    size of its own (a = 1/2: Adam, and Muon, whose update is orthogonal). So for one stream and a
    constant stem and head the exponent in K is min(0, -1 + a m); weights outside of the branches
    set the cap. T^(-1/2) is the spread of a chain's singular values, max(S, T - 2) the number of
    updates that add up: a trunk that outgrows its streams is a chain again.

    Decisions where the argument leaves room: several streams (stages, encoder and decoder) add up;
    so do branches of different length in one stream; a stream within a branch multiplies that
    branch's part by its own sum, which is 1 for a single sum (a state-space layer's); weights side
    by side (query, key and value) count as one; of the ways through a branch the one with the
    fewest such weights decides, past an adapter or the scores of an attention; T is the smaller of
    the weight layers on the shortest path and those outside of all branches. Norms inside of a
    branch, which undo the scale of the weights before them, are not seen.

    What a branch adds at its very end, the bias of its last layer, the shift of a norm there and
    the gain of one that is no LayerScale, has no weight behind it: under SGD its share is m = 0 and
    its rate carries 1/K. (Adam's steps of a bias are as large as those of one weight of many.)

    Where the variance of a weight carries a power p of 1/K, real or negative too, m is the sum of p
    over the other weights of the branch, the smallest of all its weights.

    Args:
        residual: Branch weights that carry 1/K at both sizes: "all" (what `initialize_` does),
            "last" or "none".
        inner: p of the weights before the last of a branch; None for 1 or 0, as `residual` says.
        last: p of the last weight of a branch; None likewise.

    Raises:
        LawError: An option is none of these; base or target alone has residual streams.

    Example:
        >>> Structure(residual="last").options
        {'residual': 'last'}
        >>> Structure.with_powers(0.0, 1.0) == Structure("last"), Structure.with_powers(0.5, 1.0)
        (True, Structure(residual='all', inner=0.5, last=1.0))

    Source: docs/definitions.md, section 4; the criterion is that of [JE] and [AM].
    """

    residual: ScaledWeights = "all"
    inner: float | None = None
    last: float | None = None

    name: ClassVar[str] = "structure"
    effects: ClassVar[frozenset[Effect]] = frozenset({"learning rate over depth"})
    named_if_set: ClassVar[frozenset[str]] = frozenset({"inner", "last"})

    def __post_init__(self) -> None:
        require_type("residual", self.residual, ScaledWeights, error=LawError)
        for name in ("inner", "last"):
            if getattr(self, name) is not None:
                set_numbers(self, name, error=LawError)

    @classmethod
    def with_powers(cls, inner: float, last: float) -> Structure:
        """The law for powers of 1/K as they were found in the weights.

        Args:
            inner: Power in the variance of the weights before the last of a branch.
            last: Power in that of the last weight.

        Returns:
            By name where both are 0 or 1; else with the named initialization that is nearest.
        """
        residual: ScaledWeights = "none" if last < _HALF else "last" if inner < _HALF else "all"
        named = cls(residual)
        return named if named.powers == (inner, last) else cls(residual, inner, last)

    @property
    def powers(self) -> tuple[float, float]:
        """Power of 1/K in the variance of the inner and of the last weights of a branch."""
        inner = float(self.residual == "all") if self.inner is None else self.inner
        return inner, float(self.residual != "none") if self.last is None else self.last

    def exponent(self, network: Architecture, *, optimizer: OptimizerKind) -> float:
        """Exponent of the learning rate: in the effective depth of a chain, else in K.

        Args:
            network: Any size of the network.
            optimizer: Kind of the optimizer.

        Returns:
            -3/2 for a chain, else min(0, -1 + a m) with the smallest m of all branches.

        Example:
            >>> from etastar.depth import DepthReport
            >>> from etastar.optimizers import optimizer_kind
            >>> chain = Architecture(DepthReport(2, (), 2, 0, 2, 1, (1, 2, 4, 8), 2, 1, ()), ())
            >>> Structure().exponent(chain, optimizer=optimizer_kind("sgd"))
            -1.5
        """
        streams = _read(network, self.powers).streams
        powers = [_power(b.scaled_others, optimizer) for s in streams for b in s.branches]
        return 0.0 - max(powers) if powers else _CHAIN

    def factors(self, pair: ParamPair, case: TransferCase) -> Factors:
        """See `Law.factors`."""
        ours, theirs = (_read(network, self.powers) for network in (case.target, case.base))
        if bool(ours.streams) != bool(theirs.streams):
            raise LawError(
                f"residual streams in the {'target' if ours.streams else 'base'} alone",
                "networks that both have residual branches, or both none",
                "take a base network that has blocks of every kind the target has",
            )
        bare = case.optimizer.update == "sgd" and _ends_branch(pair.target, case.target)
        rates = [_relative_rate(shape, case.optimizer, bare=bare) for shape in (ours, theirs)]
        return learning_rate(rates[0] / rates[1], optimizer=case.optimizer)

    def notes(self, case: TransferCase) -> Iterable[str]:
        """See `Law.notes`."""
        if case.optimizer.update != "relative":
            return ()
        return (
            f"{self.name}: derived for steps of a size of their own; {case.optimizer.name}'s go "
            "with the weights, so that 1/K on them counts once more",
        )


@dataclass(frozen=True)
class _Stream:
    """K of one residual stream, and its branches."""

    additions: int
    branches: tuple[_Branch, ...]


@dataclass(frozen=True)
class _Branch:
    """m of one branch, see `Structure`, and the streams within it."""

    scaled_others: float
    streams: tuple[_Stream, ...]


@dataclass(frozen=True)
class _Shape:
    """What the law reads off a network: L, T and its streams, see `Structure`."""

    effective_depth: int
    trunk: int
    streams: tuple[_Stream, ...]


@lru_cache(maxsize=8)
def _read(network: Architecture, powers: tuple[float, float]) -> _Shape:
    """The shape of a network; a plan asks once for every parameter."""
    layers = [p for p in network.parameters if p.is_weight and p.layer_type is not None]
    branches: dict[tuple[int, int], list[ParamInfo]] = defaultdict(list)
    within: dict[int, tuple[int, int]] = {}  # the branch that a stream lies on
    for info in layers:
        if info.stream is not None and info.branch is not None:
            branches[info.stream, info.branch].append(info)
            within |= {s: outer for (s, _), outer in pairwise(info.branches)}
    additions = {place[0]: ws[0].stream_additions for place, ws in branches.items()}

    def stream_of(number: int) -> _Stream:
        own = [place for place in (*branches, *within.values()) if place[0] == number]
        return _Stream(
            additions[number],
            tuple(
                _Branch(
                    _scaled_others(branches.get(place, ()), *powers),
                    tuple(stream_of(s) for s in additions if within.get(s) == place),
                )
                for place in dict.fromkeys(own)
            ),
        )

    outermost = [s for s in additions if s not in within or within[s][0] not in additions]
    outside = sum(not info.in_branch for info in layers)
    on_path = sum(step.counted_as == "weight layer" for step in network.report.path)
    return _Shape(
        effective_depth=network.report.effective_depth or network.report.layer_longest_path,
        trunk=max(1, min(outside, on_path)),
        streams=tuple(stream_of(number) for number in outermost),
    )


def _scaled_others(weights: Sequence[ParamInfo], inner: float, last: float) -> float:
    """The smallest m of a branch: the powers of a way through it, without the largest.

    A way ends in a layer that the addition sums, behind as few others as lead to it; where the
    branch ends in an addition of its own, the longest way is taken. 0 of a branch whose weights all
    lie in streams within it.
    """
    if not weights:
        return 0.0
    ends = [info.branch_position or 0 for info in weights if info.branch_last]
    before = ends or [max(0, weights[0].branch_length - 1)]
    return min(n * inner + last - (max(inner, last) if n else last) for n in before)


def _power(scaled_others: float, optimizer: OptimizerKind) -> float:
    share = 1.0 if optimizer.update == "sgd" else 0.5
    return max(0.0, 1.0 - share * scaled_others)


def _ends_branch(info: ParamInfo, network: Architecture) -> bool:
    """Whether it moves what a branch adds, past all weights and whatever they make."""
    if info.role == "norm":
        has_scales = network.features is None or network.features.scaled_branches
        return info.branch_scale and not has_scales
    return info.role == "bias" and (info.branch_last or info.branch_scale)


def _relative_rate(shape: _Shape, optimizer: OptimizerKind, *, bare: bool) -> float:
    """The learning rate up to a constant, g of `Structure`; `bare` with every m = 0."""
    if not shape.streams:
        return math.pow(shape.effective_depth, _CHAIN)
    coherent = sum(_coherent(stream, optimizer, bare=bare) for stream in shape.streams)
    return 1 / (math.sqrt(shape.trunk) * max(coherent, shape.trunk - _ENDS))


def _coherent(stream: _Stream, optimizer: OptimizerKind, *, bare: bool) -> float:
    """The part of S of one stream, those within its branches included."""
    every = [
        math.pow(stream.additions, _power(0.0 if bare else branch.scaled_others, optimizer))
        * max(
            1.0, sum(_coherent(s, optimizer, bare=bare) for s in branch.streams if s.additions > 1)
        )
        for branch in stream.branches
    ]
    return sum(every) / len(every)
