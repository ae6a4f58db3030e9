"""The protocol of executors."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import TracebackType

    from typing_extensions import Self

    from etastar.sweep.record import TrialRecord
    from etastar.sweep.space import Experiment, Point, Size

__all__ = ["Executor"]


class Executor(ABC):
    """Runs points of one size, in this process or elsewhere.

    The contract:

    - `run` yields exactly one record per point, in whatever order the runs end.
    - The same point gives the same record whichever executor ran it, up to rounding (and the
      fields that say where it ran).
    - A run that diverges is a record, and so is one that its point's ceiling ended, at the same
      step (but where rounding decides). A run that raises ends the call: the error of the factory,
      the data or the loss comes out as a TrialError with its type and message; records that were
      yielded before stay valid.
    - A worker that dies is replaced and its point run again, at most `retries` times; then it is a
      TrialError.
    - It is a context manager: on exit, by Ctrl-C too, no process of it is left.
    - The global random numbers and thread counts of the calling process are as before.
    - `handful` is how many points a sweep hands over at a time when it shares its store with
      others: enough to keep the executor busy, few enough to leave work for them; None is all.
    """

    name: str
    handful: int | None = None

    @abstractmethod
    def run(
        self,
        experiment: Experiment,
        size: Size,
        points: Sequence[Point],
        *,
        on_step: Callable[[int], None] | None = None,
    ) -> Iterator[TrialRecord]:
        """Run every point once.

        Args:
            experiment: What a run is.
            size: Size of the network.
            points: Learning rates and seeds, all different.
            on_step: Called now and then in this process with the number of steps done since the
                last call, over all runs.

        Yields:
            A record per point.

        Raises:
            TrialError: A run raised, or a worker died too often.
        """

    def __enter__(self) -> Self:
        return self

    def __exit__(  # noqa: B027  nothing to release by default
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Release what the executor holds; the default holds nothing."""
