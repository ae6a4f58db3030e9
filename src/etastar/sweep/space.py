"""What a sweep is made of: sizes, points, a budget, and the experiment that turns one to a loss."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING, Literal

from etastar.errors import TrialError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from torch import Tensor, nn
    from torch.optim import Optimizer

__all__ = ["Budget", "Experiment", "Objective", "Point", "Size", "format_size", "parse_size"]

Objective = Literal["mean", "final", "validation"]
"""Loss of a run: its mean over the budget, its mean over the last part, or that of `evaluate`."""

Size = tuple[tuple[str, int], ...]
"""Size of a network as sorted (name, value) pairs: (("depth", 6), ("width", 64))."""


def format_size(size: Size) -> str:
    """A size as text, as it names a study and stands in messages.

    Args:
        size: Sorted (name, value) pairs.

    Returns:
        name=value, separated by commas.

    Example:
        >>> format_size((("depth", 6), ("width", 64)))
        'depth=6,width=64'
    """
    return ",".join(f"{name}={value}" for name, value in size)


def parse_size(text: str) -> Size:
    """The size that `format_size` wrote.

    Args:
        text: name=value, separated by commas.

    Returns:
        Sorted (name, value) pairs.

    Raises:
        ValueError: It is no such text.

    Example:
        >>> parse_size("width=64,depth=6")
        (('depth', 6), ('width', 64))
    """
    pairs = (part.split("=") for part in text.split(","))
    return tuple(sorted((name, int(value)) for name, value in pairs))


@dataclass(frozen=True, order=True)
class Point:
    """One training run of a size: its learning rate and its seed.

    Attributes:
        lr: Learning rate.
        seed: Of initialization and batches.
        ceiling: Mean loss that ends the run once it is certain to exceed it; for the objective
            `mean` and losses that are never negative. Not part of what the point is.
    """

    lr: float
    seed: int
    ceiling: float = field(default=inf, compare=False, repr=False)


@dataclass(frozen=True)
class Budget:
    """How long every run trains, and what counts as its loss.

    Attributes:
        num_steps: Optimizer steps.
        batch_size: Examples in a batch.
        objective: See `Objective`.
        final_fraction: Share of the steps, at the end, that `final` is the mean of.
        divergence_factor: A loss beyond this multiple of the first one is divergence.
    """

    num_steps: int
    batch_size: int
    objective: Objective = "mean"
    final_fraction: float = 0.1
    divergence_factor: float = 100.0

    def __post_init__(self) -> None:
        if self.num_steps < 1 or self.batch_size < 1:
            raise TrialError(
                f"num_steps={self.num_steps}, batch_size={self.batch_size}",
                "at least 1 of each",
                "give a longer budget",
            )
        if self.objective not in ("mean", "final", "validation"):
            raise TrialError(
                f"objective {self.objective!r}", "'mean', 'final' or 'validation'", "choose one"
            )


@dataclass(frozen=True)
class Experiment:
    """Everything that is the same for all runs of a sweep; the callables are given, not imported.

    For executors that use other processes, all callables must be picklable: functions of a
    module, or `functools.partial` of them.

    Attributes:
        factory: `factory(**size)` makes the model; it draws from PyTorch's global random numbers.
        batches: `batches(seed, batch_size, num_steps)` gives training batches (inputs, targets).
        loss_fn: `loss_fn(model(inputs), targets)` is the scalar loss.
        make_optimizer: `make_optimizer(model, lr)`.
        budget: Length of a run and its loss.
        evaluate: Loss of a trained model on held-out data; needed for the objective `validation`.
        settings: What else tells this experiment from another, as text: model, data, optimizer. It
            is stored with the runs, and a store of another experiment is refused.
    """

    factory: Callable[..., nn.Module]
    batches: Callable[[int, int, int], Iterable[tuple[Tensor, Tensor]]]
    loss_fn: Callable[[Tensor, Tensor], Tensor]
    make_optimizer: Callable[[nn.Module, float], Optimizer]
    budget: Budget
    evaluate: Callable[[nn.Module], float] | None = None
    settings: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.budget.objective == "validation" and self.evaluate is None:
            raise TrialError(
                "the objective 'validation' without `evaluate`",
                "a function that gives the held-out loss of a trained model",
                "give evaluate, or choose the objective 'mean' or 'final'",
            )
