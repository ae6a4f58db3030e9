"""The width rule of the maximal update parametrization."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, final

from etastar.laws.base import Effect, Factors, Law

if TYPE_CHECKING:
    from etastar.laws.base import ParamPair, TransferCase
    from etastar.optimizers import OptimizerKind, ShapeRule
    from etastar.parameter import ParamInfo

__all__ = ["Width"]


@final
@dataclass(frozen=True)
class Width(Law):
    """muP: every layer's output and its change keep their size as the width grows.

    With n_in and n_out the ratios target / base of a weight's fan-in (in channels) and of its
    output units:

    | role | SGD lr | Adam-like lr | Muon lr | relative lr |
    | --- | --- | --- | --- | --- |
    | input weight, embedding, bias, norm | n_out | 1 | Adam rule | 1 |
    | hidden weight | n_out / n_in | 1 / n_in | sqrt(n_out / n_in) / own rule | n_in^(-1/2) |
    | output weight | 1 / n_in | 1 / n_in | Adam rule | 1 |

    A relative step is lr times the weight's own size, so that the Adam rule is divided by that size
    at initialization: n_in^(-1/2) of a hidden weight, 1 / n_in of the readout.

    The readout is a layer with the output multiplier 1 / n_in whose own weights keep the base's
    variance: std x n_in^(-1/2) relative to an initialization of variance 1 / fan_in, and weight
    decay as `fold_multiplier` derives. A network that divides its logits itself, by numbers that
    differ between base and target, gets what is left of the multiplier. Other weights, initialized
    with variance 1 / fan_in, are right as they are. lr x wd of each layer's own weights stays,
    coupled or not, as in the authors' package.

    Epsilon of an Adam-like optimizer follows the gradient's size, 1 / n_out; that of the readout's
    own weights stays, 1 with its multiplier folded in. A norm of queries or keys whose heads keep
    their size has n_out 1. [TP5] leaves epsilon alone, which is this rule where epsilon is small.

    Attention logits are outside of what an initialization and groups can express: let heads keep
    their size and grow in number, or divide the logits by the head's size in the network itself.

    Muon's own shape rule is divided out at both sizes, so that the spectral norm of an update is
    proportional to sqrt(fan_out / fan_in).

    Example:
        >>> Width().name
        'width'

    Source: [TP5], Tables 3 and 8; epsilon: [CP], Table 1.
    """

    name: ClassVar[str] = "width"
    effects: ClassVar[frozenset[Effect]] = frozenset({"width"})

    def factors(self, pair: ParamPair, case: TransferCase) -> Factors:
        """See `Law.factors`."""
        if pair.target.role == "output":
            return _readout(pair, case.optimizer)
        rate = _rate(pair, case.optimizer)
        eps = 1 / pair.units_ratio if case.optimizer.update == "adam" else 1.0
        return Factors(lr=rate, weight_decay=1 / rate, eps=eps)


def _readout(pair: ParamPair, optimizer: OptimizerKind) -> Factors:
    n = pair.fan_in_ratio
    rate = n if optimizer.update == "sgd" else 1.0
    eps = 1 / n if optimizer.update == "adam" else 1.0  # the multiplier, folded in, takes it back
    return Factors(
        multiplier=pair.beside_own(1 / n),
        init=math.sqrt(n),
        lr=rate,
        weight_decay=1 / rate,
        eps=eps,
    )


def _rate(pair: ParamPair, optimizer: OptimizerKind) -> float:
    hidden = pair.target.role == "hidden"
    if optimizer.update == "sgd":
        return pair.units_ratio / (pair.fan_in_ratio if hidden else 1.0)
    if not hidden:
        return 1.0
    if optimizer.update == "adam":
        return 1 / pair.fan_in_ratio
    if optimizer.update == "relative":
        return 1 / math.sqrt(pair.fan_in_ratio)
    spectral = math.sqrt(pair.units_ratio / pair.fan_in_ratio)
    rule = optimizer.shape_rule
    return spectral * _own_factor(pair.base, rule) / _own_factor(pair.target, rule)


def _own_factor(info: ParamInfo, rule: ShapeRule) -> float:
    rows, columns = info.shape
    if rule == "match_rms_adamw":
        return 0.2 * math.sqrt(max(rows, columns))
    return math.sqrt(max(1, rows / columns))
