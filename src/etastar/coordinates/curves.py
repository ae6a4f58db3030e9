"""The runs of one size: pre-activations, and their changes over several steps."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from etastar.errors import MeasureError
from etastar.graph.dag import Graph
from etastar.graph.node import Node
from etastar.graph.tracing import Trace
from etastar.laws import Architecture
from etastar.measure.batch import Examples, LossFn
from etastar.measure.differences import (
    ADDITION,
    followers,
    is_candidate,
    mean_square,
    observed_pass,
    pre_activation_name,
)
from etastar.measure.subject import (
    Made,
    OptimizerChoice,
    Subject,
    graph_on,
    loss_gradient,
    make_subject,
)
from etastar.naming import canonical_parameters
from etastar.optimizers import OptimizerKind
from etastar.optimizers.reading import kind_of_class
from etastar.parameter import ParamInfo, Role

LOGITS = "attention logits"


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


@dataclass(frozen=True)
class ParamSetting:
    """One parameter as it was trained.

    Attributes:
        lr: Its learning rate.
        group: Optimizer and parameter group that it is in.
        kind: Kind of the optimizer; None for one that is undeclared.
        size: Root mean square of its values before the first step.
    """

    lr: float
    group: str
    kind: OptimizerKind | None
    size: float


@dataclass(frozen=True)
class SizeRuns:
    """All runs of one size.

    Attributes:
        size: The settings of the network.
        architecture: What the laws know of the network.
        infos: What is known of each parameter.
        places: The pre-activations, the same for every seed.
        moments: Mean z_0^2, then mean (z_t - z_0)^2 for t = 1, 2, ...: (seeds, 1 + steps, places).
        settings: Every parameter that is trained, by name.
    """

    size: Mapping[str, int]
    architecture: Architecture
    infos: Mapping[str, ParamInfo]
    places: tuple[Place, ...]
    moments: NDArray[np.float64]
    settings: Mapping[str, ParamSetting]

    def role(self, place: Place) -> Role | None:
        """Role of a layer's weight; None of a sum or product."""
        infos = (self.infos[name] for name in place.parameters if place.is_layer)
        return next((info.role for info in infos if info.is_weight), None)


def run_size(
    size: Mapping[str, int],
    *,
    make_model: Callable[..., Made],
    optimizer: OptimizerChoice | None,
    lr: float,
    examples: Examples,
    loss_fn: LossFn | None,
    num_steps: int,
    seeds: Sequence[int],
) -> SizeRuns:
    """Train one size from every seed, and look at the same examples before and after each step.

    Raises:
        MeasureError: The optimizer or the loss is not accepted, or the seeds give other networks.
        CaptureError: The forward pass raised.
    """
    make = partial(make_model, **size)
    runs = []
    for seed in seeds:
        subject = make_subject(make, optimizer, examples, seed=seed, lr=lr)
        if seed == seeds[0]:
            graph, settings = graph_on(subject.model, subject.examples), _settings(subject)
        runs.append(_run(subject, loss_fn, num_steps))
    (places, _), *others = runs
    if any(own != places for own, _ in others):
        raise MeasureError(
            f"other layers by seed at {dict(size)}",
            "the same network for every seed",
            "let the factory draw weights only, not the architecture",
        )
    return SizeRuns(
        size,
        Architecture(graph.depth(), graph.parameters),
        {info.name: info for info in graph.parameters},
        places,
        np.array([moments for _, moments in runs]),
        settings,
    )


def _run(
    subject: Subject, loss_fn: LossFn | None, num_steps: int
) -> tuple[tuple[Place, ...], list[list[float]]]:
    """The pre-activations of one network, and their moments, (1 + steps, places)."""
    first: dict[int, Tensor] = {}

    def keep(index: int, output: Tensor) -> None:
        first[index] = output.detach().clone()

    traced = _shown_pass(subject, keep)
    places = _pass_places(traced)
    first = {place.node: first[place.node] for place in places}
    moments = [[mean_square(output) for output in first.values()]]
    for _ in range(num_steps):
        loss_gradient(subject, loss_fn)
        subject.step()
        subject.model.zero_grad()
        changes = _changes_after(subject, traced, first)
        moments.append([changes[place.node] for place in places])
    return places, moments


def _changes_after(subject: Subject, traced: Trace, first: dict[int, Tensor]) -> dict[int, float]:
    """By node, the moment of the change since the first pass."""
    found: dict[int, float] = {}

    def compare(index: int, output: Tensor) -> None:
        before = first.get(index)
        if before is not None and before.shape == output.shape:
            found[index] = mean_square(output - before)

    after = _shown_pass(subject, compare)
    is_same = [node.op for node in traced.nodes] == [node.op for node in after.nodes]
    if not is_same or found.keys() != first.keys():
        raise MeasureError(
            "a model that executed other operations after a step than before",
            "the same operations at every pass, so that layers can be compared",
            "check control flow that depends on values, or give a submodule",
        )
    return found


def _settings(subject: Subject) -> dict[str, ParamSetting]:
    names: dict[int, str] = {}
    for name, parameter in canonical_parameters(subject.model).items():
        names.setdefault(id(parameter), name)
    found = {}
    for optimizer in subject.optimizers:
        kind = kind_of_class(type(optimizer))
        for number, group in enumerate(optimizer.param_groups):
            title = f"{type(optimizer).__name__}, group {number}"
            title += f" ({group['name']})" if "name" in group else ""
            for parameter in group["params"]:
                size = math.sqrt(mean_square(parameter))
                setting = ParamSetting(float(group["lr"]), title, kind, size)
                found[names[id(parameter)]] = setting
    return found


def _shown_pass(subject: Subject, observer: Callable[[int, Tensor], None]) -> Trace:
    """One pass in which whatever may be a pre-activation is shown to the observer.

    Attention is computed step by step, so that its logits can be seen.
    """
    products: set[int] = set()

    def watch(node: Node, output: Tensor) -> None:
        is_scaled = _is_scaled(node) and node.inputs[0] in products
        if node.kind == "attention contraction" or is_scaled:
            products.add(node.index)
        if is_candidate(node, "stream") or node.index in products:
            observer(node.index, output)

    with sdpa_kernel(SDPBackend.MATH):
        return observed_pass(subject, watch)


def _pass_places(traced: Trace) -> tuple[Place, ...]:
    """Outputs of weight layers, the stream after each addition, attention logits; in order."""
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
    return tuple(places)


def _stem(node: Node, nodes: Sequence[Node]) -> str:
    if node.kind in ("weight layer", "residual addition"):
        return pre_activation_name(node)
    return LOGITS if _is_logits(node, nodes) else ""


def _is_logits(node: Node, nodes: Sequence[Node]) -> bool:
    """Whether it is a product of two activations that a softmax reads before any other product."""
    if node.kind != "attention contraction" or "attention" in node.op:
        return False
    products = ("weight layer", "attention contraction")
    reading = followers(node, nodes, lambda later: later.kind not in products)
    return any("softmax" in later.op for later in reading)


def _is_scale(node: Node) -> bool:
    return node.op.startswith(("aten.mul", "aten.div"))


def _is_scaled(node: Node) -> bool:
    """Whether it is the one node that it reads times a number, or in another shape."""
    is_same = _is_scale(node) or node.kind == "view" or node.op.startswith("aten._unsafe_view")
    return is_same and len(node.inputs) == 1


def _scaled(node: Node, nodes: Sequence[Node]) -> int:
    """Where a product has been divided by the head's size, if that is done afterwards."""
    scaled = filter(_is_scaled, followers(node, nodes, _is_scaled))
    return max((later.index for later in scaled if _is_scale(later)), default=node.index)


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
