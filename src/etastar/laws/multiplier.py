"""A factor on a layer's output without touching the forward pass."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from etastar.laws.base import Factors

if TYPE_CHECKING:
    from etastar.optimizers import OptimizerKind

__all__ = ["fold_multiplier"]


def fold_multiplier(factors: Factors, *, optimizer: OptimizerKind) -> Factors:
    """Express the multiplier m on a layer's output by its initialization and hyperparameters.

    A layer m V is a layer W with W = m V, and the gradients are g_V = m g_W. Multiplying one step
    of V by m gives the step of W:

    - SGD, V <- V - lr (g_V + wd V): W <- W - lr m^2 (g_W + wd / m^2 W).
    - Adam-like, coupled decay, the direction is normalized from m (g_W + wd / m^2 W):
      lr m, wd / m^2, eps / m.
    - Adam-like, decoupled decay, V <- (1 - lr wd) V - lr n(g_V): lr m, wd / m, eps / m.
    - Relative, V <- (1 - lr wd) V - lr |V| n(g_V): nothing but the initial size. What starts at
      zero moves by the optimizer's least size (Adafactor's eps_2) until it is larger.

    In each case the initial standard deviation is m times the one of V. Equal up to rounding, also
    with momentum, moments and clipping by value of the update (not clipping by gradient norm,
    which sees other gradients).

    Args:
        factors: Factors with a multiplier.
        optimizer: Kind of the optimizer that updates the parameter.

    Returns:
        Factors with multiplier 1 that train the same function.

    Example:
        >>> from etastar.optimizers import optimizer_kind
        >>> folded = fold_multiplier(Factors(multiplier=0.5), optimizer=optimizer_kind("sgd"))
        >>> folded.lr, folded.multiplier, folded.init, folded.weight_decay
        (0.25, 1.0, 0.5, 4.0)

    Source: [TP5] Appendix J.2.1 (abc-symmetry); the weight decay is derived here.
    """
    m = factors.multiplier
    if optimizer.update == "sgd":
        change = Factors(init=m, lr=m**2, weight_decay=m**-2)
    elif optimizer.update == "relative":
        change = Factors(init=m)
    elif optimizer.decoupled_weight_decay:
        change = Factors(init=m, lr=m, eps=1 / m, weight_decay=1 / m)
    else:
        change = Factors(init=m, lr=m, eps=1 / m, weight_decay=m**-2)
    return replace(factors, multiplier=1.0) * change
