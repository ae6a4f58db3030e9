"""What every rule proposes for a target, from what was tuned at the base alone."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from dataclasses import dataclass
from math import inf, isfinite, log
from statistics import median
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
import torch.nn.functional as F

from etastar import Tuned, plan_transfer
from etastar.errors import MeasureError
from etastar.laws import Law, Structure
from etastar.transfer import Measure
from etastar.transfer.experience import Parametrization
from studies.families.recipes import family_graph, network_recipe

if TYPE_CHECKING:
    from studies.families.curves import Curve, FamilyCurves
    from studies.families.declared import FamilyScale, NetworkFamily

_RESIDUAL: Final = {"gpt": "last", "gpt-muon": "last", "resnet-am": "all", "resmlp-am": "all"}
"""Branch weights that carry 1/K in the families' own initialization; of the others none does."""
_RANGE: Final = (1e-7, 10.0, 100)  # first and last rate, and steps, of the range test
_SAMPLERS: Final = 20
_DECADE: Final = 100.0


@dataclass(frozen=True)
class Offer:
    """A rate for a target, before it is trained there.

    Attributes:
        rule: Which.
        parametrization: Under which the target is trained.
        lr: The rate; 0 or infinite where the rule gave none that can be trained.
        cost: Training compute before the target starts, as a share of one target run.
        interval: 95% interval of the rate, of a rule that has one.
        told: What it said.
    """

    rule: str
    parametrization: Parametrization
    lr: float
    cost: float
    interval: tuple[float, float] | None = None
    told: str = ""


def offers(curves: FamilyCurves, target: int) -> Iterator[Offer]:
    """Every rule but the default choice, which needs the other families.

    Args:
        curves: Of the family; only its base (and the next size, for fits) is looked at, and the
            target's own curve by Optuna, which is searched on it in hindsight.
        target: Depth of the target.

    Yields:
        What the rules propose; a rule that does not fit is left out.
    """
    base = curves.base
    if base is None:
        return
    family, scale = curves.family, curves.scale
    lr, once = base.optimum.lr, tuning_cost(curves, [family.base_depth], "own", target)
    own = _Asked(family, scale, target, lr)
    yield Offer("one rate", "own", lr, once)
    yield Offer("-3/2", "own", own.rate("effective-depth"), once)
    tuned = curves.curve("stabilized", family.base_depth)
    if "stabilized" in family.parametrizations and tuned is not None:
        found = _Asked(family, scale, target, tuned.optimum.lr)
        cost = tuning_cost(curves, [family.base_depth], "stabilized", target)
        yield Offer("-3/2, stabilized", "stabilized", found.rate("effective-depth"), cost)
        yield Offer("structure, stabilized", "stabilized", found.rate(Structure("all")), cost)
    residual: Any = _RESIDUAL.get(family.name, "none")
    yield Offer("structure", "own", own.rate(Structure(residual)), once)
    if "complete-p" in family.parametrizations:
        yield Offer("depth-mup", "depth-mup", lr, once)
        yield Offer("complete-p", "complete-p", lr, once)
    measured = _measured(family, scale, target, lr)
    if measured is not None:
        yield Offer("measured", "own", measured, once + 6 * _per_step(curves, target))
    second = curves.curve("own", family.sizes(scale)[1])
    if second is not None and family.sizes(scale)[1] < target:
        sizes = list(family.sizes(scale)[:2])
        fitted = _fitted(family, scale, target, [base, second])
        yield Offer("fit of two", "own", fitted, tuning_cost(curves, sizes, "own", target))
    tested, steps = _range_test(family, scale, target)
    if tested is not None:
        yield Offer("range test", "own", tested, steps / scale.num_steps)
    at_target = curves.curve("own", target)
    if at_target is not None:
        trials = max(1, round(once))
        yield Offer("Optuna", "own", optuna_rate(at_target, lr, trials), float(trials))


def tuning_cost(
    curves: FamilyCurves, sizes: list[int], parametrization: Parametrization, target: int
) -> float:
    """Compute of the runs of some sizes as a share of one run of the target.

    Steps times parameters; examples and their tokens are the same at all sizes.
    """
    scale = curves.scale
    whole = scale.num_steps * _num_parameters(curves, target)
    spent = 0.0
    for depth in sizes:
        curve = curves.curve(parametrization, depth)
        runs = 0 if curve is None else len(curve.rates) * len(scale.seeds)
        spent += runs * scale.num_steps * _num_parameters(curves, depth)
    return spent / whole


def _per_step(curves: FamilyCurves, target: int) -> float:
    """A step at base and target, as a share of a target run."""
    base = _num_parameters(curves, curves.family.base_depth) / _num_parameters(curves, target)
    return (1 + base) / curves.scale.num_steps


def _num_parameters(curves: FamilyCurves, depth: int) -> int:
    graph = family_graph(curves.family.name, curves.scale.name, depth)
    return sum(int(np.prod(p.shape)) for p in graph.parameters)


@dataclass(frozen=True)
class _Asked:
    """A transfer of one family's tuned rate, at one width."""

    family: NetworkFamily
    scale: FamilyScale
    target: int
    lr: float

    def rate(self, law: str | Law) -> float:
        """The rate of the main group."""
        name, scale = self.family.name, self.scale.name
        return plan_transfer(
            tuned(family_graph(name, scale, self.family.base_depth), self.lr, self.family),
            family_graph(name, scale, self.target),
            optimizer=self.family.optimizer,
            law=law,
            width="none",
        ).lr


def tuned(network: Any, lr: float, family: NetworkFamily, **given: Any) -> Tuned:
    """A tuned network of a family; with Muon one rate goes for both optimizers."""
    return Tuned(network, lr, aux_lr=lr if family.optimizer == "muon" else None, **given)


def _fitted(family: NetworkFamily, scale: FamilyScale, target: int, curves: list[Curve]) -> float:
    sizes = family.sizes(scale)[:2]
    bases = [
        tuned(
            family_graph(family.name, scale.name, depth),
            *(curve.optimum.lr, family),
            log_lr_sd=curve.log_sd,
        )
        for depth, curve in zip(sizes, curves, strict=True)
    ]
    graph = family_graph(family.name, scale.name, target)
    plan = plan_transfer(bases, graph, optimizer=family.optimizer, law="fitted", width="none")
    return plan.lr


def _measured(family: NetworkFamily, scale: FamilyScale, target: int, lr: float) -> float | None:
    """The criterion at base and target under the network's own initialization."""
    recipe = network_recipe(family, scale, "own")
    inputs, targets = next(iter(recipe.batches(scale.seeds[0])))
    networks = []
    for depth in (family.base_depth, target):
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(scale.seeds[0])
            networks.append((recipe.make_model(depth=depth), inputs))
    try:
        return plan_transfer(
            tuned(networks[0], lr, family),
            networks[1],
            optimizer=family.optimizer,
            law="measured",
            width="none",
            measure=Measure((inputs, targets), F.cross_entropy),
        ).lr
    except MeasureError:
        return None


def _range_test(family: NetworkFamily, scale: FamilyScale, target: int) -> tuple[float | None, int]:
    """The rate of steepest descent of torch-lr-finder, and the steps that it took."""
    from matplotlib.figure import Figure  # comes with the package
    from torch.utils.data import DataLoader
    from torch_lr_finder import LRFinder

    first, last, steps = _RANGE
    recipe = network_recipe(family, scale, "own", num_steps=steps)
    batches: Any = list(recipe.batches(scale.seeds[0] + 30_000))
    silence = io.StringIO()
    with (
        torch.random.fork_rng(devices=[]),
        contextlib.redirect_stdout(silence),
        contextlib.redirect_stderr(silence),
    ):
        torch.default_generator.manual_seed(scale.seeds[0])
        model = recipe.make_model(depth=target)
        optimizer: Any = recipe.make_optimizer(model, first, depth=target)
        finder: Any = LRFinder(model, optimizer, F.cross_entropy, device="cpu")
        finder.range_test(DataLoader(batches, batch_size=None), end_lr=last, num_iter=steps)
        taken = len(finder.history["lr"])
        if taken < 20:
            return None, taken
        _, rate = finder.plot(ax=Figure().subplots(), suggest_lr=True)
    return float(rate), taken


def optuna_rate(curve: Curve, centre: float, trials: int) -> float:
    """What TPE finds with so many runs at the target: the median of twenty samplers' best rates.

    A run's loss is read off the first seed's curve, linear in log lr between its rates; beyond
    them it is that of the end, or one above the initial loss where that diverged. So Optuna runs
    for nothing, in hindsight.

    Args:
        curve: Of the target.
        centre: It looks from a hundredth of this rate to ten times it.
        trials: Runs.

    Returns:
        The rate.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    logs = np.log(curve.rates)
    first = np.array([losses[0] for losses in curve.losses])
    worst = curve.initial_loss + 1
    heights = np.where(np.isfinite(first), first, worst)

    def loss(trial: optuna.Trial) -> float:
        lr = trial.suggest_float("lr", centre / _DECADE, centre * _DECADE**0.5, log=True)
        return float(np.interp(log(lr), logs, heights))

    best = []
    for seed in range(_SAMPLERS):
        study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed))
        study.optimize(loss, n_trials=trials)
        best.append(study.best_params["lr"])
    return float(median(best))


def is_rate(lr: float) -> bool:
    """Whether an optimizer takes it."""
    return 0 < lr < inf and isfinite(lr)
