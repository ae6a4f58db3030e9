"""Flat, growing or shrinking: exponents against the size, what they mean, what would mend them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from etastar.coordinates.coordinate_report import INIT, AxisKind, LayerCheck, Remedy, Trend, Verdict
from etastar.coordinates.curves import LOGITS, ParamSetting, SizeRuns
from etastar.errors import LawError
from etastar.fit.bootstrap import percentile_interval, resampled_seeds
from etastar.laws import (
    CompleteP,
    EffectiveDepth,
    Factors,
    Law,
    ParamPair,
    TransferCase,
    Width,
    fold_multiplier,
)
from etastar.measure.differences import ADDITION
from etastar.naming import name_template
from etastar.parameter import ParamInfo

_BAND: Final = 0.2
"""Largest exponent called flat. Theory's wrong exponents are 1/2 and 1; empirical: with the right
rule the zoo's networks at widths 32 to 256 and depths 2 to 16 stay within 0.17. The tests of the
authors' package allow a factor of 1.2 from width 1000 to 4000, an exponent of 0.13."""

_BRANCH = -1.0  # the branch multiplier of [CP]
_READOUT = -0.5  # exponent of muP's readout and attention logits at initialization [TP5]
_MOST_NAMES = 2
_LR_TOLERANCE = 0.01
_SIZE_TOLERANCE = 0.2  # of a ratio of sizes drawn at random

_RULES = {
    "width": "the width rule of muP [TP5], plan_transfer(..., width='mup') and plan.rescale_",
    "complete-p": "branch multiplier 1/K [CP], plan_transfer(..., law='complete-p') and "
    "plan.rescale_",
    "effective-depth": "(L / L_base)^(-3/2) [WU], plan_transfer(..., law='effective-depth')",
}


def trend_of(moments: NDArray[np.float64], sizes: Sequence[int]) -> Trend:
    """Exponent of a quantity against the size, with an interval over seeds.

    A step at which the quantity is zero at every size and seed (what lies before a readout of
    zeros does not move at the first step) says nothing and is left out of the exponent; a quantity
    that is zero throughout is flat.

    Args:
        moments: Mean z^2, (seeds, steps, sizes).
        sizes: The sizes, ascending.

    Example:
        >>> import numpy as np
        >>> trend = trend_of(np.array([[[1.0, 4.0, 16.0]]]), [8, 16, 32])
        >>> round(trend.exponent, 12), trend.verdict, trend.curves
        (1.0, 'grows', ((1.0, 2.0, 4.0),))
    """
    mean = moments.mean(axis=0)
    moving = mean.any(axis=1)
    exponent = float(_exponents(mean[None], moving, sizes)[0])
    interval = None
    if len(moments) > 1:
        draws = resampled_seeds(len(moments))
        resampled = _exponents(moments[draws].mean(axis=1), moving, sizes)
        is_lost = np.isnan(resampled).any()
        interval = (-math.inf, math.inf) if is_lost else percentile_interval(resampled)
    return Trend(
        exponent=exponent,
        interval=interval,
        verdict=verdict_of(exponent, interval),
        curves=tuple(map(tuple, np.sqrt(mean).tolist())),
    )


def _exponents(
    moments: NDArray[np.float64], moving: NDArray[np.bool_], sizes: Sequence[int]
) -> NDArray[np.float64]:
    """Slopes against log size, mean over steps; moments are (draws, steps, sizes)."""
    if not moving.any():
        return np.zeros(len(moments))
    kept = moments[:, moving]
    with np.errstate(divide="ignore", invalid="ignore"):
        y = 0.5 * np.log(kept)
        x = np.log(np.asarray(sizes, dtype=np.float64))
        x -= x.mean()
        slopes = (y @ x / (x @ x)).mean(axis=1)
    slopes[~np.isfinite(slopes)] = np.nan
    finite: NDArray[np.bool_] = np.logical_and.reduce(np.isfinite(kept), axis=1)  # (draws, sizes)
    ends = np.where(finite[:, -1], -np.inf, np.inf)
    return np.where(np.logical_and.reduce(finite, axis=1), slopes, ends)


def verdict_of(exponent: float, interval: tuple[float, float] | None) -> Verdict:
    """What an exponent with its interval (None with one seed) says.

    Flat: the exponent within the band, and the interval within twice the band. Grows or shrinks:
    the exponent outside of the band, and the interval on one side of zero. Else unclear.

    Example:
        >>> verdict_of(0.02, (-0.1, 0.1)), verdict_of(0.9, (0.8, 1.1))
        ('flat', 'grows')
        >>> verdict_of(0.2, (-0.3, 0.6))
        'unclear'
    """
    low, high = (exponent, exponent) if interval is None else interval
    if abs(exponent) <= _BAND and max(-low, high) <= 2 * _BAND:
        return "flat"
    if exponent > _BAND and low > 0:
        return "grows"
    if exponent < -_BAND and high < 0:
        return "shrinks"
    return "unclear"


def known_exception(layer: LayerCheck, *, kind: AxisKind, follows: bool, in_branch: bool) -> str:
    """Why a quantity that shrinks is as it has to be; "" where it is no exception.

    Over depth: what lies within one of K branches may shrink, down to 1/K. Before the first step
    branches with the multiplier 1/K add up incoherently, and the stream tends to what it began as.

    Over width, where the layer's own settings follow muP:
    Output and attention logits shrink as width^(-1/2) before the first step. The output's change
    holds W_0 (h_t - h_0), which a random readout W_0 of size 1/width lets shrink so as well; what
    the step of W adds does not shrink, and takes over.

    Source: [TP5] Appendix D.1, and the documentation of its package.
    """
    trend, quantity = layer.trend, layer.quantity
    lowest = (_READOUT if kind == "width" else _BRANCH) - 2 * _BAND
    if trend.verdict not in ("shrinks", "unclear") or not lowest <= trend.exponent <= _BAND:
        return ""
    is_sum = layer.name.startswith(ADDITION)
    if kind == "depth" and in_branch and not is_sum:
        return "one of K branches, which add up"
    if not follows:
        return ""
    if kind == "depth":
        is_stream = is_sum and quantity == INIT
        return (
            "K branches of size 1/K add up to K^(-1/2) before the first step" if is_stream else ""
        )
    if layer.role == "output" and lowest <= layer.init.exponent < -_BAND:
        return f"muP's random readout: its {quantity} shrinks at first, up to width^(-1/2)"
    if layer.name.startswith(LOGITS) and quantity == INIT:
        return "muP's attention logits shrink before the first step, up to width^(-1/2)"
    return ""


def axis_law(kind: AxisKind, largest: SizeRuns) -> Law:
    """The rule that settings along an axis are held against.

    muP over width; over depth complete-p where there are residual branches, else the law of chains.
    """
    if kind == "width":
        return Width()
    in_branch = any(info.in_branch for info in largest.architecture.parameters)
    return CompleteP() if in_branch else EffectiveDepth()


def find_remedies(
    names: Iterable[str], law: Law, smallest: SizeRuns, largest: SizeRuns
) -> tuple[Remedy, ...]:
    """Settings of parameters of the largest size whose ratio to the smallest is not the law's.

    The learning rate's ratio is held against the law's factor; the ratio of initial sizes (root
    mean square of a weight) against the law's times the square root of the ratio of the fans. Of
    names that differ in an index alone the first stands for all.
    """
    firsts: dict[str, str] = {}
    for name in names:
        firsts.setdefault(name_template(name), name)
    found: list[Remedy] = []
    for template, name in firsts.items():
        pair = _pair(largest.infos[name], smallest)
        if pair is None:
            continue
        small = smallest.settings.get(pair.base.name)
        large = largest.settings.get(name)
        if small is None or large is None or large.kind is None:
            continue
        case = TransferCase(smallest.architecture, largest.architecture, large.kind)
        try:
            factors = fold_multiplier(law.factors(pair, case), optimizer=large.kind)
        except LawError:  # the smallest size has no such branch
            continue
        shown = name if law.name == "width" else template
        found += _deviations(pair, shown, small, large, factors)
    return tuple(found)


def fitting_remedies(remedies: Sequence[Remedy], layer: LayerCheck) -> tuple[Remedy, ...]:
    """Those remedies that would turn the trend of a layer round; none for a flat layer.

    They lower a setting where the trend grows, or raise it where it shrinks. The layer's size
    before the first step knows no learning rate.
    """
    if layer.verdict == "flat":
        return ()
    return tuple(
        one
        for one in remedies
        if (one.wanted < one.found) == (layer.trend.exponent > 0)
        and (layer.quantity == "change" or one.setting == "initial size")
    )


def _pair(target: ParamInfo, smallest: SizeRuns) -> ParamPair | None:
    """With the same parameter of the smallest size, else one of its role, else any of its kind."""
    alike = (
        info
        for info in smallest.architecture.parameters
        if name_template(info.name) == name_template(target.name)
        and info.in_branch == target.in_branch
    )
    base = min(
        alike,
        key=lambda info: (info.name != target.name, info.role != target.role),
        default=None,
    )
    if base is None or base.ndim != target.ndim:
        return None
    return ParamPair(base, target, target.own_multiplier / base.own_multiplier)


def _deviations(
    pair: ParamPair, name: str, small: ParamSetting, large: ParamSetting, factors: Factors
) -> list[Remedy]:
    found = []
    ratio = large.lr / small.lr if small.lr else math.nan
    if abs(math.log(ratio / factors.lr)) > _LR_TOLERANCE if ratio > 0 else True:
        found.append(Remedy(name, "learning rate", ratio, factors.lr))
    has_size = pair.target.is_weight and pair.target.role != "embedding"
    if has_size and small.size > 0 and large.size > 0:
        ratio = large.size / small.size
        wanted = factors.init * math.sqrt(pair.base.fan_in / pair.target.fan_in)
        if abs(math.log(ratio / wanted)) > _SIZE_TOLERANCE:
            found.append(Remedy(name, "initial size", ratio, wanted))
    return found


def written_advice(layer: LayerCheck, others: Sequence[LayerCheck], *, law: Law, span: str) -> str:
    """The remedies in words, or where the layer's own settings follow the rule, what comes first.

    `others` are all layers of the axis in the order of execution, `span` is the axis with its ends,
    "width=32 to 256".
    """
    if layer.remedies:
        by_change: dict[tuple[str, float, float], list[str]] = {}
        for one in layer.remedies:
            key = one.setting, round(one.wanted, 4), round(one.found, 4)
            by_change.setdefault(key, []).append(one.parameter)
        changes = (
            f"{setting} of {', '.join(names)} x {wanted:.3g}, not x {found:.3g}"
            for (setting, wanted, found), names in by_change.items()
        )
        return f"from {span} {'; '.join(changes)}: {_RULES[law.name]}"
    if layer.verdict == "unclear":
        return "the seeds disagree: give more seeds, or sizes further apart"
    namesakes = [one for one in others if one.name == layer.name and one.role == "embedding"]
    if len(namesakes) > 1 and law.name == "width":
        return "one table serves embedding and readout, which no rule fits both: untie them"
    first = [one for one in others if not one.passed and one.remedies][:_MOST_NAMES]
    if first:
        shown = ", ".join(f"{one.module or '(root)'} ({one.name})" for one in first)
        return f"its own settings follow {law.name!r}; it changes with others, mend {shown} first"
    if layer.quantity == INIT and law.name == "width":
        return (
            "no rate changes what is drawn: etastar.initialize_ draws it alike at all widths "
            "(PyTorch's biases shrink)"
        )
    return f"all settings follow {law.name!r}, which does not fit here: measure_update gives a rate"
