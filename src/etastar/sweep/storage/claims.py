"""Claims on the points of one size, in one Optuna study, shared by several processes.

A point that is wanted is a WAITING trial; a process claims it by Optuna's atomic change of state to
RUNNING. Where two processes made a trial of one point, the lower number is the point's: both see
the numbers alike, and the other trial is failed. A run whose process died is failed, and its point
made WAITING anew, by whoever wants it next: in a database when Optuna's heartbeats have stopped; in
a journal, which has none, when the run takes far longer than the others of its size did. Should the
process live after all, its run is kept if it is finished first.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from etastar.errors import StorageError
from etastar.sweep.recipe import Point
from etastar.sweep.storage.connection import quiet_optuna
from etastar.sweep.storage.fields import objective_value, record_fields

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial

    from etastar.sweep.recipe import Size
    from etastar.sweep.trial import TrialRecord

__all__ = ["Claims"]

_FIRST_PATIENCE, _LEAST_PATIENCE = 30.0, 5.0
"""Seconds for which a run in a journal counts as alive: before one of its size is done; least."""

_LEAST_LR, _GREATEST_LR = 1e-12, 1e3


@dataclass(frozen=True)
class Claims:
    """The trials of one size.

    Attributes:
        storage: Of Optuna.
        study_id: Of the size.
        study_name: Of the size.
        size: Size of the network.
        budget: What the trials say of the length of a run.
        first_seen: When a running trial of others was first seen here, by its id; filled here.
    """

    storage: BaseStorage
    study_id: int
    study_name: str
    size: Size
    budget: Mapping[str, str]
    first_seen: dict[int, float]

    def claim(self, points: Sequence[Point]) -> dict[Point, int]:
        """Claim the points that nobody has.

        Args:
            points: Wanted, none of them this store's yet.

        Returns:
            Trial id of each point that is now this store's.
        """
        trials = self._enqueued(points)
        claimed = {point: self._claimed(trials[point]) for point in points}
        return {point: trial_id for point, trial_id in claimed.items() if trial_id is not None}

    def complete(self, trial_id: int, record: TrialRecord) -> bool:
        """Turn a claim into a finished trial.

        Args:
            trial_id: Of the claim.
            record: What the run came to.

        Returns:
            False where the claim no longer holds: the run was taken for dead.
        """
        from optuna.exceptions import UpdateFinishedTrialError
        from optuna.trial import TrialState

        try:
            for name, value in record_fields(record).items():
                self.storage.set_trial_user_attr(trial_id, name, value)
            self.storage.set_trial_state_values(
                trial_id, TrialState.COMPLETE, values=[objective_value(record)]
            )
        except UpdateFinishedTrialError:
            return False
        return True

    def add(self, record: TrialRecord) -> None:
        """Add a run that has no claim, unless its point is finished; its live trial then fails.

        Args:
            record: What the run came to.
        """
        there = self._by_point().get(record.point)
        if there is not None and there.state.name == "COMPLETE":
            return
        value, fields = objective_value(record), record_fields(record)
        self._make("COMPLETE", record.point, fields, value=value)
        if there is not None:
            self.fail(self._trial_id(there))

    def fail(self, trial_id: int) -> None:
        """Take a claim back, if it is one still.

        Args:
            trial_id: Of the claim.
        """
        from optuna.exceptions import UpdateFinishedTrialError
        from optuna.trial import TrialState

        with suppress(UpdateFinishedTrialError):
            self.storage.set_trial_state_values(trial_id, TrialState.FAIL)

    def finished(self) -> list[FrozenTrial]:
        """Finished trials in the order of their numbers."""
        return self._trials("COMPLETE")

    def _enqueued(self, points: Sequence[Point]) -> dict[Point, FrozenTrial]:
        """The trial of each point, WAITING where it had none; trials of dead processes fail."""
        found = self._by_point()
        running = [found[p] for p in points if p in found and found[p].state.name == "RUNNING"]
        if running:
            self._fail_dead(running)
            found = self._by_point()
        made = {point: self._make("WAITING", point) for point in points if point not in found}
        if made:
            found = self._by_point()
        for point, trial_id in made.items():
            if self._trial_id(found[point]) != trial_id:
                self.fail(trial_id)  # another process was first
        return found

    def _make(
        self, state: str, point: Point, fields: Mapping[str, Any] | None = None, **values: Any
    ) -> int:
        from optuna.distributions import FloatDistribution
        from optuna.trial import TrialState, create_trial

        low, high = min(_LEAST_LR, point.lr), max(_GREATEST_LR, point.lr)
        own = {"size": dict(self.size), "seed": point.seed, "budget": dict(self.budget)}
        template = create_trial(
            state=TrialState[state],
            params={"lr": point.lr},
            distributions={"lr": FloatDistribution(low, high, log=True)},
            user_attrs={**own, **(fields or {})},
            **values,
        )
        return int(self.storage.create_new_trial(self.study_id, template_trial=template))

    def _claimed(self, trial: FrozenTrial) -> int | None:
        """The trial's id where it is this store's from now on."""
        from optuna.exceptions import UpdateFinishedTrialError
        from optuna.trial import TrialState

        if trial.state != TrialState.WAITING:
            return None
        trial_id = self._trial_id(trial)
        if self._has_heartbeats:  # before the claim: a run without one would never be stale
            storage: Any = self.storage
            storage.record_heartbeat(trial_id)
        with suppress(UpdateFinishedTrialError):
            if self.storage.set_trial_state_values(trial_id, TrialState.RUNNING):
                return trial_id
        return None

    def _fail_dead(self, running: Sequence[FrozenTrial]) -> None:
        """Fail the trials whose process is known, or taken, to be dead."""
        if self._has_heartbeats:
            from optuna import load_study
            from optuna.storages import fail_stale_trials

            with quiet_optuna():
                fail_stale_trials(load_study(study_name=self.study_name, storage=self.storage))
        patience = self._patience()
        for trial in running:
            trial_id, now = self._trial_id(trial), time.monotonic()
            seen = now - self.first_seen.setdefault(trial_id, now)
            # version 0.1.0 wrote an "owner" in place of a heartbeat
            if "owner" in trial.system_attrs or (not self._has_heartbeats and seen > patience):
                self.fail(trial_id)

    def _patience(self) -> float:
        """Three times the longest finished run of the size."""
        durations = [trial.duration for trial in self.finished()]
        lasted = [duration.total_seconds() for duration in durations if duration is not None]
        return max(_LEAST_PATIENCE, 3 * max(lasted)) if lasted else _FIRST_PATIENCE

    @property
    def _has_heartbeats(self) -> bool:
        return hasattr(self.storage, "record_heartbeat")

    def _by_point(self) -> dict[Point, FrozenTrial]:
        """The trial that stands for each point: a finished one, else that of the lowest number."""
        found: dict[Point, FrozenTrial] = {}
        for trial in (*self.finished(), *self._trials("RUNNING", "WAITING")):
            found.setdefault(self._point_of(trial), trial)
        return found

    def _trials(self, *states: str) -> list[FrozenTrial]:
        from optuna.trial import TrialState

        wanted = tuple(TrialState[state] for state in states)
        trials = self.storage.get_all_trials(self.study_id, deepcopy=False, states=wanted)
        return sorted(trials, key=lambda trial: trial.number)

    def _trial_id(self, trial: FrozenTrial) -> int:
        return int(
            self.storage.get_trial_id_from_study_id_trial_number(self.study_id, trial.number)
        )

    def _point_of(self, trial: FrozenTrial) -> Point:
        try:
            return Point(lr=float(trial.params["lr"]), seed=int(trial.user_attrs["seed"]))
        except (KeyError, TypeError, ValueError) as error:
            raise StorageError(
                f"trial {trial.number} of {self.study_name}, which has no learning rate or seed",
                "trials that etastar wrote",
                "give the sweep a store or a name of its own",
            ) from error
