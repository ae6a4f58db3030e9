"""The runs of one size as one Optuna study: records, and claims shared by several processes.

A claim is a RUNNING trial. Where several processes made one of the same point, the lowest number
has it: all see the numbers alike, and the others fail theirs. The claim of a process that died is
failed by whoever wants its point next: at once where that was a process of this machine; else in a
database when Optuna's heartbeats have stopped, in a journal, which has none, when the run takes far
longer than the others of its size did. Should the process live after all, its run is kept if it is
finished first.
"""

from __future__ import annotations

import time
import zlib
from base64 import b64decode, b64encode
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from math import inf, isfinite
from operator import attrgetter
from struct import pack, unpack
from typing import TYPE_CHECKING, Any

from optuna.distributions import FloatDistribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import TrialState, create_trial

from etastar.errors import StorageError, foreign_errors_as
from etastar.sweep.recipe import Point, Size
from etastar.sweep.storage.connection import GRACE_SECONDS, is_over, seconds_silent
from etastar.sweep.trial import TrialRecord

if TYPE_CHECKING:
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial


_FIRST_PATIENCE, _LEAST_PATIENCE = 30.0, 5.0
"""Seconds for which a run in a journal counts as alive: before one of its size is done; least."""

_LEAST_LR, _GREATEST_LR = 1e-12, 1e3

_PLAIN_LOSSES = 64
"""Curves up to this long are stored as a list that one can read."""


@dataclass
class Claims:
    """The trials of one size.

    Attributes:
        storage: Of Optuna.
        study_id: Of the size.
        study_name: Of the size.
        size: Size of the network.
        holder: Of the claims that are made here.
        mine: The trial of each point that is claimed here.

    A finished trial never changes, so each is read once, at the first look that finds it.
    """

    storage: BaseStorage
    study_id: int
    study_name: str
    size: Size
    holder: str = ""
    mine: dict[Point, int] = field(default_factory=dict)
    _first_seen: dict[int, float] = field(default_factory=dict)  # others' claims, by trial
    _seen: int = 0
    _open: set[int] = field(default_factory=set)  # numbers of those that were seen and not over
    _finished: dict[Point, int] = field(default_factory=dict)
    _sorted: list[TrialRecord] = field(default_factory=list)

    def records(self) -> tuple[TrialRecord, ...]:
        """Finished runs sorted by point; refused where a trial is not of etastar."""
        self._live()
        return tuple(self._sorted)

    def claim(self, points: Sequence[Point]) -> None:
        """Make the points `mine` that are neither finished nor claimed by a live process."""
        live = self._live()
        wanted = [point for point in points if point not in self.mine]
        dead = [live[p] for p in wanted if p in live and self._is_dead(live[p])]
        for trial in dead:
            self.fail(self._trial_id(trial))
        live = self._live() if dead else live
        made = {
            point: self._make(point, TrialState.RUNNING)
            for point in wanted
            if point not in live and point not in self._finished
        }
        live = self._live() if made else live
        for point, trial_id in made.items():
            if point in live and self._trial_id(live[point]) == trial_id:
                self.mine[point] = trial_id
            else:
                self.fail(trial_id)  # another process was first

    def finish(self, record: TrialRecord) -> None:
        """Keep a finished run, in the place of its claim if that still holds.

        A run whose claim does not hold, as it was taken for dead, is added, unless its point is
        finished; the point's live trial then fails.
        """
        trial_id = self.mine.pop(record.point, None)
        if trial_id is not None:
            with suppress(UpdateFinishedTrialError):
                for name, value in _fields(record).items():
                    self.storage.set_trial_user_attr(trial_id, name, value)
                self.storage.set_trial_state_values(trial_id, *_end(record))
                return
        there = self._live().get(record.point)
        if record.point in self._finished:
            return
        self._make(record.point, *_end(record), _fields(record))
        if there is not None:
            self.fail(self._trial_id(there))

    def fail(self, trial_id: int) -> None:
        """Take a claim back, if it is one still."""
        with suppress(UpdateFinishedTrialError):
            self.storage.set_trial_state_values(trial_id, TrialState.FAIL)

    def awaited(self, points: Sequence[Point]) -> str:
        """Who runs the first of the points that another process has; see `Store.awaited`."""
        live = self._live()
        trial = next((live[point] for point in points if point in live), None)
        if trial is None:
            return ""
        point, (silent, patience) = self._point_of(trial), self._silence(trial)
        host, process = (*str(trial.user_attrs.get("holder", "")).split(), "?", "?")[:2]
        return (
            f"waits for lr={point.lr}, seed={point.seed} on {host} (process {process}); "
            f"silent for {silent:.0f} s, taken over after {patience:.0f} s"
        )

    def has_runs(self) -> bool:
        """Whether a run is finished, or under way in a process that may live."""
        live = self._live()
        return bool(self._finished) or not all(map(_is_over, live.values()))

    def _make(
        self,
        point: Point,
        state: TrialState,
        values: list[float] | None = None,
        fields: Mapping[str, Any] | None = None,
    ) -> int:
        low, high = min(_LEAST_LR, point.lr), max(_GREATEST_LR, point.lr)
        own = {"size": dict(self.size), "seed": point.seed, "holder": self.holder}
        template = create_trial(
            state=state,
            params={"lr": point.lr},
            distributions={"lr": FloatDistribution(low, high, log=True)},
            user_attrs={**own, **(fields or {})},
            values=values,
        )
        trial_id = int(self.storage.create_new_trial(self.study_id, template_trial=template))
        if self._has_heartbeats and state == TrialState.RUNNING:
            storage: Any = self.storage
            storage.record_heartbeat(trial_id)
        return trial_id

    def _is_dead(self, trial: FrozenTrial) -> bool:
        """Whether the process of a running trial is known, or taken, to be dead."""
        silent, patience = self._silence(trial)
        return silent > patience or _is_over(trial)

    def _silence(self, trial: FrozenTrial) -> tuple[float, float]:
        """Seconds since a running trial gave a sign of life, and after how many it is dead."""
        trial_id, now = self._trial_id(trial), time.monotonic()
        seen = now - self._first_seen.setdefault(trial_id, now)
        if not self._has_heartbeats:
            return seen, self._patience()
        beat = seconds_silent(self.storage, trial_id)
        return seen if beat is None else beat, GRACE_SECONDS

    def _patience(self) -> float:
        """Three times the longest finished run of the size."""
        every = self.storage.get_all_trials(
            self.study_id, deepcopy=False, states=(TrialState.COMPLETE,)
        )
        durations = [trial.duration for trial in every]
        lasted = [duration.total_seconds() for duration in durations if duration is not None]
        return max(_LEAST_PATIENCE, 3 * max(lasted)) if lasted else _FIRST_PATIENCE

    @property
    def _has_heartbeats(self) -> bool:
        return hasattr(self.storage, "record_heartbeat")

    def _live(self) -> dict[Point, FrozenTrial]:
        """Of each point that is not finished, the running trial of the lowest number."""
        live: dict[Point, FrozenTrial] = {}
        for trial in self._look():
            if trial.state.is_finished():
                self._keep(trial)
                self._open.discard(trial.number)
            else:
                self._open.add(trial.number)
                if trial.state == TrialState.RUNNING:  # version 0.1.0 left WAITING ones too
                    point = self._point_of(trial)
                    live[point] = min(live.get(point, trial), trial, key=lambda one: one.number)
            self._seen = max(self._seen, trial.number + 1)
        return {point: trial for point, trial in live.items() if point not in self._finished}

    def _look(self) -> list[FrozenTrial]:
        """The trials that are not known to be over: read before, and made since.

        In this order: a run that another process finishes in a trial of its own, before it fails
        the one that was read, would else be in neither.
        """
        if self._has_heartbeats or not self._seen:  # a database gives what changed in one query
            every = self.storage.get_all_trials(self.study_id, deepcopy=False)
            return [every[number] for number in (*self._open, *range(self._seen, len(every)))]
        found = [self._trial(number) for number in self._open]
        number = self._seen
        with suppress(KeyError):  # until there is no such number
            while True:
                found.append(self._trial(number))
                number += 1
        return found

    def _trial(self, number: int) -> FrozenTrial:
        found = self.storage.get_trial_id_from_study_id_trial_number(self.study_id, number)
        return self.storage.get_trial(found)

    def _keep(self, trial: FrozenTrial) -> None:
        """Read the run of a finished trial; of a point that was run twice the lower number's."""
        run = trial.user_attrs.get("run")
        was_stopped = isinstance(run, dict) and run.get("failed")
        if trial.state != TrialState.COMPLETE and not was_stopped:
            return
        record = self._record(trial)
        number = self._finished.get(record.point)
        if number is None or trial.number < number:
            place = bisect_left(self._sorted, record.point, key=attrgetter("point"))
            self._sorted[place : place + (number is not None)] = [record]
            self._finished[record.point] = trial.number

    def _trial_id(self, trial: FrozenTrial) -> int:
        return int(
            self.storage.get_trial_id_from_study_id_trial_number(self.study_id, trial.number)
        )

    def _point_of(self, trial: FrozenTrial) -> Point:
        with self._own_trial(trial):
            return Point(lr=float(trial.params["lr"]), seed=int(trial.user_attrs["seed"]))

    def _own_trial(self, trial: FrozenTrial) -> AbstractContextManager[None]:
        """What a trial of another program raises while it is read becomes a StorageError."""
        return foreign_errors_as(
            StorageError,
            f"trial {trial.number} of {self.study_name}, whose fields do not make a run",
            "trials that etastar wrote",
            "give the sweep a store or a name of its own",
        )

    def _record(self, trial: FrozenTrial) -> TrialRecord:
        point, fields = self._point_of(trial), trial.user_attrs
        with self._own_trial(trial):
            run = fields["run"]
            return TrialRecord(
                size=self.size,
                point=point,
                loss=float(run["loss"]),
                losses=_unpacked(fields["losses"]),
                diverged=bool(run["diverged"]),
                steps=int(run["steps"]),
                initial_loss=float(run["initial_loss"]),
                device=str(run["device"]),
                versions=tuple(sorted(run["versions"].items())),
                failed=str(run.get("failed", "")),
            )


def _is_over(trial: FrozenTrial) -> bool:
    return is_over(str(trial.user_attrs.get("holder", "")))


def _end(record: TrialRecord) -> tuple[TrialState, list[float] | None]:
    """What Optuna shows of a run: its loss, but no NaN; the exact one is among the fields."""
    if record.failed:
        return TrialState.FAIL, None
    loss = record.loss if isfinite(record.loss) and not record.diverged else inf
    return TrialState.COMPLETE, [loss]


def _fields(record: TrialRecord) -> dict[str, Any]:
    """What a finished run adds to its trial, as JSON-safe values by name."""
    return {
        "losses": _packed(record.losses),
        "run": {
            "loss": _text(record.loss),
            "initial_loss": _text(record.initial_loss),
            "diverged": record.diverged,
            "steps": record.steps,
            "device": record.device,
            "versions": dict(record.versions),
            **({"failed": record.failed} if record.failed else {}),
        },
    }


def _packed(losses: Sequence[float]) -> list[float] | str:
    """A list; where it is long or holds what JSON cannot, base64 of deflated doubles."""
    if len(losses) <= _PLAIN_LOSSES and all(map(isfinite, losses)):
        return list(losses)
    return b64encode(zlib.compress(pack(f"<{len(losses)}d", *losses))).decode()


def _unpacked(packed: Sequence[float] | str) -> tuple[float, ...]:
    """The losses that `_packed` wrote, bit for bit."""
    if not isinstance(packed, str):
        return tuple(float(loss) for loss in packed)
    raw = zlib.decompress(b64decode(packed))
    return unpack(f"<{len(raw) // 8}d", raw)


def _text(value: float) -> float | str:
    """Finite numbers as they are; the others, which JSON does not know, as text."""
    return value if isfinite(value) else repr(value)
