"""The optimizers of a private model: made from what a caller gives, and stepped together."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from etastar.errors import MeasureError, OptimizerError, foreign_errors_as
from etastar.graph import capture_graph
from etastar.measure.batch import Examples, forward_pass
from etastar.naming import canonical_parameters
from etastar.optimizers import OPTIMIZERS, OptimizerKind
from etastar.optimizers.reading import OptimizerLike, optimizer_class, optimizer_kind

OptimizerChoice: TypeAlias = (
    "OptimizerLike | Sequence[Optimizer] | Callable[[nn.Module], Optimizer | Sequence[Optimizer]]"
)
"""A name, class or kind, made as PyTorch sets it; the model's own optimizer, or the several that
step together; or a function that makes them for a model."""

_LOST_IN_ROUNDING = 1e-4  # largest relative update of which float32 keeps three digits or fewer
_SAFE_UPDATE = 2.0**-7
_LEAST_UPDATE = 2.0**-24  # below it nothing is left of an update in float32
_MAX_ATTEMPTS = 4


def listed_optimizers(made: Any) -> tuple[Optimizer, ...]:
    """One optimizer, or the several, as a tuple; anything else is refused."""
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
    """Make the optimizers of a model; `lr` is that of a name, class or kind.

    Of a kind with a fallback, as Muon is, the kind gets the parameters that it updates and the
    fallback the others, both at the same learning rate. Which these are is read from a pass on the
    examples.

    Raises:
        MeasureError: It is no `OptimizerChoice`, raised, or has no parameter to update.
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


@dataclass(frozen=True)
class Direction:
    """Where a step goes.

    Attributes:
        updates: Update per unit of the learning rate, of every parameter that moves.
        is_rounded: Whether the step was so short beside the parameters that digits of it are lost.
    """

    updates: Mapping[nn.Parameter, Tensor]
    is_rounded: bool = False


class OptimizerSet:
    """The optimizers of one model, stepped together.

    Args:
        model: Whose parameters they hold.
        optimizers: They.
        unit: Learning rate that the others are measured relative to; None for that of the parameter
            group with the most elements.

    Raises:
        MeasureError: One over other parameters, or a rate that is not positive.
    """

    def __init__(
        self, model: nn.Module, optimizers: Iterable[Optimizer], *, unit: float | None = None
    ) -> None:
        self._model = model
        self.all = tuple(optimizers)
        self._groups = self._all_groups()
        _require_own_parameters(model, self._groups)
        self._rates = [float(group["lr"]) for group in self._groups]
        self.unit = _largest_rate(self._groups) if unit is None else float(unit)
        if not 0 < self.unit < math.inf:
            raise MeasureError(
                f"an optimizer with learning rate {self.unit}",
                "a positive rate: the measured step is divided by it",
                "give the optimizer any positive learning rate",
            )

    def _all_groups(self) -> list[dict[str, Any]]:
        return [group for one in self.all for group in one.param_groups]

    def _set_rate(self, lr: float) -> None:
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
        """One step of all; what one raises becomes a `MeasureError`."""
        with foreign_errors_as(
            MeasureError,
            f"{type(self.all[0]).__name__}.step()",
            "an optimizer of first order, whose step takes no closure",
            "check its parameter groups, or measure with an optimizer of first order",
        ):
            for optimizer in self.all:
                optimizer.step()

    def direction(self) -> Direction:
        """Update per unit of the learning rate, from the gradients that the parameters hold.

        A step too short beside the parameters for float32 is taken again at a higher rate. The
        parameters stay; gradients and state are used up, so that no other step can follow.

        Raises:
            MeasureError: A step failed, is not finite, or changes nothing.
        """
        states = deepcopy([one.state_dict() for one in self.all])
        own = [parameter for parameter in self._model.parameters() if parameter.grad is not None]
        before = {parameter: parameter.detach().clone() for parameter in own}
        rate = self.unit
        for attempt in range(1, _MAX_ATTEMPTS + 1):
            self._set_rate(rate)
            self.step()
            relative = _relative_change(before)
            if relative == 0:  # SOAP's first step does nothing but begin its statistics
                self.step()
                relative = _relative_change(before)
            if relative >= _LOST_IN_ROUNDING or attempt == _MAX_ATTEMPTS:
                break
            self._put_back(before, states)
            rate *= _SAFE_UPDATE / max(relative, _LEAST_UPDATE)
        if not math.isfinite(relative):
            raise MeasureError(
                "a step that is not finite",
                "finite gradients, and a finite step from them",
                "check the loss, the batch and the weights, or scale the loss down",
            )
        self.zero_grad()
        for one in self.all:
            one.state.clear()
        updates = {}
        with torch.no_grad():
            for parameter in own:
                change = (parameter - before[parameter]).div_(rate)
                parameter.copy_(before.pop(parameter))
                if change.count_nonzero():
                    updates[parameter] = change
        if not updates:
            raise MeasureError(
                "a step that changes no parameter",
                "gradients that reach a parameter of the optimizer",
                "check the loss, requires_grad, and which parameters the optimizer holds",
            )
        return Direction(updates, is_rounded=relative < _LOST_IN_ROUNDING)

    def _put_back(self, before: Mapping[nn.Parameter, Tensor], states: list[Any]) -> None:
        with torch.no_grad():
            for parameter, values in before.items():
                parameter.copy_(values)
        for optimizer, state in zip(self.all, states, strict=True):
            optimizer.load_state_dict(deepcopy(state))
        self._groups = self._all_groups()  # loading puts new objects in place of those held here


def _relative_change(before: Mapping[nn.Parameter, Tensor]) -> float:
    """Length of a step over that of what it moves; a parameter of zeros loses no digits."""
    changes = [float((p.detach() - values).norm()) for p, values in before.items()]
    if not all(map(math.isfinite, changes)):
        return math.inf
    sizes = [float(values.norm()) for values in before.values()]
    if not any(sizes):
        return float(any(changes))
    rounded = (change for change, size in zip(changes, sizes, strict=True) if size)
    return math.hypot(*rounded) / math.hypot(*sizes)


def _largest_rate(groups: list[dict[str, Any]]) -> float:
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
