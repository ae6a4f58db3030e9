"""Layers that training mode skips by chance: found by what evaluation mode runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

from torch import nn

from etastar.errors import CaptureError
from etastar.formatting import name_pattern
from etastar.graph.tracing import Trace, first_line

__all__ = ["with_all_layers"]

_Uses = Counter[tuple[str, ...]]


def with_all_layers(
    model: nn.Module, traced: Trace, evaluated: Callable[[], Trace]
) -> tuple[Trace, str | None]:
    """The trace in which no layer was skipped by chance, and what to know about it.

    Layerdrop and stochastic depth decide by a random number which layers run. Evaluation mode runs
    them all, so that it is asked where training mode drew a number or left a parameter out.

    Args:
        model: The model.
        traced: What it ran in the mode that it is in.
        evaluated: Traces it in evaluation mode.

    Returns:
        The trace of evaluation mode where that runs all that training mode ran and more, else
        `traced`; and a note, None where both run the same.

    Example:
        >>> import random, torch
        >>> from etastar.graph.capture import capture_graph
        >>> class Dropped(nn.Linear):
        ...     def forward(self, x):
        ...         return x if self.training and random.random() < 0.9 else super().forward(x)
        >>> model = nn.Sequential(*[Dropped(4, 4) for _ in range(9)])
        >>> capture_graph(model, torch.ones(1, 4)).depth().effective_depth
        9

    Reference:
        Layerdrop arXiv 1909.11556; stochastic depth arXiv 1603.09382.
    """
    is_training = any(module.training for module in model.modules())
    if not is_training or not (traced.is_random or _unread(traced)):
        return traced, None
    try:
        whole = evaluated()
    except CaptureError as error:
        return traced, _unknown(error) if traced.is_random and _unread(traced) else None
    ran, runs = _uses(traced), _uses(whole)
    missing = runs - ran
    if not missing:
        return traced, None
    skipped = name_pattern(dict.fromkeys(_places(missing, ran)))
    if ran - runs:
        return traced, (
            f"training mode, which was captured, leaves out what evaluation mode runs: {skipped}; "
            "if a random number decides, the depth is one of many"
        )
    return whole, (
        "captured in evaluation mode, as training mode skipped what evaluation mode runs: "
        f"{skipped}"
    )


def _unknown(error: CaptureError) -> str:
    return (
        "a random number was drawn and parameters were not used: whether layers were skipped by "
        f"chance is not known, as evaluation mode does not run ({first_line(error.__cause__)})"
    )


def _places(missing: _Uses, ran: _Uses) -> Iterator[str]:
    """The outermost module around each missing layer in which nothing ran."""
    alive = {""}
    for module, *_ in ran:
        parts = module.split(".")
        alive.update(".".join(parts[:n]) for n in range(1, len(parts) + 1))
    layers = [use for use in missing if len(use) > 1] or missing
    for module, *_ in layers:
        parts = module.split(".")
        around = (".".join(parts[:n]) for n in range(1, len(parts) + 1))
        yield next((place for place in around if place not in alive), module) or "(root)"


def _unread(traced: Trace) -> set[str]:
    """Parameters that no operation on an activation read."""
    return set(traced.parameter_records) - {n for node in traced.nodes for n in node.parameters}


def _uses(traced: Trace) -> _Uses:
    """Weight layers and sums of activations, each by its module and parameters."""
    return Counter(_counted(traced))


def _counted(traced: Trace) -> Iterator[tuple[str, ...]]:
    for node in traced.nodes:
        summed = [i for i in node.addends if node.operands[i].producers]
        if node.weight is not None:
            yield (node.module, *node.weight.parameters)
        elif len(summed) > 1:
            yield (node.module,)
