"""How far a sweep is, for the line that shows it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from etastar.sweep.optimum import loss_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from etastar.sweep.record import TrialRecord
    from etastar.sweep.space import Size

__all__ = ["Progress", "progress_of"]


@dataclass(frozen=True)
class Progress:
    """The state of the size that is being searched.

    Attributes:
        size: Size of the network.
        num_finished: Runs that are finished.
        num_running: Runs of the present proposal that are not.
        steps: Optimizer steps spent on this size, those of runs under way included.
        lowest: Learning rate and mean loss of the lowest point so far; None without a finite one.
        bracket: The rates on either side of it; None where a side has none yet.
        done: Whether the search has ended.
    """

    size: Size
    num_finished: int
    num_running: int
    steps: int
    lowest: tuple[float, float] | None
    bracket: tuple[float | None, float | None]
    done: bool = False


def progress_of(
    size: Size, records: Sequence[TrialRecord], *, num_running: int, done: bool = False
) -> Progress:
    """The progress that finished runs show.

    Args:
        size: Size of the network.
        records: Its finished runs.
        num_running: Runs under way.
        done: Whether the search has ended.

    Returns:
        The progress.

    Example:
        >>> progress_of((("depth", 3),), (), num_running=4).bracket
        (None, None)
    """
    lowest, bracket = _lowest(records)
    steps = sum(record.steps for record in records)
    return Progress(size, len(records), num_running, steps, lowest, bracket, done)


def _lowest(
    records: Sequence[TrialRecord],
) -> tuple[tuple[float, float] | None, tuple[float | None, float | None]]:
    if not records:
        return None, (None, None)
    lrs, losses = loss_table(records)
    means = losses.mean(1)
    index = int(np.argmin(means))
    if not np.isfinite(means[index]):
        return None, (None, None)
    below = float(lrs[index - 1]) if index > 0 else None
    above = float(lrs[index + 1]) if index + 1 < len(lrs) else None
    return (float(lrs[index]), float(means[index])), (below, above)
