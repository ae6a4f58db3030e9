"""The four measures of a rate that a rule carried to a target."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from math import exp, inf, isfinite, log, log2


@dataclass(frozen=True)
class Best:
    """The best that any rule or initialization reached at a target.

    Attributes:
        loss: At the full number of steps.
        initial_loss: Of the same runs, before training.
        shorter: Final loss by share of the steps, each with its whole schedule: at 1/2, 1/4.
    """

    loss: float
    initial_loss: float
    shorter: Mapping[float, float]


def relative_regret(loss: float, best: Best) -> float:
    """(loss - best) / (initial - best).

    Args:
        loss: Mean final loss at the rule's rate; +inf where a seed diverged.
        best: What is compared with.

    Returns:
        0 for the best itself, 1 for a run that gained nothing, +inf for a diverged one.

    Example:
        >>> relative_regret(1.5, Best(1.0, 3.0, {}))
        0.25
    """
    return (loss - best.loss) / (best.initial_loss - best.loss)


def compute_regret(loss: float, best: Best) -> float:
    """1 - the share of its steps that the best one needs to reach a loss.

    Between the shares that were trained (1, 1/2, 1/4) the logarithm of the share is linear in the
    loss; beyond the shortest, the last segment goes on.

    Args:
        loss: Mean final loss at the rule's rate; +inf where a seed diverged.
        best: What is compared with.

    Returns:
        0 for the best itself; 1 for a diverged run; below 0 where the rule did better.

    Example:
        >>> best = Best(1.0, 3.0, {0.5: 1.2, 0.25: 1.6})
        >>> compute_regret(1.0, best), round(compute_regret(1.2, best), 3)
        (0.0, 0.5)
        >>> round(compute_regret(1.4, best), 3)
        0.646
    """
    if not isfinite(loss) or loss >= best.initial_loss:
        return 1.0
    points = sorted([(1.0, best.loss), *best.shorter.items()], reverse=True)
    segments = list(pairwise(points))
    # a shorter run that is no worse says nothing of how long a loss takes
    rising = [(long, short) for long, short in segments if short[1] > long[1]]
    if not rising:
        return 0.0 if loss <= best.loss else 1.0
    for (share, upper), (less, lower) in rising:
        last = ((share, upper), (less, lower)) == rising[-1]
        if loss <= lower or last:
            slope = log(less / share) / (lower - upper)
            return 1 - share * exp(slope * (loss - upper))
    return 1.0


def octaves(lr: float, optimum: float) -> float:
    """Error of a rate, signed: 1 for twice the optimum.

    Args:
        lr: The rule's.
        optimum: Of the same parametrization at the target.

    Returns:
        log2(lr / optimum); +-inf where the rate is 0 or infinite.

    Example:
        >>> octaves(0.2, 0.1), octaves(0.1, 0.4)
        (1.0, -2.0)
    """
    if lr <= 0 or not isfinite(lr):
        return inf if lr > 0 else -inf
    return log2(lr / optimum)
