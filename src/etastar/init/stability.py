"""Does the signal keep its size over depth, forwards and backwards? Checked, not assumed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor

from etastar.errors import InitError
from etastar.formatting import Shown, number, shorten_middle
from etastar.init.moments import Measurement, measure_moments
from etastar.measure.batch import read_batch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import Group
    from torch import nn

    from etastar.graph.dag import Graph, Node
    from etastar.measure.batch import Batch, LossFn

__all__ = ["LayerMoments", "StabilityReport", "check_stability"]

_BAND = (0.1, 10.0)  # of the ratios: one decade either way
_WIDTH = 56  # characters of a layer's name


@dataclass(frozen=True)
class LayerMoments:
    """Moments of the output of one weight layer or residual addition.

    Attributes:
        module: Dotted path of the module it ran in.
        kind: "weight layer" or "residual addition".
        parameters: Names of its weights; () for an addition.
        forward: Mean square of its output.
        gradient: Mean square of the loss's gradient with respect to it; None if none reaches it.
        forward_ratio: `forward` over that of the first layer.
        gradient_ratio: Squared norm of the gradient over that at the first layer; None likewise.
        leaves: The moment that left the band, "forward" or "gradient"; None if none did.
    """

    module: str
    kind: str
    parameters: tuple[str, ...]
    forward: float
    gradient: float | None
    forward_ratio: float
    gradient_ratio: float | None
    leaves: Literal["forward", "gradient"] | None = None

    @property
    def name(self) -> str:
        """Module path and, for an addition, that it is one."""
        place = self.module or "(root)"
        return place if self.kind == "weight layer" else f"{self.kind} in {place}"


@dataclass(frozen=True)
class StabilityReport(Shown):
    """Moments of all layers in the order of execution, and the verdict.

    Attributes:
        layers: One entry for each weight layer and residual addition.
        notes: What was not judged, and why.
    """

    layers: tuple[LayerMoments, ...]
    notes: tuple[str, ...] = ()

    @property
    def stable(self) -> bool:
        """Whether no layer leaves the band."""
        return self.first_unstable is None

    @property
    def first_unstable(self) -> LayerMoments | None:
        """The first layer, in the order of execution, that leaves the band.

        Forward moments are looked at first: one that overflows spoils every gradient before it.
        """
        leaving = [layer for layer in self.layers if layer.leaves]
        forward = (layer for layer in leaving if layer.leaves == "forward")
        return next(forward, leaving[0] if leaving else None)

    @property
    def verdict(self) -> str:
        """The result in one sentence."""
        low, high = _BAND
        layer = self.first_unstable
        if layer is None:
            return f"stable: {len(self.layers)} layers within {low:g} to {high:g}"
        ratio = layer.forward_ratio if layer.leaves == "forward" else layer.gradient_ratio
        name = shorten_middle(layer.name, _WIDTH)
        return (
            f"unstable: the {layer.leaves} moment of {name} is {ratio:.3g} times that of "
            f"the first layer, outside of {low:g} to {high:g}"
        )

    def as_dict(self) -> dict[str, Any]:
        """The verdict and the fields as plain data for JSON."""
        return {"stable": self.stable, "verdict": self.verdict, **super().as_dict()}

    def __rich__(self) -> Group:
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False)
        for heading in ("forward", "gradient"):
            table.add_column(heading, justify="right", no_wrap=True)
        table.add_column("layer (ratios to the first)", no_wrap=True)
        for layer in self.layers:
            mark = f"  <- {layer.leaves}" if layer.leaves else ""
            ratio = "none" if layer.gradient_ratio is None else number(layer.gradient_ratio)
            name = shorten_middle(layer.name, _WIDTH - len(mark))
            table.add_row(number(layer.forward_ratio), ratio, Text(name + mark))
        return Group(Text(self.verdict), table, *map(Text, self.notes))


def check_stability(
    model: nn.Module,
    batch: Batch | Tensor,
    loss_fn: LossFn | None = None,
) -> StabilityReport:
    """Measure forward and gradient second moments layer by layer, and judge them.

    For layer l with output z_l: E[z_l^2] / E[z_1^2], and |dL/dz_l|^2 / |dL/dz_1|^2 summed over
    elements, so that a change of width or stride does not count. Both must lie within a decade
    either way, 0.1 to 10. Held to the upper limit alone, because a scheme makes them small
    on purpose: layers inside of residual branches (1 / K), and the forward moment of an output
    layer (muP readout), whose gradient, set by the loss, is not judged at all.

    Args:
        model: Any module; left as it is, with its buffers, gradients and modes.
        batch: Typical data: (inputs, targets), a dict of keyword arguments, or, without a loss_fn,
            the one input alone.
        loss_fn: `loss_fn(output, targets)`; None for the mean over random projections of the
            output, so that no direction is preferred.

    Returns:
        Moments and verdict; `first_unstable` names the layer that leaves the band.

    Raises:
        InitError: If the loss is of no use, or nothing can be measured.
        MeasureError: If the batch has none of the forms.
        CaptureError: If the forward pass raises.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> _ = torch.manual_seed(0)
        >>> model = nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, 64))
        >>> for layer in model:
        ...     _ = nn.init.normal_(layer.weight, std=64**-0.5)
        >>> inputs, targets = torch.randn(8, 64), torch.randint(64, (8,))
        >>> check_stability(model, inputs).stable
        True
        >>> check_stability(model, (inputs, targets), nn.functional.cross_entropy).stable
        True
        >>> _ = model[1].weight.data.mul_(10)
        >>> check_stability(model, inputs).first_unstable.module
        '1'

    Reference: docs/definitions.md, section 2; [AM], [CH].
    """
    measured = _measured(model, batch, loss_fn)
    nodes = [n for n in measured.graph if n.kind in ("weight layer", "residual addition")]
    if not nodes:
        raise InitError(
            "a model without weight layers", "at least one weight layer", "check the model"
        )
    if not all(measured.sizes[node.index] for node in nodes):
        raise InitError("an empty batch", "one example or more", "give a batch of typical data")
    places = _places(measured.graph)
    zero_readout = _only_readout_is_zero(nodes, measured, places)
    layers = tuple(
        _judged(node, nodes[0], measured, places, zero_readout=zero_readout) for node in nodes
    )
    return StabilityReport(layers, _notes(layers, zero_readout=zero_readout))


def _measured(model: nn.Module, batch: Batch | Tensor, loss_fn: LossFn | None) -> Measurement:
    if isinstance(batch, Tensor):
        if loss_fn is not None:
            raise InitError(
                "a loss_fn, and a batch of inputs alone",
                "(inputs, targets), or a dict of the model's keyword arguments",
                "add the targets, or leave loss_fn out",
            )
        batch = (batch, None)
    examples = read_batch(batch)
    loss = None if loss_fn is None else lambda output: loss_fn(output, examples.targets)
    return measure_moments(model, examples.args, examples.kwargs, loss_fn=loss)


def _places(graph: Graph) -> dict[str, str]:
    """For each weight: "branch", "output", or "stream"."""
    return {
        info.name: "branch" if info.in_branch else "output" if info.role == "output" else "stream"
        for info in graph.parameters
    }


def _place(node: Node, places: Mapping[str, str]) -> str:
    names = node.weight.parameters if node.weight else ()
    return places.get(names[0], "stream") if names else "stream"


def _only_readout_is_zero(
    nodes: list[Node], measured: Measurement, places: Mapping[str, str]
) -> bool:
    """Whether an output layer gives zeros though its network is alive."""
    zeros = [_place(node, places) for node in nodes if measured.forward[node.index] == 0]
    return "output" in zeros and "stream" not in zeros


def _judged(
    node: Node,
    first: Node,
    measured: Measurement,
    places: Mapping[str, str],
    *,
    zero_readout: bool,
) -> LayerMoments:
    place = _place(node, places)
    norm2, first_norm2 = (measured.gradient_norm2.get(n.index) for n in (node, first))
    forward_ratio = _ratio(measured.forward[node.index], measured.forward[first.index])
    gradient_ratio = None
    if norm2 is not None and first_norm2 is not None and not zero_readout:
        gradient_ratio = _ratio(norm2, first_norm2)
    floor, ceiling = _BAND[0] if place == "stream" else 0.0, _BAND[1]
    leaves: Literal["forward", "gradient"] | None = None
    if not floor <= forward_ratio <= ceiling:
        leaves = "forward"
    elif gradient_ratio is not None and place != "output":
        leaves = None if floor <= gradient_ratio <= ceiling else "gradient"
    return LayerMoments(
        module=node.module,
        kind=node.kind,
        parameters=node.weight.parameters if node.weight else (),
        forward=measured.forward[node.index],
        gradient=None if norm2 is None else norm2 / measured.sizes[node.index],
        forward_ratio=forward_ratio,
        gradient_ratio=gradient_ratio,
        leaves=leaves,
    )


def _ratio(value: float, reference: float) -> float:
    """The quotient; NaN, which lies in no band, where either is not finite or both are 0."""
    if not (math.isfinite(value) and math.isfinite(reference)):
        return math.nan
    if reference == 0:
        return math.nan if value == 0 else math.inf
    return value / reference


def _notes(layers: tuple[LayerMoments, ...], *, zero_readout: bool) -> tuple[str, ...]:
    if zero_readout:
        return ("the readout is zero, and so is every gradient before it: gradients not judged",)
    if layers[0].gradient is None:
        return ("no gradient reaches the first layer: gradients not judged",)
    return ()
