"""Transfer: from a tuned base to a plan for the target, and from the plan to an optimizer."""

from etastar.laws import FitSizes
from etastar.transfer.citation import PAPERS_OF_LAWS, cite
from etastar.transfer.correspondence import match_parameters
from etastar.transfer.default_choice import NAMED_LAWS, DefaultChoice
from etastar.transfer.experience import Experience, stored_experience
from etastar.transfer.measured_law import Measure
from etastar.transfer.plan import TransferPlan
from etastar.transfer.plan_record import (
    BaseRecord,
    GroupPlan,
    InitializationRecord,
    LawRecord,
    ParamPlan,
)
from etastar.transfer.planning import DEFAULT_LAW, plan_transfer
from etastar.transfer.schedule import check_schedule, schedule_arguments, warmup_cosine
from etastar.transfer.tuned import Target, Tuned, read_architecture

__all__ = [
    "DEFAULT_LAW",
    "NAMED_LAWS",
    "PAPERS_OF_LAWS",
    "BaseRecord",
    "DefaultChoice",
    "Experience",
    "FitSizes",
    "GroupPlan",
    "InitializationRecord",
    "LawRecord",
    "Measure",
    "ParamPlan",
    "Target",
    "TransferPlan",
    "Tuned",
    "check_schedule",
    "cite",
    "match_parameters",
    "plan_transfer",
    "read_architecture",
    "schedule_arguments",
    "stored_experience",
    "warmup_cosine",
]
