"""The coordinate check of a named model, with one rate for all or with a plan for each size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import torch

from etastar.coordinates import coordinate_check
from etastar.graph import capture_graph
from etastar.init import initialize_
from etastar.laws import get_laws, residual_rule
from etastar.optimizers import OPTIMIZERS, optimizer_class
from etastar.sources.model_spec import load_model
from etastar.sources.recipe_spec import INITS, RecipeSpec, named_recipe
from etastar.sources.settings import require_apart
from etastar.transfer import TransferPlan, Tuned, plan_transfer, read_architecture

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.optim import Optimizer

    from etastar.coordinates import CoordinateReport
    from etastar.graph import Graph
    from etastar.laws import Architecture

__all__ = ["named_check"]

_WIDTH_RULE = "mup"


def named_check(
    model: str,
    *,
    settings: Mapping[str, Any],
    sizes: Sequence[Mapping[str, int]],
    data: str,
    data_options: Mapping[str, Any],
    optimizer: str,
    lr: float,
    rules: Sequence[str] = (),
    init: str | None = None,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
    batch_size: int = 64,
    num_steps: int = 3,
    num_seeds: int = 3,
) -> CoordinateReport:
    """Check the coordinates of a model that names say.

    Args:
        model: MODEL, as the command line takes it; the sizes are further settings.
        settings: Its settings at all sizes.
        sizes: The sizes; see `coordinate_check`.
        data: Name of a data set.
        data_options: Options of its loader.
        optimizer: "sgd", "adam" or "adamw".
        lr: Learning rate at the first size, which is the base of the plans.
        rules: What each size's plan follows: "mup" for width, a law for depth; none for one rate
            at all sizes.
        init: "all", "last" or "none" for our He initialization with that residual rule, "own" for
            the model's own; by default "none" with a law that brings its own factor for branches,
            else "all".
        momentum: Of SGD.
        weight_decay: As the optimizer takes it.
        batch_size: Examples that are looked at, and trained on.
        num_steps: Steps.
        num_seeds: Seeds 0, 1, ...

    Returns:
        The report.

    Raises:
        ModelSpecError: A name, setting or initialization is not accepted, or a size is a setting.
        LawError: A rule is unknown, or two exclude each other.

    Example:
        >>> report = named_check(
        ...     "zoo:mlp", settings={"depth": 2}, sizes=[{"width": 16}, {"width": 64}],
        ...     data="digits", data_options={}, optimizer="adam", lr=1e-3, num_steps=1, num_seeds=1,
        ... )
        >>> report.passed
        False
    """
    require_apart(settings, {name for size in sizes for name in size})
    depth_laws = [rule for rule in rules if rule != _WIDTH_RULE] or ["constant"]
    laws = get_laws(depth_laws)
    if init is None:
        init = residual_rule(laws)
    spec = RecipeSpec(
        model,
        data,
        optimizer,
        settings=settings,
        data_options=data_options,
        momentum=momentum,
        weight_decay=weight_decay,
        init=init,
        num_steps=num_steps,
        batch_size=batch_size,
    )
    recipe = named_recipe(spec)
    batch = next(iter(recipe.batches(0)))
    family = _Family(
        model,
        dict(settings),
        init,
        inputs=batch[0],
        base=dict(sizes[0]),
        tuned=(lr, weight_decay),
        plan={
            "optimizer": optimizer,
            "law": depth_laws,
            "width": _WIDTH_RULE if _WIDTH_RULE in rules else "none",
        },
        options={"momentum": momentum} if momentum else {},
    )
    return coordinate_check(
        family.make,
        sizes,
        batch,
        recipe.loss_fn,
        num_steps=num_steps,
        seeds=num_seeds,
    )


class _Family:
    """Makes a model of any size, with the optimizer that its plan has for it.

    Without a rule the plan is that of the law `constant`, which changes nothing.
    """

    def __init__(
        self,
        spec: str,
        settings: dict[str, Any],
        init: str,
        *,
        inputs: Tensor,
        base: dict[str, int],
        tuned: tuple[float, float],
        plan: dict[str, Any],
        options: dict[str, Any],
    ) -> None:
        assert init in INITS
        self._spec, self._settings, self._init = spec, settings, init
        self._inputs: tuple[tuple[Any, ...], dict[str, Any]] = (inputs,), {}
        self._base, self._plan, self._options = base, plan, options
        self._lr, self._decay = tuned
        self._graphs: dict[tuple[tuple[str, int], ...], Graph] = {}
        self._plans: dict[tuple[tuple[str, int], ...], TransferPlan] = {}

    def make(self, **size: int) -> tuple[nn.Module, Optimizer]:
        """A model of one size, drawn from the run's seed, and its optimizer."""
        loaded = load_model(self._spec, {**self._settings, **size}, inputs=self._inputs)
        graph = self._graph(size)
        if self._init != "own":
            residual = cast("Any", self._init)
            initialize_(loaded.model, graph, residual=residual, seed=torch.initial_seed())
        plan = self._plan_of(size)
        plan.rescale_(loaded.model)
        kind: Any = optimizer_class(OPTIMIZERS[self._plan["optimizer"]])
        made: Optimizer = kind(plan.param_groups(loaded.model), **self._options)
        return loaded.model, made

    def _graph(self, size: dict[str, int]) -> Graph:
        key = tuple(sorted(size.items()))
        if key not in self._graphs:
            loaded = load_model(self._spec, {**self._settings, **size}, inputs=self._inputs)
            self._graphs[key] = capture_graph(loaded.model, *loaded.args, **loaded.kwargs)
        return self._graphs[key]

    def _plan_of(self, size: dict[str, int]) -> TransferPlan:
        key = tuple(sorted(size.items()))
        if key not in self._plans:
            base, target = self._architecture(self._base), self._architecture(size)
            self._plans[key] = plan_transfer(
                Tuned(base, self._lr, weight_decay=self._decay), target, **self._plan
            )
        return self._plans[key]

    def _architecture(self, size: dict[str, int]) -> Architecture:
        return read_architecture(self._graph(size))
