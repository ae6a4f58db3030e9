"""The step of an optimizer, and the derivative of the pre-activations along it.

The derivative is taken by the difference of two forward passes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from etastar.errors import MeasureError
from etastar.graph.addends import may_add
from etastar.graph.dag import Graph
from etastar.graph.node import Node
from etastar.graph.recorder import Observer
from etastar.graph.residual import find_residuals
from etastar.graph.tracing import Trace, trace
from etastar.measure.batch import forward_pass, is_low_precision, own_device
from etastar.measure.subject import Subject

PreActivations = Literal["layers", "hidden", "stream"]
"""Outputs of all weight layers; of all but those that no other follows (the head); or the residual
stream after each addition, which in a network without a stream is the outputs of `hidden`."""

ADDITION = "addition"  # name of the residual stream after one

_LOST_IN_ROUNDING = 1e-4  # largest relative update of which float32 keeps three digits or fewer
_SAFE_UPDATE = 2.0**-7
_LEAST_UPDATE = 2.0**-24  # below it nothing is left of an update in float32
_MAX_STEPS = 4

_FIRST_STEP = 1e-4  # of the norm of all parameters
_LEAST_SHARE = 1e-4  # of a pre-activation that changes: below, float32 has too few digits of it
_GREATEST_SHARE = 1e-2  # above, curvature shows
_MIDDLE_SHARE = math.sqrt(_LEAST_SHARE * _GREATEST_SHARE)
_MAX_ATTEMPTS = 5
_PASSES_OF_A_GRADIENT = 3  # a backward pass costs about two forward ones
_LEAST_SQUARE = 2.0**-96  # below, single squares may have lost digits


class Direction(NamedTuple):
    """Where a step goes.

    Attributes:
        updates: Update per unit of the learning rate, of every parameter that moves.
        is_rounded: Whether the step was so short beside the parameters that digits of it are lost.
    """

    updates: Mapping[nn.Parameter, Tensor]
    is_rounded: bool


def step_direction(subject: Subject) -> Direction:
    """Update per unit of the learning rate, from the gradients that the parameters hold.

    The ratios of the groups' rates stay. A step too short beside the parameters for float32 is
    taken again at a higher rate. The parameters stay; gradients and the optimizers' state are used
    up, so that no other step can follow.

    Raises:
        MeasureError: A step failed, is not finite, or changes nothing.
    """
    optimizers = subject.optimizers
    states = deepcopy([one.state_dict() for one in optimizers])
    rates = [float(group["lr"]) for one in optimizers for group in one.param_groups]
    before = {p: p.detach().clone() for p in subject.model.parameters() if p.grad is not None}
    rate = subject.unit
    for attempt in range(1, _MAX_STEPS + 1):
        _set_rates(subject, [own * rate / subject.unit for own in rates])
        subject.step()
        relative = _relative_change(before)
        if relative == 0:  # SOAP's first step does nothing but begin its statistics
            subject.step()
            relative = _relative_change(before)
        if relative >= _LOST_IN_ROUNDING or attempt == _MAX_STEPS:
            break
        with torch.no_grad():
            for parameter, values in before.items():
                parameter.copy_(values)
        for one, state in zip(optimizers, states, strict=True):
            one.load_state_dict(deepcopy(state))
        rate *= _SAFE_UPDATE / max(relative, _LEAST_UPDATE)
    if not math.isfinite(relative):
        raise MeasureError(
            "a step that is not finite",
            "finite gradients, and a finite step from them",
            "check the loss, the batch and the weights, or scale the loss down",
        )
    subject.model.zero_grad()
    for one in optimizers:
        one.state.clear()
    updates = _taken_back(before, rate)
    if not updates:
        raise MeasureError(
            "a step that changes no parameter",
            "gradients that reach a parameter of the optimizer",
            "check the loss, requires_grad, and which parameters the optimizer holds",
        )
    return Direction(updates, is_rounded=relative < _LOST_IN_ROUNDING)


def _set_rates(subject: Subject, rates: Sequence[float]) -> None:
    groups = (group for one in subject.optimizers for group in one.param_groups)
    for group, rate in zip(groups, rates, strict=True):
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


@torch.no_grad()
def _taken_back(before: dict[nn.Parameter, Tensor], rate: float) -> dict[nn.Parameter, Tensor]:
    """Put the parameters back; over the rate what was changed, where something was."""
    updates = {}
    for parameter in list(before):
        change = (parameter - before[parameter]).div_(rate)
        parameter.copy_(before.pop(parameter))
        if change.count_nonzero():
            updates[parameter] = change
    return updates


def _relative_change(before: Mapping[nn.Parameter, Tensor]) -> float:
    """Length of a step over that of what it moves; a parameter of zeros loses no digits."""
    changes = [float((p.detach() - values).norm()) for p, values in before.items()]
    if not all(map(math.isfinite, changes)):
        return math.inf
    sizes = [float(values.norm()) for values in before.values()]
    if not any(sizes):
        return float(any(changes))
    rounded = (change for change, size in zip(changes, sizes, strict=True) if size)
    return math.hypot(*rounded) / math.hypot(*sizes)


@dataclass(frozen=True)
class SeedUpdate:
    """What one seed gave.

    Attributes:
        places: (module, name) of each pre-activation, in the order of execution.
        mean_squares: S_l / eta^2 of each.
        second_moments: Mean of z^2 of each before the step.
        doubt: What makes the measurement doubtful; "" for nothing.
        num_passes: Its cost in forward passes; the gradient counts as three.
    """

    places: tuple[tuple[str, str], ...]
    mean_squares: tuple[float, ...]
    second_moments: tuple[float, ...]
    doubt: str = ""
    num_passes: int = 0

    @property
    def log_rate(self) -> float:
        """Natural logarithm of the seed's eta*; infinite where it is 0 or infinite."""
        found = float(np.mean(self.mean_squares))  # M, over the pre-activations [AM]
        return -0.5 * math.log(found) if found > 0 else math.inf


def by_differences(
    subject: Subject, direction: Direction, pre_activations: PreActivations
) -> SeedUpdate:
    """M_l = mean ((z_l(theta + h u) - z_l(theta - h u)) / 2h)^2, with u the direction of the step.

    The step h is chosen so that the pre-activations that later layers depend on change by a share
    between 1e-4 and 1e-2 to one side. Those of the last layer may change by any: they are linear in
    its weight, and a readout far smaller than its update would make the step so short that the
    other weights lose it in rounding. The model is left as it is up to rounding.

    Raises:
        CaptureError: The forward pass raised.
        MeasureError: Two passes differ in their layers.
    """
    updates = direction.updates
    scale = (_length(updates) or 1.0) / _length(updates.values())
    step, at = _FIRST_STEP * scale, 0.0
    for attempt in range(1, _MAX_ATTEMPTS + 1):
        _move(updates, -step - at)
        nodes, inner, below = _kept(subject, pre_activations)
        is_low = any(is_low_precision(values.dtype) for values in below.values())
        _move(updates, 2 * step)
        at = step
        changes, values = _compared(subject, pre_activations, nodes, below)
        share = _share(changes, values, inner)
        if is_idle := not any(changes.values()):  # nothing moves, or it is lost in rounding
            is_settled = step >= 0.5 * scale
        else:
            is_settled = share == 0 or _LEAST_SHARE <= share <= _GREATEST_SHARE
        if is_settled or attempt == _MAX_ATTEMPTS:
            break
        wanted = _MIDDLE_SHARE / share if 0 < share < math.inf else 1e-3
        step *= 1 / _FIRST_STEP if is_idle else wanted
    _move(updates, -at)
    doubts = {
        f"no step fits, pre-activations change by a share of {share:.2g}": not is_settled,
        "pre-activations in low precision": is_low,
        "the optimizer's step is too short beside its parameters": direction.is_rounded,
    }
    return SeedUpdate(
        places=tuple((node.module, pre_activation_name(node)) for node in nodes),
        mean_squares=tuple(changes[n.index] / (2 * step) ** 2 for n in nodes),
        second_moments=tuple(values[n.index] for n in nodes),
        doubt="; ".join(doubt for doubt, is_there in doubts.items() if is_there),
        num_passes=2 * attempt + _PASSES_OF_A_GRADIENT,
    )


def pre_activation_name(node: Node) -> str:
    """Its weights' names joined by "+", or `ADDITION`."""
    return ADDITION if node.weight is None else "+".join(node.weight.parameters)


def _length(tensors: Iterable[Tensor]) -> float:
    return math.hypot(*(float(tensor.detach().norm()) for tensor in tensors))


def _move(updates: Mapping[nn.Parameter, Tensor], distance: float) -> None:
    for parameter, update in updates.items():
        parameter.detach().add_(update, alpha=distance)


def _share(changes: dict[int, float], values: dict[int, float], inner: frozenset[int]) -> float:
    """Largest change, to one side, of a pre-activation that counts, over its size."""
    if not all(map(math.isfinite, changes.values())):
        return math.inf
    counted = inner.intersection(changes) or changes.keys()
    shares = (math.sqrt(changes[n] / values[n]) for n in counted if values[n] > 0)
    return max(shares, default=0.0) / 2


def _kept(
    subject: Subject, pre_activations: PreActivations
) -> tuple[tuple[Node, ...], frozenset[int], dict[int, Tensor]]:
    """One pass: the pre-activations, those that later layers depend on, and the values of all."""
    kept: dict[int, Tensor] = {}

    def keep(node: Node, output: Tensor) -> None:
        if is_candidate(node, pre_activations):
            kept[node.index] = output.detach().clone()  # others may write to it

    nodes, inner = _wanted(observed_pass(subject, keep), pre_activations)
    return nodes, inner, {node.index: kept[node.index] for node in nodes}


def _compared(
    subject: Subject,
    pre_activations: PreActivations,
    nodes: Sequence[Node],
    others: dict[int, Tensor],
) -> tuple[dict[int, float], dict[int, float]]:
    """One pass beside another, each of whose values is let go once it was compared.

    Returns:
        Mean squares of what changed, and of the values, by node.
    """
    changes: dict[int, float] = {}
    values: dict[int, float] = {}

    def compare(node: Node, output: Tensor) -> None:
        other = others.pop(node.index, None)
        if other is not None and other.shape == output.shape:
            changes[node.index] = mean_square(other.sub_(output))
            values[node.index] = mean_square(output)

    again, _ = _wanted(observed_pass(subject, compare), pre_activations)
    if _places(again) != _places(nodes):
        raise MeasureError(
            "a model whose operations differ between two passes on the same batch",
            "the same layers in the same order on every pass",
            "switch off what chooses layers at random, or measure with a fixed choice",
        )
    return changes, values


def _wanted(
    traced: Trace, pre_activations: PreActivations
) -> tuple[tuple[Node, ...], frozenset[int]]:
    """Pre-activations in the order of execution, and those that a later layer depends on."""
    graph = Graph.of_trace(traced)
    nodes = graph.nodes
    layers = [node for node in nodes if node.kind == "weight layer"]
    added = [node for node in nodes if node.kind == "residual addition"]
    is_stream = any(branch.stream is not None for branch in find_residuals(graph.contraction))
    found = added if pre_activations == "stream" and is_stream else layers
    inner = frozenset(
        node.index
        for node in found
        if any(later.kind == "weight layer" for later in followers(node, nodes, lambda _: True))
    )
    if pre_activations != "layers" and found is layers:
        hidden = [node for node in layers if node.index in inner]
        found = hidden or (added if pre_activations == "stream" else [])
    if not found:
        raise MeasureError(
            f"a model without pre-activations of the kind {pre_activations!r}",
            "a weight layer that the inputs reach, and for all but 'layers' a second one behind it",
            "check the batch, or choose pre_activations='layers'",
        )
    return tuple(found), inner


def followers(
    node: Node, nodes: Sequence[Node], hands_on: Callable[[Node], bool]
) -> Iterator[Node]:
    """Nodes that read a node, itself or through those that hand on what they read."""
    reached = {node.index}
    for later in nodes[node.index + 1 :]:
        if reached.intersection(later.inputs):
            yield later
            if hands_on(later):
                reached.add(later.index)


def _places(nodes: Sequence[Node]) -> list[tuple[int, str, str, tuple[int, ...]]]:
    return [(node.index, node.module, pre_activation_name(node), node.shape) for node in nodes]


def mean_square(tensor: Tensor) -> float:
    """Mean of the squared absolute values; infinite where a value is not finite.

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


def observed_pass(subject: Subject, observer: Observer) -> Trace:
    """One forward pass without autograd, every node shown to the observer with its output.

    Later operations may write to that output. Every pass of a subject draws the same random
    numbers, and leaves the model as it is.
    """
    with own_device(subject.model), forward_pass():
        subject.seed_pass()
        return trace(
            subject.model,
            subject.examples.args,
            subject.examples.kwargs,
            fake=False,
            observer=observer,
            private=True,
        )


def is_candidate(node: Node, pre_activations: PreActivations) -> bool:
    """Whether a node may turn out to be a pre-activation, as far as is known while it runs."""
    return node.weight is not None or (pre_activations == "stream" and may_add(node))
