"""Sizes of pre-activations and of their changes at one size and seed, over several steps."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from etastar.coordinates.probing import Place, pass_places, shown_pass
from etastar.errors import MeasureError, OptimizerError
from etastar.measure.batch import Examples, LossFn
from etastar.measure.pre_activations import mean_square
from etastar.measure.subject import gradient_on, make_subject
from etastar.naming import canonical_parameters
from etastar.optimizers import OptimizerKind, optimizer_kind

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor
    from torch.optim import Optimizer

    from etastar.graph.tracing import Trace
    from etastar.measure.chosen_optimizer import OptimizerChoice
    from etastar.measure.subject import Made, Subject

__all__ = ["Curves", "ParamSetting", "RunSetting", "run_curves"]


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
        first: Mean z_0^2, (1, places).
        changes: Mean (z_t - z_0)^2 for t = 1, 2, ..., (steps, places).
        settings: Every trained parameter by name.
    """

    places: tuple[Place, ...]
    first: NDArray[np.float64]
    changes: NDArray[np.float64]
    settings: dict[str, ParamSetting]


@dataclass(frozen=True)
class RunSetting:
    """What all runs of a check share; see `coordinate_check`."""

    optimizer: OptimizerChoice | None
    lr: float
    examples: Examples
    loss_fn: LossFn | None
    num_steps: int


def run_curves(make: Callable[[], Made], setting: RunSetting, *, seed: int) -> Curves:
    """Train one network for a few steps, and look at the same examples before and after each.

    Args:
        make: Makes the model, and its optimizer where the setting has none.
        setting: What all runs share.
        seed: Of the model and of dropout.

    Returns:
        The curves.

    Raises:
        MeasureError: The optimizer or the loss is not accepted.
        CaptureError: The forward pass raised.
    """
    subject = make_subject(make, setting.optimizer, setting.examples, seed=seed, lr=setting.lr)
    settings = _settings(subject)
    examples = setting.examples.to(subject.model)
    first: dict[int, Tensor] = {}

    def keep(index: int, output: Tensor) -> None:
        first[index] = output.detach().clone()

    traced = shown_pass(subject, examples, keep)
    places = pass_places(traced)
    first = {place.node: first[place.node] for place in places}
    sizes, changes = [[mean_square(output) for output in first.values()]], []
    for _ in range(setting.num_steps):
        gradient_on(subject, examples, setting.loss_fn)
        subject.optimizers.step()
        subject.optimizers.zero_grad()
        moments = _changes_after(subject, examples, traced, first)
        changes.append([moments[place.node] for place in places])
    return Curves(places, np.array(sizes), np.array(changes), settings)


def _changes_after(
    subject: Subject, examples: Examples, traced: Trace, first: dict[int, Tensor]
) -> dict[int, float]:
    """By node, the moment of the change since the first pass."""
    found: dict[int, float] = {}

    def compare(index: int, output: Tensor) -> None:
        before = first.get(index)
        if before is not None and before.shape == output.shape:
            found[index] = mean_square(output - before)

    after = shown_pass(subject, examples, compare)
    if [node.op for node in traced.nodes] != [node.op for node in after.nodes]:
        raise MeasureError(
            "a model that executed other operations after a step than before",
            "the same operations at every pass, so that layers can be compared",
            "check control flow that depends on values, or give a submodule",
        )
    return found


def _settings(subject: Subject) -> dict[str, ParamSetting]:
    names: dict[int, str] = {}
    for name, parameter in canonical_parameters(subject.model).items():
        names.setdefault(id(parameter), name)
    found = {}
    for optimizer in subject.optimizers.all:
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
