"""Laws of the learning rate in statistics of the network's paths, alike for every parameter."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, final

from etastar.depth import DepthReport
from etastar.errors import LawError
from etastar.laws.base import (
    Architecture,
    Effect,
    Factors,
    Law,
    ParamPair,
    TransferCase,
    learning_rate,
)
from etastar.typed import require_type, set_numbers

_SHOWN = 8  # steps of a path in a message

DepthCount = Literal["effective", "layers"]
"""The fewest counted nodes on a path, or the most weight layers on one."""


def counted_depth(report: DepthReport, count: DepthCount) -> int:
    """The depth of a network, counted as asked."""
    return report.effective_depth if count == "effective" else report.layer_longest_path


def depth_count(networks: Iterable[Architecture]) -> DepthCount:
    """What grows with the layers: the effective depth, unless sums with earlier states by-pass it.

    "layers" where one of the networks, which are of one family, mixes an earlier state in, or lets
    a part of its input through untouched, as a normalizing flow may.
    """
    reports = [network.report for network in networks]
    mixed = any(one.bypassed_by_sums or not one.effective_depth for one in reports)
    return "layers" if mixed else "effective"


def require_one_width(networks: Sequence[Architecture]) -> None:
    """Refuse a fit over depth where the width of the tuned networks changes too.

    Raises:
        LawError: Their first layers differ in width.
    """
    heads = {
        frozenset(
            (p.fan_in, p.fan_out) for p in network.parameters if p.role in ("input", "embedding")
        )
        for network in networks
    }
    if len(heads) > 1:
        raise LawError(
            "tuned networks whose first layers differ in width",
            "tuned networks that differ in depth alone",
            "tune all of them at one width; the width rule carries the result to the target's",
        )


def depth_ratio(case: TransferCase, count: DepthCount, *, law: str) -> float:
    """Target over base depth, for the law of a name.

    Raises:
        LawError: Sums with an earlier state by-pass layers, or a part of the input all of them, so
            that the effective depth does not follow them.
    """
    ours, theirs = case.target.report, case.base.report
    if not (counted_depth(ours, count) and counted_depth(theirs, count)):
        raise _by_passed(law, ours, theirs)
    ratio = counted_depth(ours, count) / counted_depth(theirs, count)
    deeper = ours.layer_longest_path - theirs.layer_longest_path
    is_mixed = count == "effective" and depth_count((case.base, case.target)) != count
    if is_mixed and deeper and deeper * (ratio - 1) <= 0:
        raise _by_passed(law, ours, theirs)
    return ratio


def _by_passed(law: str, ours: DepthReport, theirs: DepthReport) -> LawError:
    report = max(ours, theirs, key=lambda one: one.bypassed_by_sums)
    steps = ["+" if s.counted_as == "residual addition" else s.module for s in report.path]
    path = steps if len(steps) <= _SHOWN else [*steps[: _SHOWN - 2], "...", *steps[-2:]]
    is_direct = not (ours.effective_depth and theirs.effective_depth)
    shown = "a part of the input" if is_direct else f"the path {', '.join(path)}"
    return LawError(
        f"the law {law!r} for networks of effective depth {theirs.effective_depth} and "
        f"{ours.effective_depth}, whose layers on the longest path are {theirs.layer_longest_path} "
        f"and {ours.layer_longest_path}: {shown} by-passes {report.bypassed_layers} of "
        f"{report.weight_layers} weight layers"
        f"{'' if is_direct else ', through sums with an earlier state of the stream'}",
        "an effective depth that grows with the layers",
        "take EffectiveDepth(count='layers'), or a law of the residual branches",
    )


@final
@dataclass(frozen=True)
class EffectiveDepth(Law):
    """The learning rate scales as a power of the depth, for every parameter.

    lr_target = lr_base (L_target / L_base)^exponent, L the effective depth, or the weight layers on
    the longest path. Refused where sums with an earlier state of the stream (`lam x + mu x0`, skips
    between blocks) by-pass layers, so that L does not follow them.

    Args:
        exponent: Power of the depth ratio; -3/2 is [WU]'s.
        count: "effective" [WU]; "layers" is the usual count, that of [JE], whose networks are
            chains, where both are one.

    Raises:
        LawError: The exponent is not a finite number, or the count is unknown.

    Example:
        >>> EffectiveDepth(exponent=-1.0).options
        {'exponent': -1.0}
        >>> EffectiveDepth(count="layers").options
        {'exponent': -1.5, 'count': 'layers'}

    Source: [WU]; for ReLU MLPs [JE].
    """

    exponent: float = -1.5
    count: DepthCount = "effective"

    name: ClassVar[str] = "effective-depth"
    effects: ClassVar[frozenset[Effect]] = frozenset({"learning rate over depth"})
    named_if_set: ClassVar[frozenset[str]] = frozenset({"count"})

    def __post_init__(self) -> None:
        owner = f"the law {self.name!r}"
        set_numbers(self, "exponent", error=LawError, owner=owner)
        require_type("count", self.count, DepthCount, error=LawError)

    def factors(self, pair: ParamPair, case: TransferCase) -> Factors:
        """See `Law.factors`."""
        ratio = depth_ratio(case, self.count, law=self.name)
        return learning_rate(ratio**self.exponent, optimizer=case.optimizer)


@final
@dataclass(frozen=True)
class PathSum(Law):
    """The learning rate scales with the sum of the cubed lengths of all paths.

    lr_target = lr_base (M_3,target / M_3,base)^(-1/2), M_3 = sum over paths of (weight layers)^3;
    the weights of a convolution also times q_base / q_target, q the side of its kernel (geometric
    mean of the sides), as the authors apply it to convolutions in two dimensions.

    Example:
        >>> PathSum().options
        {}

    Source: [CH], theorems on MLPs and convolutional networks.
    """

    name: ClassVar[str] = "path-sum"
    effects: ClassVar[frozenset[Effect]] = frozenset({"learning rate over depth"})

    def factors(self, pair: ParamPair, case: TransferCase) -> Factors:
        """See `Law.factors`."""
        ours, theirs = (n.report.layer_path_length_moments[3] for n in (case.target, case.base))
        # logarithms: the moments are exact integers that may exceed the range of a float
        factor = math.exp((math.log(theirs) - math.log(ours)) / 2)
        sides = max(1, len(pair.target.kernel_size))
        side_ratio = math.pow(pair.kernel_ratio, 1 / sides)
        return learning_rate(factor / side_ratio, optimizer=case.optimizer)


@final
@dataclass(frozen=True)
class Constant(Law):
    """The learning rate does not depend on depth: every factor is 1.

    Example:
        >>> Constant().options
        {}
    """

    name: ClassVar[str] = "constant"

    def factors(self, pair: ParamPair, case: TransferCase) -> Factors:
        """See `Law.factors`."""
        return Factors()
