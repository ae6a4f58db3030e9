"""Does the signal keep its size over depth, forwards and backwards? Checked, not assumed.

Second moments of activations and gradients are measured in one real forward and backward pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import nn
from torch.autograd.graph import GradientEdge, get_gradient_edge

from etastar.errors import CaptureError, InitError, foreign_errors_as
from etastar.graph.addends import may_add
from etastar.graph.arguments import named_tensors
from etastar.graph.capture import require_module
from etastar.graph.dag import Graph
from etastar.graph.isolation import random_numbers_kept
from etastar.graph.node import Node
from etastar.graph.tracing import Trace, trace
from etastar.init.stability_report import Measurement, StabilityReport, judged
from etastar.measure.batch import Batch, Examples, LossFn, forward_pass, plain_modes, read_batch
from etastar.measure.differences import mean_square
from etastar.measure.subject import seed_everything
from etastar.naming import canonical_parameters, unwrap

_OUTPUT_NAMES = ("logits", "last_hidden_state")
_PROJECTIONS = 4


def check_stability(
    model: nn.Module,
    batch: Batch | torch.Tensor,
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
    return judged(measure_moments(model, batch, loss_fn), canonical_parameters(model))


class _Keeper:
    """Measures every layer's output while a pass runs, and keeps its gradient edge.

    An output gets its `grad_fn` only after its operation has returned, and loses it to the next
    in-place operation. So the edge is taken when the next operation is seen.
    """

    def __init__(self) -> None:
        self.edges: dict[int, GradientEdge] = {}
        self.forward: dict[int, float] = {}
        self.sizes: dict[int, int] = {}
        self._lookups: set[int] = set()
        self._pending: list[tuple[int, torch.Tensor]] = []

    def watch(self, node: Node, output: torch.Tensor) -> None:
        """Observer of the recorder: measure the output, remember it until it has its edge."""
        self.take_edges()
        if node.name in ("mul", "div") and not node.parameters:
            scaled = self._lookups.intersection(node.inputs)
            if len(node.inputs) == len(scaled) == 1:
                self.forward[min(scaled)] = mean_square(output)
        if node.weight is None and not may_add(node):
            return
        if node.weight is not None and node.weight.layer_type == "embedding":
            self._lookups.add(node.index)
        self.forward[node.index] = mean_square(output)
        self.sizes[node.index] = output.numel()
        self._pending.append((node.index, output))

    def take_edges(self) -> None:
        """Take the edges of the outputs watched since the last operation."""
        for index, output in self._pending:
            if output.requires_grad:
                self.edges[index] = get_gradient_edge(output)
        self._pending.clear()


def measure_moments(
    model: nn.Module, batch: Batch | torch.Tensor, loss_fn: LossFn | None = None
) -> Measurement:
    """What `check_stability` judges: moments by node of the graph of one pass on real tensors.

    Where training mode draws random numbers (dropout, stochastic depth) and evaluation mode returns
    the same outputs, that is run, its norms over the batch left in the mode that they are in: they
    take the batch's statistics, as in training. Other random numbers are the same in every call.

    Without a loss the gradient is that of <output, r> with r standard normal, its square averaged
    over four draws: every direction of the output counts alike.
    """
    require_module(model, error=InitError)
    if isinstance(batch, torch.Tensor):
        if loss_fn is not None:
            raise InitError(
                "a loss_fn, and a batch of inputs alone",
                "(inputs, targets), or a dict of the model's keyword arguments",
                "add the targets, or leave loss_fn out",
            )
        batch = (batch, None)
    with plain_modes(error=InitError):
        return _measured(unwrap(model), read_batch(batch), loss_fn)


def _measured(model: nn.Module, examples: Examples, loss_fn: LossFn | None) -> Measurement:
    traced, keeper = _measured_pass(model, examples)
    graph = Graph.of_trace(traced)
    nodes = [n for n in graph if n.kind in ("weight layer", "residual addition")]
    if not nodes:
        raise InitError(
            "a model without weight layers", "at least one weight layer", "check the model"
        )
    if not all(keeper.sizes[node.index] for node in nodes):
        raise InitError("an empty batch", "one example or more", "give a batch of typical data")
    if not keeper.edges:
        raise InitError(
            "a model whose layers carry no gradient",
            "parameters with requires_grad",
            "unfreeze the parameters: model.requires_grad_(True)",
        )
    with torch.enable_grad():
        gradients = _gradients(_losses(traced.result, examples, loss_fn), keeper.edges)
    return Measurement(graph, nodes, keeper.forward, gradients, keeper.sizes)


def _measured_pass(model: nn.Module, examples: Examples) -> tuple[Trace, _Keeper]:
    """The pass in the model's own mode, else the one that draws nothing by chance."""

    def one_pass(*, evaluation: bool) -> tuple[Trace, _Keeper]:
        keeper = _Keeper()
        with random_numbers_kept(), forward_pass():
            seed_everything(0)
            traced = trace(
                model,
                examples.args,
                examples.kwargs,
                fake=False,
                grad=True,
                observer=keeper.watch,
                evaluation=evaluation,
            )
            keeper.take_edges()
        return traced, keeper

    found = one_pass(evaluation=False)
    if found[0].is_random and any(module.training for module in model.modules()):
        with suppress(CaptureError):
            steady = one_pass(evaluation=True)
            if steady[0].outputs.keys() == found[0].outputs.keys():
                return steady
    return found


def _gradients(losses: Sequence[torch.Tensor], edges: dict[int, GradientEdge]) -> dict[int, float]:
    """Squared norms of the gradients by node, mean over the losses."""
    found: dict[int, float] = {}
    for loss in losses:
        with foreign_errors_as(
            InitError,
            "the backward pass",
            "a loss that can be differentiated",
            "call backward() on the loss yourself to see the error",
        ):
            gradients = torch.autograd.grad(
                loss, list(edges.values()), retain_graph=True, allow_unused=True
            )
        for index, gradient in zip(edges, gradients, strict=True):
            if gradient is not None:
                norm2 = float(gradient.double().abs().square().sum())
                found[index] = found.get(index, 0.0) + norm2 / len(losses)
    return found


def _losses(result: Any, examples: Examples, loss_fn: LossFn | None) -> list[torch.Tensor]:
    """The loss, or the random projections; refused where they cannot be differentiated."""
    if loss_fn is None:
        losses = [_random_projection(result, seed) for seed in range(_PROJECTIONS)]
    else:
        expected = "loss_fn(output, targets), which returns a scalar"
        action = "call it yourself on the model's output and the batch's targets"
        with foreign_errors_as(InitError, "loss_fn", expected, action):
            losses = [loss_fn(result, examples.targets)]
    loss: Any = losses[0]
    is_tensor = isinstance(loss, torch.Tensor)
    if not is_tensor or loss.numel() != 1 or not loss.requires_grad:
        shape = f"shape {tuple(loss.shape)}" if is_tensor else type(loss).__name__
        raise InitError(
            f"a loss of {shape}, requires_grad={is_tensor and loss.requires_grad}",
            "a scalar that depends on a parameter with requires_grad",
            "unfreeze the parameters, or check loss_fn",
        )
    return losses


def _random_projection(result: Any, seed: int) -> torch.Tensor:
    """<output, r> for the output that counts: logits, the last hidden state, or the first."""
    tensors = {n: t for n, t in named_tensors(result) if t.is_floating_point()}
    made = [n for n, t in tensors.items() if t.requires_grad] or [*tensors]
    name = next((n for n in (*_OUTPUT_NAMES, *made) if n in tensors), None)
    if name is None:
        raise InitError(
            "a model that returned no floating tensor",
            "an output that can be differentiated",
            "give loss_fn(output, targets), which returns a scalar",
        )
    output, generator = tensors[name], torch.Generator().manual_seed(seed)
    return (output * torch.randn(output.shape, generator=generator).to(output)).sum()
