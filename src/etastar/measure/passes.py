"""Forward passes of one model at several points of a line through its parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from etastar.graph.replay import replay
from etastar.measure.pre_activations import (
    mean_square,
    mean_square_difference,
    run_observed,
    wanted_nodes,
)
from etastar.naming import canonical_parameters

if TYPE_CHECKING:
    from etastar.graph.dag import Node
    from etastar.graph.tracing import Trace
    from etastar.measure.batch import Examples
    from etastar.measure.records import PreActivations

__all__ = ["Passes", "moved_along"]


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


class Passes:
    """Forward passes on the same examples with the same dropout masks; the first is recorded.

    The later ones are replayed, at the price of a forward pass, as long as the model executes the
    same operations.

    Args:
        model: The model; each pass leaves it as it is.
        examples: What it is run on.
        pre_activations: Which count.
        seeded: Called before every pass.
    """

    def __init__(
        self,
        model: nn.Module,
        examples: Examples,
        pre_activations: PreActivations,
        *,
        seeded: Callable[[], None],
    ) -> None:
        self._model = model
        self._examples = examples
        self._pre_activations = pre_activations
        self._seeded = seeded
        self._trace: Trace | None = None
        self.nodes: tuple[Node, ...] = ()
        """The pre-activations, in the order of execution; known after the first pass."""

    def kept(self) -> dict[int, Tensor]:
        """One pass.

        Returns:
            Every pre-activation by its node.

        Raises:
            CaptureError: The forward pass raised.
            MeasureError: There is none.
        """
        found: dict[int, Tensor] = {}

        def keep(index: int, output: Tensor) -> None:
            found[index] = output.detach().clone()

        self._run(keep)
        return {node.index: found[node.index] for node in self.nodes}

    def compared(self, others: Mapping[int, Tensor]) -> tuple[dict[int, float], dict[int, float]]:
        """One pass, beside what another one gave.

        Args:
            others: Of `kept`.

        Returns:
            By node: mean square of the difference, and of the pre-activation itself.

        Raises:
            CaptureError: The forward pass raised.
        """
        changes: dict[int, float] = {}
        values: dict[int, float] = {}

        def compare(index: int, output: Tensor) -> None:
            if index in others:
                changes[index] = mean_square_difference(output, others[index])
                values[index] = mean_square(output)

        self._run(compare)
        return changes, values

    def _run(self, observer: Callable[[int, Tensor], None]) -> None:
        if self._trace is not None and self._replayed(self._trace, observer):
            return
        traced = run_observed(
            self._model,
            self._examples,
            self._pre_activations,
            observer,
            seeded=self._seeded,
        )
        self._trace = replace(traced, result=None)
        self.nodes = wanted_nodes(traced, self._pre_activations)

    def _replayed(self, traced: Trace, observer: Callable[[int, Tensor], None]) -> bool:
        self._seeded()
        return replay(
            self._model,
            self._examples.args,
            self._examples.kwargs,
            traced.script,
            observer,
            nodes=frozenset(node.index for node in self.nodes),
        )
