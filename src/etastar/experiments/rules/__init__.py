"""Transfer rules, one file each: constant, laws, fits, and whatever else proposes a rate."""

from etastar.experiments.rules.base import Question, Rule, TunedSize
from etastar.experiments.rules.registry import RULES, rules_of

__all__ = ["RULES", "Question", "Rule", "TunedSize", "rules_of"]
