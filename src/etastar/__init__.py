"""Tune the learning rate on a small network, train the big one without tuning again."""

from etastar.coordinates import coordinate_check
from etastar.depth import DepthReport
from etastar.errors import EtastarError
from etastar.fit import find_optimum, fit_power_law, transfer_regret
from etastar.graph import Graph, capture_graph, effective_depth, parameter_roles
from etastar.init import check_stability, initialize_
from etastar.measure import UpdateReport, measure_update, scan_updates
from etastar.optimizers import optimizer_like
from etastar.parameter import ParamInfo
from etastar.sweep import Budget, Experiment, SweepResult, run_sweep
from etastar.transfer import (
    Measure,
    TransferPlan,
    check_schedule,
    plan_transfer,
    schedule_arguments,
)

__all__ = [
    "Budget",
    "DepthReport",
    "EtastarError",
    "Experiment",
    "Graph",
    "Measure",
    "ParamInfo",
    "SweepResult",
    "TransferPlan",
    "UpdateReport",
    "capture_graph",
    "check_schedule",
    "check_stability",
    "coordinate_check",
    "effective_depth",
    "find_optimum",
    "fit_power_law",
    "initialize_",
    "measure_update",
    "optimizer_like",
    "parameter_roles",
    "plan_transfer",
    "run_sweep",
    "scan_updates",
    "schedule_arguments",
    "transfer_regret",
]

__version__ = "0.1.0"
