"""The caller's optimizer over a private model, and the direction of its next step."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from importlib import import_module
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from etastar.errors import MeasureError
from etastar.naming import canonical_parameters

__all__ = ["NAMED", "Direction", "MakeOptimizer", "OptimizerChoice", "Optimizers"]

MakeOptimizer: TypeAlias = "Callable[[nn.Module], Optimizer | Sequence[Optimizer]]"
"""From a model to its optimizer, or to the several that step together."""

OptimizerChoice: TypeAlias = "str | Optimizer | Sequence[Optimizer] | MakeOptimizer"
"""A name, the model's own optimizer, or a function that makes one for a model."""

NAMED: dict[str, Any] = {
    "sgd": torch.optim.SGD,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
}
"""Optimizers by name: as PyTorch sets them, at the learning rate 1."""

_SEPARABLE = {
    getattr(torch.optim, name)
    for name in (
        *("SGD", "Adam", "AdamW", "RMSprop", "Adadelta", "Adamax", "NAdam", "RAdam"),
        *("ASGD", "Rprop", "Muon"),
    )
    if hasattr(torch.optim, name)
}
_FUSED = (torch.optim.Adam, torch.optim.AdamW)
_optimizer_module = import_module("torch.optim.optimizer")  # `torch.optim` hides its name
_GLOBAL_HOOKS = ("_global_optimizer_pre_hooks", "_global_optimizer_post_hooks")
_NUM_PARTS = 4

_LOST_IN_ROUNDING = 1e-4  # largest relative update of which float32 keeps three digits or fewer
_SAFE_UPDATE = 2.0**-7
_LEAST_UPDATE = 2.0**-24  # below it nothing is left of an update in float32
_MAX_ATTEMPTS = 4


@dataclass(frozen=True)
class Direction:
    """Where a step goes.

    Attributes:
        updates: Update per unit of the learning rate, by name of the parameter.
        sizes: Norm of every parameter.
        lengths: Norm of every update.
    """

    updates: Mapping[str, Tensor]
    sizes: Mapping[str, float]
    lengths: Mapping[str, float]

    @property
    def scale(self) -> float:
        """Length of the parameters (1 where these are zero) over that of the update."""
        length = math.hypot(*(self.lengths[name] for name in self.updates))
        size = math.hypot(*(self.sizes[name] for name in self.updates))
        return (size or 1.0) / length if length else 1.0

    def only(self, names: Collection[str]) -> Direction:
        """The part of it that moves some of the parameters."""
        kept = {name: u for name, u in self.updates.items() if name in names}
        sizes = {name: self.sizes[name] for name in kept}
        return Direction(kept, sizes, {name: self.lengths[name] for name in kept})


class Optimizers:
    """The optimizers of one model, stepped together.

    Args:
        model: Whose parameters they hold.
        optimizers: They.
        unit: Learning rate that the others are told relative to; None for that of the parameter
            group with the most elements.

    Raises:
        MeasureError: No optimizer, one over other parameters, or a rate that is not positive.
    """

    def __init__(
        self, model: nn.Module, optimizers: Iterable[Optimizer], *, unit: float | None = None
    ) -> None:
        self._model = model
        self._all = tuple(optimizers)
        self._groups = [group for one in self._all for group in one.param_groups]
        _require_own_parameters(model, self._groups)
        self._rates = [float(group["lr"]) for group in self._groups]
        self.unit = _largest_rate(self._groups) if unit is None else float(unit)
        if not self.unit > 0:
            raise MeasureError(
                f"an optimizer with learning rate {self.unit}",
                "a positive rate: the measured step is divided by it",
                "give the optimizer any positive learning rate",
            )

    def set_rate(self, lr: float) -> None:
        """Scale all rates so that the unit becomes `lr`; ratios stay."""
        for group, rate in zip(self._groups, self._rates, strict=True):
            value = rate * lr / self.unit
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(value)
            else:
                group["lr"] = value

    def zero_grad(self) -> None:
        """Forget the gradients."""
        self._model.zero_grad(set_to_none=True)

    def step(self) -> None:
        """One step of all."""
        try:
            for optimizer in self._all:
                optimizer.step()
        except TypeError as error:
            raise MeasureError(
                f"{type(self._all[0]).__name__}, whose step failed: {error}",
                "an optimizer whose step takes no closure",
                "measure with an optimizer of first order",
            ) from error

    def direction(self, origin: Mapping[str, Tensor] | None = None) -> Direction:
        """Update per unit of the learning rate, from the gradients that the parameters hold.

        The parameters stay; the gradients are used up, and the state is no longer what it was.

        Args:
            origin: The parameters' values where they are kept elsewhere; the others are copied.

        Returns:
            (theta' - theta) / lr of every parameter that the step changed.
        """
        states = deepcopy([one.state_dict() for one in self._all])
        own = _unique(canonical_parameters(self._model))
        known = origin or {}
        before = {n: known[n] if n in known else p.detach().clone() for n, p in own.items()}
        rate = self.unit
        for _ in range(_MAX_ATTEMPTS):
            self.set_rate(rate)
            self._step_in_parts(own)
            used, changes = rate, _changes(own, before)
            relative = max((change.relative for change in changes.values()), default=0.0)
            if relative >= _LOST_IN_ROUNDING:
                break
            _put_back(own, before)
            self._restore(states)
            rate *= _SAFE_UPDATE / max(relative, _LEAST_UPDATE)
        else:
            self.set_rate(used)
            self._step_in_parts(own)
        self.set_rate(self.unit)
        moved = {name: change for name, change in changes.items() if change.length}
        found = {name: _difference(own[name], before[name]).div_(used) for name in moved}
        _put_back(own, before)
        return Direction(
            found,
            sizes={name: change.size for name, change in moved.items()},
            lengths={name: change.length / used for name, change in moved.items()},
        )

    def release(self) -> None:
        """Forget gradients and state; no step can follow."""
        self.zero_grad()
        for one in self._all:
            one.state.clear()

    def _step_in_parts(self, own: Mapping[str, nn.Parameter]) -> None:
        """One step of all, of a few parameters at a time where each is stepped by itself.

        So the state of all parameters, which nobody needs, is never in memory at once.
        """
        if not all(_is_separable(one) for one in self._all):
            self.step()
            return
        gradients = {name: parameter.grad for name, parameter in own.items()}
        with _fused(self._groups_of(_FUSED)):
            for part in _parts(own):
                for name, parameter in own.items():
                    parameter.grad = gradients[name] if name in part else None
                self.step()
                for one in self._all:
                    one.state.clear()
        for name, parameter in own.items():
            parameter.grad = gradients[name]

    def _groups_of(self, kinds: Collection[type[Optimizer]]) -> list[dict[str, Any]]:
        return [group for one in self._all if type(one) in kinds for group in one.param_groups]

    def _restore(self, states: list[Any]) -> None:
        for optimizer, state in zip(self._all, states, strict=True):
            optimizer.load_state_dict(deepcopy(state))
        # loading puts new group objects in place of those held here
        self._groups = [group for one in self._all for group in one.param_groups]


def _is_separable(optimizer: Optimizer) -> bool:
    """Whether it remembers nothing yet, and steps every parameter without a look at the others."""
    hooks = ("_optimizer_step_pre_hooks", "_optimizer_step_post_hooks")
    return (
        type(optimizer) in _SEPARABLE
        and not optimizer.state
        and not any(getattr(optimizer, name, True) for name in hooks)
        and not any(getattr(_optimizer_module, name, True) for name in _GLOBAL_HOOKS)
    )


@contextmanager
def _fused(groups: Iterable[dict[str, Any]]) -> Iterator[None]:
    """Adam's step in one operation where the caller left the form to PyTorch.

    It is the same up to rounding, at a fraction of the time and without temporary tensors.
    """
    changed = [group for group in groups if _may_be_fused(group)]
    for group in changed:
        group["fused"] = True
    try:
        yield
    finally:
        for group in changed:
            group["fused"] = None


def _may_be_fused(group: dict[str, Any]) -> bool:
    others = ("fused", "foreach", "capturable", "differentiable")
    return (
        not any(group.get(name, True) for name in others)
        and group["fused"] is group["foreach"] is None
        and isinstance(group["lr"], float)
        and all(_is_plain(p) and (p.grad is None or _is_plain(p.grad)) for p in group["params"])
    )


def _is_plain(tensor: Tensor) -> bool:
    precise = tensor.dtype in (torch.float32, torch.float64)
    return precise and tensor.layout == torch.strided and tensor.device.type == "cpu"


def _parts(own: Mapping[str, nn.Parameter]) -> list[frozenset[str]]:
    """Names in groups of about a quarter of all elements, or of one parameter that has more."""
    most = sum(p.numel() for p in own.values()) / _NUM_PARTS
    parts: list[list[str]] = []
    room = 0.0
    for name, parameter in own.items():
        if not parts or parameter.numel() > room:
            parts.append([])
            room = most
        parts[-1].append(name)
        room -= parameter.numel()
    return [frozenset(part) for part in parts]


def _unique(parameters: Mapping[str, nn.Parameter]) -> dict[str, nn.Parameter]:
    """Every parameter once, by its first name."""
    names = {id(parameter): name for name, parameter in reversed(list(parameters.items()))}
    return {name: p for name, p in parameters.items() if names[id(p)] == name}


class _Change(NamedTuple):
    """Norm of a parameter, and of its change."""

    size: float
    length: float

    @property
    def relative(self) -> float:
        """One over the other; 1 where a parameter was zero."""
        return self.length / self.size if self.size else float(self.length > 0)


def _changes(own: Mapping[str, nn.Parameter], before: Mapping[str, Tensor]) -> dict[str, _Change]:
    return {
        name: _Change(float(before[name].norm()), float((parameter.detach() - before[name]).norm()))
        for name, parameter in own.items()
    }


def _difference(parameter: nn.Parameter, before: Tensor) -> Tensor:
    """The change of a parameter, in the place of its gradient, which is not needed any more."""
    after, gradient = parameter.detach(), parameter.grad
    fits = (
        gradient is not None
        and gradient.layout == torch.strided
        and (gradient.shape, gradient.dtype) == (after.shape, after.dtype)
    )
    if not fits:
        return after - before
    parameter.grad = None
    assert gradient is not None
    return torch.sub(after, before, out=gradient.detach())


def _put_back(own: Mapping[str, nn.Parameter], before: Mapping[str, Tensor]) -> None:
    with torch.no_grad():
        for name, parameter in own.items():
            parameter.copy_(before[name])


def _largest_rate(groups: list[dict[str, Any]]) -> float:
    if not groups:
        raise MeasureError("no optimizer", "at least one", "return one from the function")
    largest = max(groups, key=lambda group: sum(p.numel() for p in group["params"]))
    return float(largest["lr"])


def _require_own_parameters(model: nn.Module, groups: list[dict[str, Any]]) -> None:
    own = {id(p) for p in model.parameters()}
    if any(id(p) not in own for group in groups for p in group["params"]):
        raise MeasureError(
            "an optimizer that holds parameters of another model",
            "an optimizer of the model that is measured",
            "use the model that the function was given, or pass the model's own optimizer",
        )
