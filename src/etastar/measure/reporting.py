"""From the measurements of several seeds to one report."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from etastar.errors import MeasureError
from etastar.fit.bootstrap import percentile_interval, resampled_seeds
from etastar.measure.records import LayerUpdate, UpdateReport

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from etastar.measure.records import PreActivations, SeedUpdate

__all__ = ["NUM_RESAMPLES", "maximal_rate", "report_of"]

NUM_RESAMPLES = 1000
_CONFIDENCE = 0.95


def maximal_rate(mean_square: float, *, c: float) -> float:
    """eta* = sqrt(c / M).

    Args:
        mean_square: M.
        c: Mean-square change.

    Returns:
        The rate; +inf where nothing moves, 0 where M is infinite.

    Example:
        >>> maximal_rate(16.0, c=1.0)
        0.25
    """
    return math.sqrt(c / mean_square) if mean_square else math.inf


def report_of(
    found: Sequence[SeedUpdate],
    *,
    seeds: tuple[int, ...],
    c: float,
    pre_activations: PreActivations,
    after: int,
    lr: float | None,
) -> UpdateReport:
    """Mean over seeds, with bootstrap intervals.

    Args:
        found: One measurement per seed.
        seeds: The seeds.
        c: Mean-square change of eta*.
        pre_activations: Which counted.
        after: Steps before.
        lr: Learning rate of those.

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
    layers = np.array([one.mean_squares for one in found], dtype=np.float64)
    totals = layers.mean(axis=1)
    mean = float(totals.mean())
    interval = _interval(totals)
    moments = np.array([one.second_moments for one in found], dtype=np.float64).mean(axis=0)
    return UpdateReport(
        layers=tuple(
            LayerUpdate(module, name, float(value.mean()), _interval(value), float(moment))
            for (module, name), value, moment in zip(
                found[0].places, layers.T, moments, strict=True
            )
        ),
        mean_square_update=mean,
        mean_square_interval=interval,
        eta_star=maximal_rate(mean, c=c),
        eta_star_interval=None
        if interval is None
        else (maximal_rate(interval[1], c=c), maximal_rate(interval[0], c=c)),
        by_seed=tuple(float(total) for total in totals),
        seeds=seeds,
        c=c,
        method=found[0].method,
        note=next((one.note for one in found if one.note), ""),
        pre_activations=pre_activations,
        after=after,
        lr=lr,
        cost_steps=len(found) * (after + 1),
    )


def _interval(values: NDArray[np.float64]) -> tuple[float, float] | None:
    """Of the mean over seeds."""
    if len(values) == 1:
        return None
    draws = resampled_seeds(len(values), num_resamples=NUM_RESAMPLES, seed=0)
    return percentile_interval(values[draws].mean(axis=1), _CONFIDENCE)
