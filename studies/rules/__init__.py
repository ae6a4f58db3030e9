"""Transfer rules: constant, laws, fits, and whatever else proposes a rate."""

from studies.rules.base import Question, Rule, TunedSize
from studies.rules.registry import RULES, rules_of

__all__ = ["RULES", "Question", "Rule", "TunedSize", "rules_of"]
