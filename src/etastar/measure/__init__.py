"""The maximal-update criterion: how far one optimizer step moves the pre-activations."""

from etastar.measure.records import LayerUpdate, UpdateReport
from etastar.measure.update import measure_update

__all__ = ["LayerUpdate", "UpdateReport", "measure_update"]
