"""Depth-muP: residual branches scaled by the square root of their number."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, final

from etastar.laws.base import Effect, Factors, Law, learning_rate
from etastar.laws.branch import require_branch_scales

if TYPE_CHECKING:
    from collections.abc import Sequence

    from etastar.laws.base import Architecture, ParamPair
    from etastar.optimizers import OptimizerKind

__all__ = ["DepthMuP"]


@final
@dataclass(frozen=True)
class DepthMuP(Law):
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
    effects: ClassVar[frozenset[Effect]] = frozenset({"branch multiplier"})

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
        scale = pair.stream_ratio**-0.5
        multiplier = Factors(multiplier=scale if pair.target.branch_scale else 1.0)
        if optimizer.update == "sgd":
            return multiplier
        return multiplier * learning_rate(scale, optimizer=optimizer)
