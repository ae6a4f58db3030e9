"""Laws: pure rules from (base, target) to a factor on every parameter's hyperparameters."""

from etastar.laws.base import (
    Architecture,
    Factors,
    Law,
    ParamPair,
    ScaledWeights,
    Training,
    TransferCase,
    fold_multiplier,
)
from etastar.laws.branch_laws import CompleteP, DepthMuP
from etastar.laws.evidence import (
    Bound,
    Evidence,
    FitSizes,
    Fitted,
    Measured,
    Reads,
    TunedPoint,
    UnboundLaw,
)
from etastar.laws.path_laws import Constant, EffectiveDepth, PathSum
from etastar.laws.registry import LAWS, get_laws, residual_rule
from etastar.laws.structure import Structure
from etastar.laws.training_laws import BatchSize, DecayTimescale, Duration
from etastar.laws.width import Width

__all__ = [
    "LAWS",
    "Architecture",
    "BatchSize",
    "Bound",
    "CompleteP",
    "Constant",
    "DecayTimescale",
    "DepthMuP",
    "Duration",
    "EffectiveDepth",
    "Evidence",
    "Factors",
    "FitSizes",
    "Fitted",
    "Law",
    "Measured",
    "ParamPair",
    "PathSum",
    "Reads",
    "ScaledWeights",
    "Structure",
    "Training",
    "TransferCase",
    "TunedPoint",
    "UnboundLaw",
    "Width",
    "fold_multiplier",
    "get_laws",
    "residual_rule",
]
