"""From a recipe, small sizes and a target to a plan: tune as much as it takes, and no more."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from math import prod
from statistics import mean
from typing import TYPE_CHECKING, Any, TypeAlias, TypedDict

from etastar.errors import EtastarError, TrialError
from etastar.fit import Optimum
from etastar.graph.capture import graph_of
from etastar.laws import Law
from etastar.optimizers import OptimizerKind, OptimizerLike, optimizer_kind
from etastar.sweep.executors import Executor
from etastar.sweep.recipe import Recipe, Size, as_size, format_size, size_network, user_errors
from etastar.sweep.result import Progress, SweepResult
from etastar.sweep.search.base import Search
from etastar.sweep.storage import MemoryStore, Store
from etastar.sweep.study import run_sweep
from etastar.sweep.tune_result import FurtherSize, StopReason, TuneProgress, TuneResult, reach
from etastar.transfer import Target, TransferPlan, Tuned, plan_transfer, read_architecture
from etastar.typed import require_callable, require_number

if TYPE_CHECKING:
    from torch.optim import Optimizer
    from typing_extensions import Unpack


_ALLOCATED = 50_000_000
"""Parameters up to which the target is built with its weights, in which its initialization is
found; beyond, on shapes alone."""

_FIRST_RUNS = 12
"""Runs of a size before any is known; empirical, of bracket with two seeds."""

_ANY_RATE = 1e-3
"""A rate at which everything but the rates is checked before a run."""


class SweepOptions(TypedDict, total=False):
    """Keyword arguments of `run_sweep` that `tune` passes on."""

    search: Search | str | Sequence[float]
    seeds: int | Sequence[int]
    storage: Store | str | os.PathLike[str] | None
    workers: int | Executor
    name: str


def tune(
    recipe: Recipe,
    bases: Iterable[Mapping[str, int] | Size],
    target: Mapping[str, int] | Size,
    *,
    optimizer: OptimizerLike | None = None,
    law: str | Law | Sequence[str | Law] = "auto",
    precision: float = 1.5,
    budget: float = 0.05,
    on_progress: Callable[[TuneProgress], None] | None = None,
    **options: Unpack[SweepOptions],
) -> TuneResult:
    """Tune small networks until the target's learning rate is known well enough, and plan for it.

    The cheapest size is swept, and a plan made to the target. While the interval of the plan's rate
    reaches further than `precision`, the next size is swept too, from what is known by then; but
    not where all of it would cost more than `budget`. The plan is made from all sizes, each rate as
    precise as its own sweep found it. Training compute is steps x parameters x examples of a batch.

    Everything but the rates is checked, every network built once, before the first run. The same
    call on the same storage goes on where it was stopped, and comes to the same result.

    Args:
        recipe: What a run is, of the bases and of the target alike: batch, steps, schedule.
        bases: Sizes that may be tuned, below the target; they are tuned in the order of their cost.
        target: Size of the network to be trained.
        optimizer: Kind of the optimizer for the plan; None to take it from what the recipe's
            `make_optimizer` makes, with its settings and the rate that it then has.
        law: As `plan_transfer` takes it.
        precision: Factor from the rate to the end of its interval that is enough.
        budget: Most to spend, as a share of one run of the target. The first size is always tuned.
        on_progress: Called after every run.
        **options: `seeds`, `storage`, `workers`, `search`, `name`, as for `run_sweep`.

    Returns:
        The plan, its interval, the sweep, the cost, and what it would cost to know more.

    Raises:
        TrialError: An argument is not accepted, a run raised, or no size has an optimum.
        PlanError: Base and target are no two sizes of one architecture, or as `plan_transfer`.
        LawError: As `plan_transfer`.
        OptimizerError: The recipe's optimizer is of no known kind: name it with `optimizer`.
        StorageError: As `run_sweep`.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from etastar.sweep.search import Bracket
        >>> def net(depth):
        ...     return nn.Sequential(*[nn.Linear(4, 4) for _ in range(depth)])
        >>> recipe = Recipe(
        ...     make_model=net,
        ...     batches=lambda seed: [(torch.randn(8, 4), torch.zeros(8, 4))] * 9,
        ...     loss_fn=nn.functional.mse_loss,
        ...     make_optimizer=lambda model, lr, **size: torch.optim.SGD(model.parameters(), lr),
        ...     num_steps=9,
        ...     batch_size=8,
        ... )
        >>> found = tune(recipe, [{"depth": 2}, {"depth": 4}], {"depth": 64}, precision=3)
        >>> found.plan.target_depth, found.cost < 1, found.stop
        (64, True, 'budget')

    Source: docs/guides/tuning.md.
    """
    for name, value, least in (("precision", precision, 1), ("budget", budget, 0)):
        require_number(name, value, error=TrialError, above=least)
    require_callable("on_progress", on_progress, error=TrialError, optional=True)
    if unknown := sorted(options.keys() - SweepOptions.__annotations__.keys()):
        raise TypeError(f"tune() got an unexpected keyword argument {unknown[0]!r}")
    case = _case(recipe, bases, target, optimizer, law)
    case.plan(dict.fromkeys(case.bases, (_ANY_RATE, None)))  # refuses what no rate would mend
    known = options.get("storage")
    options["storage"] = MemoryStore() if known is None else known  # one for all calls
    steps: dict[Size, int] = {}

    def report(progress: Progress) -> None:
        steps[progress.size] = progress.steps
        if on_progress is not None:
            expected = case.expected_cost(steps, budget)
            on_progress(TuneProgress(progress, case.cost(steps), expected))

    stop: StopReason = "no further size"
    for number, size in enumerate(case.bases, 1):
        if number > 1 and case.cost(steps) + case.next_cost(size, steps) > budget:
            stop = "budget"
            break
        sweep = run_sweep(recipe, case.bases[:number], on_progress=report, **options)
        if not (found := case.tuned(sweep)):
            continue
        plan = case.plan(found)
        if plan.lr_interval is not None and reach(plan.lr_interval) <= precision:
            stop = "precise"
            break
    if not found:
        raise _without_optimum(sweep)
    cost, further = case.cost(steps), case.further(found, steps)
    return TuneResult(plan, sweep, case.target, cost, stop, precision, budget, further)


@dataclass(frozen=True)
class _Network:
    """A network, and what of it is asked again and again."""

    given: Any  # a `NetworkLike`; of a base the model with its inputs
    depth: int
    num_parameters: int


def _network(recipe: Recipe, size: Size, *, shapes_will_do: bool = False) -> _Network:
    """The network of a size; a large one on shapes alone where that is enough."""

    def read(given: Any) -> _Network:
        found = read_architecture(given)
        count = sum(prod(parameter.shape) for parameter in found.parameters)
        return _Network(given, found.report.effective_depth, count)

    if shapes_will_do:
        with suppress(EtastarError):  # code that needs values gets them
            network = read(graph_of(size_network(recipe, size, device="meta")))
            if network.num_parameters > _ALLOCATED:
                return network
    return read(size_network(recipe, size))


_Rates: TypeAlias = "dict[Size, tuple[float, float | None]]"
"""Tuned rate of sizes, and the standard deviation of its logarithm."""


@dataclass(frozen=True)
class _Case:
    """What stays the same while sizes are added."""

    recipe: Recipe
    bases: tuple[Size, ...]
    target: Size
    networks: dict[Size, _Network]
    optimizer: OptimizerLike | None
    law: str | Law | Sequence[str | Law]

    def share(self, size: Size, steps: float) -> float:
        """What steps of a size cost, as a share of one run of the target."""
        relative = self.networks[size].num_parameters / self.networks[self.target].num_parameters
        return steps / self.recipe.num_steps * relative

    def cost(self, steps: Mapping[Size, int]) -> float:
        """What all steps so far cost."""
        return sum(self.share(size, spent) for size, spent in steps.items())

    def next_cost(self, size: Size, steps: Mapping[Size, int]) -> float:
        """What one more size costs, if it takes as many steps as those before did."""
        return self.share(size, mean(steps.values()))

    def expected_cost(self, steps: Mapping[Size, int], budget: float) -> float:
        """Cost in all of the sizes that fit the budget, and of the size that is under way."""
        usual = max([_FIRST_RUNS * self.recipe.num_steps, *steps.values()])
        done = [self.share(size, spent) for size, spent in list(steps.items())[:-1]]
        total = sum(done) + self.share(list(steps)[-1], usual)
        for size in self.bases[len(steps) :]:
            if (more := self.share(size, usual)) + total > budget:
                break
            total += more
        return total

    def tuned(self, sweep: SweepResult) -> _Rates:
        """The optima of a sweep that lie within their range."""
        optima = sweep.optima.items()
        return {
            size: (best.lr, best.log_lr_sd) for size, best in optima if best and not best.at_edge
        }

    def plan(self, rates: _Rates, target: Size | None = None) -> TransferPlan:
        """The plan from tuned sizes."""
        found, goal, optimizer = self.ends(rates, target)
        return plan_transfer(found, goal, optimizer=optimizer, law=self.law)

    def ends(
        self, rates: _Rates, target: Size | None = None
    ) -> tuple[tuple[Tuned, ...], Target, OptimizerLike]:
        """Tuned sizes, a target and the optimizer, as `plan_transfer` takes them."""
        found = tuple(self._tuned(size, *rate) for size, rate in rates.items())
        goal = Target(
            self.networks[target or self.target].given,
            batch_size=self.recipe.batch_size,
            num_steps=self.recipe.num_steps,
        )
        if self.optimizer is not None:
            return found, goal, self.optimizer
        # the last of those that are equally deep, as plan_transfer takes it
        deepest = max(reversed(rates), key=lambda size: self.networks[size].depth)
        return found, goal, self._made_optimizer(deepest, rates[deepest][0])

    def further(self, rates: _Rates, steps: Mapping[Size, int]) -> FurtherSize | None:
        """The next size, its cost, and the interval if it came out as expected."""
        left = [size for size in self.bases if size not in steps]
        size = left[0] if left else _doubled(self.bases[-1], self.target)
        if size is None:
            return None
        try:
            network = self.networks.get(size) or _network(self.recipe, size)
            case = replace(self, networks={**self.networks, size: network})
            spreads = [sd for _, sd in rates.values() if sd is not None]
            there = case.plan(rates, size).lr, mean(spreads) if spreads else None
            interval = case.plan({**rates, size: there}).lr_interval
        except EtastarError:  # no such network: as many heads as will not divide the width
            return None
        cost = case.next_cost(size, steps)
        return FurtherSize(size, cost, None if interval is None else reach(interval))

    def _tuned(self, size: Size, lr: float, sd: float | None) -> Tuned:
        made = self._made_optimizer(size, lr)
        settings: dict[str, Any] = {}
        if self.optimizer is None:
            lr = float(made.param_groups[0]["lr"])  # a recipe may scale the rate that it is given
        else:
            settings = _settings(made, optimizer_kind(self.optimizer))
        return Tuned(
            self.networks[size].given,
            lr,
            batch_size=self.recipe.batch_size,
            num_steps=self.recipe.num_steps,
            log_lr_sd=sd,
            **settings,
        )

    def _made_optimizer(self, size: Size, lr: float) -> Optimizer:
        """The recipe's own optimizer of a base."""
        model, _ = self.networks[size].given
        with user_errors(f"make_optimizer of {format_size(size)}"):
            return self.recipe.make_optimizer(model, lr, **dict(size))


def _case(
    recipe: Recipe,
    bases: Iterable[Mapping[str, int] | Size],
    target: Mapping[str, int] | Size,
    optimizer: OptimizerLike | None = None,
    law: str | Law | Sequence[str | Law] = "auto",
) -> _Case:
    """Read the sizes and build each network once; the bases in the order of their cost."""
    if not isinstance(recipe, Recipe):
        raise TrialError(f"recipe={recipe!r}", "a Recipe", "see etastar.Recipe")
    is_list = isinstance(bases, Iterable) and not isinstance(bases, (str, Mapping))
    given = tuple(bases) if is_list else ()
    goal, sizes = as_size(target), tuple(as_size(size) for size in given)
    names = {tuple(name for name, _ in size) for size in (*sizes, goal)}
    if not sizes or len(set(sizes)) < len(sizes) or goal in sizes or len(names) > 1:
        raise TrialError(
            f"bases {'; '.join(map(format_size, sizes)) or given}, target {format_size(goal)}",
            "one base or more, each once, none of them the target, all of the target's names",
            'write for example [{"depth": 2}, {"depth": 4}] and {"depth": 16}',
        )
    for size in (*sizes, goal):
        recipe.require_takes(size)
    networks = {size: _network(recipe, size) for size in sizes}
    networks[goal] = _network(recipe, goal, shapes_will_do=True)
    ordered = sorted(sizes, key=lambda size: networks[size].num_parameters)
    return _Case(recipe, tuple(ordered), goal, networks, optimizer, law)


def recipe_ends(
    recipe: Recipe, optima: Mapping[Size, Optimum], target: Mapping[str, int]
) -> tuple[tuple[Tuned, ...], Target, OptimizerLike]:
    """Tuned sizes of a recipe, a target and its optimizer, as `tune` hands them to a plan."""
    rates = {size: (best.lr, best.log_lr_sd) for size, best in optima.items()}
    return _case(recipe, tuple(rates), target).ends(rates)


def _settings(made: Optimizer, kind: OptimizerKind) -> dict[str, Any]:
    """Settings of the recipe's optimizer, with which its rate was tuned, that a kind has too."""
    group, decays = made.param_groups[0], [g.get("weight_decay", 0.0) for g in made.param_groups]
    found: dict[str, Any] = {} if kind.weight_decay is None else {"weight_decay": max(decays)}
    found |= {"no_decay": ()} if found and len(set(decays)) == 1 else {}
    if kind.betas is not None and "betas" in group:
        found["betas"] = tuple(map(float, group["betas"]))
    if kind.eps is not None and "eps" in group:
        found["eps"] = float(group["eps"])
    return found


def _doubled(size: Size, target: Size) -> Size | None:
    """The size after the last: what is below the target doubled; None where that is no step."""
    goal = dict(target)
    grown = tuple((name, min(2 * n, goal[name]) if n < goal[name] else n) for name, n in size)
    return None if grown in (size, target) else grown


def _without_optimum(sweep: SweepResult) -> TrialError:
    flags = [f"{format_size(one.size)}: {', '.join(one.flags)}" for one in sweep.sizes]
    return TrialError(
        f"no size with an optimum within its range ({'; '.join(flags)})",
        "a size whose loss is lowest between two rates that were run",
        "search a wider range of rates, or check that the loss is finite and falls; runs are kept",
    )
