"""A private copy of the network that is measured, with its optimizer, one per seed."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from etastar.errors import MeasureError
from etastar.graph.isolation import empty_containers, global_state_kept
from etastar.measure.optimizers import NAMED, Optimizers
from etastar.naming import canonical_parameters, unwrap

if TYPE_CHECKING:
    from etastar.measure.optimizers import OptimizerChoice

__all__ = ["ModelChoice", "Subject", "make_subject", "seed_everything"]

ModelChoice: TypeAlias = "nn.Module | Callable[[], nn.Module]"
"""A model, which is copied; or a function that makes one, called once per seed."""


@dataclass(frozen=True)
class Subject:
    """A model that may be stepped and written to, and its optimizers.

    Attributes:
        model: The private model, in float32 or better.
        optimizers: Its optimizers.
        seed: Of its initialization and of dropout.
        origin: The caller's own parameters by name, which hold the values before any step; empty
            for a model that was made for the measurement.
    """

    model: nn.Module
    optimizers: Optimizers
    seed: int
    origin: Mapping[str, Tensor] = field(default_factory=dict)

    def seed_pass(self) -> None:
        """Set the random numbers of a pass, so that two passes draw the same dropout masks."""
        seed_everything(self.seed)


def seed_everything(seed: int) -> None:
    """`torch.manual_seed`, which without an accelerator spends a millisecond on looking for one.

    Args:
        seed: Of all generators.

    Example:
        >>> seed_everything(1), torch.randint(100, (1,)).item()
        (None, 45)
    """
    if _has_accelerator():
        torch.manual_seed(seed)
    else:
        torch.default_generator.manual_seed(seed)


@cache
def _has_accelerator() -> bool:
    devices: Any = torch
    return bool(
        torch.cuda.is_available()
        or torch.backends.mps.is_available()
        or (hasattr(devices, "xpu") and devices.xpu.is_available())
    )


def make_subject(
    model: ModelChoice, optimizer: OptimizerChoice, *, seed: int, unit: float | None = None
) -> Subject:
    """Make the private model of one seed.

    Args:
        model: A model, whose weights are taken as they are, or a function that makes one and draws
            from PyTorch's global random numbers.
        optimizer: See `OptimizerChoice`.
        seed: Of the function, and of dropout.
        unit: Learning rate that the optimizer's others are told relative to.

    Returns:
        The subject.

    Raises:
        MeasureError: No model, no optimizer, or the model cannot be copied.

    Example:
        >>> subject = make_subject(lambda: nn.Linear(2, 1), "sgd", seed=0)
        >>> subject.optimizers.unit
        1.0
    """
    instances = _instances(optimizer)
    copies: tuple[Optimizer, ...] = ()
    if not isinstance(model, nn.Module):
        with global_state_kept():
            seed_everything(seed)
            private = model()
        if instances:
            raise MeasureError(
                "an optimizer that exists already, with a function that makes models",
                "a function from a model to its optimizer",
                "give optimizer=lambda model: ...",
            )
    else:
        private, copies = _copied(model, instances)
    if not isinstance(private, nn.Module):
        raise MeasureError(
            f"a function that returned {type(private).__name__}", "a torch.nn.Module", "return it"
        )
    private = unwrap(private)
    _to_single_precision(private, copies)
    made = copies or _made(optimizer, private)
    origin = _same_values(model, private) if isinstance(model, nn.Module) else {}
    return Subject(private, Optimizers(private, made, unit=unit), seed, origin)


def _same_values(model: nn.Module, private: nn.Module) -> dict[str, Tensor]:
    """The parameters of the model that its copy holds in the same precision."""
    own = canonical_parameters(private)
    return {
        name: parameter.detach()
        for name, parameter in canonical_parameters(unwrap(model)).items()
        if parameter.dtype == own[name].dtype
    }


def _instances(optimizer: OptimizerChoice) -> tuple[Optimizer, ...]:
    if isinstance(optimizer, Optimizer):
        return (optimizer,)
    if isinstance(optimizer, Sequence) and not isinstance(optimizer, str):
        return tuple(optimizer)
    return ()


def _copied(
    model: nn.Module, optimizers: tuple[Optimizer, ...]
) -> tuple[nn.Module, tuple[Optimizer, ...]]:
    """Model and optimizers in one copy, so that the groups hold the copy's parameters."""
    gradients = {id(p.grad): None for p in model.parameters() if p.grad is not None}
    try:
        copies: Any = copy.deepcopy(
            (model, optimizers), memo={**empty_containers(model), **gradients}
        )
    except Exception as error:
        raise MeasureError(
            f"a {type(model).__name__} that cannot be copied: {error}",
            "a model that copy.deepcopy takes, so that it stays untouched",
            "give a function that makes the model",
        ) from error
    return copies[0], copies[1]


def _made(optimizer: OptimizerChoice, model: nn.Module) -> Iterable[Optimizer]:
    if isinstance(optimizer, str):
        if optimizer not in NAMED:
            raise MeasureError(
                f"optimizer {optimizer!r}",
                f"one of: {', '.join(NAMED)}; or a function from a model to its optimizer",
                "choose a listed one, or give a function",
            )
        return (NAMED[optimizer](model.parameters(), lr=1.0),)
    if not callable(optimizer):
        raise MeasureError(
            f"an optimizer given as {type(optimizer).__name__}",
            "a name, an optimizer of the model, or a function from a model to its optimizer",
            "give one of these",
        )
    made = optimizer(model)
    return (made,) if isinstance(made, Optimizer) else tuple(made)


def _to_single_precision(model: nn.Module, optimizers: Iterable[Optimizer]) -> None:
    """Weights of less precision, and what the optimizer remembers of them, to float32."""
    low = (torch.bfloat16, torch.float16)
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.dtype in low:
            tensor.data = tensor.data.float()
            tensor.grad = None
    for optimizer in optimizers:
        for state in optimizer.state.values():
            for key, value in state.items():
                if isinstance(value, torch.Tensor) and value.dtype in low:
                    state[key] = value.float()
