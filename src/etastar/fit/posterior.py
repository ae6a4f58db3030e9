"""A power law with a prior on its exponent: one tuned size gives the law, many give the data."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

from etastar.errors import FitError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["PowerLawPosterior", "power_law_posterior"]


@dataclass(frozen=True)
class PowerLawPosterior:
    """Posterior of log lr = a + b log L.

    Attributes:
        exponent: Posterior mean of b.
        exponent_sd: Posterior standard deviation of b.
        center_log_size: Weighted mean of log L.
        center_log_lr: Weighted mean of log lr.
        center_variance: Variance of the line at the center.
        noise_variance: Variance of one optimum about the line.
    """

    exponent: float
    exponent_sd: float
    center_log_size: float
    center_log_lr: float
    center_variance: float
    noise_variance: float

    def predict(self, size: float) -> float:
        """Learning rate of a size: exp of the posterior mean of its logarithm.

        Args:
            size: L of the target, positive.

        Returns:
            The learning rate.
        """
        step = np.log(size) - self.center_log_size
        return float(np.exp(self.center_log_lr + self.exponent * step))

    def interval(self, size: float, *, confidence: float = 0.95) -> tuple[float, float]:
        """Predictive interval of the optimal learning rate of a size.

        Args:
            size: L of the target, positive.
            confidence: Probability that the interval holds the optimum, if the model is right.

        Returns:
            Lower and upper end.

        Raises:
            FitError: The confidence is not between 0 and 1.
        """
        if not 0 < confidence < 1:
            raise FitError(
                f"confidence={confidence}", "a number between 0 and 1", "take for example 0.95"
            )
        step = np.log(size) - self.center_log_size
        variance = self.center_variance + (self.exponent_sd * step) ** 2 + self.noise_variance
        reach = NormalDist().inv_cdf(0.5 + confidence / 2) * float(np.sqrt(variance))
        lr = self.predict(size)
        return lr * float(np.exp(-reach)), lr * float(np.exp(reach))


def power_law_posterior(
    sizes: ArrayLike,
    lrs: ArrayLike,
    *,
    prior_exponent: float = -1.5,
    prior_sd: float = 0.5,
    variances: ArrayLike | None = None,
    noise: float = 0.15,
) -> PowerLawPosterior:
    """Posterior of a power law through tuned sizes, the prior of its exponent at a law's.

    log lr_i = a + b log L_i + e_i, e_i ~ N(0, v_i), a flat, b ~ N(prior_exponent, prior_sd^2). With
    w_i = 1 / v_i and weighted means and sums, b has precision S_xx + 1 / prior_sd^2.

    Args:
        sizes: L of each tuned size, positive.
        lrs: Tuned learning rates, positive.
        prior_exponent: Exponent of the law.
        prior_sd: Standard deviation of the prior; small trusts the law, large the data.
        variances: v_i, variance of each log lr; None for `noise` squared.
        noise: Standard deviation of a tuned log lr where no variance is known, and its floor;
            about a tenth of an octave on a grid of factor 2 (a choice, not measured).

    Returns:
        The posterior.

    Raises:
        FitError: Not one positive number per size, or a prior or noise that is not positive.

    Example:
        >>> one = power_law_posterior([4], [0.1])
        >>> one.exponent, round(one.predict(16), 6)
        (-1.5, 0.0125)

    Source: docs/definitions.md, section 5.
    """
    x, y, v = _checked(sizes, lrs, variances, noise)
    if not (np.isfinite(prior_exponent) and np.isfinite(prior_sd) and prior_sd > 0):
        raise FitError(
            f"prior_exponent={prior_exponent}, prior_sd={prior_sd}",
            "a finite exponent and a positive width",
            "take for example -1.5 and 0.5",
        )
    weights = 1 / v
    total = weights.sum()
    center_x, center_y = float(weights @ x / total), float(weights @ y / total)
    spread = float(weights @ (x - center_x) ** 2)
    slope = float(weights @ ((x - center_x) * (y - center_y)))
    precision = spread + prior_sd**-2
    return PowerLawPosterior(
        exponent=(slope + prior_exponent * prior_sd**-2) / precision,
        exponent_sd=precision**-0.5,
        center_log_size=center_x,
        center_log_lr=center_y,
        center_variance=float(1 / total),
        noise_variance=float(v.mean()),
    )


def _checked(
    sizes: ArrayLike, lrs: ArrayLike, variances: ArrayLike | None, noise: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    size, rate = np.asarray(sizes, dtype=np.float64), np.asarray(lrs, dtype=np.float64)
    given = np.zeros_like(size) if variances is None else np.asarray(variances, dtype=np.float64)
    shapes_agree = size.ndim == 1 and size.size and size.shape == rate.shape == given.shape
    numbers = np.concatenate([size.ravel(), rate.ravel()])
    if not shapes_agree or not (np.isfinite(numbers) & (numbers > 0)).all():
        raise FitError(
            f"sizes {size.tolist()} and learning rates {rate.tolist()}",
            "one positive finite learning rate (and variance) for each size, at least one",
            "leave out sizes without an optimum",
        )
    if not (np.isfinite(noise) and noise > 0 and np.isfinite(given).all() and (given >= 0).all()):
        raise FitError(
            f"noise={noise}, variances {given.tolist()}",
            "a positive noise and variances of at least 0",
            "take for example noise=0.15",
        )
    return np.log(size), np.log(rate), np.maximum(given, noise**2)
