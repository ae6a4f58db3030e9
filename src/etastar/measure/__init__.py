"""The maximal-update criterion: how far one optimizer step moves the pre-activations."""

from etastar.measure.scan import ScanReport, scan_updates
from etastar.measure.seeds import UntilPrecise
from etastar.measure.update import LayerUpdate, UpdateReport, measure_update

__all__ = [
    "LayerUpdate",
    "ScanReport",
    "UntilPrecise",
    "UpdateReport",
    "measure_update",
    "scan_updates",
]
