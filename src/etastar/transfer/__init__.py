"""Transfer: from a tuned base to a plan for the target, and from the plan to an optimizer."""

from etastar.transfer.architecture import read_architecture
from etastar.transfer.correspondence import match_parameters
from etastar.transfer.fitting import TunedFit, fit_tuned
from etastar.transfer.measuring import Measure
from etastar.transfer.plan import TransferPlan
from etastar.transfer.planning import plan_transfer
from etastar.transfer.record import GroupPlan, LawRecord, ParamPlan
from etastar.transfer.schedule import (
    ScheduleVerdict,
    check_schedule,
    inspect_schedule,
    per_group_lr,
    schedule_arguments,
)

__all__ = [
    "GroupPlan",
    "LawRecord",
    "Measure",
    "ParamPlan",
    "ScheduleVerdict",
    "TransferPlan",
    "TunedFit",
    "check_schedule",
    "fit_tuned",
    "inspect_schedule",
    "match_parameters",
    "per_group_lr",
    "plan_transfer",
    "read_architecture",
    "schedule_arguments",
]
