"""Tune the learning rate on a small network, train the big one without tuning again."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from etastar.coordinates import coordinate_check as coordinate_check
    from etastar.depth import DepthReport as DepthReport
    from etastar.errors import EtastarError as EtastarError
    from etastar.fit import find_optimum as find_optimum
    from etastar.fit import fit_power_law as fit_power_law
    from etastar.fit import transfer_regret as transfer_regret
    from etastar.graph import Graph as Graph
    from etastar.graph import capture_graph as capture_graph
    from etastar.graph import effective_depth as effective_depth
    from etastar.init import check_stability as check_stability
    from etastar.init import initialize_ as initialize_
    from etastar.measure import UpdateReport as UpdateReport
    from etastar.measure import measure_update as measure_update
    from etastar.measure import scan_updates as scan_updates
    from etastar.optimizers import optimizer_like as optimizer_like
    from etastar.parameter import ParamInfo as ParamInfo
    from etastar.report import figure as figure
    from etastar.report import write_report as write_report
    from etastar.sweep import Recipe as Recipe
    from etastar.sweep import SweepResult as SweepResult
    from etastar.sweep import TuneResult as TuneResult
    from etastar.sweep import run_sweep as run_sweep
    from etastar.sweep import tune as tune
    from etastar.transfer import Measure as Measure
    from etastar.transfer import Target as Target
    from etastar.transfer import TransferPlan as TransferPlan
    from etastar.transfer import Tuned as Tuned
    from etastar.transfer import check_schedule as check_schedule
    from etastar.transfer import cite as cite
    from etastar.transfer import plan_transfer as plan_transfer
    from etastar.transfer import schedule_arguments as schedule_arguments
    from etastar.transfer import warmup_cosine as warmup_cosine

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

__all__ = sorted(name for names in _PLACES.values() for name in names)


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
