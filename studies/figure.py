"""The figure of an experiment: optimal rate over size, and the loss curves it comes from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from etastar.errors import MissingExtraError
from etastar.sweep.recipe import format_size
from etastar.sweep.result import SizeResult, loss_table

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from studies.records import Evidence, FamilyEvidence

_CLAIMED = -1.5
_COLORS = ("#4269d0", "#ff725c", "#6cc5b0", "#9c6b4e", "#efb118", "#a463f2", "#97bbf5", "#3ca951")


def exponent_figure(evidence: Evidence) -> go.Figure:
    """Left the optima with their intervals, and the slope -3/2; right every mean loss curve.

    Args:
        evidence: What the experiment came to.

    Returns:
        A Plotly figure; a family's name in the legend hides or shows all that is its own.

    Raises:
        MissingExtraError: Plotly is not installed.
    """
    try:
        from plotly.subplots import make_subplots
    except ImportError as error:
        raise MissingExtraError("plotly", "plotly") from error
    axis = evidence.families[0].axes[0][0]
    figure = make_subplots(cols=2, subplot_titles=("optimal learning rate", "mean loss"))
    for place, family in enumerate(evidence.families):
        color = _COLORS[place % len(_COLORS)]
        figure.add_trace(_optima(family, color), row=1, col=1)
        for trace in _curves(family, color):
            figure.add_trace(trace, row=1, col=2)
    figure.add_trace(_claimed_slope(evidence.families[0]), row=1, col=1)
    figure.update_xaxes(type="log")
    figure.update_xaxes(title_text=axis, row=1, col=1)
    figure.update_xaxes(title_text="learning rate", row=1, col=2)
    figure.update_yaxes(type="log", row=1, col=1)
    figure.update_layout(title_text=f"{evidence.title} ({evidence.scale})", template="simple_white")
    return figure


def _scatter(**settings: Any) -> Any:
    import plotly.graph_objects as go

    return go.Scatter(**settings)


def _optima(family: FamilyEvidence, color: str) -> Any:
    points = [
        (value, one.optimum, one.size)
        for value, one in zip(family.axes[0][1], family.sizes, strict=True)
        if one.optimum is not None
    ]
    ends = [best.interval or (best.lr, best.lr) for _, best, _ in points]
    return _scatter(
        x=[value for value, _, _ in points],
        y=[best.lr for _, best, _ in points],
        error_y={
            "type": "data",
            "symmetric": False,
            "array": [high - best.lr for (_, best, _), (_, high) in zip(points, ends, strict=True)],
            "arrayminus": [
                best.lr - low for (_, best, _), (low, _) in zip(points, ends, strict=True)
            ],
        },
        text=[format_size(size) for _, _, size in points],
        name=family.name,
        legendgroup=family.name,
        mode="lines+markers",
        line={"color": color},
    )


def _curves(family: FamilyEvidence, color: str) -> Iterator[Any]:
    return (_curve(family.name, one, color) for one in family.sizes if one.trials)


def _curve(name: str, one: SizeResult, color: str) -> Any:
    lrs, losses = loss_table(one.trials)
    means = losses.mean(1)
    return _scatter(
        x=[float(f"{lr:.6g}") for lr in lrs],
        y=[float(f"{mean:.6g}") if np.isfinite(mean) else None for mean in means],
        name=f"{name}, {format_size(one.size)}",
        legendgroup=name,
        showlegend=False,
        mode="lines+markers",
        line={"color": color, "width": 1},
        marker={"size": 4},
    )


def _claimed_slope(family: FamilyEvidence) -> Any:
    """The power -3/2 through the first family's first optimum, to compare slopes with."""
    points = [
        (value, one.optimum.lr)
        for value, one in zip(family.axes[0][1], family.sizes, strict=True)
        if one.optimum is not None
    ]
    first = points[:1]
    xs = [value for value, _ in points]
    return _scatter(
        x=xs,
        y=[lr * (x / x0) ** _CLAIMED for x0, lr in first for x in xs],
        name="slope -3/2",
        mode="lines",
        line={"color": "grey", "dash": "dot"},
    )
