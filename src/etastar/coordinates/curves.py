"""Sizes of pre-activations and of their changes at one size and seed, over several steps."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import torch
from torch import nn
from torch.optim import Optimizer

from etastar.coordinates.probing import Place, observed_pass, pass_places
from etastar.errors import MeasureError, OptimizerError
from etastar.measure.batch import Examples, LossFn, read_batch
from etastar.measure.optimizers import NAMED, MakeOptimizer
from etastar.measure.pre_activations import mean_square
from etastar.measure.subject import make_subject
from etastar.measure.warm_up import gradient_on
from etastar.naming import canonical_parameters
from etastar.optimizers import OptimizerKind, optimizer_kind

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from etastar.graph.tracing import Trace
    from etastar.measure.warm_up import Batches

__all__ = ["Curves", "Made", "Norm", "ParamSetting", "RunSetting", "run_curves"]

Norm = Literal["rms", "l1"]
"""Size of a tensor z: (mean z^2)^(1/2), or mean |z|."""

Made: TypeAlias = "nn.Module | tuple[nn.Module, Optimizer | Sequence[Optimizer]]"
"""A model; or a model with its optimizer, or with the several that step together."""


@dataclass(frozen=True)
class ParamSetting:
    """One parameter as it was trained.

    Attributes:
        lr: Its learning rate.
        group: Optimizer and parameter group that it is in.
        kind: Kind of the optimizer; None for one that is undeclared.
        size: Root mean square of its values before the first step.
    """

    lr: float
    group: str
    kind: OptimizerKind | None
    size: float


@dataclass(frozen=True)
class Curves:
    """One run.

    Attributes:
        places: The pre-activations.
        values: Moment of z_t for t = 0, 1, ..., (steps + 1, places): mean z^2 or mean |z|.
        changes: Moment of z_t - z_0 for t = 1, 2, ..., (steps, places).
        settings: Every trained parameter by name.
    """

    places: tuple[Place, ...]
    values: NDArray[np.float64]
    changes: NDArray[np.float64]
    settings: dict[str, ParamSetting]


@dataclass(frozen=True)
class RunSetting:
    """What all runs of a check share; see `coordinate_check`."""

    optimizer: str | MakeOptimizer | None
    lr: float | None
    examples: Examples
    loss_fn: LossFn | None
    num_steps: int
    batches: Batches | None
    norm: Norm


def run_curves(make: Callable[[], Made], setting: RunSetting, *, seed: int) -> Curves:
    """Train one network for a few steps, and look at the same examples before and after each.

    Args:
        make: Makes the model, and its optimizer where the setting has none.
        setting: What all runs share.
        seed: Of the model, of dropout and of the batches.

    Returns:
        The curves.

    Raises:
        MeasureError: The optimizer, the batches or the loss are not accepted.
        CaptureError: The forward pass raised.
    """
    maker = _Maker(make, setting)
    subject = make_subject(maker.model, maker.optimizers, seed=seed)
    settings = _settings(subject.model, maker.made)
    examples = setting.examples.to(subject.model)
    first, values, changes = _First(setting), [], []
    traced = observed_pass(subject, examples, first.keep)
    places = pass_places(traced)
    values.append(first.restricted_to(places))
    for batch in _batches(setting, seed):
        gradient_on(subject, batch.to(subject.model), setting.loss_fn)
        subject.optimizers.step()
        subject.optimizers.zero_grad()
        after = _After(first, setting)
        again = observed_pass(subject, examples, after.compare)
        _require_same(traced, again)
        values.append([after.values[place.node] for place in places])
        changes.append([after.changes[place.node] for place in places])
    return Curves(places, np.array(values), np.array(changes), settings)


class _Maker:
    """Calls the factory and the optimizer function, and keeps the optimizers that came of it."""

    def __init__(self, make: Callable[[], Made], setting: RunSetting) -> None:
        self._make = make
        self._setting = setting
        self.made: tuple[Optimizer, ...] = ()

    def model(self) -> nn.Module:
        made = self._make()
        if isinstance(made, tuple) != (self._setting.optimizer is None):
            raise MeasureError(
                f"a factory that returned {type(made).__name__}, with optimizer="
                f"{self._setting.optimizer!r}",
                "a factory of models with an optimizer beside, or one of (model, optimizer)",
                "give the optimizer in one of the two places",
            )
        if isinstance(made, tuple):
            model, own = made
            self.made = _as_tuple(own)
            return model
        return made

    def optimizers(self, model: nn.Module) -> tuple[Optimizer, ...]:
        chosen = self._setting.optimizer
        if isinstance(chosen, str):
            self.made = (_named(chosen)(model.parameters(), lr=self._setting.lr),)
        elif chosen is not None:
            self.made = _as_tuple(chosen(model))
        return self.made


def _as_tuple(made: Optimizer | Sequence[Optimizer]) -> tuple[Optimizer, ...]:
    return (made,) if isinstance(made, Optimizer) else tuple(made)


def _named(name: str) -> Any:
    if name not in NAMED:
        raise MeasureError(
            f"optimizer {name!r}",
            f"one of: {', '.join(NAMED)}; or a function from a model to its optimizer",
            "choose a listed one, or give a function",
        )
    return NAMED[name]


def _batches(setting: RunSetting, seed: int) -> Iterator[Examples]:
    if setting.batches is None:
        yield from repeat(setting.examples, setting.num_steps)
        return
    stream = iter(setting.batches(seed))
    for done in range(setting.num_steps):
        batch = next(stream, None)
        if batch is None:
            raise MeasureError(
                f"{done} batches for num_steps={setting.num_steps}",
                "a batch for every step",
                "give more batches, or take fewer steps",
            )
        yield read_batch(batch)


class _First:
    """The pre-activations before the first step."""

    def __init__(self, setting: RunSetting) -> None:
        self._setting = setting
        self.outputs: dict[int, Tensor] = {}

    def keep(self, index: int, output: Tensor) -> None:
        self.outputs[index] = output.detach().clone()

    def restricted_to(self, places: tuple[Place, ...]) -> list[float]:
        """Forget all but the pre-activations; their moments."""
        self.outputs = {place.node: self.outputs[place.node] for place in places}
        return [_moment(output, self._setting.norm) for output in self.outputs.values()]


class _After:
    """Moments after a step, and of the change since the first pass."""

    def __init__(self, first: _First, setting: RunSetting) -> None:
        self._first = first.outputs
        self._setting = setting
        self.values: dict[int, float] = {}
        self.changes: dict[int, float] = {}

    def compare(self, index: int, output: Tensor) -> None:
        before = self._first.get(index)
        if before is not None and before.shape == output.shape:
            self.values[index] = _moment(output, self._setting.norm)
            self.changes[index] = _moment(output - before, self._setting.norm)


def _moment(tensor: Tensor, norm: Norm) -> float:
    """What can be averaged over layers and seeds: mean z^2 for the rms, mean |z| for l1."""
    if norm == "rms":
        value = mean_square(tensor)
    else:
        value = float(tensor.detach().abs().mean(dtype=torch.float64))
    return value if math.isfinite(value) else math.inf


def _require_same(before: Trace, after: Trace) -> None:
    if [node.op for node in before.nodes] != [node.op for node in after.nodes]:
        raise MeasureError(
            "a model that executed other operations after a step than before",
            "the same operations at every pass, so that layers can be compared",
            "check control flow that depends on values, or give a submodule",
        )


def _settings(model: nn.Module, optimizers: Sequence[Optimizer]) -> dict[str, ParamSetting]:
    names: dict[int, str] = {}
    for name, parameter in canonical_parameters(model).items():
        names.setdefault(id(parameter), name)
    found = {}
    for optimizer in optimizers:
        kind = _kind(optimizer)
        for number, group in enumerate(optimizer.param_groups):
            title = f"{type(optimizer).__name__}, group {number}"
            title += f" ({group['name']})" if "name" in group else ""
            for parameter in group["params"]:
                size = math.sqrt(mean_square(parameter))
                setting = ParamSetting(float(group["lr"]), title, kind, size)
                found[names[id(parameter)]] = setting
    return found


def _kind(optimizer: Optimizer) -> OptimizerKind | None:
    try:
        return optimizer_kind(type(optimizer))
    except OptimizerError:
        return None
