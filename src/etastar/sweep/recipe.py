"""What a sweep is made of: sizes, points, the recipe, and what it says of a size before any run."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import isfinite
from operator import index
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import torch

from etastar.errors import EtastarError, MeasureError, TrialError, foreign_errors_as
from etastar.graph.capture import graph_of
from etastar.graph.isolation import global_state_kept
from etastar.measure import measure_update
from etastar.measure.batch import read_batch
from etastar.typed import require_callable, require_type, set_numbers

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler

Objective = Literal["mean", "final", "validation"]
"""Loss of a run: its mean over all steps, over the last tenth of them, or that of `evaluate`."""

FINAL_FRACTION, DIVERGENCE_FACTOR = 0.1, 100.0
"""Share of the steps that `final` is the mean of; a loss beyond this multiple of the first one is
divergence."""

Size: TypeAlias = "tuple[tuple[str, int], ...]"
"""Size of a network as sorted (name, value) pairs: (("depth", 6), ("width", 64))."""


def as_size(given: Mapping[str, int] | Size) -> Size:
    """The size that a caller means by arguments of `make_model`, or by their pairs.

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

    Example:
        >>> format_size((("depth", 6), ("width", 64)))
        'depth=6,width=64'
    """
    return ",".join(f"{name}={value}" for name, value in size)


def parse_size(text: str) -> Size:
    """The size that `format_size` wrote; a ValueError for any other text.

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
    depth: Callable[..., float] | None = None
    settings: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        needed = ("make_model", "batches", "make_optimizer")
        for name in (*needed, "loss_fn", "schedule", "evaluate", "depth"):
            given = getattr(self, name)
            require_callable(name, given, error=TrialError, optional=name not in needed)
        set_numbers(self, "num_steps", "batch_size", error=TrialError, least=1, whole=True)
        require_type("objective", self.objective, Objective, error=TrialError)
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
        """Refuse a `make_optimizer` that cannot take a size, before anything is run."""
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


def recipe_settings(recipe: Recipe) -> dict[str, str]:
    """All that tells a recipe from another: its settings, and "budget.num_steps" and so on."""
    budget = {name: getattr(recipe, name) for name in ("num_steps", "batch_size", "objective")}
    budget |= {"final_fraction": FINAL_FRACTION, "divergence_factor": DIVERGENCE_FACTOR}
    return {**recipe.settings, **{f"budget.{name}": str(value) for name, value in budget.items()}}


@contextmanager
def user_errors(where: str) -> Iterator[None]:
    """Turn what a function of a recipe raises, an exit included, into a TrialError."""
    try:
        with foreign_errors_as(
            TrialError,
            where,
            "a recipe whose functions do not raise",
            "mend what raised, then run the same sweep again; finished runs are kept",
        ):
            yield
    except MeasureError as error:  # of the form of a batch, or a loss that is missing
        raise TrialError(error.received, error.expected, error.action) from error


def measured_start(recipe: Recipe, size: Size, seeds: Sequence[int]) -> float:
    """The learning rate that the maximal-update criterion allows before training.

    eta* = sqrt(1 / M), M the mean square over the outputs of all weight layers, per squared rate,
    that one step of the recipe's own optimizer makes on its first batch; averaged over seeds.
    It is given in the rate that `make_optimizer` takes, and in two digits, so that every machine
    that shares a sweep starts from the same lattice. Costs about seven forward passes per seed.

    Returns:
        The rate: a place to start a search from, not an optimum.

    Example:
        >>> from torch import nn
        >>> recipe = Recipe(
        ...     make_model=lambda width: nn.Linear(width, 1, bias=False),
        ...     batches=lambda seed: [(torch.full((4, 1), 2.0), torch.ones(1))],
        ...     loss_fn=lambda output, targets: output.mean(),
        ...     make_optimizer=lambda model, lr, **size: torch.optim.SGD(model.parameters(), lr),
        ...     num_steps=9,
        ...     batch_size=4,
        ... )
        >>> measured_start(recipe, (("width", 1),), seeds=[0])
        0.25

    Source: [JE], [AM]; docs/definitions.md, section 6.
    """
    try:
        with user_errors("the first step"):
            eta_star = measure_update(
                lambda: recipe.make_model(**dict(size)),
                first_batch(recipe, seeds[0]),
                recipe.loss_fn,
                optimizer=lambda model: recipe.make_optimizer(model, 1.0, **dict(size)),
                seeds=tuple(seeds),
                pre_activations="layers",
                lr_unit=1.0,
            ).eta_star
    except EtastarError as error:
        raise _not_measured(size, error.received) from error
    if not (isfinite(eta_star) and eta_star > 0):
        why = f"eta* = {eta_star}: the loss is not finite, or a step changes no output"
        raise _not_measured(size, why)
    return float(f"{eta_star:.2g}")


def size_depth(recipe: Recipe, size: Size) -> float | None:
    """The effective depth of a size, by which a search predicts its optimum from those before.

    The recipe's `depth` is asked, or else its model is captured on its first batch. None where it
    cannot be captured: the search then takes the size's own "depth", and a model that does not run
    at all raises in its first run.

    Example:
        >>> from torch import nn
        >>> recipe = Recipe(
        ...     make_model=lambda depth: nn.Sequential(*[nn.Linear(2, 2) for _ in range(depth)]),
        ...     batches=lambda seed: [(torch.ones(4, 2), torch.zeros(4, 2))],
        ...     loss_fn=nn.functional.mse_loss,
        ...     make_optimizer=lambda model, lr, **size: torch.optim.SGD(model.parameters(), lr),
        ...     num_steps=1,
        ...     batch_size=4,
        ... )
        >>> size_depth(recipe, (("depth", 3),))
        3.0
    """
    if recipe.depth is not None:
        with user_errors(f"the depth of {format_size(size)}"):
            return float(recipe.depth(**dict(size)))
    network = size_network(recipe, size)
    try:
        return float(graph_of(network).depth().effective_depth)
    except EtastarError:
        return None


def size_network(recipe: Recipe, size: Size, *, device: str = "cpu") -> tuple[nn.Module, Any]:
    """The network of a size as its first run begins with it, on "cpu" or "meta", and its inputs."""
    with user_errors(f"the network of {format_size(size)}"):
        examples = read_batch(first_batch(recipe))
        with global_state_kept(), torch.device(device):
            torch.default_generator.manual_seed(0)
            model = recipe.make_model(**dict(size))
    return model, examples.kwargs or examples.args


def first_batch(recipe: Recipe, seed: int = 0) -> Any:
    """The first batch of a seed, drawn from random numbers of that seed."""
    with global_state_kept():
        torch.default_generator.manual_seed(seed)
        return next(iter(recipe.batches(seed)))


def _not_measured(size: Size, why: str) -> TrialError:
    return TrialError(
        f"no start for the search of {format_size(size)}: {why}",
        "a model, a batch and an optimizer of which one step can be measured",
        "mend what is said, or give the search a start: Bracket(start=...), --lr",
    )
