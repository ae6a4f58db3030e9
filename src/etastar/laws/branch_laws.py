"""Laws that scale every residual branch by a power of their number: Depth-muP and CompleteP."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, final

from etastar.errors import LawError
from etastar.laws.base import (
    Effect,
    Factors,
    Law,
    ParamPair,
    ScaledWeights,
    TransferCase,
    learning_rate,
)
from etastar.typed import set_numbers


class _BranchLaw(Law):
    """What both have in common: the multiplier needs a place on every branch.

    A network that multiplies its branches itself, by numbers that differ between base and target,
    gets the law's multiplier divided by their ratio: nothing where it does the same.
    """

    effects: ClassVar[frozenset[Effect]] = frozenset({"branch multiplier"})

    @staticmethod
    def _multiplier(pair: ParamPair, scale: float) -> Factors:
        """The branch multiplier where it sits, without what the network's own numbers do of it."""
        return Factors(multiplier=pair.beside_own(scale) if pair.target.branch_scale else 1.0)

    def check(self, pairs: Sequence[ParamPair]) -> None:
        """See `Law.check`: every branch of a stream that grows has a place for its multiplier.

        There is none where its output is bent, it or the last weight is normalized without gain, or
        it is made without parameters.
        """
        grown = {
            pair.target.stream: pair.target.stream_additions
            for pair in pairs
            if pair.target.stream is not None and pair.stream_ratio != 1
        }
        for stream, additions in grown.items():
            inside = [pair.target for pair in pairs if pair.target.stream == stream]
            scaled = {info.branch for info in inside if info.branch_scale}
            if missing := sorted(set(range(additions)) - scaled):
                names = [info.name for info in inside if info.branch == missing[0]]
                raise LawError(
                    f"the law {self.name!r} for a network where {len(missing)} of {additions} "
                    f"residual branches cannot carry a multiplier, first number {missing[0]} "
                    f"({', '.join(names[:4]) or 'no parameters'})",
                    "branches that end in a layer whose weight, or a norm whose gain, is a (w + c) "
                    "of its parameter w: no exp(w), softplus(w), spectral norm or the like",
                    "choose another law, or end the branch with a layer or an affine norm",
                )

    @property
    def residual(self) -> ScaledWeights:
        """See `Law.residual`: the multiplier is what keeps the stream's size."""
        return "none"


@final
@dataclass(frozen=True)
class DepthMuP(_BranchLaw):
    """Every residual branch is multiplied by (K_target / K_base)^(-1/2), K the branches' number.

    With k = K_target / K_base of the parameter's own residual stream: branch multiplier k^(-1/2),
    placed on what scales the branch's output (its last layer); the learning rate of every parameter
    on a branch (weights, biases and norms, since each moves the branch's output alike) x k^(-1/2)
    for optimizers of the Adam kind and Muon, x 1 for SGD. Outside of the branches nothing changes.

    Example:
        >>> DepthMuP().name
        'depth-mup'

    Source: [TP6], Table 1 (Depth-muP); relative to a base of K_base branches.
    """

    name: ClassVar[str] = "depth-mup"

    def factors(self, pair: ParamPair, case: TransferCase) -> Factors:
        """See `Law.factors`."""
        scale = pair.stream_ratio**-0.5
        multiplier = self._multiplier(pair, scale)
        if case.optimizer.update == "sgd":
            return multiplier
        return multiplier * learning_rate(scale, optimizer=case.optimizer)


@final
@dataclass(frozen=True)
class CompleteP(_BranchLaw):
    """Every residual branch is multiplied by m_L^(-alpha), and its hyperparameters follow.

    With m_L = K_target / K_base of the parameter's own residual stream:

    - branch multiplier m_L^(-alpha), placed on what scales the branch's output (its last layer);
    - learning rate of weights, biases and norms on the branches x m_L^(alpha - 1) for optimizers of
      the Adam kind and Muon. The paper's table has no SGD; the same requirement (the sum of K
      coherent updates, each of size lr m^2, stays) gives x m_L^(2 alpha - 1);
    - epsilon of these parameters x m_L^(-alpha), as their gradients shrink;
    - weight decay stays as it is, so that lr x wd follows the rate.

    Embedding, final norm and readout stay out of the depth part. The table's width part (lr / m_N,
    weight decay x m_N, epsilon / m_N, the readout's 1 / m_N) is the `Width` rule's, beside this.

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

    def __post_init__(self) -> None:
        owner = f"the law {self.name!r}"
        set_numbers(self, "alpha", error=LawError, least=0.5, owner=owner)

    def factors(self, pair: ParamPair, case: TransferCase) -> Factors:
        """See `Law.factors`."""
        if not pair.target.in_branch:
            return Factors()
        depth = pair.stream_ratio
        scale = depth**-self.alpha
        multiplier = self._multiplier(pair, scale)
        if case.optimizer.update == "sgd":
            return multiplier * Factors(lr=depth ** (2 * self.alpha - 1))
        return multiplier * Factors(lr=depth ** (self.alpha - 1), eps=scale)
