"""Pre-activations of one forward pass, found from its graph."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor

from etastar.errors import MeasureError
from etastar.graph.contraction import judge
from etastar.graph.tracing import Trace, trace
from etastar.measure.ambient import own_device
from etastar.measure.input_checks import forward_pass

if TYPE_CHECKING:
    from etastar.graph.dag import Node
    from etastar.measure.batch import Examples
    from etastar.measure.subject import Subject

__all__ = [
    "PreActivations",
    "Wanted",
    "is_candidate",
    "judged_nodes",
    "mean_square",
    "observed_pass",
    "wanted_nodes",
]

PreActivations = Literal["layers", "hidden", "stream"]
"""Outputs of all weight layers; of all but those that no other follows (the head); or the residual
stream after each addition, which in a network without additions is the outputs of `hidden`."""

Observer: TypeAlias = "Callable[[Node, Tensor], None]"

_LEAST_SQUARE = 2.0**-96  # below, single squares may have lost digits


def mean_square(tensor: Tensor) -> float:
    """Mean of the squared absolute values.

    Args:
        tensor: Any floating or complex tensor.

    Returns:
        The mean.

    Example:
        >>> mean_square(torch.tensor([3.0, 4.0]))
        12.5
    """
    values = tensor.detach()
    if values.is_complex():
        values = torch.view_as_real(values.resolve_conj())
        return 2 * mean_square(values)
    flat = values.reshape(-1)
    square = float(torch.dot(flat, flat)) if flat.dtype == torch.float32 else math.nan
    if not _LEAST_SQUARE < square < math.inf:  # the squares may not fit into float32
        norm = torch.linalg.vector_norm(flat, dtype=torch.float64)
        square = float(norm**2)  # infinite, where a float would raise
    return square / max(1, flat.numel())


class Wanted(NamedTuple):
    """Pre-activations of a pass.

    Attributes:
        nodes: Weight layers, or residual additions, in the order of execution.
        inner: Indices of those that a later weight layer depends on.
    """

    nodes: tuple[Node, ...] = ()
    inner: frozenset[int] = frozenset()


def observed_pass(subject: Subject, examples: Examples, observer: Observer) -> Trace:
    """One forward pass without autograd, every node shown to the observer with its output.

    Every pass of a subject draws the same random numbers, and leaves the model as it is.

    Args:
        subject: Whose model runs.
        examples: What it runs on.
        observer: Called with a node and its output, which later operations may write to.

    Returns:
        The pass.

    Raises:
        CaptureError: The forward pass raised.
    """
    with own_device(subject.model), forward_pass():
        subject.seed_pass()
        return trace(
            subject.model,
            examples.args,
            examples.kwargs,
            fake=False,
            observer=observer,
            private=True,
        )


def judged_nodes(traced: Trace) -> tuple[Node, ...]:
    """The nodes of a pass, its sums told apart into residual additions and others.

    Args:
        traced: The pass.

    Returns:
        The nodes, in the order of execution.
    """
    return judge(traced.nodes, traced.inputs, traced.outputs).nodes


def is_candidate(node: Node, pre_activations: PreActivations) -> bool:
    """Whether a node may turn out to be a pre-activation, as far as is known while it runs."""
    return node.weight is not None or (pre_activations == "stream" and bool(node.addends))


def wanted_nodes(traced: Trace, pre_activations: PreActivations) -> Wanted:
    """The pre-activations of a pass.

    Args:
        traced: The pass.
        pre_activations: Which count.

    Returns:
        They.

    Raises:
        MeasureError: There is none.
    """
    nodes = judged_nodes(traced)
    layers = [node for node in nodes if node.kind == "weight layer"]
    stream = [node for node in nodes if node.kind == "residual addition"]
    found = stream if pre_activations == "stream" and stream else layers
    inner = frozenset(node.index for node in found if _is_followed(node, nodes))
    if pre_activations != "layers" and found is layers:
        found = [node for node in layers if node.index in inner]
    if not found:
        raise MeasureError(
            f"a model without pre-activations of the kind {pre_activations!r}",
            "a weight layer that the inputs reach, and for all but 'layers' a second one behind it",
            "check the batch, or choose pre_activations='layers'",
        )
    return Wanted(tuple(found), inner)


def _is_followed(node: Node, nodes: Sequence[Node]) -> bool:
    """Whether a later weight layer depends on it."""
    reached = {node.index}
    for later in nodes[node.index + 1 :]:
        if reached.intersection(later.inputs):
            if later.kind == "weight layer":
                return True
            reached.add(later.index)
    return False
