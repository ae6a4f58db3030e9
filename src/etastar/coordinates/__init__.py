"""The coordinate check: whether a layer's size and its change depend on width or depth."""

from etastar.coordinates.check import coordinate_check
from etastar.coordinates.coordinate_report import AxisCheck, CoordinateReport, LayerCheck

__all__ = ["AxisCheck", "CoordinateReport", "LayerCheck", "coordinate_check"]
