"""Tune the learning rate on a small network, train the big one without tuning again."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from etastar.coordinates import coordinate_check
    from etastar.depth import DepthReport
    from etastar.errors import EtastarError
    from etastar.fit import find_optimum, fit_power_law, transfer_regret
    from etastar.graph import Graph, capture_graph, effective_depth
    from etastar.init import check_stability, initialize_
    from etastar.measure import UpdateReport, measure_update, scan_updates
    from etastar.optimizers import optimizer_like
    from etastar.parameter import ParamInfo
    from etastar.report import figure, write_report
    from etastar.sweep import Recipe, SweepResult, TuneResult, run_sweep, tune
    from etastar.transfer import (
        Measure,
        Target,
        TransferPlan,
        Tuned,
        check_schedule,
        cite,
        plan_transfer,
        schedule_arguments,
        warmup_cosine,
    )

__all__ = [
    "DepthReport",
    "EtastarError",
    "Graph",
    "Measure",
    "ParamInfo",
    "Recipe",
    "SweepResult",
    "Target",
    "TransferPlan",
    "TuneResult",
    "Tuned",
    "UpdateReport",
    "capture_graph",
    "check_schedule",
    "check_stability",
    "cite",
    "coordinate_check",
    "effective_depth",
    "figure",
    "find_optimum",
    "fit_power_law",
    "initialize_",
    "measure_update",
    "optimizer_like",
    "plan_transfer",
    "run_sweep",
    "scan_updates",
    "schedule_arguments",
    "transfer_regret",
    "tune",
    "warmup_cosine",
    "write_report",
]

__version__ = "0.1.0"

_PLACES = {
    "coordinates": ("coordinate_check",),
    "depth": ("DepthReport",),
    "errors": ("EtastarError",),
    "fit": ("find_optimum", "fit_power_law", "transfer_regret"),
    "graph": ("Graph", "capture_graph", "effective_depth"),
    "init": ("check_stability", "initialize_"),
    "measure": ("UpdateReport", "measure_update", "scan_updates"),
    "optimizers": ("optimizer_like",),
    "parameter": ("ParamInfo",),
    "report": ("figure", "write_report"),
    "sweep": ("Recipe", "SweepResult", "TuneResult", "run_sweep", "tune"),
    "transfer": (
        "Measure",
        "Target",
        "TransferPlan",
        "Tuned",
        "check_schedule",
        "cite",
        "plan_transfer",
        "schedule_arguments",
        "warmup_cosine",
    ),
    "datasets": (),
    "integrations": (),
    "laws": (),
    "models": (),
    "sources": (),
}
"""Where each public name is; imported when it is first asked for (PEP 562), PyTorch with it."""


def __getattr__(name: str) -> Any:
    if name in _PLACES:
        return import_module(f"etastar.{name}")
    for place, names in _PLACES.items():
        if name in names:
            globals()[name] = found = getattr(import_module(f"etastar.{place}"), name)
            return found
    raise AttributeError(f"module 'etastar' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_PLACES})
