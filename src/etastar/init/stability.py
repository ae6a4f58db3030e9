"""Does the signal keep its size over depth, forwards and backwards? Checked, not assumed."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

from etastar.errors import InitError
from etastar.graph.roles import parameter_roles
from etastar.init.moments import LossFn, Measurement, measure_moments
from etastar.init.stability_report import DepthStability, Judged, LayerMoments, StabilityReport

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from torch import nn

    from etastar.graph.dag import Graph, Node

__all__ = ["check_stability", "check_stability_over"]


def check_stability(
    model: nn.Module,
    *args: Any,
    loss_fn: LossFn | None = None,
    band: tuple[float, float] = (0.1, 10.0),
    probes: int = 4,
    seed: int = 0,
    kwargs: Mapping[str, Any] | None = None,
) -> StabilityReport:
    """Measure forward and gradient second moments layer by layer, and judge them.

    For layer l with output z_l: E[z_l^2] / E[z_1^2], and |dL/dz_l|^2 / |dL/dz_1|^2 summed over
    elements, so that a change of width or stride does not count. Both must lie in `band`, one
    decade either way by default. Held to the upper limit alone, because a scheme makes them small
    on purpose: layers inside of residual branches (1 / K), and the forward moment of an output
    layer (muP readout), whose gradient, set by the loss, is not judged at all.

    Args:
        model: Any module; left as it is, with its buffers, gradients and modes.
        *args: Real inputs; a batch of typical data.
        loss_fn: From the model's result to a scalar; by default a random projection of the
            output, so that no direction is preferred.
        band: Lower and upper limit of the ratios.
        probes: Random projections that the gradient is averaged over.
        seed: Seed of the projections.
        kwargs: Keyword inputs.

    Returns:
        Moments and verdict; `first_unstable` names the layer that leaves the band.

    Raises:
        InitError: If the band is empty, or nothing can be measured.
        CaptureError: If the forward pass raises.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> _ = torch.manual_seed(0)
        >>> model = nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, 64))
        >>> for layer in model:
        ...     _ = nn.init.normal_(layer.weight, std=64**-0.5)
        >>> check_stability(model, torch.randn(8, 64)).stable
        True
        >>> _ = model[1].weight.data.mul_(10)
        >>> check_stability(model, torch.randn(8, 64)).first_unstable.module
        '1'

    Reference: docs/definitions.md, section 2; [AM], [CH].
    """
    if not 0 < band[0] < 1 < band[1]:
        raise InitError(f"band {band}", "0 < lower < 1 < upper", "use (0.1, 10.0)")
    measured = measure_moments(model, args, kwargs or {}, loss_fn=loss_fn, probes=probes, seed=seed)
    nodes = [n for n in measured.graph if n.kind in ("weight layer", "residual addition")]
    if not nodes:
        raise InitError(
            "a model without weight layers", "at least one weight layer", "check the model"
        )
    places = _places(measured.graph)
    zero_readout = _only_readout_is_zero(nodes, measured, places)
    layers = tuple(
        _judged(node, nodes[0], measured, places, band, zero_readout=zero_readout) for node in nodes
    )
    return StabilityReport(layers, band, _notes(layers, zero_readout=zero_readout))


def check_stability_over(
    factory: Callable[[int], tuple[nn.Module, tuple[Any, ...]]],
    depths: Iterable[int],
    *,
    prepare: Callable[[nn.Module, tuple[Any, ...]], object] | None = None,
    loss_fn: LossFn | None = None,
    band: tuple[float, float] = (0.1, 10.0),
    probes: int = 4,
    seed: int = 0,
) -> DepthStability:
    """Check one network at several depths; the band is the same at each.

    Args:
        factory: From a depth to a model and its inputs.
        depths: The depths.
        prepare: Called with model and inputs before the check, for instance to initialize.
        loss_fn: As for `check_stability`.
        band: As for `check_stability`.
        probes: As for `check_stability`.
        seed: As for `check_stability`.

    Returns:
        One report for each depth; `first_unstable` gives depth and layer.

    Raises:
        InitError: If there is no depth, or as for `check_stability`.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> _ = torch.manual_seed(0)
        >>> def factory(depth):
        ...     return nn.Sequential(*(nn.Linear(8, 8) for _ in range(depth))), (torch.ones(1, 8),)
        >>> check_stability_over(factory, (2, 40)).first_unstable[0]
        40
    """
    reports = []
    for depth in depths:
        model, inputs = factory(depth)
        if prepare is not None:
            prepare(model, inputs)
        report = check_stability(
            model, *inputs, loss_fn=loss_fn, band=band, probes=probes, seed=seed
        )
        reports.append((depth, report))
    if not reports:
        raise InitError("no depths", "one depth or more", "pass depths such as (4, 16, 64)")
    return DepthStability(tuple(reports))


def _places(graph: Graph) -> dict[str, str]:
    """For each weight: "branch", "output", or "stream"."""
    return {
        info.name: "branch" if info.in_branch else "output" if info.role == "output" else "stream"
        for info in parameter_roles(graph)
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
    band: tuple[float, float],
    *,
    zero_readout: bool,
) -> LayerMoments:
    place = _place(node, places)
    norm2, first_norm2 = (measured.gradient_norm2.get(n.index) for n in (node, first))
    forward_ratio = _ratio(measured.forward[node.index], measured.forward[first.index])
    gradient_ratio = None
    if norm2 is not None and first_norm2 is not None and not zero_readout:
        gradient_ratio = _ratio(norm2, first_norm2)
    floor = band[0] if place == "stream" else 0.0
    leaves: Literal["forward", "gradient"] | None = None
    if not floor <= forward_ratio <= band[1]:
        leaves = "forward"
    elif gradient_ratio is not None and place != "output":
        leaves = None if floor <= gradient_ratio <= band[1] else "gradient"
    return LayerMoments(
        module=node.module,
        kind=node.kind,
        parameters=node.weight.parameters if node.weight else (),
        forward=measured.forward[node.index],
        gradient=None if norm2 is None else norm2 / measured.sizes[node.index],
        forward_ratio=forward_ratio,
        gradient_ratio=gradient_ratio,
        judged=_limits(node, first, place),
        leaves=leaves,
    )


def _limits(node: Node, first: Node, place: str) -> Judged:
    if node is first:
        return "reference"
    return "both limits" if place == "stream" else "upper limit"


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
