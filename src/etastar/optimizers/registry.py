"""The optimizers that are known by name; a new one is one line here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from etastar.optimizers.kind import OptimizerKind

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["OPTIMIZERS"]

_BETAS = (0.9, 0.999)
_SGD = OptimizerKind("sgd", "sgd", False, source="torch.optim:SGD")
_ADAM = OptimizerKind("adam", "adam", False, eps=1e-8, betas=_BETAS, source="torch.optim:Adam")
_ADAMW = OptimizerKind("adamw", "adam", True, eps=1e-8, betas=_BETAS, source="torch.optim:AdamW")
_MUON = OptimizerKind("muon", "muon", True, eps=1e-7, source="torch.optim:Muon", fallback=_ADAMW)

OPTIMIZERS: Final[Mapping[str, OptimizerKind]] = {
    kind.name: kind for kind in (_SGD, _ADAM, _ADAMW, _MUON)
}
"""By name. Nothing is imported until an optimizer is made: the command line lists these names."""
