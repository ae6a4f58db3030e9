"""GradInit: learnt scales of parameter tensors, as a baseline to initializations by formula."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules.batchnorm import _BatchNorm

from etastar.errors import InitError
from etastar.optimizers import OptimizerLike, optimizer_kind

_FIRST_ORDER_DECREASE = 0.1  # with lr 0.1 this is the authors' gamma of 1 for SGD
_MIN_SCALE = 0.01  # the authors' lower bound


@dataclass(frozen=True)
class GradInitStep:
    """One step of the search for scales.

    Attributes:
        loss: Loss at the scaled parameters.
        grad_norm: Norm of its gradient, L2 for SGD and L1 for Adam.
        loss_after: Loss after the optimizer's step on the second batch, which this step of the
            search lowered; None where it lowered the norm.
    """

    loss: float
    grad_norm: float
    loss_after: float | None


@dataclass(frozen=True)
class GradInitReport:
    """What GradInit did.

    Attributes:
        scales: Factor on each parameter that could be scaled, by name.
        unscaled: Parameters that are zero, or reach no loss: they stay as they were.
        max_grad_norm: The bound gamma.
        steps: Every step of the search.

    Example:
        >>> steps = (GradInitStep(2.0, 0.5, 1.9), GradInitStep(2.0, 3.0, None))
        >>> print(GradInitReport({"w": 0.5}, ("b",), 1.0, steps))
        GradInit, 2 steps, 1 of them on the gradient norm (bound 1), scales 0.5 to 0.5
    """

    scales: dict[str, float]
    unscaled: tuple[str, ...]
    max_grad_norm: float
    steps: tuple[GradInitStep, ...]

    @property
    def norm_steps(self) -> int:
        """Steps that lowered the norm of the gradient."""
        return sum(step.loss_after is None for step in self.steps)

    def __str__(self) -> str:
        return (
            f"GradInit, {len(self.steps)} steps, {self.norm_steps} of them on the gradient norm "
            f"(bound {self.max_grad_norm:.4g}), scales {min(self.scales.values()):.4g} to "
            f"{max(self.scales.values()):.4g}"
        )


def gradinit_(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    loss_fn: Callable[[Tensor, Tensor], Tensor],
    *,
    optimizer: OptimizerLike,
    lr: float,
    num_steps: int = 100,
    scale_lr: float = 0.01,
    max_grad_norm: float | None = None,
    min_scale: float = _MIN_SCALE,
) -> GradInitReport:
    """Scale every parameter tensor, in place, so that the first optimizer step helps most.

    minimize over scales s: L(s theta - lr A(g)), g = gradient of L at s theta,
    subject to ||g|| <= gamma; A(g) = g and the L2 norm for SGD, sign(g) and L1 for Adam.

    Each step looks at the gradient on a batch S: if its norm exceeds gamma, the scales go down the
    norm (through second derivatives), else down the loss after the step on a second batch, one
    half of which is a half of S, A(g) taken as given. The scales move by Adam, with moments of
    their own for either aim, and stay above `min_scale`. Norms by batch statistics use those of
    the batch and leave their running ones; dropout is off. The random numbers are not touched.

    Args:
        model: The model, initialized; it is run, not edited.
        batches: Pairs (inputs, targets), up to 2 `num_steps` of them; may be an iterator.
        loss_fn: `loss_fn(model(inputs), targets)` is the scalar loss.
        optimizer: "sgd", "adam" or "adamw", or one of these torch optimizers.
        lr: Learning rate of the step, that of the training to come.
        num_steps: Steps of the search.
        scale_lr: Learning rate of the scales.
        max_grad_norm: gamma; None for a loss that to first order falls by 0.1 in the step:
            sqrt(0.1 / lr) for SGD, 0.1 / lr for Adam.
        min_scale: Smallest scale.

    Returns:
        The scales, and every step.

    Raises:
        InitError: A setting is out of range, the batches end early, nothing can be scaled, or a
            loss is not finite; the model is unchanged then.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> model, x = nn.Linear(4, 1, bias=False), torch.randn(64, 4)
        >>> target = x @ (2 * model.weight[0].detach())
        >>> batches = [(x, target)] * 400
        >>> mse = lambda scores, wanted: (scores[:, 0] - wanted).square().mean()
        >>> report = gradinit_(model, batches, mse, optimizer="sgd", lr=0.1, num_steps=200)
        >>> round(report.scales["weight"], 2)
        2.0

    Source: arXiv 2102.08098, Algorithm 1.
    """
    update = _checked(optimizer, lr, num_steps, scale_lr, max_grad_norm, min_scale)
    bound = _default_bound(update, lr) if max_grad_norm is None else float(max_grad_norm)
    search = _Search(model, loss_fn, update, lr, bound, scale_lr, min_scale)
    stream = iter(batches)
    with _deterministic(model), sdpa_kernel(SDPBackend.MATH):  # fused attention: first order only
        steps = tuple(search.step(stream) for _ in range(num_steps))
    return GradInitReport(search.apply_(), search.unscaled, bound, steps)


def _default_bound(update: Literal["sgd", "adam"], lr: float) -> float:
    return math.sqrt(_FIRST_ORDER_DECREASE / lr) if update == "sgd" else _FIRST_ORDER_DECREASE / lr


def _checked(
    optimizer: OptimizerLike,
    lr: float,
    num_steps: int,
    scale_lr: float,
    max_grad_norm: float | None,
    min_scale: float,
) -> Literal["sgd", "adam"]:
    kind = optimizer_kind(optimizer)
    if kind.update == "muon" or kind.update == "relative":
        raise InitError(
            f"optimizer {kind.name!r}", "SGD or Adam, whose first steps it knows", "choose one"
        )
    numbers = {"lr": lr, "scale_lr": scale_lr, "min_scale": min_scale, "num_steps": num_steps}
    if max_grad_norm is not None:
        numbers["max_grad_norm"] = max_grad_norm
    for name, value in numbers.items():
        if not (math.isfinite(value) and value > 0):
            raise InitError(f"{name}={value!r}", "a finite number above zero", f"change {name}")
    return kind.update


class _Search:
    """The scales, and the two ways in which a step moves them."""

    def __init__(
        self,
        model: nn.Module,
        loss_fn: Callable[[Tensor, Tensor], Tensor],
        update: Literal["sgd", "adam"],
        lr: float,
        bound: float,
        scale_lr: float,
        min_scale: float,
    ) -> None:
        self.model, self.loss_fn = model, loss_fn
        self.update, self.lr, self.bound, self.min_scale = update, lr, bound, min_scale
        self.weights = {n: p for n, p in model.named_parameters() if p.requires_grad}
        self.scales = {
            name: torch.ones_like(weight.detach().flatten()[0]).requires_grad_()
            for name, weight in self.weights.items()
            if bool(weight.detach().any())
        }
        if not self.scales:
            raise InitError(
                "a model without a trainable parameter that is not zero",
                "parameters that a factor can change",
                "initialize the model first",
            )
        self.used: set[str] = set()
        movers = [torch.optim.Adam(self.scales.values(), lr=scale_lr) for _ in range(2)]
        self.on_norm, self.on_loss = movers

    @property
    def unscaled(self) -> tuple[str, ...]:
        """Parameters without a scale, or whose scale nothing depended on."""
        return tuple(name for name in self.weights if name not in self.used)

    def step(self, stream: Iterator[tuple[Tensor, Tensor]]) -> GradInitStep:
        """One step of the search."""
        batch = _next(stream)
        scaled = self._scaled()
        loss = self._loss(scaled, batch)
        grads = _gradients(loss, scaled)
        norm = _norm(grads.values(), self.update)
        _require_finite("loss", loss)
        _require_finite("gradient norm", norm)
        after: Tensor | None = None
        if norm > self.bound:
            self._descend(norm, self.on_norm)
        else:
            after = self._loss(self._stepped(scaled, grads), _halves(batch, _next(stream)))
            _require_finite("loss after the step", after)
            self._descend(after, self.on_loss)
        return GradInitStep(loss.item(), norm.item(), None if after is None else after.item())

    @torch.no_grad()
    def apply_(self) -> dict[str, float]:
        """Multiply the model's parameters; the factors."""
        for name, scale in self.scales.items():
            self.weights[name].mul_(scale)
        return {name: scale.item() for name, scale in self.scales.items() if name in self.used}

    def _scaled(self) -> dict[str, Tensor]:
        return {
            name: weight.detach() * self.scales[name]
            if name in self.scales
            else weight.detach().requires_grad_()
            for name, weight in self.weights.items()
        }

    def _stepped(
        self, scaled: Mapping[str, Tensor], grads: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Parameters after the optimizer's first step, its direction taken as given."""
        moved = dict(scaled)
        for name, grad in grads.items():
            direction = grad.detach() if self.update == "sgd" else grad.detach().sign()
            moved[name] = scaled[name] - self.lr * direction
        return moved

    def _loss(self, parameters: dict[str, Tensor], batch: tuple[Tensor, Tensor]) -> Tensor:
        buffers = {name: buffer.clone() for name, buffer in self.model.named_buffers()}
        scores = functional_call(self.model, (parameters, buffers), (batch[0],))
        return self.loss_fn(scores, batch[1])

    def _descend(self, aim: Tensor, mover: torch.optim.Optimizer) -> None:
        found = torch.autograd.grad(aim, tuple(self.scales.values()), allow_unused=True)
        for (name, scale), grad in zip(self.scales.items(), found, strict=True):
            scale.grad = grad
            if grad is not None:
                self.used.add(name)
        mover.step()
        with torch.no_grad():
            for scale in self.scales.values():
                scale.clamp_(min=self.min_scale)


def _gradients(loss: Tensor, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    found = torch.autograd.grad(
        loss, tuple(parameters.values()), create_graph=True, allow_unused=True
    )
    named = zip(parameters, found, strict=True)
    return {name: grad for name, grad in named if grad is not None}


def _norm(grads: Iterable[Tensor], update: Literal["sgd", "adam"]) -> Tensor:
    if update == "sgd":
        return torch.stack([grad.square().sum() for grad in grads]).sum().sqrt()
    return torch.stack([grad.abs().sum() for grad in grads]).sum()


def _halves(first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """The first halves of two batches as one."""
    inputs, targets = (
        torch.cat([a[: math.ceil(len(a) / 2)], b[: len(b) // 2]])
        for a, b in zip(first, second, strict=True)
    )
    return inputs, targets


def _next(stream: Iterator[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    for batch in stream:
        return batch
    raise InitError(
        "batches that ended before the search did",
        "a batch for every step and a second one for those on the loss, up to 2 num_steps",
        "give more batches, or take fewer steps",
    )


def _require_finite(name: str, value: Tensor) -> None:
    if not bool(value.isfinite()):
        raise InitError(
            f"a {name} of {value.item()}",
            "finite numbers from the initialization that is to be scaled",
            "start from initialize_, or take a smaller lr",
        )


@contextmanager
def _deterministic(model: nn.Module) -> Iterator[None]:
    """Dropout off, batch statistics on; the modules' modes put back afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    for module, _ in modes:
        module.training = isinstance(module, _BatchNorm)
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
