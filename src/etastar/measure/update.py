"""The maximal-update criterion of one network: measured, over seeds, and how it is shown."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
from numpy.typing import NDArray
from torch import nn

from etastar.errors import MeasureError, MeasureWarning
from etastar.formatting import Shown, json_numbers, number, seeds_interval, shorten_middle
from etastar.measure.batch import Batch, Examples, LossFn, plain_modes, read_batch
from etastar.measure.differences import PreActivations, SeedUpdate, by_differences, step_direction
from etastar.measure.seeds import SeedChoice, SeedsUsed, half_width, log_interval, use_seeds
from etastar.measure.subject import (
    ModelOrMake,
    OptimizerChoice,
    Subject,
    loss_gradient,
    make_subject,
)
from etastar.typed import set_numbers

if TYPE_CHECKING:
    from rich.console import RenderableType

_WIDE_SPREAD = 1.5  # empirical: 49 tuned sizes of studies/, docs/definitions.md, section 6
_NAME_WIDTH = 24  # characters, so that a table fits into 80


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

    def subject(self, model_or_make: ModelOrMake, seed: int) -> Subject:
        """The private model of one seed, with its optimizer."""
        return make_subject(
            model_or_make, self.optimizer, self.examples, seed=seed, unit=self.lr_unit
        )

    def measured(self, model_or_make: ModelOrMake, seed: int) -> SeedUpdate:
        """The criterion of one network and seed; to be called within `plain_modes`."""
        subject = self.subject(model_or_make, seed)
        loss = loss_gradient(subject, self.loss_fn)
        if not math.isfinite(loss):
            raise MeasureError(
                f"a measurement of which the loss is not finite: {loss}",
                "a finite loss: no step is measured from any other",
                "check the weights, the batch and loss_fn for numbers that are not finite",
            )
        return by_differences(subject, step_direction(subject), self.pre_activations)


@dataclass(frozen=True)
class LayerUpdate:
    """One pre-activation.

    Attributes:
        module: Dotted path of the module it was computed in.
        name: Its weights' parameter names, joined by "+"; "addition" for the residual stream.
        mean_square_update: Mean of (dz/d eta)^2 over examples, positions and units, geometric mean
            over seeds; per squared unit of the learning rate.
        interval: 95% interval of it over seeds; None with one seed.
        second_moment: Mean of z^2 before the step, over the same.
    """

    module: str
    name: str
    mean_square_update: float
    interval: tuple[float, float] | None
    second_moment: float


@dataclass(frozen=True)
class UpdateReport(Shown):
    """The maximal-update criterion of one network: S(eta) = eta^2 M, eta* = 1 / M^(1/2).

    M of a seed is the arithmetic mean over the layers [AM]. Over seeds, eta* takes the geometric
    mean: that of a typical network. The papers' arithmetic mean is the same where depth over width
    is small; elsewhere it is carried by seeds so rare that few measurements meet one.

    Attributes:
        layers: The pre-activations, in the order of execution.
        typical_mean_square: M, geometric mean over seeds; per squared unit of the learning rate.
        typical_interval: 95% interval of it, by Student's t on log M; None with one seed.
        mean_square_update: M, arithmetic mean over seeds [JE] [AM].
        by_seed: M of each seed.
        seeds: The seeds.
        pre_activations: Which pre-activations counted.
        num_passes: Cost of all seeds in forward passes; a gradient counts as three.
        shortfall: That the interval is wider than was asked for, and why; "" where it is not.
        doubt: What makes the measurement doubtful, as a warning said; "" for nothing.
    """

    layers: tuple[LayerUpdate, ...]
    typical_mean_square: float
    typical_interval: tuple[float, float] | None
    mean_square_update: float
    by_seed: tuple[float, ...]
    seeds: tuple[int, ...]
    pre_activations: PreActivations
    num_passes: int = 0
    shortfall: str = ""
    doubt: str = ""

    @property
    def eta_star(self) -> float:
        """Maximal-update learning rate: it changes the pre-activations by 1 in the mean square.

        Of a typical network; by c it is c^(1/2) times this, to first order.
        """
        return _rate(self.typical_mean_square)

    @property
    def eta_star_interval(self) -> tuple[float, float] | None:
        """95% interval of it; None with one seed."""
        if self.typical_interval is None:
            return None
        low, high = self.typical_interval
        return _rate(high), _rate(low)

    @property
    def eta_star_of_mean(self) -> float:
        """The rate at which the mean over seeds changes by 1 in the mean square, as in [JE]."""
        return _rate(self.mean_square_update)

    @property
    def caution(self) -> str:
        """That one network's eta* says little of another's, where M varies widely over seeds."""
        squares = [square for square in self.by_seed if 0 < square < math.inf]
        spread = float(np.log(squares).std(ddof=1)) if len(squares) > 1 else 0.0
        if spread <= _WIDE_SPREAD:
            return ""
        return (
            f"M varies by a factor of {math.exp(spread):.3g} from seed to seed: tuned rates of "
            f"such networks lay between eta* and that of the mean, {number(self.eta_star_of_mean)}"
        )

    def as_dict(self) -> dict[str, Any]:
        """The report as plain data for JSON: None for what is not finite."""
        rates = {
            "eta_star": self.eta_star,
            "eta_star_interval": self.eta_star_interval,
            "eta_star_of_mean": self.eta_star_of_mean,
        }
        found: dict[str, Any] = json_numbers({**rates, **asdict(self)})
        return found

    def __rich__(self) -> RenderableType:
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False)
        table.add_column("pre-activation", overflow="fold")
        for heading in ("M per layer", "95% interval", "mean square"):
            table.add_column(heading, justify="right", no_wrap=True)
        for layer in self.layers:
            place = f"{layer.module} addition".strip() if layer.name == "addition" else layer.name
            table.add_row(
                shorten_middle(place, _NAME_WIDTH),
                number(layer.mean_square_update),
                seeds_interval(layer.interval),
                number(layer.second_moment),
            )
        doubt = [Text(f"DOUBTFUL: {self.doubt}", style="bold red")] if self.doubt else []
        return Group(
            Text(f"eta* = {number(self.eta_star)} ({seeds_interval(self.eta_star_interval)})"),
            Text(
                f"M = {number(self.typical_mean_square)}, of a typical seed; its mean over seeds "
                f"{number(self.mean_square_update)} (eta* {number(self.eta_star_of_mean)})"
            ),
            Text(f"{self.pre_activations}; {cost_text(self.seeds, self.num_passes)}"),
            *(Text(line) for line in (self.shortfall, self.caution) if line),
            *doubt,
            table,
        )


def cost_text(seeds: tuple[int, ...], num_passes: int) -> str:
    """What was spent, in words.

    Example:
        >>> cost_text((0, 1, 2), 15), cost_text((7,), 5)
        ('3 seeds (0 to 2), 15 forward passes', '1 seed (7), 5 forward passes')
    """
    if len(seeds) == 1:
        return f"1 seed ({seeds[0]}), {num_passes} forward passes"
    return f"{len(seeds)} seeds ({min(seeds)} to {max(seeds)}), {num_passes} forward passes"


def _rate(mean_square: float) -> float:
    return mean_square**-0.5 if mean_square else math.inf


def report_of(
    found: Sequence[SeedUpdate], *, used: SeedsUsed, pre_activations: PreActivations
) -> UpdateReport:
    """Means over seeds, with intervals; seeds that gave different networks are refused."""
    places = {one.places for one in found}
    if len(places) > 1:
        raise MeasureError(
            f"networks with {sorted({len(one.places) for one in found})} pre-activations by seed",
            "the same network for every seed",
            "let the function draw weights only, not the architecture",
        )
    layers = np.array([one.mean_squares for one in found], dtype=np.float64)
    moments = np.array([one.second_moments for one in found], dtype=np.float64).mean(axis=0)
    totals = layers.mean(axis=1)
    return UpdateReport(
        layers=tuple(
            LayerUpdate(
                *place, _geometric_mean(value), log_interval(value, used.confidence), float(moment)
            )
            for place, value, moment in zip(found[0].places, layers.T, moments, strict=True)
        ),
        typical_mean_square=_geometric_mean(totals),
        typical_interval=log_interval(totals, used.confidence),
        mean_square_update=float(totals.mean()),
        by_seed=tuple(totals.tolist()),
        seeds=used.numbers,
        pre_activations=pre_activations,
        num_passes=sum(one.num_passes for one in found),
        shortfall=used.shortfall,
        doubt=_warned(found, used.numbers),
    )


def _geometric_mean(values: NDArray[np.float64]) -> float:
    if len(values) == 1 or not values.all():
        return float(values.min())
    return float(np.exp(np.log(values).mean()))


def _warned(found: Sequence[SeedUpdate], seeds: tuple[int, ...]) -> str:
    """What is doubtful, which is said aloud as well."""
    by_doubt: dict[str, list[int]] = {}
    for seed, one in zip(seeds, found, strict=True):
        if one.doubt:
            by_doubt.setdefault(one.doubt, []).append(seed)
    doubt = "; ".join(
        f"{text} (seed {', '.join(map(str, those))})" for text, those in by_doubt.items()
    )
    if doubt:
        warnings.warn(
            f"the measurement is lost in rounding: {doubt}; do not use its rate. Measure in "
            "float32 or float64, and check the scale of the loss and of the initialization",
            MeasureWarning,
            stacklevel=4,
        )
    return doubt
