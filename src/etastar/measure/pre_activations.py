"""Pre-activations of one forward pass, found from its graph."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from etastar.graph.tracing import Trace, trace
from etastar.measure.ambient import own_device
from etastar.measure.input_checks import forward_pass

if TYPE_CHECKING:
    from etastar.graph.dag import Node
    from etastar.graph.recorder import Observer
    from etastar.measure.batch import Examples
    from etastar.measure.subject import Subject

__all__ = ["PreActivations", "is_candidate", "mean_square", "observed_pass"]

PreActivations = Literal["layers", "hidden", "stream"]
"""Outputs of all weight layers; of all but those that no other follows (the head); or the residual
stream after each addition, which in a network without additions is the outputs of `hidden`."""

_LEAST_SQUARE = 2.0**-96  # below, single squares may have lost digits


def mean_square(tensor: Tensor) -> float:
    """Mean of the squared absolute values.

    Args:
        tensor: Any floating or complex tensor.

    Returns:
        The mean; infinite where a value is not finite.

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
    return math.inf if math.isnan(square) else square / max(1, flat.numel())


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


def is_candidate(node: Node, pre_activations: PreActivations) -> bool:
    """Whether a node may turn out to be a pre-activation, as far as is known while it runs."""
    return node.weight is not None or (pre_activations == "stream" and bool(node.addends))
