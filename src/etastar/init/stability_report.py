"""Which layer leaves the band: what each one is compared with, what is not judged, the verdict."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from torch import Tensor

from etastar.formatting import Shown, number, shorten_middle
from etastar.graph.dag import Graph
from etastar.graph.node import Node
from etastar.graph.residual import find_residuals
from etastar.init.param_rules import is_zero

if TYPE_CHECKING:
    from rich.console import Group

STABLE_BAND: Final = (0.1, 10.0)
"""Of the ratios: one decade either way."""

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
        gradient_ratio: Squared norm of the gradient over that at the first addition of the same
            residual stream, or at the first layer; None where none reaches it.
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
        low, high = STABLE_BAND
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


@dataclass(frozen=True)
class Measurement:
    """What one pass on real tensors gave, by node.

    Attributes:
        graph: The graph of that very pass.
        nodes: Its weight layers and residual additions, in the order of execution.
        forward: Mean square of the output of each weight layer and sum; of looked-up rows behind
            the constant that scales them.
        gradient_norm2: Squared norm of the loss's gradient with respect to it, mean over
            projections; absent where no gradient reaches it.
        sizes: Number of elements of the output.
    """

    graph: Graph
    nodes: list[Node]
    forward: dict[int, float]
    gradient_norm2: dict[int, float]
    sizes: dict[int, int]


def judged(measured: Measurement, parameters: Mapping[str, Tensor]) -> StabilityReport:
    """Moments and verdict, layer by layer, of one pass with parameters of these values."""
    judge = _Judge(measured, parameters)
    layers = tuple(map(judge.layer, measured.nodes))
    return StabilityReport(layers, judge.notes(stable=StabilityReport(layers).stable))


def _by_passed(graph: Graph) -> frozenset[int]:
    """Counted nodes that not every path from the data to the output leads through."""
    contraction, outputs = graph.contraction, graph.depth().outputs
    before: dict[int, int] = dict.fromkeys(contraction.sources.values(), 1)
    for node in contraction.counted:
        before[node.node] = sum(before[p] for p in node.predecessors)
    ends = [end for name in outputs for end in contraction.outputs[name]]
    after = Counter(ends)
    for node in reversed(contraction.counted):
        for predecessor in node.predecessors:
            after[predecessor] += after[node.node]
    total = sum(before[end] for end in ends)
    return frozenset(n.node for n in contraction.counted if before[n.node] * after[n.node] != total)


class _Judge:
    """What the moments of one pass are held against."""

    def __init__(self, measured: Measurement, values: Mapping[str, Tensor]) -> None:
        graph, nodes = measured.graph, measured.nodes
        self.measured, self.first = measured, nodes[0]
        branches = [b for b in reversed(find_residuals(graph.contraction)) if b.stream is not None]
        opening = {b.stream: graph.nodes[b.addition] for b in branches}
        # the first addition of the stream that a node belongs to; of none, that of the first stream
        self.starts = {n: opening[b.stream] for b in branches for n in (b.addition, *b.positions)}
        self.start = graph.nodes[branches[-1].addition] if branches else nodes[0]
        self.shared = _by_passed(graph)
        places = {"output": "output", "input": "input", "embedding": "input"}
        self._places = {
            info.name: "branch" if info.in_branch else places.get(info.role, "stream")
            for info in graph.parameters
        }
        norms2 = {n.index: measured.gradient_norm2.get(n.index, 0) for n in nodes if not n.weight}
        # additions that no gradient reaches though it reaches others: behind a gate of zero
        self.closed = {i for i, norm2 in norms2.items() if norm2 == 0 and any(norms2.values())}
        self.zero = {
            node.index
            for node in nodes
            if node.weight and all(is_zero(values.get(name)) for name in node.weight.parameters)
        }
        silent = {self._place(node) for node in nodes if measured.forward[node.index] == 0}
        # an output layer gives zeros though its network is alive
        self.zero_readout = "output" in silent and "stream" not in silent

    def _place(self, node: Node) -> str:
        """Where it lies: "branch", "output", "input" or "stream"."""
        names = node.weight.parameters if node.weight else ()
        return self._places.get(names[0], "stream") if names else "stream"

    def layer(self, node: Node) -> LayerMoments:
        """Moments and verdict of one layer or addition."""
        measured, place = self.measured, self._place(node)
        norm2 = measured.gradient_norm2.get(node.index)
        forward_ratio = _ratio(measured.forward[node.index], measured.forward[self.first.index])
        gradient_ratio = self._gradient_ratio(node)
        floor, ceiling = STABLE_BAND[0] if place in ("stream", "input") else 0.0, STABLE_BAND[1]
        is_source = place == "output" or (place == "input" and bool(self.starts))
        leaves: Literal["forward", "gradient"] | None = None
        if node.index in self.zero and (place != "output" or self.zero_readout):
            pass
        elif not floor <= forward_ratio <= ceiling:
            leaves = "forward"
        elif gradient_ratio is not None and not is_source:
            least = 0.0 if node.index in self.shared else floor
            leaves = None if least <= gradient_ratio <= ceiling else "gradient"
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

    def _gradient_ratio(self, node: Node) -> float | None:
        first = self.starts.get(node.index, self.start)
        norms2 = [self.measured.gradient_norm2.get(n.index) for n in (node, first)]
        is_closed = norms2[1] == 0 and first.index in self.closed
        if self.zero_readout or is_closed or norms2[0] is None or norms2[1] is None:
            return None
        return _ratio(norms2[0], norms2[1])

    def notes(self, *, stable: bool) -> tuple[str, ...]:
        """What was not judged, and why; and what makes an unstable network so."""
        found = []
        if self.zero_readout:
            found.append(
                "the readout is zero, and so is every gradient before it: gradients not judged"
            )
        elif self.first.index not in self.measured.gradient_norm2:
            found.append("no gradient reaches the first layer: gradients not judged")
        modules = [self.measured.graph.nodes[i].module for i in sorted(self.zero)]
        if modules and not self.zero_readout:
            more = f" and {len(modules) - 1} more" if len(modules) > 1 else ""
            found.append(f"the weight of {modules[0]}{more} is zero: what it makes is not judged")
        table = self.first.weight.parameters[0] if self.first.weight else None
        if not stable and table in self.measured.graph.depth().tied:
            found.append(
                f"{table} is also the readout, and has its variance: what is looked up in it is "
                "small beside what the layers behind it make"
            )
        return tuple(found)


def _ratio(value: float, reference: float) -> float:
    """The quotient; NaN, which lies in no band, where either is not finite or both are 0."""
    if not (math.isfinite(value) and math.isfinite(reference)):
        return math.nan
    if reference == 0:
        return math.nan if value == 0 else math.inf
    return value / reference
