"""A private copy of the network that is measured, with its optimizer, one per seed."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from etastar.errors import MeasureError, foreign_errors_as
from etastar.graph.capture import capture_graph, require_module
from etastar.graph.dag import Graph
from etastar.graph.isolation import attributes_kept, empty_containers, own_tensors
from etastar.measure.batch import Examples, LossFn, is_low_precision, own_device
from etastar.measure.optimizer_set import (
    OptimizerChoice,
    OptimizerSet,
    listed_optimizers,
    made_optimizers,
)
from etastar.naming import unwrap

Made: TypeAlias = "nn.Module | tuple[nn.Module, Optimizer | Sequence[Optimizer]]"
"""A model; or, where each has an optimizer of its own, the model with it."""

ModelOrMake: TypeAlias = "nn.Module | Callable[[], Made]"
"""A model, which is copied; or a function that makes one, called once per seed."""


@dataclass(frozen=True)
class Subject:
    """A model that may be stepped and written to, and its optimizers.

    Attributes:
        model: The private model, in float32 or better.
        optimizers: Its optimizers.
        seed: Of its initialization and of dropout.
        generators: Random generators that its modules hold, and the state of each.
    """

    model: nn.Module
    optimizers: OptimizerSet
    seed: int
    generators: tuple[tuple[torch.Generator, Tensor], ...] = ()

    def seed_pass(self) -> None:
        """Set the random numbers of a pass: every pass of a seed draws the same dropout masks."""
        seed_everything(self.seed)
        for generator, state in self.generators:
            generator.set_state(state)


def seed_everything(seed: int) -> None:
    """Random numbers of PyTorch, NumPy and Python."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002  what models draw from
    torch.manual_seed(seed)


def make_subject(
    model_or_make: ModelOrMake,
    optimizer: OptimizerChoice | None,
    examples: Examples,
    *,
    seed: int,
    lr: float = 1.0,
    unit: float | None = None,
) -> Subject:
    """Make the private model of one seed.

    A model is copied as it is, a function called, which draws from the global random numbers. Which
    parameters are hidden is read from a pass on the examples; `lr` is that of an optimizer given by
    name, class or kind, `unit` the rate that the optimizer's others are measured relative to.

    Raises:
        MeasureError: No model, no optimizer, or the model cannot be copied.

    Example:
        >>> from etastar.measure.batch import read_batch
        >>> examples = read_batch((torch.ones(1, 2), None))
        >>> make_subject(lambda: nn.Linear(2, 1), "sgd", examples, seed=0).optimizers.unit
        1.0
    """
    is_made = isinstance(optimizer, (Optimizer, list, tuple))
    existing = listed_optimizers(optimizer) if is_made else ()
    if isinstance(model_or_make, nn.Module):
        _require_one_optimizer("a model alone", (), optimizer)
        _require_values(model_or_make)
        private, existing = _copied(model_or_make, existing)
    else:
        private, existing = _called(model_or_make, optimizer, existing, seed)
    private = unwrap(private)
    _to_single_precision(private, existing)
    made = existing
    if optimizer is not None and not existing:
        with own_device(private):
            made = made_optimizers(optimizer, private, examples.to(private), lr=lr)
    return Subject(
        private,
        OptimizerSet(private, made, unit=unit),
        seed,
        tuple((one, one.get_state()) for one in _generators(private)),
    )


def _called(
    make: Callable[[], Made],
    optimizer: OptimizerChoice | None,
    existing: tuple[Optimizer, ...],
    seed: int,
) -> tuple[nn.Module, tuple[Optimizer, ...]]:
    if existing:
        raise MeasureError(
            "an optimizer that exists already, with a function that makes models",
            "a function from a model to its optimizer",
            "give optimizer=lambda model: ...",
        )
    model, own = _made(make, seed)
    where = f"a function of models {'with optimizers' if own else 'alone'}"
    _require_one_optimizer(where, own, optimizer)
    return model, own


def _require_one_optimizer(where: str, own: tuple[Optimizer, ...], optimizer: object) -> None:
    if bool(own) == (optimizer is not None):
        raise MeasureError(
            f"{where}, and optimizer={optimizer!r}",
            "an optimizer, or a function that gives (model, optimizer)",
            "give the optimizer in one of the two places",
        )


def made_graph(make: Callable[[], Made], examples: Examples, *, seed: int) -> Graph:
    """The graph of the network that a function makes, drawn from a seed; no optimizer is read.

    Raises:
        MeasureError: It raised, or made no model whose parameters have values.
        CaptureError: The network cannot be captured.
    """
    model, _ = _made(make, seed)
    args, kwargs = examples.to(model).inputs()
    return capture_graph(model, *args, **kwargs)


def _made(make: Callable[[], Made], seed: int) -> tuple[nn.Module, tuple[Optimizer, ...]]:
    if not callable(make):
        raise MeasureError(
            f"a model given as {type(make).__name__}",
            "a torch.nn.Module, or a function that makes one",
            "give one of these",
        )
    seed_everything(seed)
    with foreign_errors_as(
        MeasureError,
        "the function that makes the model",
        "a function that gives a torch.nn.Module for these arguments",
        "call it yourself to see the error",
    ):
        made: Any = make()
    model, own = made if isinstance(made, tuple) and len(made) == 2 else (made, None)
    if not isinstance(model, nn.Module):
        raise MeasureError(
            f"a function that returned {type(made).__name__}",
            "a torch.nn.Module, or (module, optimizer)",
            "return it",
        )
    _require_values(model)
    return model, () if own is None else listed_optimizers(own)


def _require_values(model: nn.Module) -> None:
    require_module(model, error=MeasureError)
    parameters = list(model.parameters())
    if not parameters or any(parameter.is_meta for parameter in parameters):
        raise MeasureError(
            "a model on the meta device" if parameters else "a model without parameters",
            "a model whose parameters have values",
            "build it on a device that holds values"
            if parameters
            else "give the model that is trained",
        )


def _generators(model: nn.Module) -> Iterator[torch.Generator]:
    for module in model.modules():
        yield from (value for value in vars(module).values() if isinstance(value, torch.Generator))


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


def _to_single_precision(model: nn.Module, optimizers: Iterable[Optimizer]) -> None:
    """Weights of less precision, and what the optimizer remembers of them, to float32."""
    for tensor in (*model.parameters(), *model.buffers()):
        if is_low_precision(tensor.dtype):
            tensor.data = tensor.data.float()
            tensor.grad = None
    for optimizer in optimizers:
        for state in optimizer.state.values():
            for key, value in state.items():
                if isinstance(value, torch.Tensor) and is_low_precision(value.dtype):
                    state[key] = value.float()


def gradient_on(subject: Subject, examples: Examples, loss_fn: LossFn | None) -> float:
    """Put the gradient of the loss into the parameters; buffers and attributes stay.

    Returns:
        The loss.

    Raises:
        CaptureError: The forward pass raised.
        MeasureError: The loss is no scalar, or depends on no parameter.
    """
    subject.optimizers.zero_grad()
    with _state_kept(subject.model), own_device(subject.model), torch.enable_grad():
        subject.seed_pass()
        loss = examples.loss(subject.model, loss_fn)
        if not loss.requires_grad:
            raise MeasureError(
                "a loss that depends on no parameter with requires_grad",
                "a loss that can be differentiated",
                "unfreeze the model, model.requires_grad_(True), or check loss_fn",
            )
        torch.autograd.backward(loss)
    return float(loss.detach())


@contextmanager
def _state_kept(model: nn.Module) -> Iterator[None]:
    """Buffers, such as running means, and attributes as they were, afterwards."""
    parameters = set(map(id, model.parameters()))
    kept = [t for t in own_tensors(model) if id(t) not in parameters]
    before = [(tensor, tensor.detach().clone()) for tensor in kept]
    with attributes_kept(model):
        try:
            yield
        finally:
            with torch.no_grad():
                for tensor, values in before:
                    tensor.copy_(values)
