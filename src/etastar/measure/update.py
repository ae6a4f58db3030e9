"""The maximal-update criterion of one network."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import get_args

from torch import nn

from etastar.errors import MeasureError
from etastar.measure.ambient import plain_modes
from etastar.measure.batch import Batch, Examples, LossFn, read_batch
from etastar.measure.differences import PreActivations, SeedUpdate, by_differences
from etastar.measure.optimizer_set import OptimizerChoice
from etastar.measure.seeds import SeedChoice, half_width, use_seeds
from etastar.measure.subject import ModelOrMake, gradient_on, make_subject
from etastar.measure.update_report import UpdateReport, report_of
from etastar.typed import set_numbers

__all__ = ["FirstStep", "measure_update"]


def measure_update(
    model_or_make: ModelOrMake,
    batch: Batch,
    loss_fn: LossFn | None = None,
    *,
    optimizer: OptimizerChoice | None,
    seeds: SeedChoice = None,
    pre_activations: PreActivations = "stream",
    lr_unit: float | None = None,
) -> UpdateReport:
    """Measure how far one step of the optimizer moves the pre-activations, and the rate it allows.

    S(eta) = (1/L) sum_l mean (Delta z_l)^2 = eta^2 M to first order; eta* = M^(-1/2). The direction
    is what the caller's optimizer does on its next step, the ratios of its groups' rates kept, so
    that a transfer plan is measured as it will be used. It costs a gradient and two forward passes
    per seed, two more each time that the size of the difference has to be chosen anew. eta* is
    that of a typical network: M is the geometric mean over seeds, as its mean is carried by the few
    largest where depth over width is not small; the report has both. All passes of a seed draw the
    same dropout masks. The model, its gradients, its optimizer and the random
    generators are as before afterwards; autocast and other modes that round are off.

    Args:
        model_or_make: The model, measured as it is; or a function that makes one, or (model,
            optimizer), called once per seed.
        batch: What the gradient is taken on and the pre-activations are compared on: (inputs,
            targets), or a dict of keyword arguments.
        loss_fn: `loss_fn(output, targets)`; None for a model that computes its own loss.
        optimizer: A name ("sgd", "adam", "adamw", "muon"), class or kind, made as PyTorch sets it;
            the model's own optimizer, or its several; a function from a model to these; None where
            `model_or_make` gives it.
        seeds: A number of seeds, or the seeds, of the function and of dropout; or
            `UntilPrecise(precision, at_most, first)`, which adds seeds until the interval of eta*
            is narrow enough. None for `UntilPrecise()` of a function, and one seed of a model.
        pre_activations: "stream" for the residual stream after every addition, or for the hidden
            layers of a network without any; "hidden" for the outputs of all weight layers but those
            that no other follows (the head); "layers" for all.
        lr_unit: Learning rate, as the optimizer has it, that eta* takes the place of; None for that
            of the parameter group with the most elements.

    Returns:
        The report.

    Raises:
        MeasureError: An argument, the loss or the step is not accepted.
        OptimizerError: The optimizer's name is unknown.
        CaptureError: The forward pass raised.

    Warns:
        MeasureWarning: The numbers are lost in rounding.

    Example:
        >>> import torch
        >>> report = measure_update(
        ...     nn.Linear(1, 1, bias=False),
        ...     (torch.full((1, 1), 2.0), None),
        ...     lambda output, _: output.sum(),
        ...     optimizer="sgd",
        ...     pre_activations="layers",
        ... )
        >>> round(report.mean_square_update, 1), round(report.eta_star, 3)  # dz/d eta = -x^2
        (16.0, 0.25)

    Source: [JE], [AM]; docs/definitions.md, section 6.
    """
    step = FirstStep(read_batch(batch), loss_fn, optimizer, pre_activations, lr_unit)
    if seeds is None and isinstance(model_or_make, nn.Module):
        seeds = 1
    found: list[SeedUpdate] = []
    with plain_modes():
        used = use_seeds(
            seeds,
            lambda seed: found.append(step.measured(model_or_make, seed)),
            lambda confidence: half_width([one.log_rate for one in found], confidence),
        )
    return report_of(found, used=used, pre_activations=pre_activations)


@dataclass(frozen=True)
class FirstStep:
    """What is measured of each network and seed; see `measure_update`."""

    examples: Examples
    loss_fn: LossFn | None
    optimizer: OptimizerChoice | None
    pre_activations: PreActivations
    lr_unit: float | None

    def __post_init__(self) -> None:
        if self.pre_activations not in get_args(PreActivations):
            raise MeasureError(
                f"pre_activations={self.pre_activations!r}",
                f"one of: {', '.join(get_args(PreActivations))}",
                "choose a listed one",
            )
        if self.lr_unit is not None:
            set_numbers(self, "lr_unit", error=MeasureError, above=0)

    def measured(self, model_or_make: ModelOrMake, seed: int) -> SeedUpdate:
        """The criterion of one network and seed; to be called within `plain_modes`."""
        subject = make_subject(
            model_or_make, self.optimizer, self.examples, seed=seed, unit=self.lr_unit
        )
        placed = self.examples.to(subject.model)
        _require_finite(gradient_on(subject, placed, self.loss_fn))
        return by_differences(subject, placed, subject.optimizers.direction(), self.pre_activations)


def _require_finite(loss: float) -> None:
    if not math.isfinite(loss):
        raise MeasureError(
            f"a measurement of which the loss is not finite: {loss}",
            "a finite loss: no step is measured from any other",
            "check the weights, the batch and loss_fn for numbers that are not finite",
        )
