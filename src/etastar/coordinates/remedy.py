"""What would mend a layer: settings of its parameters that do not follow the rule for the axis."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from etastar.coordinates.coordinate_report import Remedy
from etastar.errors import LawError
from etastar.laws import CompleteP, EffectiveDepth, ParamPair, TransferCase, Width, fold_multiplier
from etastar.naming import name_template

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from etastar.coordinates.coordinate_report import AxisKind, LayerCheck
    from etastar.coordinates.curves import ParamSetting
    from etastar.coordinates.layers import SizeRuns
    from etastar.laws import Factors, Law

__all__ = ["axis_law", "find_remedies", "fitting_remedies", "written_advice"]

_MOST_NAMES = 2
_LR_TOLERANCE = 0.01
_SIZE_TOLERANCE = 0.2  # of a ratio of sizes drawn at random

_RULES = {
    "width": "the width rule of muP [TP5], plan_transfer(..., width='mup') and plan.rescale_",
    "complete-p": "branch multiplier 1/K [CP], plan_transfer(..., law='complete-p') and "
    "plan.rescale_",
    "effective-depth": "(L / L_base)^(-3/2) [WU], plan_transfer(..., law='effective-depth')",
}


def axis_law(kind: AxisKind, largest: SizeRuns) -> Law:
    """The rule that settings along an axis are held against.

    Args:
        kind: Kind of the axis.
        largest: The largest size.

    Returns:
        muP over width; over depth complete-p where there are residual branches, else the law of
        chains.
    """
    if kind == "width":
        return Width()
    in_branch = any(info.in_branch for info in largest.architecture.parameters)
    return CompleteP() if in_branch else EffectiveDepth()


def find_remedies(
    names: Iterable[str], law: Law, smallest: SizeRuns, largest: SizeRuns
) -> tuple[Remedy, ...]:
    """Compare how settings differ between two sizes with how a law has it.

    The learning rate's ratio is held against the law's factor; the ratio of initial sizes (root
    mean square of a weight) against the law's times the square root of the ratio of the fans.

    Args:
        names: Parameters of the largest size; of those that differ in an index alone, the first.
        law: The rule.
        smallest: The smallest size.
        largest: The largest size.

    Returns:
        What does not follow the rule.
    """
    by_template: dict[str, str] = {}
    for name in names:
        by_template.setdefault(name_template(name), name)
    found: list[Remedy] = []
    for name in by_template.values():
        pair = _pair(name, smallest, largest)
        if pair is None:
            continue
        small = smallest.runs[0].settings.get(pair.base.name)
        large = largest.runs[0].settings.get(pair.target.name)
        if small is None or large is None or large.kind is None:
            continue
        case = TransferCase(smallest.architecture, largest.architecture, large.kind)
        try:
            factors = fold_multiplier(law.factors(pair, case), optimizer=large.kind)
        except LawError:  # the smallest size has no such branch
            continue
        shown = name if law.name == "width" else name_template(name)
        found += _deviations(pair, shown, small, large, factors)
    return tuple(found)


def fitting_remedies(remedies: Sequence[Remedy], layer: LayerCheck) -> tuple[Remedy, ...]:
    """Those remedies that would turn the trend of a layer round.

    Args:
        remedies: All settings of the layer that do not follow the rule.
        layer: The layer; its size before the first step knows no learning rate.

    Returns:
        Those that lower a setting where the trend grows, or raise it where it shrinks; none for a
        flat layer.
    """
    if layer.verdict == "flat":
        return ()
    return tuple(
        one
        for one in remedies
        if (one.wanted < one.found) == (layer.trend.exponent > 0)
        and (layer.quantity == "change" or one.setting == "initial size")
    )


def _pair(name: str, smallest: SizeRuns, largest: SizeRuns) -> ParamPair | None:
    target = largest.info(name)
    if target is None:
        return None
    alike = [
        info
        for info in smallest.architecture.parameters
        if name_template(info.name) == name_template(target.name)
        and info.in_branch == target.in_branch
    ]
    # the same parameter, else one of the same role, else any of its kind
    alike.sort(key=lambda info: (info.name != target.name, info.role != target.role))
    base = next(iter(alike), None)
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

    Args:
        layer: A layer that failed.
        others: All layers of the axis, in the order of execution.
        law: The rule for this axis.
        span: The axis with its ends, "width=32 to 256".

    Returns:
        One line.
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
    return f"all settings follow {law.name!r}, which does not fit here: measure_update gives a rate"
