"""Forward passes of one model at several points of a line through its parameters."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from etastar.errors import MeasureError
from etastar.graph.arguments import tensors_in
from etastar.graph.replay import Script, replay, watched
from etastar.measure.outputs import Outputs
from etastar.measure.pre_activations import (
    Wanted,
    mean_squares_beside,
    run_observed,
    wanted_nodes,
)
from etastar.naming import canonical_parameters

if TYPE_CHECKING:
    from etastar.graph.dag import Node
    from etastar.graph.tracing import Trace
    from etastar.measure.batch import Examples
    from etastar.measure.records import PreActivations

__all__ = ["Passes", "Recording", "moved_along"]


@contextmanager
def moved_along(
    model: nn.Module, direction: Mapping[str, Tensor], origin: Mapping[str, Tensor] | None = None
) -> Iterator[Callable[[float], None]]:
    """The model at theta + step u for the steps asked for, and at theta again, to the bit.

    Args:
        model: The model.
        direction: u, by name of the parameter.
        origin: theta where it is known; what it lacks is copied.

    Yields:
        A function that moves the model to a step.

    Example:
        >>> model = nn.Linear(1, 1, bias=False)
        >>> before = model.weight.item()
        >>> with moved_along(model, {"weight": torch.ones(1, 1)}) as move_to:
        ...     move_to(2.0)
        ...     moved = model.weight.item() - before
        >>> round(moved, 6), model.weight.item() == before
        (2.0, True)
    """
    parameters = canonical_parameters(model)
    own = {name: parameters[name].detach() for name in direction}
    known = origin or {}
    before = {n: known[n] if n in known else values.clone() for n, values in own.items()}

    def move_to(step: float) -> None:
        with torch.no_grad():
            for name, u in direction.items():
                torch.add(before[name], u, alpha=step, out=own[name])

    try:
        yield move_to
    finally:
        with torch.no_grad():
            for name, values in before.items():
                own[name].copy_(values)


@dataclass
class Recording:
    """What the first of many passes executed, for networks that differ in their values alone.

    Attributes:
        script: Its operations; None before the first pass.
        wanted: Its pre-activations.
        is_steady: Whether all passes since have executed the same.
        fits: Whether there was memory for most of its pre-activations.
    """

    script: Script | None = None
    wanted: Wanted = field(default_factory=Wanted)
    is_steady: bool = True
    fits: bool = True


class Passes:
    """Forward passes on the same examples with the same dropout masks; the first is recorded.

    The later ones are replayed, at the price of a forward pass, as long as the model executes the
    same operations.

    Args:
        model: The model; each pass leaves it as it is.
        examples: What it is run on.
        pre_activations: Which count.
        seeded: Called before every pass.
        recording: Of an earlier seed, so that the first pass is replayed too.
    """

    def __init__(
        self,
        model: nn.Module,
        examples: Examples,
        pre_activations: PreActivations,
        *,
        seeded: Callable[[], None],
        recording: Recording | None = None,
    ) -> None:
        self._model = model
        self._examples = examples
        self._pre_activations = pre_activations
        self._seeded = seeded
        self._recording = Recording() if recording is None else recording

    @property
    def is_steady(self) -> bool:
        """Whether all passes so far executed the same."""
        return self._recording.is_steady

    @property
    def nodes(self) -> tuple[Node, ...]:
        """The pre-activations, in the order of execution; known after the first pass."""
        return self._recording.wanted.nodes

    @property
    def inner(self) -> frozenset[int]:
        """Those that later layers depend on."""
        return self._recording.wanted.inner

    def with_autograd(self, room: float) -> tuple[Any, dict[int, Tensor]]:
        """One pass, recorded by autograd.

        Args:
            room: Bytes that the pre-activations may take.

        Returns:
            The model's output; the pre-activations by their node, without the earliest where all
            take more, and none where these are most of them, or where the model executed something
            else than before.

        Raises:
            CaptureError: The forward pass raised.
            MeasureError: There is no pre-activation.
        """
        recording = self._recording
        kept = Outputs(room)
        if recording.script is None:
            output = self._record(kept.keep, kept.before_write, grad=True).result
        else:
            output = self._with_autograd_again(recording.script, kept)
        for tensor in tensors_in(output):
            kept.before_write(tensor)  # the loss may
        found = kept.of(node.index for node in self.nodes) if recording.is_steady else {}
        recording.fits = 2 * len(found) > len(self.nodes)
        return output, found if recording.fits else {}

    def _with_autograd_again(self, script: Script, kept: Outputs) -> Any:
        self._seeded()
        args, kwargs = self._examples.inputs()
        if not (self._recording.fits and self._recording.is_steady):
            return self._model(*args, **kwargs)
        nodes = frozenset(node.index for node in self.nodes)
        with watched(script, kept.keep, nodes=nodes, before_write=kept.before_write) as watch:
            output = self._model(*args, **kwargs)
        self._recording.is_steady = watch.is_complete
        return output

    def kept(self, nodes: Collection[int] | None = None) -> dict[int, Tensor]:
        """One pass, or its beginning.

        Args:
            nodes: Indices of the pre-activations that are wanted; None for all.

        Returns:
            Every pre-activation by its node, or those.

        Raises:
            CaptureError: The forward pass raised.
            MeasureError: There is none.
        """
        kept = Outputs()
        self._run(kept.keep, kept.before_write, nodes)
        return kept.of([node.index for node in self.nodes] if nodes is None else nodes)

    def compared(self, others: dict[int, Tensor]) -> tuple[dict[int, float], dict[int, float]]:
        """One pass, beside what another one gave.

        Args:
            others: Of `kept`; each is taken out once it has been compared, to save memory.

        Returns:
            By node: mean square of the difference, and of the pre-activation itself.

        Raises:
            CaptureError: The forward pass raised.
            MeasureError: It lacks a pre-activation that the other one had.
        """
        changes: dict[int, float] = {}
        values: dict[int, float] = {}

        def compare(index: int, output: Tensor) -> None:
            if index in others:
                both = mean_squares_beside(output, others.pop(index))
                changes[index], values[index] = both

        self._run(compare)
        if others:
            raise MeasureError(
                "a model whose operations differ between two passes on the same batch",
                "the same layers in the same order on every pass",
                "switch off what chooses layers at random, or measure with a fixed choice",
            )
        return changes, values

    def _run(
        self,
        observer: Callable[[int, Tensor], None],
        before_write: Callable[[Tensor], None] | None = None,
        nodes: Collection[int] | None = None,
    ) -> None:
        recording = self._recording
        if recording.script is not None and recording.is_steady:
            recording.is_steady = replay(
                self._model,
                self._examples.args,
                self._examples.kwargs,
                recording.script,
                observer,
                nodes=frozenset([n.index for n in self.nodes] if nodes is None else nodes),
                before_write=before_write,
                stops=nodes is not None,
            )
            if recording.is_steady:
                return
        self._record(observer, before_write)

    def _record(
        self,
        observer: Callable[[int, Tensor], None],
        before_write: Callable[[Tensor], None] | None,
        *,
        grad: bool = False,
    ) -> Trace:
        traced = run_observed(
            self._model,
            self._examples,
            self._pre_activations,
            observer,
            seeded=self._seeded,
            before_write=before_write,
            grad=grad,
        )
        self._recording.script = traced.script
        self._recording.wanted = wanted_nodes(traced, self._pre_activations)
        return traced
