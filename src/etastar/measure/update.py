"""The maximal-update criterion of one network."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

from etastar.errors import MeasureError
from etastar.graph.isolation import global_state_kept
from etastar.measure.batch import Batch, Examples, LossFn, read_batch
from etastar.measure.derivative import by_bisection, by_forward_mode
from etastar.measure.differences import ROOM, by_differences
from etastar.measure.passes import Passes, Recording
from etastar.measure.records import PreActivations
from etastar.measure.reporting import report_of
from etastar.measure.self_consistent import fixed_point
from etastar.measure.subject import make_subject
from etastar.measure.warm_up import Batches, gradient_on, state_kept, trained

if TYPE_CHECKING:
    from torch import Tensor

    from etastar.measure.optimizers import Direction, OptimizerChoice
    from etastar.measure.records import SeedUpdate, UpdateReport
    from etastar.measure.subject import ModelChoice, Subject

__all__ = ["MethodChoice", "measure_update"]

MethodChoice = Literal["differences", "forward", "exact"]
"""Differences (on every model; with the gradient five to six forward passes, and one or two more
each time that h has to be chosen anew; one-sided where the gradient's own pass can serve as one
end), forward mode (without a step size, seven to eleven passes; differences where an operation has
none), or the finite step with S(eta) = c."""


def measure_update(
    model: ModelChoice,
    batch: Batch,
    loss_fn: LossFn | None = None,
    *,
    optimizer: OptimizerChoice,
    seeds: Sequence[int] = (0,),
    probe: Batch | None = None,
    moves: Collection[str] | None = None,
    pre_activations: PreActivations = "layers",
    method: MethodChoice = "differences",
    c: float = 1.0,
    lr_unit: float | None = None,
    after: int = 0,
    lr: float | None = None,
    kappa: float = 0.5,
    batches: Batches | None = None,
) -> UpdateReport:
    """Measure how far one step of the optimizer moves the pre-activations, and the rate it allows.

    S(eta) = (1/L) sum_l mean (Delta z_l)^2 = eta^2 M to first order; eta* = sqrt(c / M). The
    direction is what the caller's optimizer does on its next step, the ratios of its groups' rates
    kept, so that a transfer plan is measured as it will be used. The model, its gradients, its
    optimizer and the random generators are as before afterwards.

    Args:
        model: The model, measured as it is; or a function that makes one, called once per seed.
        batch: What the gradient is taken on: (inputs, targets), or a dict of keyword arguments.
        loss_fn: `loss_fn(output, targets)`; None for a model that computes its own loss.
        optimizer: "sgd", "adam", "adamw"; the model's own optimizer; or a function from a model to
            its optimizer, or to several.
        seeds: Of the function, of dropout and of `batches`; mean and interval are over them.
        probe: Examples whose pre-activations are compared; None for those of `batch`, and with
            `after` for the batch of `batches` that follows the steps.
        moves: Names of the parameters that the measured step moves; None for all.
        pre_activations: "layers" for the outputs of all weight layers, "hidden" without those that
            none follows (the head), "stream" for the residual stream after every addition, or for
            the hidden layers of a network without any.
        method: See `MethodChoice`; the report says which it was.
        c: Mean-square change that eta* makes.
        lr_unit: Learning rate, as the optimizer has it, that eta* is told in the place of; None
            for that of the parameter group with the most elements.
        after: Real steps before the one that is measured.
        lr: Learning rate of those steps; None for the self-consistent form, kappa times the rate
            that the criterion then gives.
        kappa: Of the self-consistent form.
        batches: `batches(seed)` gives the batches of those steps.

    Returns:
        The report.

    Raises:
        MeasureError: A setting, the batch, the loss or the optimizer is not accepted.
        CaptureError: The forward pass raised.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> report = measure_update(
        ...     nn.Linear(1, 1, bias=False),
        ...     (torch.full((1, 1), 2.0), None),
        ...     lambda output, _: output.sum(),
        ...     optimizer="sgd",
        ... )
        >>> round(report.mean_square_update, 1), round(report.eta_star, 3)  # dz/d eta = -x^2
        (16.0, 0.25)

    Source: [JE], [AM]; docs/definitions.md, section 6.
    """
    _require_choice("pre_activations", pre_activations, get_args(PreActivations))
    _require_choice("method", method, get_args(MethodChoice))
    _require(seeds=seeds, c=c, after=after, lr=lr, kappa=kappa, batches=batches)
    setting = _Setting(
        model=model,
        batch=read_batch(batch),
        loss_fn=loss_fn,
        optimizer=optimizer,
        seeds=tuple(seeds),
        probe=None if probe is None else read_batch(probe),
        moves=None if moves is None else frozenset(moves),
        pre_activations=pre_activations,
        method=method,
        c=c,
        unit=lr_unit,
        after=after,
        batches=batches,
    )
    with global_state_kept():
        if not after or lr is not None:
            return setting.report(lr)
        return fixed_point(setting.report, kappa=kappa, start=setting.at_init().report(None))


@dataclass(frozen=True)
class _Setting:
    """Everything but the learning rate of the steps before."""

    model: ModelChoice
    batch: Examples
    loss_fn: LossFn | None
    optimizer: OptimizerChoice
    seeds: tuple[int, ...]
    probe: Examples | None
    moves: frozenset[str] | None
    pre_activations: PreActivations
    method: MethodChoice
    c: float
    unit: float | None
    after: int
    batches: Batches | None

    def at_init(self) -> _Setting:
        """The same before any step."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return _Setting(**{**values, "after": 0, "batches": None})

    def report(self, lr: float | None) -> UpdateReport:
        """The report, with the steps before at this rate."""
        recording = Recording()
        found = [self._seed(seed, lr, recording) for seed in self.seeds]
        return report_of(
            found,
            seeds=self.seeds,
            c=self.c,
            pre_activations=self.pre_activations,
            after=self.after,
            lr=lr,
        )

    def _seed(self, seed: int, lr: float | None, recording: Recording) -> SeedUpdate:
        subject = make_subject(self.model, self.optimizer, seed=seed, unit=self.unit)
        probe = self.probe
        if self.after:
            assert self.batches is not None
            assert lr is not None
            stream = iter(self.batches(seed))
            trained(subject, stream, self.loss_fn, num_steps=self.after, lr=lr)
            subject = replace(subject, origin={})
            probe = read_batch(next(stream)) if probe is None else probe
        batch = self.batch.to(subject.model)
        examples = batch if probe is None else probe.to(subject.model)
        passes = Passes(
            subject.model,
            examples,
            self.pre_activations,
            seeded=subject.seed_pass,
            recording=recording,
        )
        base: dict[int, Tensor] = {}
        with state_kept(subject.model):
            if examples is batch and self.method == "differences":
                base = self._gradient_beside(subject, batch, passes)
            else:
                gradient_on(subject, batch, self.loss_fn)
        direction = subject.optimizers.direction(subject.origin)
        subject.optimizers.release()
        if self.moves is not None:
            direction = direction.only(self.moves)
        _require_direction(direction)
        return self._measured(subject, examples, passes, direction, base)

    def _gradient_beside(
        self, subject: Subject, batch: Examples, passes: Passes
    ) -> dict[int, Tensor]:
        """The gradient, and the pre-activations of its pass where they take little memory."""
        parameters = subject.model.parameters()
        room = ROOM * sum(p.numel() * p.element_size() for p in parameters)
        kept: dict[int, Tensor] = {}

        def forward() -> Any:
            output, found = passes.with_autograd(room)
            kept.update(found)
            return output

        gradient_on(subject, batch, self.loss_fn, forward=forward)
        return kept

    def _measured(
        self,
        subject: Subject,
        examples: Examples,
        passes: Passes,
        direction: Direction,
        base: dict[int, Tensor],
    ) -> SeedUpdate:
        note = ""
        if self.method == "forward":
            try:
                return by_forward_mode(
                    subject.model,
                    examples,
                    direction,
                    self.pre_activations,
                    seeded=subject.seed_pass,
                )
            except (ValueError, RuntimeError, NotImplementedError) as error:
                if not _lacks_forward_mode(error):
                    raise
                note = f"no forward mode: {str(error.__cause__ or error).splitlines()[0]}"
        if self.method == "exact":
            return by_bisection(subject, passes, direction, c=self.c)
        return by_differences(subject, passes, direction, base=base, note=note)


def _lacks_forward_mode(error: BaseException) -> bool:
    cause = error.__cause__ or error
    signs = ("forward AD", "forward-mode", "INTERNAL ASSERT FAILED")  # the last one is PyTorch's
    return isinstance(cause, NotImplementedError) or any(sign in str(cause) for sign in signs)


def _require_direction(direction: Direction) -> None:
    if not direction.updates:
        raise MeasureError(
            "a step that changes no parameter",
            "gradients that reach a parameter of the optimizer",
            "check the loss, requires_grad, and which parameters the optimizer holds",
        )


def _require_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise MeasureError(
            f"{name}={value!r}", f"one of: {', '.join(choices)}", "choose a listed one"
        )


def _require(
    *,
    seeds: Iterable[int],
    c: float,
    after: int,
    lr: float | None,
    kappa: float,
    batches: Batches | None,
) -> None:
    numbers = [c, kappa] if lr is None else [c, kappa, lr]
    if not all(math.isfinite(n) and n > 0 for n in numbers) or after < 0 or not list(seeds):
        raise MeasureError(
            f"c={c}, after={after}, lr={lr}, kappa={kappa}, seeds={seeds}",
            "positive numbers, after of at least 0, one seed or more",
            "correct the setting that is out of range",
        )
    if (after > 0) != (batches is not None) or (lr is not None and not after):
        raise MeasureError(
            f"after={after}, lr={lr}, batches={'given' if batches else None}",
            "after with batches, and lr with after",
            "give batches(seed) for the steps before the measured one, or leave all three out",
        )
