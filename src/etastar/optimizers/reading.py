"""From what a caller has (a name, a class, an instance, a declaration) to its kind."""

from __future__ import annotations

import inspect
import math
import sys
from collections.abc import Mapping
from dataclasses import replace
from importlib import import_module
from operator import attrgetter
from typing import Any, Literal, TypeAlias

import torch
from torch.optim import Optimizer

from etastar.errors import OptimizerError
from etastar.optimizers.registry import OPTIMIZERS, OptimizerKind
from etastar.typed import plain_number

_SCALE = 8.0
_STEPS = 12  # RAdam's first five are linear in the gradient
_LR = 1e-3
_POWERS = {"sgd": (1.0, 0.0), "adam": (0.0, 0.0), "relative": (0.0, 1.0)}
"""With which powers of the gradient's and of the parameter's scale a step of each kind goes."""

OptimizerLike: TypeAlias = "str | type[Optimizer] | Optimizer | OptimizerKind"
"""A name of the registry, one of its classes, an instance of one, or what `optimizer_like` gave."""


def optimizer_like(
    optimizer: type[Optimizer],
    update: Literal["sgd", "adam", "relative"],
    *,
    decoupled_weight_decay: bool,
) -> OptimizerKind:
    """Declare an optimizer to be of the SGD, of the Adam or of the relative kind.

    What is declared is tried on a small parameter, where the class can be made with a rate alone.

    Args:
        optimizer: Class of the optimizer.
        update: "sgd" if a step is linear in the gradients (any momentum). If it does not change
            when every gradient is multiplied by a constant (but for epsilon): "adam", or "relative"
            where it grows in proportion to the parameter (Adafactor, LAMB, LARS).
        decoupled_weight_decay: Whether weight decay acts on the weights and not on the gradient.

    Returns:
        Its kind, for `optimizer=` everywhere.

    Raises:
        OptimizerError: Not an optimizer class, or its steps or its decay are of another kind.

    Example:
        >>> optimizer_like(torch.optim.Adagrad, "adam", decoupled_weight_decay=False).name
        'adagrad'
    """
    if not (inspect.isclass(optimizer) and issubclass(optimizer, Optimizer)):
        raise OptimizerError(
            f"{optimizer!r}", "a class derived from torch.optim.Optimizer", "pass the class itself"
        )
    if update not in _POWERS:
        raise OptimizerError(
            f"{optimizer.__name__} declared as {update!r}",
            ", ".join(map(repr, _POWERS)),
            "choose how a step depends on the gradient's scale: linear (sgd), not at all (adam), "
            "or on the parameter's in its place (relative)",
        )
    found = step_powers(optimizer)
    if found is not None and any(
        abs(a - b) > 0.5 for a, b in zip(found, _POWERS[update], strict=True)
    ):
        raise OptimizerError(
            f"{optimizer.__name__} declared as {update!r}, whose step goes with the gradient's "
            f"scale to the power {found[0]:.2g} and with the parameter's to {found[1]:.2g}",
            "; ".join(f"{kind!r}: {g:g} and {p:g}" for kind, (g, p) in _POWERS.items()),
            "declare the kind that fits; where none does no rule is known, and the rates of every "
            "size have to be tuned",
        )
    if update == "adam" and _is_decoupled(optimizer) is (not decoupled_weight_decay):
        raise OptimizerError(
            f"{optimizer.__name__} declared with decoupled_weight_decay={decoupled_weight_decay}, "
            f"whose decay is {'no' if decoupled_weight_decay else 'a'} step of its own",
            "True where decay acts on the weights, False where it is added to the gradient",
            f"declare decoupled_weight_decay={not decoupled_weight_decay}",
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
        source=_place(optimizer),
        betas=_pair(defaults.get("betas")),
    )


def _place(cls: type) -> str:
    return f"{cls.__module__}:{cls.__qualname__}"


def _pair(value: object) -> tuple[float, float] | None:
    two = isinstance(value, (tuple, list)) and len(value) == 2
    return (float(value[0]), float(value[1])) if two else None  # type: ignore[index]


def _number(value: object) -> float | None:
    found = plain_number(value)
    return None if found is None else float(found)


def optimizer_kind(optimizer: OptimizerLike) -> OptimizerKind:
    """Kind of an optimizer given by name, class, instance or declaration.

    Args:
        optimizer: A name of the registry; one of its classes or an instance of one; or what
            `optimizer_like` returned.

    Returns:
        Its kind; of an instance with the instance's own rate, epsilon, betas, weight decay (the
        highest, of groups that differ in that alone) and flags.

    Raises:
        OptimizerError: The optimizer is none of these and was not declared.

    Example:
        >>> optimizer_kind(torch.optim.AdamW).decoupled_weight_decay
        True
    """
    if isinstance(optimizer, OptimizerKind):
        return optimizer
    if isinstance(optimizer, Optimizer):
        return _of_instance(optimizer)
    found = None
    if isinstance(optimizer, str):
        found = OPTIMIZERS.get(optimizer.lower())
    elif isinstance(optimizer, type):
        found = kind_of_class(optimizer)
    if found is None:
        raise _undeclared(_place(optimizer) if isinstance(optimizer, type) else repr(optimizer))
    return found


def optimizer_class(kind: OptimizerKind) -> type[Optimizer]:
    """The class of a kind of optimizers, imported now.

    Raises:
        OptimizerError: Its class is not known, or its package is not installed.

    Example:
        >>> optimizer_class(optimizer_kind("adamw"))
        <class 'torch.optim.adamw.AdamW'>
    """
    missing: Exception | None = None
    sources = (kind.source or "").split()
    for source in sources:
        module, _, name = source.partition(":")
        try:
            found: Any = attrgetter(name)(import_module(module))
        except (ImportError, AttributeError) as error:
            missing = error
            continue
        if inspect.isclass(found) and issubclass(found, Optimizer):
            return found
    raise OptimizerError(
        f"the optimizer {kind.name!r} without a class{': no ' if sources else ''}"
        + " or ".join(sources),
        "a class that can be imported: of the registry, or what optimizer_like returned",
        "install its package, or make the optimizer yourself from the parameter groups",
    ) from missing


def kind_of_class(cls: type) -> OptimizerKind | None:
    """The registry's kind of a class, None if unknown; the packages of others stay unimported."""
    for kind in OPTIMIZERS.values():
        for source in (kind.source or "").split():
            module, _, name = source.partition(":")
            if getattr(sys.modules.get(module), name, None) is cls:
                return kind
    return None


def _undeclared(received: str) -> OptimizerError:
    return OptimizerError(
        f"optimizer {received}",
        f"{', '.join(OPTIMIZERS)}, or an optimizer that was declared",
        "declare it, e.g. optimizer=etastar.optimizer_like("
        'torch.optim.Adagrad, "adam", decoupled_weight_decay=False)',
    )


def _of_instance(optimizer: torch.optim.Optimizer) -> OptimizerKind:
    kind = kind_of_class(type(optimizer))
    if kind is None:
        raise _undeclared(f"{_place(type(optimizer))} (an instance)")
    _refuse_unequal_groups(optimizer)
    group = optimizer.param_groups[0]
    return replace(
        kind_of_group(group, kind),
        eps=None if kind.eps is None else group.get("eps", kind.eps),
        betas=None if kind.betas is None else _pair(group.get("betas")),
        weight_decay=max(
            (g["weight_decay"] for g in optimizer.param_groups if "weight_decay" in g), default=None
        ),
        shape_rule=group.get("adjust_lr_fn")
        or ("match_rms_adamw" if group.get("use_adjusted_lr") else kind.shape_rule),
        lr=float(group["lr"]),
    )


def kind_of_group(group: Mapping[str, Any], kind: OptimizerKind) -> OptimizerKind:
    """The kind of a class as a parameter group of an instance has it, decay decoupled or not.

    Raises:
        OptimizerError: A setting is another than the kind's rule is for.
    """
    for name, value in kind.wanted.items():
        if group.get(name, value) != value:
            raise OptimizerError(
                f"{kind.name} with {name}={group[name]!r}",
                f"{name}={value!r}: its rule is for no other",
                f"make it with {name}={value!r}, or tune the size that is trained",
            )
    usual = group.get("weight_decouple", kind.decoupled_weight_decay)
    return replace(kind, decoupled_weight_decay=group.get("decoupled_weight_decay", usual))


def _refuse_unequal_groups(optimizer: torch.optim.Optimizer) -> None:
    first = optimizer.param_groups[0]
    for number, group in enumerate(optimizer.param_groups):
        if differing := [k for k in ("lr", "eps", "betas") if group.get(k) != first.get(k)]:
            raise OptimizerError(
                f"an optimizer whose group {number} differs from group 0 in {', '.join(differing)}",
                "an optimizer with the same settings for every parameter, but for weight decay",
                "pass the optimizer's class, and the settings as arguments",
            )


def step_powers(optimizer: type[Optimizer]) -> tuple[float, float] | None:
    """With which power of the gradient's and of the parameter's scale a step goes.

    Twelve steps on one matrix with a fixed gradient, without weight decay; then with the gradient,
    and with the matrix, eight times as large. log(size of the last step's ratio) / log(8). None
    where it cannot be made of a parameter and a rate, does not step without a closure, or does not
    move.

    Example:
        >>> step_powers(torch.optim.SGD), step_powers(torch.optim.Adafactor)
        ((1.0, 0.0), (0.0, 1.0))
    """
    try:
        sizes = [_last_step(optimizer, g, p) for g, p in ((1, 1), (_SCALE, 1), (1, _SCALE))]
    except Exception:
        return None  # code of others: what it needs is not known here
    if not all(math.isfinite(size) and size > 0 for size in sizes):
        return None
    gradient, parameter = (
        round(math.log(size / sizes[0]) / math.log(_SCALE), 2) + 0.0 for size in sizes[1:]
    )
    return gradient, parameter


def _is_decoupled(optimizer: type[Optimizer]) -> bool | None:
    """Whether without a gradient a step is in proportion to the decay; None where it has none."""
    if "weight_decay" not in inspect.signature(optimizer.__init__).parameters:
        return None
    try:
        small, large = (_last_step(optimizer, 0, 1, decay=decay) for decay in (0.1, 0.8))
    except Exception:
        return None  # as in `step_powers`
    return large > 4 * small if math.isfinite(large) and small > 0 else None


def _last_step(
    optimizer: type[Optimizer], gradient: float, size: float, *, decay: float = 0.0
) -> float:
    weight = torch.nn.Parameter(_wave(1.0).mul(size))
    has_decay = "weight_decay" in inspect.signature(optimizer.__init__).parameters
    made: Any = optimizer
    stepping: Optimizer = made([weight], lr=_LR, **({"weight_decay": decay} if has_decay else {}))
    for _ in range(_STEPS):
        before = weight.detach().clone()
        weight.grad = _wave(0.7).mul(gradient)
        stepping.step()
    return float((weight.detach() - before).norm())


def _wave(step: float) -> torch.Tensor:
    """A matrix of numbers between -1 and 1 of no structure; nothing is drawn."""
    return torch.sin(step * torch.arange(1.0, 65.0, dtype=torch.float64) ** 2).reshape(8, 8)
