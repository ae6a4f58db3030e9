"""From what a caller gives as the optimizer to optimizers of one model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from torch import nn
from torch.optim import Optimizer

from etastar.errors import MeasureError, OptimizerError, foreign_errors_as
from etastar.graph import capture_graph
from etastar.measure.input_checks import forward_pass
from etastar.naming import canonical_parameters
from etastar.optimizers import (
    OPTIMIZERS,
    OptimizerKind,
    OptimizerLike,
    optimizer_class,
    optimizer_kind,
)

if TYPE_CHECKING:
    from etastar.measure.batch import Examples

__all__ = ["OptimizerChoice", "listed_optimizers", "made_optimizers"]

OptimizerChoice: TypeAlias = (
    "OptimizerLike | Sequence[Optimizer] | Callable[[nn.Module], Optimizer | Sequence[Optimizer]]"
)
"""A name, class or kind, made as PyTorch sets it; the model's own optimizer, or the several that
step together; or a function that makes them for a model."""


def listed_optimizers(made: Any) -> tuple[Optimizer, ...]:
    """One optimizer, or the several, as a tuple.

    Args:
        made: What the caller gave, or a function of the caller's returned.

    Returns:
        The optimizers.

    Raises:
        MeasureError: It is something else.
    """
    every = (made,) if isinstance(made, Optimizer) else made
    is_list = isinstance(every, (list, tuple))
    if not is_list or not every or not all(isinstance(one, Optimizer) for one in every):
        raise MeasureError(
            f"an optimizer given as {type(made).__name__}",
            f"one of: {', '.join(OPTIMIZERS)}; a class; a torch.optim.Optimizer of the model, or "
            "several; or a function from a model to these",
            "give one of these",
        )
    return tuple(every)


def made_optimizers(
    optimizer: OptimizerChoice, model: nn.Module, examples: Examples, *, lr: float
) -> tuple[Optimizer, ...]:
    """Make the optimizers of a model.

    Of a kind with a fallback, as Muon is, the kind gets the parameters that it updates and the
    fallback the others, both at the same learning rate.

    Args:
        optimizer: A name, class, kind or function.
        model: The model.
        examples: What it runs on; the roles of its parameters are read from such a pass.
        lr: Learning rate of a name, class or kind.

    Returns:
        The optimizers.

    Raises:
        MeasureError: It is none of these, raised, or has no parameter to update.
        OptimizerError: The name is unknown.
    """
    if not isinstance(optimizer, (str, type, OptimizerKind)):
        with _making("the function that makes the optimizer"):
            return listed_optimizers(optimizer(model) if callable(optimizer) else optimizer)
    try:
        kind = optimizer_kind(optimizer)
    except OptimizerError:
        if isinstance(optimizer, str) or not issubclass(optimizer, Optimizer):  # type: ignore[arg-type]
            raise
        with _making(f"{optimizer.__name__}(parameters, lr={lr:g})"):  # type: ignore[union-attr]
            return (optimizer(model.parameters(), lr=lr),)  # type: ignore[operator]
    return tuple(
        _made(one, parameters, lr=lr) for one, parameters in _shared(kind, model, examples).items()
    )


def _shared(
    kind: OptimizerKind, model: nn.Module, examples: Examples
) -> dict[OptimizerKind, list[nn.Parameter]]:
    """The parameters of each kind."""
    if kind.fallback is None:
        return {kind: list(model.parameters())}
    own = canonical_parameters(model)
    args, kwargs = examples.inputs()
    with forward_pass():
        graph = capture_graph(model, *args, **kwargs)
    found: dict[OptimizerKind, list[nn.Parameter]] = {}
    for info in graph.parameters:
        found.setdefault(kind.for_parameter(info), []).append(own[info.name])
    if kind not in found:
        raise MeasureError(
            f"optimizer {kind.name!r} for a model without a hidden matrix",
            f"a parameter that {kind.name} updates; all others are {kind.fallback.name}'s",
            f"measure with {kind.fallback.name!r}, or on the network that is trained",
        )
    return found


def _made(kind: OptimizerKind, parameters: list[nn.Parameter], *, lr: float) -> Optimizer:
    """As PyTorch sets it, but for what the caller's kind has otherwise than the registry's."""
    known = OPTIMIZERS.get(kind.name)
    options: dict[str, Any] = {"lr": lr}
    for name in ("eps", "weight_decay"):
        value = getattr(kind, name)
        if value is not None and (known is None or value != getattr(known, name)):
            options[name] = value
    options |= kind.shape_setting
    made: Any = optimizer_class(kind)
    with _making(f"{kind.name} with {options}"):
        optimizer: Optimizer = made([{"params": parameters, **kind.group_keys}], **options)
        getattr(optimizer, "train", bool)()  # schedule-free ones of `schedulefree` ask for it
    return optimizer


def _making(what: str) -> Any:
    return foreign_errors_as(
        MeasureError,
        what,
        "an optimizer of the model's parameters",
        "call it on the model yourself to see the error, or give a function of the model",
    )
