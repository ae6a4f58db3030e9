"""What a kind of optimizer is to laws, plans and measurements, and those known by name.

A new one is one line at the end.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from etastar.parameter import ParamInfo

__all__ = ["OPTIMIZERS", "OptimizerKind", "ShapeRule", "Update"]

Update = Literal["sgd", "adam", "muon", "relative"]
"""What a step is: linear in the gradient (sgd), of a size of its own for every element (adam) or
for every matrix (muon), or of a size in proportion to the parameter's own (relative)."""

ShapeRule = Literal["original", "match_rms_adamw"]
"""Muon's own factor on the learning rate of a matrix (`adjust_lr_fn` of `torch.optim.Muon`)."""


@dataclass(frozen=True)
class OptimizerKind:
    """What laws, plans and measurements need to know of an optimizer.

    Attributes:
        name: Name for messages, the command line and plan files.
        update: How a step depends on the gradient.
        decoupled_weight_decay: Whether weight decay acts on the weights, not on the gradient.
        eps: Its default epsilon; None if a parameter group has no `eps`.
        weight_decay: Its default weight decay; None if a parameter group has no `weight_decay`.
        shape_rule: Muon's rule for the shape of a matrix.
        source: Its class as "module:name", imported when an optimizer is made; None if unknown.
        fallback: The kind that updates all but the hidden matrices; None for itself.
        lr: Learning rate of the instance that it was read from; None for any other.
        betas: Its default betas; None if a parameter group has no `betas`.

    Example:
        >>> OptimizerKind("lion", "adam", decoupled_weight_decay=True).eps is None
        True
    """

    name: str
    update: Update
    decoupled_weight_decay: bool
    eps: float | None = None
    weight_decay: float | None = 0.0
    shape_rule: ShapeRule = "original"
    source: str | None = None
    fallback: OptimizerKind | None = None
    lr: float | None = None
    betas: tuple[float, float] | None = None

    def for_parameter(self, info: ParamInfo) -> OptimizerKind:
        """The kind that updates this parameter: Muon leaves all but hidden matrices to AdamW.

        Args:
            info: The parameter.

        Returns:
            This kind, or its fallback.
        """
        if self.fallback is not None and not (info.role == "hidden" and info.ndim == 2):
            return self.fallback
        return self


_BETAS = (0.9, 0.999)
_SGD = OptimizerKind("sgd", "sgd", False, source="torch.optim:SGD")
_ADAM = OptimizerKind("adam", "adam", False, eps=1e-8, betas=_BETAS, source="torch.optim:Adam")
_ADAMW = OptimizerKind("adamw", "adam", True, eps=1e-8, betas=_BETAS, source="torch.optim:AdamW")
_MUON = OptimizerKind("muon", "muon", True, eps=1e-7, source="torch.optim:Muon", fallback=_ADAMW)
_NADAM = OptimizerKind("nadam", "adam", False, eps=1e-8, betas=_BETAS, source="torch.optim:NAdam")
# its first steps, five with beta_2 = 0.999, are linear in the gradient, and small where it is
_RADAM = OptimizerKind("radam", "adam", False, eps=1e-8, betas=_BETAS, source="torch.optim:RAdam")
_ADAMAX = OptimizerKind(
    "adamax", "adam", False, eps=1e-8, betas=_BETAS, source="torch.optim:Adamax"
)
_ADAFACTOR = OptimizerKind("adafactor", "relative", True, source="torch.optim:Adafactor")

OPTIMIZERS: Final[Mapping[str, OptimizerKind]] = {
    kind.name: kind for kind in (_SGD, _ADAM, _ADAMW, _MUON, _NADAM, _RADAM, _ADAMAX, _ADAFACTOR)
}
"""By name. Nothing is imported until an optimizer is made: the command line lists these names."""
