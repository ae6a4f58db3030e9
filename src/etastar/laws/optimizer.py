"""Kinds of optimizers: all that a law needs to know of one."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Literal

import torch

from etastar.errors import OptimizerError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from etastar.parameter import ParamInfo

__all__ = [
    "OptimizerKind",
    "OptimizerSpec",
    "ShapeRule",
    "Update",
    "optimizer_kind",
    "optimizer_like",
]

Update = Literal["sgd", "adam", "muon"]
"""How a step depends on the gradient's scale: linear (sgd) or not at all (adam, muon)."""

ShapeRule = Literal["original", "match_rms_adamw"]
"""Muon's own factor on the learning rate of a matrix (`adjust_lr_fn` of `torch.optim.Muon`)."""


@dataclass(frozen=True)
class OptimizerKind:
    """What the laws and the plan need to know of an optimizer.

    Attributes:
        name: Name for messages and plan files.
        update: How a step depends on the gradient's scale.
        decoupled_weight_decay: Whether weight decay acts on the weights, not on the gradient.
        eps: Its default epsilon; None if a parameter group has no `eps`.
        weight_decay: Its default weight decay; None if a parameter group has no `weight_decay`.
        shape_rule: Muon's rule for the shape of a matrix.
    """

    name: str
    update: Update
    decoupled_weight_decay: bool
    eps: float | None = None
    weight_decay: float | None = 0.0
    shape_rule: ShapeRule = "original"

    def for_parameter(self, info: ParamInfo) -> OptimizerKind:
        """The kind that updates this parameter: Muon leaves all but hidden matrices to AdamW."""
        if self.update == "muon" and not (info.role == "hidden" and info.ndim == 2):
            return KINDS["adamw"]
        return self


OptimizerSpec = str | type[torch.optim.Optimizer] | torch.optim.Optimizer | OptimizerKind

KINDS: Final[Mapping[str, OptimizerKind]] = {
    "sgd": OptimizerKind("sgd", "sgd", decoupled_weight_decay=False),
    "adam": OptimizerKind("adam", "adam", decoupled_weight_decay=False, eps=1e-8),
    "adamw": OptimizerKind("adamw", "adam", decoupled_weight_decay=True, eps=1e-8),
    "muon": OptimizerKind("muon", "muon", decoupled_weight_decay=True, eps=1e-7),
}
_CLASSES: Final[Mapping[type, str]] = {
    torch.optim.SGD: "sgd",
    torch.optim.Adam: "adam",
    torch.optim.AdamW: "adamw",
    torch.optim.Muon: "muon",
}


def optimizer_like(
    optimizer: type[torch.optim.Optimizer],
    update: Literal["sgd", "adam"],
    *,
    decoupled_weight_decay: bool,
) -> OptimizerKind:
    """Declare an optimizer to be of the SGD or of the Adam kind.

    Args:
        optimizer: Class of the optimizer.
        update: "sgd" if a step is linear in the gradients (any momentum), "adam" if it does not
            change when every gradient is multiplied by a constant (but for epsilon).
        decoupled_weight_decay: Whether weight decay acts on the weights and not on the gradient.

    Returns:
        Its kind, for `plan_transfer(optimizer=...)`.

    Raises:
        OptimizerError: Not an optimizer class, or another kind of update.

    Example:
        >>> optimizer_like(torch.optim.NAdam, "adam", decoupled_weight_decay=False).name
        'nadam'
    """
    if not (inspect.isclass(optimizer) and issubclass(optimizer, torch.optim.Optimizer)):
        raise OptimizerError(
            f"{optimizer!r}", "a class derived from torch.optim.Optimizer", "pass the class itself"
        )
    if update not in ("sgd", "adam"):
        raise OptimizerError(
            f"{optimizer.__name__} declared as {update!r}",
            "'sgd' or 'adam'",
            "choose how a step depends on the gradient's scale: linear (sgd) or not at all (adam)",
        )
    defaults = {
        name: parameter.default
        for name, parameter in inspect.signature(optimizer.__init__).parameters.items()
    }
    return OptimizerKind(
        name=optimizer.__name__.lower(),
        update=update,
        decoupled_weight_decay=decoupled_weight_decay,
        eps=_number(defaults.get("eps")),
        weight_decay=0.0 if "weight_decay" in defaults else None,
    )


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) else None


def optimizer_kind(optimizer: OptimizerSpec) -> OptimizerKind:
    """Kind of an optimizer given by name, class, instance or declaration.

    Args:
        optimizer: "sgd", "adam", "adamw" or "muon"; one of these classes of `torch.optim` or an
            instance of one; or what `optimizer_like` returned.

    Returns:
        Its kind; of an instance with the instance's own epsilon, weight decay and flags.

    Raises:
        OptimizerError: The optimizer is none of these and was not declared.

    Example:
        >>> optimizer_kind(torch.optim.AdamW).decoupled_weight_decay
        True
    """
    if isinstance(optimizer, OptimizerKind):
        return optimizer
    if isinstance(optimizer, torch.optim.Optimizer):
        return _of_instance(optimizer)
    if isinstance(optimizer, str):
        name = optimizer.lower()
    else:
        name = _CLASSES.get(optimizer, "") if isinstance(optimizer, type) else ""
    if name not in KINDS:
        raise _undeclared(getattr(optimizer, "__name__", None) or repr(optimizer))
    return KINDS[name]


def _undeclared(received: str) -> OptimizerError:
    return OptimizerError(
        f"optimizer {received}",
        "sgd, adam, adamw or muon, or an optimizer that was declared",
        "declare it, e.g. optimizer=etastar.optimizer_like("
        'torch.optim.NAdam, "adam", decoupled_weight_decay=False)',
    )


def _of_instance(optimizer: torch.optim.Optimizer) -> OptimizerKind:
    name = _CLASSES.get(type(optimizer))
    if name is None:
        raise _undeclared(f"{type(optimizer).__name__} (an instance)")
    kind, group = KINDS[name], optimizer.param_groups[0]
    _refuse_unequal_groups(optimizer)
    return replace(
        kind,
        decoupled_weight_decay=group.get("decoupled_weight_decay", kind.decoupled_weight_decay),
        eps=group.get("eps", kind.eps),
        weight_decay=group["weight_decay"],
        shape_rule=group.get("adjust_lr_fn") or kind.shape_rule,
    )


def _refuse_unequal_groups(optimizer: torch.optim.Optimizer) -> None:
    first = _settings(optimizer.param_groups[0])
    for number, group in enumerate(optimizer.param_groups):
        if differing := [k for k, v in _settings(group).items() if first.get(k) != v]:
            raise OptimizerError(
                f"an optimizer whose group {number} differs from group 0 in {', '.join(differing)}",
                "an optimizer with the same settings for every parameter",
                "pass the optimizer's class, and the settings as arguments",
            )


def _settings(group: dict[str, Any]) -> dict[str, Any]:
    return {k: group[k] for k in ("lr", "weight_decay", "eps") if k in group}
