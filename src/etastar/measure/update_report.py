"""What a measurement of the criterion gives: one seed, several, and how they are shown."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from etastar.errors import MeasureError, MeasureWarning
from etastar.fit.bootstrap import mean_interval
from etastar.formatting import Shown, json_numbers, number, shorten_middle
from etastar.formatting import interval as interval_text

if TYPE_CHECKING:
    from rich.console import RenderableType

    from etastar.measure.pre_activations import PreActivations

__all__ = ["LayerUpdate", "SeedUpdate", "UpdateReport", "ends_text", "report_of"]

_NAME_WIDTH = 24  # characters, so that a table fits into 80


@dataclass(frozen=True)
class LayerUpdate:
    """One pre-activation.

    Attributes:
        module: Dotted path of the module it was computed in.
        name: Its weights' parameter names, joined by "+"; "addition" for the residual stream.
        mean_square_update: Mean of (dz/d eta)^2 over examples, positions, units and seeds; per
            squared unit of the learning rate.
        interval: 95% interval of it over seeds; None with one seed.
        second_moment: Mean of z^2 before the step, over the same.
    """

    module: str
    name: str
    mean_square_update: float
    interval: tuple[float, float] | None
    second_moment: float


@dataclass(frozen=True)
class SeedUpdate:
    """What one seed gave.

    Attributes:
        places: (module, name) of each pre-activation, in the order of execution.
        mean_squares: S_l / eta^2 of each.
        second_moments: Mean of z^2 of each before the step.
        doubt: What makes the measurement doubtful; "" for nothing.
    """

    places: tuple[tuple[str, str], ...]
    mean_squares: tuple[float, ...]
    second_moments: tuple[float, ...]
    doubt: str = ""


@dataclass(frozen=True)
class UpdateReport(Shown):
    """The maximal-update criterion of one network: S(eta) = eta^2 M, eta* = 1 / M^(1/2).

    Attributes:
        layers: The pre-activations, in the order of execution.
        mean_square_update: M, the arithmetic mean of the layers' mean-square updates [AM], mean
            over seeds; per squared unit of the learning rate.
        mean_square_interval: 95% interval of it by bootstrap over seeds; None with one seed.
        by_seed: M of each seed.
        seeds: The seeds.
        pre_activations: Which pre-activations counted.
        doubt: What makes the measurement doubtful, as a warning said; "" for nothing.
    """

    layers: tuple[LayerUpdate, ...]
    mean_square_update: float
    mean_square_interval: tuple[float, float] | None
    by_seed: tuple[float, ...]
    seeds: tuple[int, ...]
    pre_activations: PreActivations
    doubt: str = ""

    @property
    def eta_star(self) -> float:
        """Maximal-update learning rate: it changes the pre-activations by 1 in the mean square.

        By c it is c^(1/2) times this, to first order.
        """
        return _rate(self.mean_square_update)

    @property
    def eta_star_interval(self) -> tuple[float, float] | None:
        """95% interval of it; None with one seed."""
        if self.mean_square_interval is None:
            return None
        low, high = self.mean_square_interval
        return _rate(high), _rate(low)

    def as_dict(self) -> dict[str, Any]:
        """The report as plain data for JSON: None for what is not finite."""
        rates = {"eta_star": self.eta_star, "eta_star_interval": self.eta_star_interval}
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
                ends_text(layer.interval),
                number(layer.second_moment),
            )
        seeds = f"{len(self.seeds)} seed{'s' * (len(self.seeds) > 1)}"
        doubt = [Text(f"DOUBTFUL: {self.doubt}", style="bold red")] if self.doubt else []
        return Group(
            Text(f"eta* = {number(self.eta_star)} ({ends_text(self.eta_star_interval)})"),
            Text(f"M = {number(self.mean_square_update)}; {self.pre_activations}; {seeds}"),
            *doubt,
            table,
        )


def ends_text(interval: tuple[float, float] | None) -> str:
    """An interval in words.

    Args:
        interval: Its ends; None with one seed.

    Returns:
        The text.

    Example:
        >>> ends_text((0.1, 0.2)), ends_text(None)
        ('0.1 to 0.2', 'one seed')
    """
    return "one seed" if interval is None else interval_text(*interval)


def _rate(mean_square: float) -> float:
    return mean_square**-0.5 if mean_square else math.inf


def report_of(
    found: Sequence[SeedUpdate], *, seeds: tuple[int, ...], pre_activations: PreActivations
) -> UpdateReport:
    """Mean over seeds, with bootstrap intervals.

    Args:
        found: One measurement per seed.
        seeds: The seeds.
        pre_activations: Which counted.

    Returns:
        The report.

    Raises:
        MeasureError: The seeds gave different networks.
    """
    places = {one.places for one in found}
    if len(places) > 1:
        raise MeasureError(
            f"networks with {sorted({len(one.places) for one in found})} pre-activations by seed",
            "the same network for every seed",
            "let the function draw weights only, not the architecture",
        )
    doubt = _warned(found, seeds)
    layers = np.array([one.mean_squares for one in found], dtype=np.float64)
    totals = layers.mean(axis=1)
    moments = np.array([one.second_moments for one in found], dtype=np.float64).mean(axis=0)
    return UpdateReport(
        layers=tuple(
            LayerUpdate(module, name, float(value.mean()), mean_interval(value), float(moment))
            for (module, name), value, moment in zip(
                found[0].places, layers.T, moments, strict=True
            )
        ),
        mean_square_update=float(totals.mean()),
        mean_square_interval=mean_interval(totals),
        by_seed=tuple(float(total) for total in totals),
        seeds=seeds,
        pre_activations=pre_activations,
        doubt=doubt,
    )


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
