"""What a transferred learning rate costs against the target's own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from etastar.errors import FitError
from etastar.fit.bootstrap import float_array, percentile_interval, resampled_seeds
from etastar.formatting import Shown, interval, number, percent


@dataclass(frozen=True)
class TransferRegret(Shown):
    """The regret of a transferred learning rate.

    Attributes:
        regret: Mean loss at the transferred rate minus mean loss at the target's own optimum; +inf
            when any seed diverged at the transferred rate, negative when that rate was better.
        interval: 95% bootstrap interval over seeds; None with a single seed.
        relative: `regret` divided by (loss at initialization - best loss); None when the loss at
            initialization was not given.
        relative_interval: `interval` divided by the same number.
        num_seeds: Number of seeds.
        num_diverged: Seeds that diverged at the transferred rate.
    """

    regret: float
    interval: tuple[float, float] | None
    relative: float | None
    relative_interval: tuple[float, float] | None
    num_seeds: int
    num_diverged: int

    def __rich__(self) -> str:
        parts = [f"regret {number(self.regret)}"]
        if self.interval is not None:
            parts.append(f"interval {interval(*self.interval)}")
        if self.relative is not None:
            parts.append(f"{percent(self.relative)} of what training gains")
        if self.num_diverged:
            parts.append(f"{self.num_diverged} of {self.num_seeds} seeds diverged")
        return ", ".join(parts)


def transfer_regret(
    transferred_losses: ArrayLike,
    optimal_losses: ArrayLike,
    *,
    initial_losses: ArrayLike | None = None,
) -> TransferRegret:
    """Loss at the transferred rate minus loss at the target's own optimum, seed by seed.

    regret = mean_s (l_s(eta_transferred) - l_s(eta_optimal)); the relative regret divides it by
    mean_s (l_s(initialization) - l_s(eta_optimal)), which is taken as exact in its interval.

    Args:
        transferred_losses: (num_seeds,) at the transferred rate; what is not finite counts as +inf.
        optimal_losses: (num_seeds,) at the target's own optimum, same budget and seeds; finite.
        initial_losses: (num_seeds,) before training, finite; or None.

    Returns:
        The regret, with intervals.

    Raises:
        FitError: The shapes differ, a loss at the optimum or at initialization is not finite, or
            training at the optimum did not lower the loss.

    Example:
        >>> found = transfer_regret([1.5, 1.75], [1.0, 1.25], initial_losses=[2.0, 2.25])
        >>> found.regret, found.interval, found.relative
        (0.5, (0.5, 0.5), 0.5)

    Source: docs/definitions.md, section 5.
    """
    transferred = float_array("transferred_losses", transferred_losses)
    transferred = np.where(np.isfinite(transferred), transferred, np.inf)
    optimal = _finite("optimal_losses", optimal_losses, transferred.shape)
    differences = transferred - optimal
    scale = None if initial_losses is None else _scale(initial_losses, optimal)
    ends = None
    if len(differences) > 1:
        ends = percentile_interval(differences[resampled_seeds(len(differences))].mean(axis=1))
    scaled = None if scale is None or ends is None else (ends[0] / scale, ends[1] / scale)
    regret = float(differences.mean())
    return TransferRegret(
        regret=regret,
        interval=ends,
        relative=None if scale is None else regret / scale,
        relative_interval=scaled,
        num_seeds=len(differences),
        num_diverged=int(np.isinf(transferred).sum()),
    )


def _finite(name: str, values: ArrayLike, shape: tuple[int, ...]) -> NDArray[np.float64]:
    array = float_array(name, values)
    if array.ndim != 1 or array.shape != shape or array.size == 0:
        raise FitError(
            f"{name} of shape {array.shape} beside losses of shape {shape}",
            "one loss per seed, for the same seeds",
            "give the losses of the same runs",
        )
    if not np.isfinite(array).all():
        raise FitError(f"{name} {array}", "finite losses", "leave no diverged run here")
    return array


def _scale(initial_losses: ArrayLike, optimal: NDArray[np.float64]) -> float:
    initial = _finite("initial_losses", initial_losses, optimal.shape)
    scale = float((initial - optimal).mean())
    if scale <= 0:
        raise FitError(
            f"a mean loss of {initial.mean()} at initialization, {optimal.mean()} at the optimum",
            "an optimum that lowers the loss",
            "train longer, or ask for the regret without initial_losses",
        )
    return scale
