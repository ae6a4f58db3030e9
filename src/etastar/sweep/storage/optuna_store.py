"""A sweep as Optuna studies: a journal file, or any database that Optuna knows."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from etastar.errors import StorageError
from etastar.sweep.space import format_size, parse_size
from etastar.sweep.storage.base import Store
from etastar.sweep.storage.connection import connect, disconnect, quiet_optuna, shown
from etastar.sweep.storage.differences import require_same_settings
from etastar.sweep.storage.failures import import_optuna, storage_errors
from etastar.sweep.storage.fields import objective_value, read_record, record_fields
from etastar.sweep.storage.heartbeat import Heartbeat
from etastar.sweep.storage.marks import Marks
from etastar.sweep.storage.owner import HEARTBEAT_GRACE, this_owner

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    from optuna.storages import BaseStorage

    from etastar.sweep.record import TrialRecord
    from etastar.sweep.space import Point, Size

__all__ = ["FORMAT", "OptunaStore"]

FORMAT = 1
"""Version of the layout below; another one is refused."""

_HEADER = "etastar"
_HEARTBEAT = "heartbeat "
_HEADER_PATIENCE = 2.0


class OptunaStore(Store):
    """Keeps a sweep in Optuna: one study for the experiment, and one per size.

    The study NAME holds the settings and the format. The study NAME/depth=6,width=64 holds the runs
    of that size as trials: the parameter `lr`, the value (the loss; +inf where the run diverged or
    its loss is no finite number), and the attributes `seed`, `size`, `budget`, `losses` and `run`
    with everything else. FAIL trials are marks that came to nothing: a process died, or two wanted
    one point. Optuna's dashboard shows all of it.

    Args:
        location: Path of a journal file, or a database's URL, such as sqlite:///runs.db or
            postgresql+psycopg2://user@host/database.
        name: Of the experiment; one location can hold several.

    Raises:
        StorageError: The name holds a "/".

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from etastar.sweep.space import Point
        >>> with TemporaryDirectory() as folder:
        ...     with OptunaStore(f"{folder}/runs.log", name="demo") as store:
        ...         store.open({"model": "mlp"})
        ...         store.begin((("depth", 3),), [Point(lr=0.1, seed=0)])
        (Point(lr=0.1, seed=0),)
    """

    def __init__(self, location: str | os.PathLike[str], *, name: str = "sweep") -> None:
        if not name or "/" in name:
            raise StorageError(f"name {name!r}", "a name without '/'", "give another name")
        self._location = location
        self._name = name
        self._where = f"{shown(location)} ({name})"
        self._owner = this_owner()
        self._opened = False
        self._storage: BaseStorage | None = None
        self._study_ids: dict[str, int] = {}
        self._marks: dict[tuple[Size, Point], int] = {}
        self._budget: dict[str, str] = {}
        self._heartbeat = Heartbeat(self._beat, interval=HEARTBEAT_GRACE / 4)

    def open(self, settings: Mapping[str, str]) -> None:
        """Claim the store for one experiment; see `Store.open`."""
        import_optuna()
        with storage_errors(self._where, "writing"):
            made = self._make_study(self._name)
            header = self._header(patience=0.0 if made else _HEADER_PATIENCE)
            if header is None:
                header = {"format": FORMAT, "settings": dict(settings)}
                self._connected.set_study_user_attr(self._index, _HEADER, header)
            require_same_settings(settings, _settings_of(header, self._where), where=self._where)
            self._beat()  # shows whether the store can be written, too
        self._budget = {
            key.partition(".")[2]: value
            for key, value in settings.items()
            if key.startswith("budget.")
        }
        self._opened = True

    def settings(self) -> dict[str, str]:
        """Settings of the experiment that the store holds; {} for a new one."""
        import_optuna()
        with storage_errors(self._where, "reading"):
            header = self._header()
            return {} if header is None else _settings_of(header, self._where)

    def sizes(self) -> tuple[Size, ...]:
        """Sizes that have a record, in the order in which they were begun."""
        import_optuna()
        with storage_errors(self._where, "reading"):
            if not self._connect_to_read():
                return ()
            prefix = f"{self._name}/"
            names = [study.study_name for study in self._connected.get_all_studies()]
            sizes = [parse_size(n.removeprefix(prefix)) for n in names if n.startswith(prefix)]
        return tuple(size for size in sizes if self.records(size))

    def records(self, size: Size) -> tuple[TrialRecord, ...]:
        """Finished runs of a size, sorted by point."""
        import_optuna()
        with storage_errors(self._where, "reading"):
            study_id = self._study(self._study_name(size)) if self._connect_to_read() else None
            if study_id is None:
                return ()
            trials = self._finished(study_id)
        records: dict[Point, TrialRecord] = {}
        for trial in trials:
            fields = {**trial.user_attrs, "lr": trial.params.get("lr")}
            named = f"trial {trial.number} of {self._study_name(size)} in {self._where}"
            record = read_record(size, fields, trial=named)
            records.setdefault(record.point, record)
        return tuple(record for _, record in sorted(records.items()))

    def begin(self, size: Size, points: Sequence[Point]) -> tuple[Point, ...]:
        """Mark points as in flight; see `Store.begin`."""
        self._require_open()
        with storage_errors(self._where, "writing"):
            self._make_study(self._study_name(size))
            new = [point for point in points if (size, point) not in self._marks]
            claimed = self._marks_of(size).claim(
                new, last_beats=self._last_beats(), attributes={"budget": self._budget}
            )
        self._marks.update({(size, point): trial_id for point, trial_id in claimed.items()})
        self._heartbeat.start()
        return tuple(point for point in dict.fromkeys(points) if (size, point) in self._marks)

    def finish(self, record: TrialRecord) -> None:
        """Keep a finished run; where another process has finished the point, that run stays."""
        from optuna.exceptions import UpdateFinishedTrialError

        mark = (record.size, record.point)
        if mark not in self._marks and not self.begin(record.size, [record.point]):
            return
        with storage_errors(self._where, "writing"), suppress(UpdateFinishedTrialError):
            for name, value in record_fields(record).items():
                self._connected.set_trial_user_attr(self._marks[mark], name, value)
            self._marks_of(record.size).complete(self._marks[mark], objective_value(record))
        del self._marks[mark]

    def close(self) -> None:
        """Let go of marks and connections."""
        self._heartbeat.stop()
        if self._storage is None:
            return
        # a store that cannot be written keeps the marks; they die with this process
        with suppress(StorageError), storage_errors(self._where, "writing"):
            for (size, _), trial_id in self._marks.items():
                self._marks_of(size).fail(trial_id)
        disconnect(self._storage)
        self._marks.clear()
        self._study_ids.clear()
        self._storage, self._opened = None, False

    @property
    def _connected(self) -> BaseStorage:
        if self._storage is None:
            self._storage = connect(self._location, create=True)
        assert self._storage is not None, "create=True makes what is not there"
        return self._storage

    def _connect_to_read(self) -> bool:
        """Whether there is anything to read."""
        if self._storage is None:
            self._storage = connect(self._location, create=False)
        return self._storage is not None

    def _require_open(self) -> None:
        if not self._opened:
            raise StorageError(
                f"{self._where}, which is not open", "a call of open first", "open it"
            )

    @property
    def _index(self) -> int:
        index = self._study(self._name)
        assert index is not None, "open makes this study"
        return index

    def _study(self, name: str) -> int | None:
        if name not in self._study_ids:
            try:
                self._study_ids[name] = self._connected.get_study_id_from_name(name)
            except KeyError:
                return None
        return self._study_ids[name]

    def _make_study(self, name: str) -> bool:
        """Make a study; False where it is there."""
        from optuna.exceptions import DuplicatedStudyError
        from optuna.study import StudyDirection

        if self._study(name) is not None:
            return False
        try:
            with quiet_optuna():
                self._connected.create_new_study([StudyDirection.MINIMIZE], study_name=name)
        except DuplicatedStudyError:
            return False
        return True

    def _header(self, *, patience: float = 0.0) -> Any:
        """Format and settings; None in a new store, and where its maker died before it wrote them.

        Args:
            patience: Seconds to wait for another process that made the study a moment ago.
        """
        if not self._connect_to_read() or self._study(self._name) is None:
            return None
        deadline = time.monotonic() + patience
        while True:
            header = self._connected.get_study_user_attrs(self._index).get(_HEADER)
            if header is not None or time.monotonic() >= deadline:
                return header
            time.sleep(0.05)

    def _study_name(self, size: Size) -> str:
        return f"{self._name}/{format_size(size)}"

    def _marks_of(self, size: Size) -> Marks:
        study_id = self._study(self._study_name(size))
        assert study_id is not None, "begin makes this study"
        return Marks(self._connected, study_id, size, self._owner)

    def _finished(self, study_id: int) -> list[Any]:
        from optuna.trial import TrialState

        trials = self._connected.get_all_trials(
            study_id, deepcopy=False, states=(TrialState.COMPLETE,)
        )
        return sorted(trials, key=lambda trial: trial.number)

    def _beat(self) -> None:
        with storage_errors(self._where, "writing"):
            key = _HEARTBEAT + self._owner.key
            self._connected.set_study_system_attr(self._index, key, time.time())

    def _last_beats(self) -> dict[str, float]:
        attributes = self._connected.get_study_system_attrs(self._index)
        return {
            key.removeprefix(_HEARTBEAT): float(value)
            for key, value in attributes.items()
            if key.startswith(_HEARTBEAT)
        }


def _settings_of(header: Any, where: str) -> dict[str, str]:
    """The settings in a header of this format."""
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        found = header.get("format") if isinstance(header, dict) else header
        raise StorageError(
            f"{where} in format {found!r}",
            f"format {FORMAT}",
            "use the version of etastar that wrote it, or another store",
        )
    return {str(key): str(value) for key, value in header["settings"].items()}
