"""SGD, Adam and AdamW for many runs of one model at once, each with its own settings."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import torch
from torch.optim import SGD, Adam, AdamW

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor, nn
    from torch.optim import Optimizer

__all__ = ["StackedOptimizer", "UnstackableError", "stack_optimizers"]


class UnstackableError(Exception):
    """These runs cannot be trained as one; the message says why."""


class StackedOptimizer(ABC):
    """One optimizer per run, applied to parameters stacked along dimension 0.

    Args:
        settings: Of each parameter by name: each option's value in every run.
    """

    options: tuple[str, ...]

    def __init__(self, settings: Mapping[str, Mapping[str, tuple[float, ...]]]) -> None:
        self._settings = {
            name: {
                option: torch.tensor(values, dtype=torch.float64)
                for option, values in values_of.items()
            }
            for name, values_of in settings.items()
        }
        self._state: dict[str, dict[str, Tensor]] = {name: {} for name in settings}
        self._steps = dict.fromkeys(settings, 0)

    @torch.no_grad()
    def step(self, params: Mapping[str, Tensor], grads: Mapping[str, Tensor | None]) -> None:
        """Update stacked parameters in place; one without a gradient stays as it is.

        Args:
            params: Stacked parameters by name, (runs, ...).
            grads: Their gradients; None where the loss does not depend on one.
        """
        for name in self._settings:
            grad = grads[name]
            if grad is not None:
                self._steps[name] += 1
                self._update(name, params[name], grad)

    def keep(self, runs: Tensor) -> None:
        """Go on with some of the runs only.

        Args:
            runs: Their indices.
        """
        for name, settings in self._settings.items():
            self._settings[name] = {key: values[runs.cpu()] for key, values in settings.items()}
            self._state[name] = {key: state[runs] for key, state in self._state[name].items()}

    @abstractmethod
    def _update(self, name: str, param: Tensor, grad: Tensor) -> None:
        """One step of one stacked parameter."""


class _StackedSGD(StackedOptimizer):
    """`torch.optim.SGD` with momentum, dampening, Nesterov and weight decay."""

    options = ("lr", "momentum", "dampening", "weight_decay", "nesterov")

    def _update(self, name: str, param: Tensor, grad: Tensor) -> None:
        s, state = self._settings[name], self._state[name]
        if s["weight_decay"].any():
            grad = grad + _column(s["weight_decay"], param) * param
        if s["momentum"].any():
            momentum = _column(s["momentum"], param)
            if "momentum_buffer" not in state:
                state["momentum_buffer"] = grad.clone()
            else:
                fresh = _column(1 - s["dampening"], param)
                state["momentum_buffer"].mul_(momentum).add_(fresh * grad)
            buffer = state["momentum_buffer"]
            grad = grad + momentum * buffer if s["nesterov"].any() else buffer
        param.sub_(_column(s["lr"], param) * grad)


class _StackedAdam(StackedOptimizer):
    """`torch.optim.Adam`, whose weight decay is a part of the gradient."""

    options = ("lr", "beta1", "beta2", "eps", "weight_decay")

    def _update(self, name: str, param: Tensor, grad: Tensor) -> None:
        decay = self._settings[name]["weight_decay"]
        if decay.any():
            grad = grad + _column(decay, param) * param
        self._adam(name, param, grad)

    def _adam(self, name: str, param: Tensor, grad: Tensor) -> None:
        s, state, step = self._settings[name], self._state[name], self._steps[name]
        if not state:
            state.update(mean=torch.zeros_like(param), square=torch.zeros_like(param))
        state["mean"].lerp_(grad, _column(1 - s["beta1"], param).expand_as(param))
        fresh = _column(1 - s["beta2"], param)
        state["square"].mul_(_column(s["beta2"], param)).add_(fresh * grad * grad)
        rate = s["lr"] / (1 - s["beta1"] ** step)
        correction = (1 - s["beta2"] ** step).sqrt()
        size = state["square"].sqrt().div_(_column(correction, param))
        param.sub_(_column(rate, param) * state["mean"] / size.add_(_column(s["eps"], param)))


class _StackedAdamW(_StackedAdam):
    """`torch.optim.AdamW`, whose weight decay is lr times the parameter."""

    def _update(self, name: str, param: Tensor, grad: Tensor) -> None:
        s = self._settings[name]
        param.mul_(_column(1 - s["lr"] * s["weight_decay"], param))
        self._adam(name, param, grad)


_KNOWN: dict[type[Optimizer], type[StackedOptimizer]] = {
    SGD: _StackedSGD,
    Adam: _StackedAdam,
    AdamW: _StackedAdamW,
}
_REFUSED = ("amsgrad", "maximize", "differentiable", "capturable")
_FIXED = ("momentum", "nesterov")  # zero in all runs, or in none, so that one formula serves all


def stack_optimizers(
    optimizers: Sequence[Optimizer], models: Sequence[nn.Module]
) -> StackedOptimizer:
    """One optimizer that does to stacked parameters what each of these does to its model's.

    Args:
        optimizers: New ones, of `torch.optim`'s SGD, Adam or AdamW; one for each run.
        models: Their models, of the same parameter names.

    Returns:
        The stacked optimizer.

    Raises:
        UnstackableError: An optimizer or one of its settings is not known here.

    Example:
        >>> from torch import nn
        >>> models = [nn.Linear(1, 1), nn.Linear(1, 1)]
        >>> rates = zip(models, (0.1, 0.2))
        >>> optimizers = [torch.optim.SGD(model.parameters(), lr=lr) for model, lr in rates]
        >>> type(stack_optimizers(optimizers, models)).options[0]
        'lr'
    """
    for optimizer in optimizers:
        _require_known(optimizer)
    (kind, *others) = {type(optimizer) for optimizer in optimizers}
    if others:
        raise UnstackableError("the runs have optimizers of different classes")
    pairs = zip(optimizers, models, strict=True)
    per_run = [_settings(optimizer, model, _KNOWN[kind].options) for optimizer, model in pairs]
    if any(list(settings) != list(per_run[0]) for settings in per_run):
        raise UnstackableError("the runs' optimizers hold different parameters")
    stacked = {
        name: {option: tuple(run[name][option] for run in per_run) for option in options}
        for name, options in per_run[0].items()
    }
    _require_one_formula(stacked)
    return _KNOWN[kind](stacked)


def _require_known(optimizer: Optimizer) -> None:
    if type(optimizer) not in _KNOWN:
        raise UnstackableError(f"{type(optimizer).__name__} is not one of SGD, Adam, AdamW")
    if optimizer.state:
        raise UnstackableError("the optimizer has a state before the first step")
    hooks = ("_optimizer_step_pre_hooks", "_optimizer_step_post_hooks")
    if "step" in vars(optimizer) or any(getattr(optimizer, hook, None) for hook in hooks):
        raise UnstackableError("a hook or a scheduler is attached to the optimizer")
    for group in optimizer.param_groups:
        refused = [option for option in _REFUSED if group.get(option)]
        if refused:
            raise UnstackableError(f"the optimizer's {', '.join(refused)} is set")
        if type(optimizer) is Adam and group.get("decoupled_weight_decay"):
            raise UnstackableError("an Adam with decoupled weight decay that is not AdamW")


def _require_one_formula(stacked: Mapping[str, Mapping[str, tuple[float, ...]]]) -> None:
    for options in stacked.values():
        for option in _FIXED:
            if len({bool(value) for value in options.get(option, ())}) > 1:
                raise UnstackableError(f"{option} is on in some runs and off in others")


def _settings(
    optimizer: Optimizer, model: nn.Module, options: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Settings by parameter name."""
    names = {id(param): name for name, param in model.named_parameters()}
    found: dict[str, dict[str, float]] = {}
    for group in optimizer.param_groups:
        for param in group["params"]:
            if id(param) not in names:
                raise UnstackableError("the optimizer holds what is no parameter of the model")
            found[names[id(param)]] = {option: _option(group, option) for option in options}
    return found


def _option(group: Mapping[str, Any], option: str) -> float:
    if option in ("beta1", "beta2"):
        return float(group["betas"][option == "beta2"])
    return float(group[option])


def _column(values: Tensor, like: Tensor) -> Tensor:
    """A number per run, in the shape that multiplies a stacked parameter."""
    return values.to(like).view(-1, *[1] * (like.ndim - 1))
