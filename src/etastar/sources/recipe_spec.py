"""From names to a recipe: MODEL, data set, optimizer and plan, picklable for other processes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache, partial
from math import inf
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from etastar.datasets import Dataset, TaskKind, load
from etastar.errors import ModelSpecError
from etastar.graph import Graph
from etastar.graph.isolation import global_state_kept
from etastar.init import initialize_
from etastar.laws import get_laws, residual_rule
from etastar.measure.batch import read_batch
from etastar.optimizers import OPTIMIZERS, optimizer_class
from etastar.sources.libraries import GivenInputs
from etastar.sources.model_spec import capture_spec, load_model
from etastar.sources.own_code import OwnBatches, own_data
from etastar.sweep.recipe import Objective, Recipe
from etastar.transfer import TransferPlan, Tuned, plan_transfer
from etastar.transfer.planning import WidthRule
from etastar.typed import require_type

InitName = Literal["all", "last", "none", "own"]
"""Our He initialization with that residual rule, or the model's own initialization."""


@dataclass(frozen=True)
class RecipeSpec:
    """What the command line says of a recipe.

    Attributes:
        model: MODEL, as the command line takes it; its sizes are further settings.
        data: Name of a data set, or `path/file.py:batches`; see `own_data`.
        optimizer: Name of an optimizer of the registry.
        settings: Settings of the model at all sizes.
        data_options: Options of the data set's loader.
        momentum: Of SGD.
        weight_decay: As the optimizer takes it; with a plan that of the base.
        init: See `InitName`; None for "all", or with a plan for what its law needs.
        num_steps: Optimizer steps of a run.
        batch_size: Examples in a batch.
        objective: Loss of a run; see `Recipe`.
        plan_law: Laws of the plan by which every size is trained; none for one rate for all
            parameters.
        plan_width: Width rule of the plan.
        base: Size of the plan's base, where a run's rate is the rate of every parameter.
    """

    model: str
    data: str
    optimizer: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    data_options: Mapping[str, Any] = field(default_factory=dict)
    momentum: float = 0.0
    weight_decay: float = 0.0
    init: str | None = None
    num_steps: int = 100
    batch_size: int = 64
    objective: Objective = "mean"
    plan_law: tuple[str, ...] = ()
    plan_width: WidthRule = "mup"
    base: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        names = [name for name, kind in OPTIMIZERS.items() if kind.fallback is None]
        if self.optimizer not in names:
            raise ModelSpecError(
                f"optimizer {self.optimizer!r}",
                f"one of: {', '.join(names)}",
                "choose a listed one",
            )
        require_type("init", "all" if self.init is None else self.init, InitName)
        optimizer_class(OPTIMIZERS[self.optimizer])  # refused now where it is not installed
        if self.momentum and self.optimizer != "sgd":
            raise ModelSpecError(
                f"momentum={self.momentum} for {self.optimizer}",
                "momentum with sgd alone",
                "leave it out",
            )
        if not (0 <= self.momentum < 1 and 0 <= self.weight_decay < inf):
            raise ModelSpecError(
                f"momentum={self.momentum}, weight_decay={self.weight_decay}",
                "a momentum from 0 to below 1, a finite weight decay of 0 or more",
                "change what is out of range",
            )
        if bool(self.plan_law) != bool(self.base):
            raise ModelSpecError(
                f"a plan with law {self.plan_law} and base {dict(self.base)}",
                "both, or neither",
                "give for example --plan-law complete-p --base depth=2",
            )
        if self.plan_law:
            get_laws(self.plan_law)

    def __hash__(self) -> int:
        return hash(repr(self))  # mappings have none; and 8 is another setting than 8.0

    @property
    def residual_rule(self) -> str:
        """See `InitName`: what was given, or what the plan's law leaves to the initialization."""
        return self.init or residual_rule(get_laws(self.plan_law) if self.plan_law else ())

    def require_sizes(self, sizes: Iterable[Mapping[str, int]]) -> None:
        """Refuse sizes that the settings or the plan's base contradict."""
        names = {name for size in sizes for name in size}
        if twice := sorted(names & set(self.settings)):
            raise ModelSpecError(
                f"{', '.join(twice)} as a size and with --arg",
                "a setting that is the same at all sizes with --arg, any other with the sizes",
                f"leave --arg {twice[0]}={self.settings[twice[0]]} out",
            )
        if self.plan_law and names != set(self.base):
            raise ModelSpecError(
                f"a base of {', '.join(sorted(self.base))} for sizes of {', '.join(sorted(names))}",
                "a base that has every name of the sizes, and no other",
                "give --base the same names as --sizes",
            )


def named_recipe(spec: RecipeSpec) -> Recipe:
    """The recipe that names say.

    Example:
        >>> spec = RecipeSpec("zoo:mlp", "digits", "sgd", {"width": 8}, num_steps=2, batch_size=4)
        >>> len(list(named_recipe(spec).make_model(depth=2).parameters()))
        6
    """
    data = _data(spec)
    return Recipe(
        make_model=partial(_make_model, spec),
        batches=partial(_batches, spec),
        loss_fn=None if data.task is None else partial(_loss, data.task),
        make_optimizer=partial(_make_optimizer, spec),
        num_steps=spec.num_steps,
        batch_size=spec.batch_size,
        evaluate=partial(_held_out_loss, spec) if isinstance(data, Dataset) else None,
        objective=spec.objective,
        depth=partial(_depth, spec),
        settings=_stored(spec),
    )


def _stored(spec: RecipeSpec) -> dict[str, str]:
    """What tells the recipe from another; a plan is named only where there is one."""
    options = {"weight_decay": spec.weight_decay}
    options |= {"momentum": spec.momentum} if spec.momentum else {}
    plan = {"plan law": ",".join(spec.plan_law), "plan base": _text(spec.base)}
    return {
        "model": spec.model,
        "model settings": _text(spec.settings),
        "data": spec.data,
        "data options": _text(spec.data_options),
        "optimizer": spec.optimizer,
        "optimizer options": _text(options),
        "initialization": spec.residual_rule,
        **(plan if spec.plan_law else {}),
    }


def _text(values: Mapping[str, Any]) -> str:
    return json.dumps(dict(values), sort_keys=True)


@lru_cache(maxsize=2)
def _data(spec: RecipeSpec) -> Dataset | OwnBatches:
    """The data, of a file or module or by its name, loaded once in each process."""
    if ":" in spec.data and not spec.data.startswith("hf:"):
        return own_data(spec.data, spec.data_options)
    return load(spec.data, **spec.data_options)


def _inputs(spec: RecipeSpec) -> GivenInputs:
    """Two inputs of the data: a factory need not bring inputs of its own."""
    with global_state_kept():
        examples = read_batch(next(iter(_data(spec).batches(0, 2, 1))))
    return examples.args, examples.kwargs


def _graph(spec: RecipeSpec, size: Mapping[str, int]) -> Graph:
    return _captured(spec, _text(size))


@lru_cache(maxsize=32)
def _captured(spec: RecipeSpec, size: str) -> Graph:
    return capture_spec(spec.model, {**spec.settings, **json.loads(size)}, inputs=_inputs(spec))


def _depth(spec: RecipeSpec, **size: int) -> float:
    return float(_graph(spec, size).depth().effective_depth)


def _plan(spec: RecipeSpec, size: Mapping[str, int], lr: float) -> TransferPlan:
    """The plan that carries a rate of the base to a size."""
    return plan_transfer(
        Tuned(_graph(spec, spec.base), lr, weight_decay=spec.weight_decay),
        _graph(spec, size),
        optimizer=spec.optimizer,
        law=list(spec.plan_law),
        width=spec.plan_width,
    )


def _make_model(spec: RecipeSpec, **size: int) -> nn.Module:
    """A network of one size; its initialization draws from the run's own seed."""
    device = torch.get_default_device().type  # "meta" where the shapes are all that is wanted
    inputs = _inputs(spec)
    settings = {**spec.settings, **size}
    model, _ = load_model(spec.model, settings, inputs=inputs, device=device)
    if any(parameter.is_meta for parameter in model.parameters()):
        return model
    plan = _plan(spec, size, 1.0) if spec.plan_law else None  # every rate has the same factors
    if plan is not None and spec.init is None:
        plan.initialize_(model, seed=run_seed())
        return model
    if spec.residual_rule != "own":
        residual = cast("Any", spec.residual_rule)
        initialize_(model, _graph(spec, size), residual=residual, seed=run_seed())
    if plan is not None:
        plan.rescale_(model)
    return model


def run_seed() -> int:
    """What a run's random numbers were seeded with, below 2^63; PyTorch's own seed has 64 bits."""
    return torch.initial_seed() % 2**63


def _make_optimizer(spec: RecipeSpec, model: nn.Module, lr: float, **size: int) -> Optimizer:
    options = {"momentum": spec.momentum} if spec.momentum else {}
    make: Any = optimizer_class(OPTIMIZERS[spec.optimizer])
    made: Optimizer
    if spec.plan_law:
        made = make(_plan(spec, size, lr).param_groups(model), lr=lr, **options)
    else:
        made = make(model.parameters(), lr=lr, weight_decay=spec.weight_decay, **options)
    getattr(made, "train", bool)()  # schedule-free ones of `schedulefree` ask for it
    return made


def _batches(spec: RecipeSpec, seed: int) -> Iterable[Any]:
    return _data(spec).batches(seed, spec.batch_size, spec.num_steps)


def _loss(task: TaskKind, output: Any, targets: Tensor) -> Tensor:
    scores = getattr(output, "logits", output)  # as transformers names them
    if not isinstance(scores, Tensor):
        raise ModelSpecError(
            f"a model that returned {type(output).__name__}",
            "a tensor, or a record with `logits`",
            "wrap the model in a factory that returns its scores",
        )
    if task == "regression":
        return F.mse_loss(scores, targets)
    return F.cross_entropy(scores.flatten(0, -2), targets.flatten())


@torch.no_grad()
def _held_out_loss(spec: RecipeSpec, model: nn.Module) -> float:
    data = _data(spec)
    assert isinstance(data, Dataset), "own batches have no held-out part"
    device = next(model.parameters()).device
    total = 0.0
    batches = zip(
        torch.split(data.test_inputs, 256), torch.split(data.test_targets, 256), strict=True
    )
    for inputs, targets in batches:
        loss = _loss(data.task, model(inputs.to(device)), targets.to(device))
        total += float(loss) * len(inputs)
    return total / len(data.test_inputs)
