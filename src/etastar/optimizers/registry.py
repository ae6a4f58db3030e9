"""What a kind of optimizer is to laws, plans and measurements, and those known by name.

A new one is one entry at the end.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from etastar.parameter import ParamInfo

Update = Literal["sgd", "adam", "muon", "relative"]
"""What a step is: linear in the gradient (sgd), of a size of its own for every element (adam:
sign-like) or for every matrix (muon: orthogonalized, or preconditioned to a spectral norm), or of a
size in proportion to the parameter's own (relative)."""

ShapeRule = Literal["original", "match_rms_adamw", "spectral", "none", "eigenbasis"]
"""Factor of the shape in a step of the kind "muon": "original" and "match_rms_adamw" are Muon's
(`adjust_lr_fn` of `torch.optim.Muon`), "spectral" (rows / columns)^(1/2), "none" 1; "eigenbasis" 1,
and vectors are stepped as Adam does."""


@dataclass(frozen=True)
class OptimizerKind:
    """What laws, plans and measurements need to know of an optimizer.

    Attributes:
        name: Name for messages, the command line and plan files.
        update: How a step depends on the gradient.
        decoupled_weight_decay: Whether weight decay acts on the weights, not on the gradient.
        eps: Its default epsilon; None if a parameter group has no `eps`.
        weight_decay: Its default weight decay; None if a parameter group has no `weight_decay`.
        shape_rule: Rule for the shape of a matrix, of a kind with the update "muon".
        source: Its class as "module:name", imported when an optimizer is made; several with spaces
            between, of which the first that is installed is made; None if unknown.
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

    @property
    def group_keys(self) -> dict[str, Any]:
        """What a parameter group has to say beside its settings."""
        return dict(_GROUP_KEYS.get(self.name, {}))

    @property
    def shape_setting(self) -> dict[str, Any]:
        """Its shape rule as an argument of its class, where that is no default."""
        if self.shape_rule != "match_rms_adamw":
            return {}
        named = {"muon": {"adjust_lr_fn": self.shape_rule}}
        return dict(named.get(self.name, {"use_adjusted_lr": True}))

    @property
    def wanted(self) -> dict[str, Any]:
        """Settings of the class under which its rule holds, where a group has them."""
        return dict(_WANTED.get(self.name, {}))

    def for_parameter(self, info: ParamInfo) -> OptimizerKind:
        """The kind that updates a parameter: Muon leaves all but hidden matrices to AdamW.

        SOAP steps vectors as Adam does.
        """
        is_matrix = info.ndim == 2 or (info.ndim > 2 and self.name in _FLATTENING)
        if self.fallback is not None and not (info.role == "hidden" and is_matrix):
            return self.fallback
        if self.shape_rule == "eigenbasis" and info.ndim < 2:
            return replace(self, update="adam")
        return self


_BETAS = (0.9, 0.999)
_SGD = OptimizerKind("sgd", "sgd", False, source="torch.optim:SGD")
_ADAM = OptimizerKind("adam", "adam", False, eps=1e-8, betas=_BETAS, source="torch.optim:Adam")
_ADAMW = replace(_ADAM, name="adamw", decoupled_weight_decay=True, source="torch.optim:AdamW")
_MUON = OptimizerKind("muon", "muon", True, eps=1e-7, source="torch.optim:Muon", fallback=_ADAMW)

OPTIMIZERS: Final[Mapping[str, OptimizerKind]] = {
    kind.name: kind
    for kind in (
        _SGD,
        _ADAM,
        _ADAMW,
        _MUON,
        replace(_ADAM, name="nadam", source="torch.optim:NAdam"),
        # its first steps, five with beta_2 = 0.999, are linear in the gradient, small where it is
        replace(_ADAM, name="radam", source="torch.optim:RAdam"),
        replace(_ADAM, name="adamax", source="torch.optim:Adamax"),
        OptimizerKind("adafactor", "relative", True, source="torch.optim:Adafactor"),
        OptimizerKind("lion", "adam", True, source="pytorch_optimizer:Lion"),
        # Muon of convolutions too, their kernels flattened
        replace(_MUON, name="muon-conv", eps=None, source="pytorch_optimizer:Muon"),
        OptimizerKind(
            "soap",
            "muon",
            True,
            eps=1e-8,
            betas=(0.95, 0.95),
            shape_rule="eigenbasis",
            source="pytorch_optimizer:SOAP",
        ),
        OptimizerKind(
            "shampoo", "muon", False, shape_rule="none", source="pytorch_optimizer:Shampoo"
        ),
        OptimizerKind(
            "scion", "muon", True, shape_rule="spectral", source="pytorch_optimizer:SCION"
        ),
        OptimizerKind(
            "schedule-free-sgd",
            "sgd",
            False,
            source="pytorch_optimizer:ScheduleFreeSGD schedulefree:SGDScheduleFree",
        ),
        OptimizerKind(
            "schedule-free-adamw",
            "adam",
            True,
            eps=1e-8,
            source="pytorch_optimizer:ScheduleFreeAdamW schedulefree:AdamWScheduleFree",
        ),
    )
}
"""By name. Nothing is imported until an optimizer is made: the command line lists these names.

Betas that are no decay rates of moments (Lion's, the first of schedule-free Adam) are the caller's.
"""

_FLATTENING: Final = frozenset({"muon-conv"})  # the kernels of convolutions
_GROUP_KEYS: Final[Mapping[str, Mapping[str, Any]]] = {"muon-conv": {"use_muon": True}}
_WANTED: Final[Mapping[str, Mapping[str, Any]]] = {
    "lion": {"fixed_decay": False},
    "soap": {"normalize_gradient": False, "precondition_1d": False},
    "shampoo": {"fixed_decay": False},
    "scion": {"norm_type": 1, "constraint": False},
}
