"""Pre-activations of one forward pass, found from its graph: values, changes and tangents."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import enable_reentrant_dispatch
from torch.utils._python_dispatch import TorchDispatchMode

from etastar.errors import CaptureError, MeasureError
from etastar.graph.contraction import data_inputs, judge_sums
from etastar.graph.tracing import Trace, TracingError, trace

if TYPE_CHECKING:
    from etastar.graph.dag import Node
    from etastar.measure.batch import Examples
    from etastar.measure.records import PreActivations

__all__ = [
    "Wanted",
    "mean_square",
    "mean_squares_beside",
    "run_observed",
    "run_with_tangents",
    "wanted_nodes",
]

_PART = 2**16  # elements looked at together

_LEAST_SQUARE = 2.0**-96  # below, single squares may have lost digits

Seeded = Callable[[], None]
"""Sets the random numbers of a pass, so that two passes draw the same dropout masks."""


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


def mean_squares_beside(tensor: Tensor, other: Tensor) -> tuple[float, float]:
    """Mean square of a difference, which is never held as a whole, and of the first tensor.

    Args:
        tensor: Any floating or complex tensor.
        other: One of the same shape.

    Returns:
        The two means.

    Example:
        >>> mean_squares_beside(torch.tensor([3.0, 4.0]), torch.tensor([3.0, 2.0]))
        (2.0, 12.5)
    """
    parts = (torch.split(flat.detach(), _PART) for flat in (tensor.reshape(-1), other.reshape(-1)))
    changes, values = [], []
    for a, b in zip(*parts, strict=True):  # small enough to stay in the processor's cache
        changes.append(mean_square(a - b) * a.numel())
        values.append(mean_square(a) * a.numel())
    number = max(1, tensor.numel())
    return math.fsum(changes) / number, math.fsum(values) / number


def is_candidate(node: Node, pre_activations: PreActivations) -> bool:
    """Whether a node may turn out to be a pre-activation, as far as is known while it runs."""
    return node.weight is not None or (pre_activations == "stream" and bool(node.addends))


class Wanted(NamedTuple):
    """Pre-activations of a pass.

    Attributes:
        nodes: Weight layers, or residual additions, in the order of execution.
        inner: Indices of those that a later weight layer depends on.
    """

    nodes: tuple[Node, ...] = ()
    inner: frozenset[int] = frozenset()


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
    sources = [traced.inputs[name] for name in data_inputs(traced.nodes, traced.inputs)]
    nodes = judge_sums(traced.nodes, sources, traced.outputs)
    layers = [node for node in nodes if node.kind == "weight layer"]
    stream = [node for node in nodes if node.kind == "residual addition"]
    found = stream if pre_activations == "stream" and stream else layers
    inner = frozenset(node.index for node in found if _is_followed(node, nodes))
    if pre_activations != "layers" and found is layers:
        found = [node for node in layers if node.index in inner]
    if not found:
        raise MeasureError(
            f"a model without pre-activations of the kind {pre_activations!r}",
            "a weight layer that the inputs reach",
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


def run_observed(
    model: nn.Module,
    examples: Examples,
    pre_activations: PreActivations,
    observer: Callable[[int, Tensor], None],
    *,
    seeded: Seeded,
    before_write: Callable[[Tensor], None] | None = None,
    grad: bool = False,
) -> Trace:
    """One forward pass, its candidates shown to the observer with their order of execution.

    Args:
        model: The private model; left as it is.
        examples: What it is run on.
        pre_activations: Which count.
        observer: Called with a node's index and its output, which later operations may write to.
        seeded: Called before the pass.
        before_write: Called with every tensor that is about to be written to.
        grad: Whether autograd records it.

    Returns:
        The pass.

    Raises:
        CaptureError: The forward pass raised.
    """

    def watch(node: Node, output: Tensor) -> None:
        if is_candidate(node, pre_activations):
            observer(node.index, output)

    return _traced(
        model, examples, seeded=seeded, observer=watch, before_write=before_write, grad=grad
    )


def run_with_tangents(
    model: nn.Module,
    examples: Examples,
    pre_activations: PreActivations,
    tangents: Mapping[str, Tensor],
    *,
    seeded: Seeded,
) -> tuple[Trace, dict[int, float], dict[int, float]]:
    """One forward pass in forward mode.

    Args:
        model: The model; left as it is.
        examples: What it is run on.
        pre_activations: Which count.
        tangents: Direction, by name of the parameter.
        seeded: Called before the pass.

    Returns:
        The pass; mean square of the tangent, and of the value, of each candidate by node.

    Raises:
        CaptureError: The forward pass raised, as it does where an operation has no forward mode.
    """
    keeper = _TangentKeeper()

    def watch(node: Node, output: Tensor) -> None:
        if is_candidate(node, pre_activations):
            keeper.watch(node.index, output)

    # fused attention has no forward mode
    with torch.no_grad(), forward_ad.dual_level(), sdpa_kernel(SDPBackend.MATH), keeper:
        traced = _traced(model, examples, seeded=seeded, observer=watch, tangents=tangents)
        keeper.take(enable_reentrant=False)
    return traced, keeper.tangents, keeper.values


def _traced(
    model: nn.Module,
    examples: Examples,
    *,
    seeded: Seeded,
    observer: Callable[[Node, Tensor], None],
    tangents: Mapping[str, Tensor] | None = None,
    before_write: Callable[[Tensor], None] | None = None,
    grad: bool = False,
) -> Trace:
    seeded()
    try:
        return trace(
            model,
            examples.args,
            examples.kwargs,
            fake=False,
            grad=grad,
            observer=observer,
            tangents=tangents,
            private=True,
            before_write=before_write,
        )
    except TracingError as error:
        raise CaptureError(
            f"a forward pass that failed in module {error.module or '(root)'!r}: {error.__cause__}",
            "a model that runs on the batch as it was given",
            "call model(inputs) yourself to see the error",
        ) from error.__cause__


class _TangentKeeper(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Measures the tangent of every watched output.

    An output gets its tangent after its operation has returned, and later operations may write to
    it in place. So the tangent is looked for whenever an operation starts, until it is there.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.tangents: dict[int, float] = {}
        self.values: dict[int, float] = {}
        self._pending: list[tuple[int, Tensor]] = []
        self._busy = False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if self._pending and not self._busy:
            self.take()
        return func(*args, **(kwargs or {}))

    def watch(self, index: int, output: Tensor) -> None:
        """Observer: measure the value now, the tangent once it is there."""
        self._busy = True
        try:
            self.values[index] = mean_square(output)
        finally:
            self._busy = False
        self.tangents[index] = 0.0
        self._pending.append((index, output))

    def take(self, *, enable_reentrant: bool = True) -> None:
        """Measure the tangents that are there by now."""
        self._busy = True
        try:
            with enable_reentrant_dispatch() if enable_reentrant else nullcontext():
                self._pending = [one for one in self._pending if not self._measured(*one)]
        finally:
            self._busy = False

    def _measured(self, index: int, output: Tensor) -> bool:
        if _below_autograd():
            return False  # an operation of another's kernel; the tangents can be seen later
        dual: Any = forward_ad.unpack_dual(output)  # type: ignore[no-untyped-call]
        tangent = dual.tangent
        if tangent is not None:
            self.tangents[index] = mean_square(tangent)
        return tangent is not None


def _below_autograd() -> bool:
    internals: Any = torch._C  # noqa: SLF001
    key = internals.DispatchKey.AutogradFunctionality
    return bool(internals._dispatch_tls_is_dispatch_key_excluded(key))  # noqa: SLF001
