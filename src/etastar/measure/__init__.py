"""The maximal-update criterion: how far one optimizer step moves the pre-activations."""

from etastar.measure.coordinate_check import coordinate_check
from etastar.measure.coordinate_records import AxisCheck, CoordinateReport, LayerCheck
from etastar.measure.records import LayerUpdate, UpdateReport
from etastar.measure.scan import ScanReport, depth_scan, width_scan
from etastar.measure.update import measure_update

__all__ = [
    "AxisCheck",
    "CoordinateReport",
    "LayerCheck",
    "LayerUpdate",
    "ScanReport",
    "UpdateReport",
    "coordinate_check",
    "depth_scan",
    "measure_update",
    "width_scan",
]
