"""Mean effects of groups whose members differ by more than their own errors explain."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Generic, TypeVar

import numpy as np

from etastar.fit.bootstrap import student_quantile

_Group = TypeVar("_Group", bound=Hashable)

_UPPER = 0.975


@dataclass(frozen=True)
class RandomEffects(Generic[_Group]):
    """Means of groups and the spread of members about them, one for all groups.

    Attributes:
        spread: tau, standard deviation between the members of a group.
        freedom: Degrees of freedom of the spread: members less groups.
        means: Mean of each group, and its standard deviation.
    """

    spread: float
    freedom: int
    means: Mapping[_Group, tuple[float, float]]

    def predictive(self, group: _Group) -> tuple[float, float]:
        """What a new member of a group is expected to be: mean and standard deviation.

        The deviation is that of the normal distribution whose 95% interval is Student's t's:
        (tau^2 + sd(mean)^2)^(1/2) t / z.

        Example:
            >>> found = random_effects({"a": [(0.0, 0.1), (1.0, 0.1)], "b": [(5.0, 0.1)] * 3})
            >>> mean, sd = found.predictive("a")
            >>> round(mean, 6), sd > found.spread
            (0.5, True)
        """
        mean, sd = self.means[group]
        wider = student_quantile(_UPPER, self.freedom) / NormalDist().inv_cdf(_UPPER)
        return mean, float(np.hypot(self.spread, sd)) * wider


def random_effects(
    groups: Mapping[_Group, Sequence[tuple[float, float]]],
) -> RandomEffects[_Group]:
    """Random effects with one spread for all groups, by DerSimonian and Laird's moments.

    y_ki = mu_k + u_ki + e_ki, u ~ N(0, tau^2), e ~ N(0, s_ki^2). With w = 1 / s^2, W_k their sum
    and m_k the weighted mean of group k, Q = sum w (y - m_k)^2 has the expectation
    f + tau^2 sum_k (W_k - sum_i w_ki^2 / W_k), f members less groups; tau^2 is what Q gives, at
    least 0. mu_k is then the mean with weights 1 / (s^2 + tau^2). Groups of two to four members say
    next to nothing of a spread of their own, so they share one.

    A member is an estimate and its positive standard deviation; one group has two or more.

    Example:
        >>> found = random_effects({"a": [(1.0, 0.5), (3.0, 0.5)]})
        >>> round(found.spread**2, 9), found.freedom  # (2 - 0.25 * 1) / 1, moments by hand
        (1.75, 1)

    Source: DerSimonian and Laird (1986), eq. 8, its moments summed over groups; Student's t in the
    interval as Higgins, Thompson and Spiegelhalter (2009), section 4.2.
    """
    members = {group: np.array(rows, dtype=float).T for group, rows in groups.items()}
    freedom = sum(len(y) - 1 for y, _ in members.values())
    assert freedom > 0, "no group with two members"
    misfit = slack = 0.0
    for y, sd in members.values():
        w = sd**-2
        misfit += float(w @ (y - w @ y / w.sum()) ** 2)
        slack += float(w.sum() - (w**2).sum() / w.sum())
    variance = max(0.0, (misfit - freedom) / slack)
    means = {group: _mean(y, 1 / (sd**2 + variance)) for group, (y, sd) in members.items()}
    return RandomEffects(variance**0.5, freedom, means)


def _mean(y: np.ndarray, w: np.ndarray) -> tuple[float, float]:
    return float(w @ y / w.sum()), float(w.sum() ** -0.5)
