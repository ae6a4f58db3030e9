"""The README's figure: the best rate drifts with depth, and stays with the default choice."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from studies.families.curves import FamilyCurves
from studies.families.declared import FAMILIES, SCALES
from studies.families.runs import FAMILY_RUNS, RunFile

if TYPE_CHECKING:
    from studies.families.curves import Curve

_COLORS: Final = ("#9ecae1", "#4292c6", "#2171b5", "#08306b")  # light to dark: shallow to deep


def drift_curves(
    name: str, parametrization: str, *, scale: str = "cpu", folder: Path = FAMILY_RUNS
) -> dict[int, Curve]:
    """Loss curves of a family by depth.

    Args:
        name: Of the family.
        parametrization: Under which; at the base the network's own counts for a law's multipliers.
        scale: Name of the scale.
        folder: Where the runs are.

    Returns:
        A curve for each depth that was run.
    """
    family = next(family for family in FAMILIES if family.name == name)
    curves = FamilyCurves(RunFile(family, SCALES[scale], folder))
    found = {
        depth: curves.curve(parametrization, depth)  # type: ignore[arg-type]
        for depth in family.sizes(SCALES[scale])
    }
    return {depth: curve for depth, curve in found.items() if curve is not None}


def draw_drift(path: Path, name: str, parametrization: str, title: str) -> None:
    """Two panels that share their axes: the network's own initialization, and a parametrization.

    Args:
        path: File to write; its ending names the format.
        name: Of the family.
        parametrization: Of the right panel.
        title: Of the right panel.

    Source: studies/families/README.md; every point is the mean of three seeds.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.4, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2, sharex=True, sharey=True)
    own, other = drift_curves(name, "own"), drift_curves(name, parametrization)
    colors = dict(zip(own, _COLORS, strict=False))
    _panel(left, own, colors, "as the network comes")
    _panel(right, other, colors, title)
    left.set_ylabel("final training loss")
    handles, labels = left.get_legend_handles_labels()
    right.legend(handles, labels, title="blocks a stage", frameon=False, fontsize="small")
    # no date, and names that do not change: the same runs give the same file
    with rc_context({"svg.hashsalt": name}):
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def _panel(axes: Any, curves: dict[int, Curve], colors: dict[int, str], title: str) -> None:
    for depth, curve in curves.items():
        color, means = colors[depth], np.array(curve.losses).mean(1)
        axes.plot(curve.rates, means, "-", color=color, label=str(depth), linewidth=1.6)
        lr, loss = curve.best
        axes.plot([lr], [loss], "o", color=color, markersize=6)
    axes.set_xscale("log", base=2)
    axes.set_xlabel("learning rate")
    axes.set_title(title, fontsize="medium")
    axes.spines[["top", "right"]].set_visible(False)
