"""The settings of a measurement, by keyword, as the scans and the law pass them on."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from etastar.measure.batch import Batch
    from etastar.measure.records import PreActivations
    from etastar.measure.update import MethodChoice
    from etastar.measure.warm_up import Batches

__all__ = ["MeasureOptions"]


class MeasureOptions(TypedDict, total=False):
    """Keyword arguments of `measure_update`, all but the optimizer; see there."""

    seeds: Sequence[int]
    probe: Batch | None
    moves: Collection[str] | None
    pre_activations: PreActivations
    method: MethodChoice
    c: float
    lr_unit: float | None
    after: int
    lr: float | None
    kappa: float
    batches: Batches | None
