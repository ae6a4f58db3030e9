"""A private copy of the network that is measured, with its optimizer, one per seed."""

from __future__ import annotations

import copy
import math
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
from etastar.measure.batch import Examples, LossFn, forward_pass, is_low_precision, own_device
from etastar.naming import canonical_parameters, unwrap
from etastar.optimizers import OPTIMIZERS, OptimizerKind
from etastar.optimizers.reading import OptimizerLike, kind_of_class, optimizer_class, optimizer_kind

OptimizerChoice: TypeAlias = (
    "OptimizerLike | Sequence[Optimizer] | Callable[[nn.Module], Optimizer | Sequence[Optimizer]]"
)
"""A name, class or kind, made as PyTorch sets it; the model's own optimizer, or the several that
step together; or a function that makes them for a model."""

Made: TypeAlias = "nn.Module | tuple[nn.Module, Optimizer | Sequence[Optimizer]]"
"""A model; or, where each has an optimizer of its own, the model with it."""

ModelOrMake: TypeAlias = "nn.Module | Callable[[], Made]"
"""A model, which is copied; or a function that makes one, called once per seed."""


@dataclass(frozen=True)
class Subject:
    """A model that may be stepped and written to, its optimizers, and what it is measured on.

    Attributes:
        model: The private model, in float32 or better.
        optimizers: Its optimizers, which step together.
        unit: Learning rate that theirs are relative to.
        examples: The batch, where the model is.
        seed: Of its initialization and of dropout.
        generators: Random generators that its modules hold, and the state of each.
    """

    model: nn.Module
    optimizers: tuple[Optimizer, ...]
    unit: float
    examples: Examples
    seed: int
    generators: tuple[tuple[torch.Generator, Tensor], ...] = ()

    def seed_pass(self) -> None:
        """Set the random numbers of a pass: every pass of a seed draws the same dropout masks."""
        seed_everything(self.seed)
        for generator, state in self.generators:
            generator.set_state(state)

    def step(self) -> None:
        """One step of all optimizers; what one raises becomes a `MeasureError`."""
        with foreign_errors_as(
            MeasureError,
            f"{type(self.optimizers[0]).__name__}.step()",
            "an optimizer of first order, whose step takes no closure",
            "check its parameter groups, or measure with an optimizer of first order",
        ):
            for optimizer in self.optimizers:
                optimizer.step()


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
    name, class or kind, `unit` the rate that the optimizer's others are measured relative to; None
    for that of the parameter group with the most elements.

    Raises:
        MeasureError: No model, no optimizer of its parameters at a positive rate, or the model
            cannot be copied.

    Example:
        >>> from etastar.measure.batch import read_batch
        >>> examples = read_batch((torch.ones(1, 2), None))
        >>> make_subject(lambda: nn.Linear(2, 1), "sgd", examples, seed=0).unit
        1.0
    """
    is_made = isinstance(optimizer, (Optimizer, list, tuple))
    if isinstance(model_or_make, nn.Module):
        _require_values(model_or_make)
        private, made = _copied(model_or_make, _listed(optimizer) if is_made else ())
    elif is_made:
        raise MeasureError(
            "an optimizer that exists already, with a function that makes models",
            "a function from a model to its optimizer",
            "give optimizer=lambda model: ...",
        )
    else:
        private, made = _made(model_or_make, seed)
    if not is_made and bool(made) == (optimizer is not None):
        raise MeasureError(
            f"a model {'with an optimizer' if made else 'alone'}, and optimizer={optimizer!r}",
            "an optimizer, or a function that gives (model, optimizer)",
            "give the optimizer in one of the two places",
        )
    private = unwrap(private)
    _to_single_precision(private, made)
    placed = examples.to(private)
    if optimizer is not None and not is_made:
        with own_device(private):
            made = _made_optimizers(optimizer, private, placed, lr=lr)
    attributes = [value for module in private.modules() for value in vars(module).values()]
    generators = [one for one in attributes if isinstance(one, torch.Generator)]
    return Subject(
        private,
        made,
        _unit(private, made, unit),
        placed,
        seed,
        tuple((one, one.get_state()) for one in generators),
    )


def _unit(model: nn.Module, optimizers: tuple[Optimizer, ...], unit: float | None) -> float:
    groups = [group for one in optimizers for group in one.param_groups]
    own = {id(p) for p in model.parameters()}
    if any(id(p) not in own for group in groups for p in group["params"]):
        raise MeasureError(
            "an optimizer that holds parameters of another model",
            "an optimizer of the model that is measured",
            "use the model that the function was given, or pass the model's own optimizer",
        )
    largest = max(groups, key=lambda group: sum(p.numel() for p in group["params"]))
    found = float(largest["lr"] if unit is None else unit)
    if not 0 < found < math.inf:
        raise MeasureError(
            f"an optimizer with learning rate {found}",
            "a positive rate: the measured step is divided by it",
            "give the optimizer any positive learning rate",
        )
    return found


def graph_on(model: nn.Module, examples: Examples) -> Graph:
    """The graph of a private model on examples that are placed with it.

    Raises:
        CaptureError: The network cannot be captured.
    """
    with forward_pass():
        return capture_graph(model, *examples.args, **examples.kwargs)


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
    return model, () if own is None else _listed(own)


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


def loss_gradient(subject: Subject, loss_fn: LossFn | None) -> float:
    """Put the gradient of the loss into the parameters; buffers and attributes stay.

    Returns:
        The loss.

    Raises:
        CaptureError: The forward pass raised.
        MeasureError: The loss is no scalar, depends on no parameter, or its backward pass raised.
    """
    subject.model.zero_grad()
    with _state_kept(subject.model), own_device(subject.model):
        subject.seed_pass()
        loss = subject.examples.loss(subject.model, loss_fn)
        if not loss.requires_grad:
            raise MeasureError(
                "a loss that depends on no parameter with requires_grad",
                "a loss that can be differentiated",
                "unfreeze the model, model.requires_grad_(True), or check loss_fn",
            )
        with foreign_errors_as(
            MeasureError,
            "the backward pass",
            "a loss that can be differentiated",
            "call backward() on the loss yourself to see the error",
        ):
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


def _listed(made: Any) -> tuple[Optimizer, ...]:
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


def _made_optimizers(
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
            return _listed(optimizer(model) if callable(optimizer) else optimizer)
    undeclared: Any = optimizer if isinstance(optimizer, type) else None
    if undeclared and issubclass(undeclared, Optimizer) and kind_of_class(undeclared) is None:
        with _making(f"{undeclared.__name__}(parameters, lr={lr:g})"):
            return (undeclared(model.parameters(), lr=lr),)
    shares = _shared(optimizer_kind(optimizer), model, examples)
    return tuple(_of_kind(one, parameters, lr=lr) for one, parameters in shares.items())


def _shared(
    kind: OptimizerKind, model: nn.Module, examples: Examples
) -> dict[OptimizerKind, list[nn.Parameter]]:
    """The parameters of each kind."""
    if kind.fallback is None:
        return {kind: list(model.parameters())}
    own = canonical_parameters(model)
    found: dict[OptimizerKind, list[nn.Parameter]] = {}
    for info in graph_on(model, examples).parameters:
        found.setdefault(kind.for_parameter(info), []).append(own[info.name])
    if kind not in found:
        raise MeasureError(
            f"optimizer {kind.name!r} for a model without a hidden matrix",
            f"a parameter that {kind.name} updates; all others are {kind.fallback.name}'s",
            f"measure with {kind.fallback.name!r}, or on the network that is trained",
        )
    return found


def _of_kind(kind: OptimizerKind, parameters: list[nn.Parameter], *, lr: float) -> Optimizer:
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
