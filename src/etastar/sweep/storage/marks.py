"""Marks of runs in flight, in one Optuna study, so that no two processes run one point.

A mark is a RUNNING trial that names its owner. Processes make marks side by side; the lowest
trial number of a point wins, which every process sees alike because numbers are given in the order
in which trials become visible. A mark of a dead owner is failed before anyone else may win: from
then on its owner, should it live after all, cannot finish it. So a point has at most one COMPLETE
trial, whatever dies when.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from etastar.errors import StorageError
from etastar.sweep.space import Point
from etastar.sweep.storage.owner import HEARTBEAT_GRACE, Owner, is_alive

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial

    from etastar.sweep.space import Size

__all__ = ["Marks", "point_of"]

_LEAST_LR, _GREATEST_LR = 1e-12, 1e3


@dataclass(frozen=True)
class Marks:
    """The trials of one size, seen by one owner.

    Attributes:
        storage: Of Optuna.
        study_id: Of the size.
        size: Size of the network.
        owner: Who makes marks here.
    """

    storage: BaseStorage
    study_id: int
    size: Size
    owner: Owner

    def claim(
        self,
        points: Sequence[Point],
        *,
        last_beats: Mapping[str, float],
        attributes: Mapping[str, Any],
    ) -> dict[Point, int]:
        """Mark the points that nobody has.

        Args:
            points: Wanted, none of them this owner's yet.
            last_beats: Last heartbeat of each owner by key, seconds after the epoch.
            attributes: User attributes of the trials.

        Returns:
            Trial id of each point that is now this owner's.
        """
        if not points:
            return {}
        taken = self._taken(points, last_beats)
        made = {
            point: self._make(point, attributes)
            for point in dict.fromkeys(points)
            if point not in taken
        }
        first = self._first(made)
        for point, trial_id in made.items():
            if first[point] != trial_id:
                self.fail(trial_id)
        return {point: trial_id for point, trial_id in made.items() if first[point] == trial_id}

    def fail(self, trial_id: int) -> None:
        """Take a mark back, if it is one still.

        Args:
            trial_id: Of the mark.
        """
        from optuna.trial import TrialState

        self._end(trial_id, TrialState.FAIL, None)

    def complete(self, trial_id: int, value: float) -> bool:
        """Turn a mark into a finished trial.

        Args:
            trial_id: Of the mark.
            value: Objective.

        Returns:
            False where the mark is no longer this owner's: it was taken for dead.
        """
        from optuna.trial import TrialState

        return self._end(trial_id, TrialState.COMPLETE, value)

    def _end(self, trial_id: int, state: Any, value: float | None) -> bool:
        from optuna.exceptions import UpdateFinishedTrialError

        try:
            self.storage.set_trial_state_values(
                trial_id, state, values=None if value is None else [value]
            )
        except UpdateFinishedTrialError:
            return False
        return True

    def _taken(self, points: Iterable[Point], last_beats: Mapping[str, float]) -> set[Point]:
        """Points that are finished or a living process's; marks of the dead are failed."""
        wanted, taken = set(points), set()
        for trial in self._trials():
            if point_of(trial) not in wanted:
                continue
            if trial.state.is_finished() or self._lives(trial, last_beats):
                taken.add(point_of(trial))
            else:
                self.fail(self._trial_id(trial))
        return taken

    def _lives(self, trial: FrozenTrial, last_beats: Mapping[str, float]) -> bool:
        owner = Owner.from_dict(trial.system_attrs.get("owner", {}))
        last = max(float(trial.system_attrs.get("began", 0.0)), last_beats.get(owner.key, 0.0))
        return is_alive(owner, last_beat=last, now=time.time(), grace=HEARTBEAT_GRACE)

    def _make(self, point: Point, attributes: Mapping[str, Any]) -> int:
        from optuna.distributions import FloatDistribution
        from optuna.trial import TrialState, create_trial

        low, high = min(_LEAST_LR, point.lr), max(_GREATEST_LR, point.lr)
        trial = create_trial(
            state=TrialState.RUNNING,
            params={"lr": point.lr},
            distributions={"lr": FloatDistribution(low, high, log=True)},
            user_attrs={"size": dict(self.size), "seed": point.seed, **attributes},
            system_attrs={"owner": self.owner.as_dict(), "began": time.time()},
        )
        return int(self.storage.create_new_trial(self.study_id, template_trial=trial))

    def _first(self, points: Iterable[Point]) -> dict[Point, int | None]:
        """Trial of each point that holds it: the lowest number; None where a run is finished."""
        wanted = set(points)
        first: dict[Point, int | None] = {}
        for trial in self._trials():
            point = point_of(trial)
            if point not in wanted:
                continue
            if trial.state.is_finished():
                first[point] = None
            elif point not in first:
                first[point] = self._trial_id(trial)
        return first

    def _trials(self) -> list[FrozenTrial]:
        """Finished and running trials in the order of their numbers."""
        from optuna.trial import TrialState

        states = (TrialState.COMPLETE, TrialState.RUNNING)
        trials = self.storage.get_all_trials(self.study_id, deepcopy=False, states=states)
        return sorted(trials, key=lambda trial: trial.number)

    def _trial_id(self, trial: FrozenTrial) -> int:
        return int(
            self.storage.get_trial_id_from_study_id_trial_number(self.study_id, trial.number)
        )


def point_of(trial: FrozenTrial) -> Point:
    """The point that a trial runs.

    Args:
        trial: Of a size's study.

    Returns:
        Its learning rate and seed.

    Raises:
        StorageError: It is not a trial of etastar.
    """
    try:
        return Point(lr=float(trial.params["lr"]), seed=int(trial.user_attrs["seed"]))
    except (KeyError, TypeError, ValueError) as error:
        raise StorageError(
            f"trial {trial.number}, which has no learning rate or seed",
            "trials that etastar wrote",
            "give the sweep a store or a name of its own",
        ) from error
