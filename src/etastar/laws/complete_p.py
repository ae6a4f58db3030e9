"""CompleteP: residual branches scaled by their number."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, final

from etastar.laws.base import Effect, Factors, Law, checked_number, learning_rate
from etastar.laws.branch import require_branch_scales

if TYPE_CHECKING:
    from collections.abc import Sequence

    from etastar.laws.base import Architecture, ParamPair
    from etastar.optimizers import OptimizerKind

__all__ = ["CompleteP"]


@final
@dataclass(frozen=True)
class CompleteP(Law):
    """Every residual branch is multiplied by m_L^(-alpha), and its hyperparameters follow.

    With m_L = K_target / K_base of the parameter's own residual stream, and m_N the ratio of its
    output units:

    - branch multiplier m_L^(-alpha), placed on what scales the branch's output (its last layer);
    - learning rate of weights, biases and norms on the branches x m_L^(alpha - 1) for optimizers of
      the Adam kind and Muon. The paper's table has no SGD; the same requirement (the sum of K
      coherent updates, each of size lr m^2, stays) gives x m_L^(2 alpha - 1);
    - epsilon of these parameters x m_L^(-alpha) / m_N, as their gradients shrink;
    - weight decay: with decoupled decay lr x wd stays.

    Embedding, final norm and readout stay out of the depth part. Of the table's width part only
    the epsilon is here: hidden lr / m_N, hidden weight decay x m_N and the readout's 1 / m_N are
    the `Width` rule's, which is applied beside this law and leaves the epsilon of these parameters
    alone; so nothing counts twice.

    Args:
        alpha: Power of the branch multiplier, at least 1/2; 1 is CompleteP.

    Raises:
        LawError: alpha is not a finite number of at least 1/2.

    Example:
        >>> CompleteP().options
        {'alpha': 1.0}

    Source: [CP], Table 1.
    """

    alpha: float = 1.0

    name: ClassVar[str] = "complete-p"
    effects: ClassVar[frozenset[Effect]] = frozenset({"branch multiplier"})

    def __post_init__(self) -> None:
        checked_number(self.name, "alpha", self.alpha, least=0.5)

    def check(self, pairs: Sequence[ParamPair]) -> None:
        """See `Law.check`: every branch must have a place for its multiplier."""
        require_branch_scales(pairs, law=self.name)

    def factors(
        self,
        pair: ParamPair,
        *,
        base: Architecture,
        target: Architecture,
        optimizer: OptimizerKind,
    ) -> Factors:
        """See `Law.factors`."""
        if not pair.target.in_branch:
            return Factors()
        depth = pair.stream_ratio
        scale = depth**-self.alpha
        multiplier = Factors(multiplier=scale if pair.target.branch_scale else 1.0)
        if optimizer.update == "sgd":
            return multiplier * learning_rate(depth ** (2 * self.alpha - 1), optimizer=optimizer)
        rate = learning_rate(depth ** (self.alpha - 1), optimizer=optimizer)
        return multiplier * rate * Factors(eps=scale / pair.units_ratio)
