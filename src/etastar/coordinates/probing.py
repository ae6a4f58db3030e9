"""One forward pass of a coordinate check: its pre-activations, and whose step moves each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch.nn.attention import SDPBackend, sdpa_kernel

from etastar.errors import MeasureError
from etastar.graph.dag import Graph
from etastar.measure.pre_activations import is_candidate, observed_pass

if TYPE_CHECKING:
    from torch import Tensor

    from etastar.graph.dag import Node
    from etastar.graph.tracing import Trace
    from etastar.measure.batch import Examples
    from etastar.measure.subject import Subject

__all__ = ["ADDITION", "LOGITS", "Place", "pass_places", "shown_pass"]

ADDITION, LOGITS = "addition", "attention logits"


@dataclass(frozen=True)
class Place:
    """One pre-activation.

    Attributes:
        node: Its place in the order of execution.
        module: Dotted path of the module it was computed in.
        name: Its weights' names joined by "+", `ADDITION` or `LOGITS`.
        number: 1 for the first of this name in its module, 2 for the second, ...
        parameters: Whose step moves it, given the inputs: weights and bias of the layer; of an
            addition or a product those of the nearest layers before.
    """

    node: int
    module: str
    name: str
    number: int
    parameters: tuple[str, ...]

    @property
    def is_layer(self) -> bool:
        """Whether it is the output of a weight layer."""
        return self.name not in (ADDITION, LOGITS)


def shown_pass(
    subject: Subject, examples: Examples, observer: Callable[[int, Tensor], None]
) -> Trace:
    """One pass in which whatever may be a pre-activation is shown to the observer.

    Attention is computed step by step, so that its logits can be seen.

    Args:
        subject: Whose model runs; left as it is.
        examples: What it runs on.
        observer: Called with a node's index and its output.

    Returns:
        The pass.

    Raises:
        CaptureError: The forward pass raised.
    """
    products: set[int] = set()

    def watch(node: Node, output: Tensor) -> None:
        if node.kind == "attention contraction" or _is_scaled(node, products):
            products.add(node.index)
        if is_candidate(node, "stream") or node.index in products:
            observer(node.index, output)

    with sdpa_kernel(SDPBackend.MATH):
        return observed_pass(subject, examples, watch)


def pass_places(traced: Trace) -> tuple[Place, ...]:
    """The pre-activations of a pass, in the order of execution.

    They are the outputs of weight layers, the residual stream after each addition, and attention
    logits.

    Args:
        traced: The pass.

    Returns:
        Their places.

    Raises:
        MeasureError: There is none.
    """
    nodes = Graph.of_trace(traced).nodes
    seen: Counter[tuple[str, str]] = Counter()
    places = []
    for node in nodes:
        stem = _stem(node, nodes)
        if stem:
            seen[node.module, stem] += 1
            parameters = node.parameters if node.weight is not None else _before(node, nodes)
            number = seen[node.module, stem]
            index = _scaled(node, nodes) if stem == LOGITS else node.index
            places.append(Place(index, node.module, stem, number, parameters))
    if not places:
        raise MeasureError(
            "a model without a weight layer that the inputs reach", "one or more", "check the batch"
        )
    return tuple(places)


def _stem(node: Node, nodes: Sequence[Node]) -> str:
    if node.kind == "weight layer" and node.weight is not None:
        return "+".join(node.weight.parameters)
    if node.kind == "residual addition":
        return ADDITION
    return LOGITS if _is_logits(node, nodes) else ""


def _is_logits(node: Node, nodes: Sequence[Node]) -> bool:
    """Whether it is a product of two activations that a softmax reads before any other product."""
    if node.kind != "attention contraction" or "attention" in node.op:
        return False
    reached = {node.index}
    for later in nodes[node.index + 1 :]:
        if reached.intersection(later.inputs):
            if "softmax" in later.op:
                return True
            if later.kind not in ("weight layer", "attention contraction"):
                reached.add(later.index)
    return False


def _is_scale(node: Node) -> bool:
    return node.op.startswith(("aten.mul", "aten.div"))


def _is_scaled(node: Node, products: Container[int]) -> bool:
    """Whether it is one of these nodes times a number, or in another shape."""
    is_same = _is_scale(node) or node.kind == "view" or node.op.startswith("aten._unsafe_view")
    return is_same and len(node.inputs) == 1 and node.inputs[0] in products


def _scaled(node: Node, nodes: Sequence[Node]) -> int:
    """Where a product has been divided by the head's size, if that is done afterwards."""
    chain = {node.index}
    found = node.index
    for later in nodes[node.index + 1 :]:
        if _is_scaled(later, chain):
            chain.add(later.index)
            found = later.index if _is_scale(later) else found
    return found


def _before(node: Node, nodes: Sequence[Node]) -> tuple[str, ...]:
    """Parameters of the weight layers that are met first on the way back from a node."""
    found: dict[str, None] = {}
    pending, seen = list(node.inputs), set(node.inputs)
    while pending:
        at = nodes[pending.pop()]
        if at.weight is not None:
            found.update(dict.fromkeys(at.parameters))
        elif at.kind != "residual addition":
            new = set(at.inputs) - seen
            seen |= new
            pending.extend(new)
    return tuple(found)
