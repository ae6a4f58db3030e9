"""One forward pass of a coordinate check: its pre-activations, and whose step moves each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch.nn.attention import SDPBackend, sdpa_kernel

from etastar.errors import CaptureError
from etastar.graph.tracing import TracingError, trace
from etastar.measure.pre_activations import is_candidate, wanted_nodes

if TYPE_CHECKING:
    from torch import Tensor

    from etastar.graph.dag import Node
    from etastar.graph.tracing import Trace
    from etastar.measure.batch import Examples
    from etastar.measure.records import PreActivations
    from etastar.measure.subject import Subject

__all__ = ["ADDITION", "LOGITS", "Place", "observed_pass", "pass_places"]

ADDITION, LOGITS = "addition", "attention logits"


@dataclass(frozen=True)
class Place:
    """One pre-activation.

    Attributes:
        node: Its place in the order of execution.
        module: Dotted path of the module it was computed in.
        name: Its weights' names joined by "+", `ADDITION` or `LOGITS`; further ones of a module
            are numbered.
        parameters: Whose step moves it, given the inputs: weights and bias of the layer; of an
            addition or a product those of the nearest layers before.
    """

    node: int
    module: str
    name: str
    parameters: tuple[str, ...]

    @property
    def is_layer(self) -> bool:
        """Whether it is the output of a weight layer."""
        return not self.name.startswith((ADDITION, LOGITS))


def observed_pass(
    subject: Subject,
    examples: Examples,
    pre_activations: PreActivations,
    observer: Callable[[int, Tensor], None],
) -> Trace:
    """Run the model once and show what may be a pre-activation to the observer.

    Attention is computed step by step, so that its logits can be seen.

    Args:
        subject: Whose model runs; left as it is.
        examples: What it runs on.
        pre_activations: Which count.
        observer: Called with a node's index and its output.

    Returns:
        The pass.

    Raises:
        CaptureError: The forward pass raised.
    """

    def watch(node: Node, output: Tensor) -> None:
        if is_candidate(node, pre_activations) or node.kind == "attention contraction":
            observer(node.index, output)

    subject.seed_pass()
    try:
        with sdpa_kernel(SDPBackend.MATH):
            return trace(subject.model, examples.args, examples.kwargs, fake=False, observer=watch)
    except TracingError as error:
        raise CaptureError(
            f"a forward pass that failed in module {error.module or '(root)'!r}: {error.__cause__}",
            "a model that runs on the batch as it was given",
            "call model(inputs) yourself to see the error",
        ) from error.__cause__


def pass_places(traced: Trace, pre_activations: PreActivations) -> tuple[Place, ...]:
    """The pre-activations of a pass, attention logits among them, in the order of execution.

    Args:
        traced: The pass.
        pre_activations: Which count.

    Returns:
        Their places.

    Raises:
        MeasureError: There is none.
    """
    nodes = list(traced.nodes)
    wanted = {node.index: node for node in wanted_nodes(traced, pre_activations)}
    for index, node in wanted.items():
        nodes[index] = node  # sums as they were judged
    logits = {node.index for node in nodes if _is_logits(node, nodes)}
    seen: Counter[tuple[str, str]] = Counter()
    places = []
    for index in sorted(wanted.keys() | logits):
        node = nodes[index]
        stem = LOGITS if index in logits else _stem(node)
        seen[node.module, stem] += 1
        number = seen[node.module, stem]
        name = stem if number == 1 else f"{stem} {number}"
        parameters = (
            node.parameters if index not in logits and node.weight else _before(node, nodes)
        )
        places.append(Place(index, node.module, name, parameters))
    return tuple(places)


def _stem(node: Node) -> str:
    return ADDITION if node.weight is None else "+".join(node.weight.parameters)


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
