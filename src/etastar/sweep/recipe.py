"""What a sweep is made of: sizes, points, and the recipe that turns one of them to a loss."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from operator import index
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from etastar.errors import TrialError
from etastar.typed import require_callable, set_numbers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from torch import Tensor, nn
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler

__all__ = [
    "Objective",
    "Point",
    "Recipe",
    "Size",
    "as_size",
    "format_size",
    "parse_size",
    "recipe_settings",
]

Objective = Literal["mean", "final", "validation"]
"""Loss of a run: its mean over all steps, its mean over the last part, or that of `evaluate`."""

Size: TypeAlias = "tuple[tuple[str, int], ...]"
"""Size of a network as sorted (name, value) pairs: (("depth", 6), ("width", 64))."""


def as_size(given: Mapping[str, int] | Size) -> Size:
    """The size that a caller means.

    Args:
        given: Arguments of `make_model`, such as {"depth": 6, "width": 64}, or their pairs.

    Returns:
        Sorted (name, value) pairs, by which a sweep keys its runs.

    Raises:
        TrialError: Not a mapping of names to whole numbers, or an empty one.

    Example:
        >>> as_size({"width": 64, "depth": 6})
        (('depth', 6), ('width', 64))
    """
    try:
        size = tuple(sorted((name, index(value)) for name, value in dict(given).items()))
        valid = bool(size) and all(isinstance(name, str) for name, _ in size)
    except (TypeError, ValueError):
        valid = False
    if not valid:
        raise TrialError(
            f"the size {given!r}",
            "a mapping of names to whole numbers",
            'write for example {"depth": 6, "width": 64}',
        )
    return size


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
    """One training run of a size.

    Attributes:
        lr: Learning rate.
        seed: Of initialization and batches.
    """

    lr: float
    seed: int


@dataclass(frozen=True)
class Recipe:
    """Everything that is the same for all runs of a sweep; the callables are given, not imported.

    For executors that use other processes, all callables must be picklable: functions of a
    module, or `functools.partial` of them.

    Attributes:
        make_model: `make_model(**size)`; it draws from PyTorch's global random numbers.
        batches: `batches(seed)` gives training batches, one for each step at least: (inputs,
            targets), or a dict of the model's keyword arguments.
        loss_fn: `loss_fn(output, targets)` is the scalar loss (of a dict batch the targets are the
            batch); None for the loss that the model itself returns.
        make_optimizer: `make_optimizer(model, lr, **size)`.
        num_steps: Optimizer steps of a run.
        batch_size: Examples in a batch of `batches`.
        schedule: `schedule(optimizer, num_steps)` gives a learning-rate scheduler, which is stepped
            after every step of the optimizer.
        evaluate: Loss of a trained model on held-out data; needed for the objective `validation`.
        objective: See `Objective`.
        final_fraction: Share of the steps, at the end, that `final` is the mean of.
        divergence_factor: A loss beyond this multiple of the first one is divergence.
        depth: `depth(**size)` is the effective depth of a size; None to capture the model for it.
        settings: What else tells this recipe from another, as text: model, data, optimizer. It is
            stored with the runs, and a store of another recipe is refused.

    Raises:
        TrialError: A field is of the wrong kind or out of range.
    """

    make_model: Callable[..., nn.Module]
    batches: Callable[[int], Iterable[Any]]
    loss_fn: Callable[[Any, Any], Tensor] | None
    make_optimizer: Callable[..., Optimizer]
    num_steps: int
    batch_size: int
    schedule: Callable[[Optimizer, int], LRScheduler] | None = None
    evaluate: Callable[[nn.Module], float] | None = None
    objective: Objective = "mean"
    final_fraction: float = 0.1
    divergence_factor: float = 100.0
    depth: Callable[..., float] | None = None
    settings: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._require_callables()
        self._require_numbers()
        texts = self.settings.items() if isinstance(self.settings, Mapping) else [(None, None)]
        if not all(isinstance(text, str) for pair in texts for text in pair):
            raise TrialError(
                f"settings={self.settings!r}", "a mapping of text to text", "write them as text"
            )
        if self.objective == "validation" and self.evaluate is None:
            raise TrialError(
                "the objective 'validation' without `evaluate`",
                "a function that gives the held-out loss of a trained model",
                "give evaluate, or choose the objective 'mean' or 'final'",
            )

    def require_takes(self, size: Size) -> None:
        """Refuse a `make_optimizer` that cannot take the size, before anything is run.

        Args:
            size: Of the sweep.

        Raises:
            TrialError: Its parameters do not take the size.
        """
        try:
            signature = inspect.signature(self.make_optimizer)
        except (TypeError, ValueError):  # of some built-in callables there is none
            return
        try:
            signature.bind(None, 1.0, **dict(size))
        except TypeError as error:
            raise TrialError(
                f"make_optimizer{signature} for the size {format_size(size)}: {error}",
                "make_optimizer(model, lr, **size)",
                "let it take the size as well, whether it uses it or not: add **size",
            ) from error

    def _require_callables(self) -> None:
        needed = ("make_model", "batches", "make_optimizer")
        for name in (*needed, "loss_fn", "schedule", "evaluate", "depth"):
            given = getattr(self, name)
            require_callable(name, given, error=TrialError, optional=name not in needed)

    def _require_numbers(self) -> None:
        set_numbers(self, "num_steps", "batch_size", error=TrialError, least=1, whole=True)
        set_numbers(self, "divergence_factor", error=TrialError, above=1)
        set_numbers(self, "final_fraction", error=TrialError, above=0)
        if self.final_fraction > 1:
            raise TrialError(
                f"final_fraction={self.final_fraction}", "a fraction in (0, 1]", "lower it"
            )
        if self.objective not in ("mean", "final", "validation"):
            raise TrialError(
                f"objective {self.objective!r}", "'mean', 'final' or 'validation'", "choose one"
            )


def recipe_settings(recipe: Recipe) -> dict[str, str]:
    """All that tells a recipe from another, as a store keeps it.

    Args:
        recipe: A recipe.

    Returns:
        Its own settings, and the fields that say how a run is trained as "budget.num_steps" and
        so on.
    """
    names = ("num_steps", "batch_size", "objective", "final_fraction", "divergence_factor")
    return {**recipe.settings, **{f"budget.{name}": str(getattr(recipe, name)) for name in names}}
