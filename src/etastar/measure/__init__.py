"""The maximal-update criterion: how far one optimizer step moves the pre-activations."""

from etastar.measure.records import LayerUpdate, UpdateReport
from etastar.measure.scan import ScanReport, depth_scan, width_scan
from etastar.measure.update import measure_update

__all__ = [
    "LayerUpdate",
    "ScanReport",
    "UpdateReport",
    "depth_scan",
    "measure_update",
    "width_scan",
]
