"""A coordinate check as a figure: changes of the pre-activations against the size."""

from __future__ import annotations

from typing import TYPE_CHECKING

from etastar.errors import MissingExtraError

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from etastar.coordinates.coordinate_report import CoordinateReport, LayerCheck

__all__ = ["coordinate_figure"]

_COLORS = {True: "#3ca951", False: "#ff725c"}


def coordinate_figure(report: CoordinateReport) -> go.Figure:
    """For each axis a row: left |z_0|, right |z_t - z_0| after the last step, against the size.

    Args:
        report: A coordinate check.

    Returns:
        A Plotly figure, both scales logarithmic; layers that fail are red.

    Raises:
        MissingExtraError: Plotly is not installed.
    """
    try:
        import plotly.graph_objects as go
        from plotly.subplots import make_subplots
    except ImportError as error:
        raise MissingExtraError("plotly", "plotly") from error
    titles = ("size before the first step", f"change after {report.num_steps} steps")
    figure = make_subplots(rows=len(report.axes), cols=2, column_titles=titles)
    for row, axis in enumerate(report.axes, start=1):
        for layer in axis.layers:
            curves = (layer.init.curves[0], layer.change.curves[-1])
            for column, curve in enumerate(curves, start=1):
                trace = go.Scatter(
                    x=axis.sizes,
                    y=curve,
                    name=_name(layer),
                    legendgroup=_name(layer),
                    showlegend=row == column == 1,
                    mode="lines+markers",
                    line={"color": _COLORS[layer.passed]},
                )
                figure.add_trace(trace, row=row, col=column)
        figure.update_xaxes(title_text=axis.axis, row=row)
    figure.update_xaxes(type="log")
    figure.update_yaxes(type="log")
    figure.update_layout(title_text=f"coordinate check ({report.norm})", template="simple_white")
    return figure


def _name(layer: LayerCheck) -> str:
    return f"{layer.module or '(root)'} {layer.name}"
