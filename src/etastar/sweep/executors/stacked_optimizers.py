"""SGD, Adam and AdamW for many runs of one model at once, each with its own settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.optim import SGD, Adam, AdamW

from etastar.sweep.executors.refusals import UnstackableError
from etastar.sweep.executors.stacked_optimizer import StackedOptimizer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor, nn
    from torch.optim import Optimizer

    from etastar.sweep.executors.stacked_optimizer import Group

__all__ = ["stack_optimizers"]


class _StackedSGD(StackedOptimizer):
    """`torch.optim.SGD` with momentum, dampening, Nesterov and weight decay."""

    options = ("lr", "momentum", "dampening", "weight_decay", "nesterov")

    def _numbers(self, group: Group, step: int) -> dict[str, Tensor]:
        values = group.values
        # the first gradient is the first buffer, whatever the dampening
        fresh = 1 - values["dampening"] if step > 1 else torch.ones_like(values["lr"])
        return {key: values[key] for key in ("lr", "momentum", "weight_decay")} | {"fresh": fresh}

    def _fresh(self, group: Group, param: Tensor) -> tuple[Tensor, ...]:
        return (torch.zeros_like(param),) if "momentum" in group.used else ()

    def _update(
        self,
        group: Group,
        columns: Mapping[str, Tensor],
        state: tuple[Tensor, ...],
        param: Tensor,
        grad: Tensor,
    ) -> None:
        if "weight_decay" in group.used:
            grad = torch.addcmul(grad, param, columns["weight_decay"])
        if "momentum" in group.used:
            (buffer,) = state
            buffer.mul_(columns["momentum"]).addcmul_(grad, columns["fresh"])
            look_ahead = "nesterov" in group.used
            grad = torch.addcmul(grad, buffer, columns["momentum"]) if look_ahead else buffer
        param.addcmul_(grad, columns["lr"], value=-1)


class _StackedAdam(StackedOptimizer):
    """`torch.optim.Adam`, whose weight decay is a part of the gradient."""

    options = ("lr", "beta1", "beta2", "eps", "weight_decay")

    def _numbers(self, group: Group, step: int) -> dict[str, Tensor]:
        values = group.values
        return {
            "fresh1": 1 - values["beta1"],
            "beta2": values["beta2"],
            "fresh2": 1 - values["beta2"],
            "rate": values["lr"] / (1 - values["beta1"] ** step),
            "correction": (1 - values["beta2"] ** step).sqrt(),
            "eps": values["eps"],
            "decay": values["weight_decay"],
            "rest": 1 - values["lr"] * values["weight_decay"],
        }

    def _fresh(self, group: Group, param: Tensor) -> tuple[Tensor, ...]:
        return torch.zeros_like(param), torch.zeros_like(param)

    def _update(
        self,
        group: Group,
        columns: Mapping[str, Tensor],
        state: tuple[Tensor, ...],
        param: Tensor,
        grad: Tensor,
    ) -> None:
        grad = self._decayed(group, columns, param, grad)
        mean, square = state
        mean.lerp_(grad, columns["fresh1"].expand_as(grad))
        square.mul_(columns["beta2"]).addcmul_(grad * columns["fresh2"], grad)
        size = square.sqrt().div_(columns["correction"]).add_(columns["eps"])
        param.addcdiv_(mean * columns["rate"], size, value=-1)

    def _decayed(
        self, group: Group, columns: Mapping[str, Tensor], param: Tensor, grad: Tensor
    ) -> Tensor:
        """The gradient after weight decay, which may have been the parameter's instead."""
        if "weight_decay" in group.used:
            return torch.addcmul(grad, param, columns["decay"])
        return grad


class _StackedAdamW(_StackedAdam):
    """`torch.optim.AdamW`, whose weight decay is lr times the parameter."""

    def _decayed(
        self, group: Group, columns: Mapping[str, Tensor], param: Tensor, grad: Tensor
    ) -> Tensor:
        if "weight_decay" in group.used:
            param.mul_(columns["rest"])
        return grad


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
