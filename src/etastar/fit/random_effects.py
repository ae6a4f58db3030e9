"""Mean effects of groups whose members differ by more than their own errors explain."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from statistics import NormalDist
from typing import TypeVar

import numpy as np

from etastar.fit.bootstrap import student_quantile

_Group = TypeVar("_Group", bound=Hashable)

_UPPER = 0.975


def random_effects(
    groups: Mapping[_Group, Sequence[tuple[float, float]]],
) -> dict[_Group, tuple[float, float]]:
    """What a new member of each group is expected to be: mean and standard deviation.

    Random effects with one spread for all groups, by DerSimonian and Laird's moments:
    y_ki = mu_k + u_ki + e_ki, u ~ N(0, tau^2), e ~ N(0, s_ki^2). With w = 1 / s^2, W_k their sum
    and m_k the weighted mean of group k, Q = sum w (y - m_k)^2 has the expectation
    f + tau^2 sum_k (W_k - sum_i w_ki^2 / W_k), f members less groups; tau^2 is what Q gives, at
    least 0. mu_k is then the mean with weights 1 / (s^2 + tau^2). Groups of two to four members say
    next to nothing of a spread of their own, so they share one. The deviation is that of the normal
    distribution whose 95% interval is Student's t's: (tau^2 + sd(mu_k)^2)^(1/2) t_f / z.

    A member is an estimate and its positive standard deviation; one group has two or more.

    Example:
        >>> found = random_effects({"a": [(1.0, 0.5), (3.0, 0.5)]})
        >>> mean, sd = found["a"]  # moments by hand: tau^2 = (2 - 0.25 * 1) / 1, sd(mu)^2 = 1
        >>> t = student_quantile(0.975, 1) / NormalDist().inv_cdf(0.975)
        >>> round(mean, 9), round((sd / t) ** 2, 9)
        (2.0, 2.75)

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
    wider = student_quantile(_UPPER, freedom) / NormalDist().inv_cdf(_UPPER)
    found = {}
    for group, (y, sd) in members.items():
        w = 1 / (sd**2 + variance)
        spread = float(np.hypot(variance**0.5, float(w.sum() ** -0.5)))
        found[group] = float(w @ y / w.sum()), spread * wider
    return found
