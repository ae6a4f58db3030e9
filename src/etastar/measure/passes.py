"""Forward passes of one model at several points of a line through its parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from etastar.errors import MeasureError
from etastar.graph.replay import Script, replay
from etastar.graph.storage import StorageLog
from etastar.measure.pre_activations import (
    mean_squares_beside,
    run_observed,
    wanted_nodes,
)
from etastar.naming import canonical_parameters

if TYPE_CHECKING:
    from etastar.graph.dag import Node
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
        nodes: Its pre-activations, in the order of execution.
        is_steady: Whether all passes since have executed the same.
    """

    script: Script | None = None
    nodes: tuple[Node, ...] = ()
    is_steady: bool = True


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
    def nodes(self) -> tuple[Node, ...]:
        """The pre-activations, in the order of execution; known after the first pass."""
        return self._recording.nodes

    def kept(self) -> dict[int, Tensor]:
        """One pass.

        Returns:
            Every pre-activation by its node.

        Raises:
            CaptureError: The forward pass raised.
            MeasureError: There is none.
        """
        kept = _Outputs()
        self._run(kept.keep, kept.before_write)
        return {node.index: kept.found[node.index] for node in self.nodes}

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
    ) -> None:
        recording = self._recording
        if recording.script is not None and recording.is_steady:
            recording.is_steady = self._replayed(recording.script, observer, before_write)
            if recording.is_steady:
                return
        traced = run_observed(
            self._model,
            self._examples,
            self._pre_activations,
            observer,
            seeded=self._seeded,
            before_write=before_write,
        )
        recording.script = traced.script
        recording.nodes = wanted_nodes(traced, self._pre_activations)

    def _replayed(
        self,
        script: Script,
        observer: Callable[[int, Tensor], None],
        before_write: Callable[[Tensor], None] | None,
    ) -> bool:
        self._seeded()
        return replay(
            self._model,
            self._examples.args,
            self._examples.kwargs,
            script,
            observer,
            nodes=frozenset(node.index for node in self.nodes),
            before_write=before_write,
        )


class _Outputs:
    """Outputs of a pass, copied only where a later operation is about to write to them."""

    def __init__(self) -> None:
        self.found: dict[int, Tensor] = {}
        self._by_storage: dict[Any, list[int]] = {}

    def keep(self, index: int, output: Tensor) -> None:
        """Observer."""
        self.found[index] = output.detach()
        self._by_storage.setdefault(StorageLog.key(output), []).append(index)

    def before_write(self, tensor: Tensor) -> None:
        """Copy what the storage of a tensor holds of the outputs."""
        for index in self._by_storage.pop(StorageLog.key(tensor), ()):
            self.found[index] = self.found[index].clone()
