"""Laws: pure rules from (base, target) to a factor on every parameter's hyperparameters."""

from etastar.laws.base import Architecture, Factors, Law, ParamPair
from etastar.laws.complete_p import CompleteP
from etastar.laws.constant import Constant
from etastar.laws.depth_mup import DepthMuP
from etastar.laws.effective_depth import EffectiveDepth
from etastar.laws.fitted import Fitted
from etastar.laws.measured import Measured
from etastar.laws.multiplier import fold_multiplier
from etastar.laws.nominal_depth import NominalDepth
from etastar.laws.path_sum import PathSum
from etastar.laws.registry import LAWS, get_law, get_laws
from etastar.laws.structure import Structure
from etastar.laws.width import Width

__all__ = [
    "LAWS",
    "Architecture",
    "CompleteP",
    "Constant",
    "DepthMuP",
    "EffectiveDepth",
    "Factors",
    "Fitted",
    "Law",
    "Measured",
    "NominalDepth",
    "ParamPair",
    "PathSum",
    "Structure",
    "Width",
    "fold_multiplier",
    "get_law",
    "get_laws",
]
