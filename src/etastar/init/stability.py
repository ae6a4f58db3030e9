"""Does the signal keep its size over depth, forwards and backwards? Checked, not assumed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from etastar.errors import InitError
from etastar.graph.capture import require_module
from etastar.init.moments import Measurement, measure_moments
from etastar.init.stability_judge import judged
from etastar.init.stability_report import StabilityReport
from etastar.measure.ambient import plain_modes
from etastar.measure.batch import read_batch
from etastar.naming import canonical_parameters

if TYPE_CHECKING:
    from torch import nn

    from etastar.measure.batch import Batch, LossFn

__all__ = ["check_stability"]


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
    layer (muP readout), whose gradient, set by the loss, is not judged at all. So is the gradient
    of what other paths by-pass (the parts of a concatenation), which is a share of the whole.

    In a residual network the gradients of a stream are compared with those of its first addition
    in place of the first layer: of an image, say, a class token reads but a share. What the input
    layers get is then not judged. Nor is a layer whose weight is zero, and a note says so.

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
    require_module(model, error=InitError)
    with plain_modes(error=InitError):
        measured = _measured(model, batch, loss_fn)
    nodes = [n for n in measured.graph if n.kind in ("weight layer", "residual addition")]
    if not nodes:
        raise InitError(
            "a model without weight layers", "at least one weight layer", "check the model"
        )
    if not all(measured.sizes[node.index] for node in nodes):
        raise InitError("an empty batch", "one example or more", "give a batch of typical data")
    return judged(measured, canonical_parameters(model))


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
