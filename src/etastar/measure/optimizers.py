"""The caller's optimizer over a private model, and the direction of its next step."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from etastar.errors import MeasureError
from etastar.naming import canonical_parameters

__all__ = ["NAMED", "MakeOptimizer", "OptimizerChoice", "Optimizers"]

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

_LOST_IN_ROUNDING = 1e-4  # largest relative update of which float32 keeps three digits or fewer
_SAFE_UPDATE = 2.0**-7
_LEAST_UPDATE = 2.0**-24  # below it nothing is left of an update in float32
_MAX_ATTEMPTS = 4


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

    def direction(self) -> dict[str, Tensor]:
        """Update per unit of the learning rate, from the gradients that the parameters hold.

        The optimizers' state moves on by one step; the parameters stay.

        Returns:
            Name to (theta' - theta) / lr for every parameter that the step changed.
        """
        states = deepcopy([one.state_dict() for one in self._all])
        rate = self.unit
        for _ in range(_MAX_ATTEMPTS):
            self.set_rate(rate)
            found, relative = self._stepped(rate)
            if relative >= _LOST_IN_ROUNDING:
                break
            self._restore(states)
            rate *= _SAFE_UPDATE / max(relative, _LEAST_UPDATE)
        self.set_rate(self.unit)
        return found

    def _restore(self, states: list[Any]) -> None:
        for optimizer, state in zip(self._all, states, strict=True):
            optimizer.load_state_dict(deepcopy(state))
        # loading puts new group objects in place of those held here
        self._groups = [group for one in self._all for group in one.param_groups]

    def _stepped(self, rate: float) -> tuple[dict[str, Tensor], float]:
        """The direction, and the largest relative change of a parameter."""
        parameters = dict(self._model.named_parameters())
        before = {name: p.detach().clone() for name, p in parameters.items()}
        self.step()
        found: dict[str, Tensor] = {}
        relative = 0.0
        for name, parameter in parameters.items():
            # the values before take the parameter's place, so that nothing is copied back
            change, parameter.data = parameter.data.sub_(before[name]), before.pop(name)
            size, moved = float(parameter.detach().norm()), float(change.norm())
            if moved:
                relative = max(relative, moved / size if size else 1.0)
                found[name] = change.div_(rate)
        return self._canonical(found), relative

    def _canonical(self, found: dict[str, Tensor]) -> dict[str, Tensor]:
        own = dict(self._model.named_parameters())
        names = {id(p): name for name, p in reversed(canonical_parameters(self._model).items())}
        return {names[id(own[name])]: tensor for name, tensor in found.items()}


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
