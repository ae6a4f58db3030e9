"""A sweep as Optuna studies: a journal file, or any database that Optuna knows."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from threading import Event, Thread
from typing import TYPE_CHECKING, Any

from etastar.errors import StorageError
from etastar.sweep.recipe import Point, Size, format_size, parse_size
from etastar.sweep.storage.base import MemoryStore, Store, require_same_settings
from etastar.sweep.storage.claims import Claims
from etastar.sweep.storage.connection import (
    HEARTBEAT_SECONDS,
    LEFT,
    connect,
    disconnect,
    new_holder,
    quiet_optuna,
    shown_location,
    storage_errors,
)
from etastar.sweep.trial import TrialRecord

if TYPE_CHECKING:
    from optuna.storages import BaseStorage


FORMAT = 1
"""Version of the layout below; another one is refused."""

_HEADER = "etastar"
_HEADER_PATIENCE = 2.0


class OptunaStore(Store):
    """Keeps a sweep in Optuna: one study for the recipe, and one per size.

    The study NAME holds the settings and the format. The study NAME/depth=6,width=64 holds the
    effective depth of that size and its runs as trials: the parameter `lr`, the value (the loss;
    +inf where the run diverged or its loss is no finite number), and the attributes `seed`, `size`,
    `holder`, `losses` and `run` with everything else. FAIL trials are claims that came to nothing,
    or runs that were stopped, which `run` says.
    Optuna's dashboard shows all of it.

    Args:
        location: Path of a journal file, or a database's URL, such as sqlite:///runs.db or
            postgresql+psycopg2://user@host/database.
        name: Of the sweep; one location can hold several.

    Raises:
        StorageError: The name holds a "/".

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from etastar.sweep.recipe import Point
        >>> with TemporaryDirectory() as folder:
        ...     with OptunaStore(f"{folder}/runs.log", name="demo") as store:
        ...         store.open({"model": "mlp"})
        ...         store.begin((("depth", 3),), [Point(lr=0.1, seed=0)])
        (Point(lr=0.1, seed=0),)
    """

    def __init__(self, location: str | os.PathLike[str], *, name: str = "sweep") -> None:
        if not isinstance(name, str) or not name or "/" in name:
            raise StorageError(f"name {name!r}", "a name without '/'", "give another name")
        self._location = location
        self._name = name
        self._where = f"{shown_location(location)} ({name})"
        self._holder = ""
        self._storage: BaseStorage | None = None
        self._studies: dict[Size, Claims] = {}
        self._stopped = Event()
        self._heartbeat: Thread | None = None

    def open(self, settings: Mapping[str, str]) -> None:
        """Claim the store for one recipe; see `Store.open`."""
        with storage_errors(self._where, "writing"):
            index, made = self._study(self._name, make=True)
            # another process that made the study a moment ago writes its header next
            deadline = time.monotonic() + (0.0 if made else _HEADER_PATIENCE)
            while not (held := self._held(index)) and time.monotonic() < deadline:
                time.sleep(0.05)
            if held and held != dict(settings):
                if any(self._claims(size).has_runs() for size in self._begun_sizes()):
                    require_same_settings(settings, held, where=self._where)
                self._forget_sizes()  # begun with a setting that was a slip
            # one that is there is written again, which shows whether the store can be written
            header = {"format": FORMAT, "settings": dict(settings)}
            self._connected().set_study_user_attr(index, _HEADER, header)
        if not self._holder:
            self._holder = new_holder()
            self._studies.clear()  # they have no holder

    def settings(self) -> dict[str, str]:
        """Settings of the recipe that the store holds; {} for a new one."""
        with storage_errors(self._where, "reading"):
            return self._held(self._study(self._name)[0])

    def sizes(self) -> tuple[Size, ...]:
        """Sizes that have a record, in the order in which they were begun."""
        with storage_errors(self._where, "reading"):
            sizes = self._begun_sizes()
        return tuple(size for size in sizes if self.records(size))

    def depth(self, size: Size) -> float | None:
        """Effective depth of a size, if it was kept."""
        with storage_errors(self._where, "reading"):
            found = self._attributes(self._study(self._study_name(size))[0])
            return float(found["depth"]) if "depth" in found else None

    def keep_depth(self, size: Size, depth: float) -> None:
        """Keep the effective depth of a size."""
        with storage_errors(self._where, "writing"):
            study_id = self._claims(size).study_id
            self._connected().set_study_user_attr(study_id, "depth", depth)

    def records(self, size: Size) -> tuple[TrialRecord, ...]:
        """Finished runs of a size, sorted by point."""
        with storage_errors(self._where, "reading"):
            is_there = size in self._studies or self._study(self._study_name(size))[0] is not None
            return self._claims(size).records() if is_there else ()

    def begin(self, size: Size, points: Sequence[Point]) -> tuple[Point, ...]:
        """Claim points; see `Store.begin`."""
        unique = tuple(dict.fromkeys(points))
        with storage_errors(self._where, "writing"):
            claims = self._claims(size)
            claims.claim(unique)
        if self._heartbeat is None and hasattr(self._storage, "record_heartbeat"):
            self._stopped.clear()
            self._heartbeat = Thread(target=self._keep_beating, daemon=True)
            self._heartbeat.start()
        return tuple(point for point in unique if point in claims.mine)

    def awaited(self, size: Size, points: Sequence[Point]) -> str:
        """Who has the points, and until when; see `Store.awaited`."""
        with storage_errors(self._where, "reading"):
            return self._claims(size).awaited(points)

    def finish(self, record: TrialRecord) -> None:
        """Keep a finished run; where the point has a finished run, that one stays."""
        with storage_errors(self._where, "writing"):
            self._claims(record.size).finish(record)

    def names(self) -> tuple[str, ...]:
        """Names of all sweeps in this file or database."""
        with storage_errors(self._where, "reading"):
            storage = self._connected(create=False)
            studies = () if storage is None else storage.get_all_studies()
            return tuple(sorted({s.study_name for s in studies if _HEADER in s.user_attrs}))

    def close(self) -> None:
        """Let go of claims and connections."""
        self._stopped.set()
        if self._heartbeat is not None:
            self._heartbeat.join()
            self._heartbeat = None
        if self._holder:
            LEFT.add(self._holder)
            self._holder = ""
        if self._storage is None:
            return
        # a store that cannot be written keeps the claims, which hold no longer all the same
        with suppress(StorageError), storage_errors(self._where, "writing"):
            for claims in self._studies.values():
                for trial_id in claims.mine.values():
                    claims.fail(trial_id)
        disconnect(self._storage)
        self._studies.clear()
        self._storage = None

    def _keep_beating(self) -> None:
        """Optuna's heartbeats, which a trial that is not run by Optuna has to give itself."""
        storage: Any = self._storage
        while not self._stopped.wait(HEARTBEAT_SECONDS):
            # the next beat may reach the store again; one that stays away shows at the next record
            with suppress(StorageError), storage_errors(self._where, "writing"):
                for claims in list(self._studies.values()):
                    for trial_id in list(claims.mine.values()):
                        storage.record_heartbeat(trial_id)
        storage.remove_session()

    def _connected(self, *, create: bool = True) -> Any:
        """Optuna's storage; None where it is not to be made and is not there."""
        if self._storage is None:
            self._storage = connect(self._location, create=create)
        return self._storage

    def _claims(self, size: Size) -> Claims:
        """The claims on a size's points; its study is made where it is not there."""
        from etastar.sweep.storage.claims import Claims  # which imports Optuna

        if size not in self._studies:
            name = self._study_name(size)
            study_id, _ = self._study(name, make=True)
            self._studies[size] = Claims(self._connected(), study_id, name, size, self._holder)
        return self._studies[size]

    def _begun_sizes(self) -> list[Size]:
        storage = self._connected(create=False)
        studies = () if storage is None else storage.get_all_studies()
        prefix = f"{self._name}/"
        names = [study.study_name for study in studies]
        return [parse_size(n.removeprefix(prefix)) for n in names if n.startswith(prefix)]

    def _forget_sizes(self) -> None:
        """Take away depths, and claims that came to nothing."""
        for size in self._begun_sizes():
            self._connected().delete_study(self._claims(size).study_id)
        self._studies.clear()

    def _study(self, name: str, *, make: bool = False) -> tuple[Any, bool]:
        """The number of a study, None where it is not there; and whether it was made here."""
        from optuna.exceptions import DuplicatedStudyError
        from optuna.study import StudyDirection

        storage = self._connected(create=make)
        if storage is None:
            return None, False
        with suppress(KeyError):
            return storage.get_study_id_from_name(name), False
        if not make:
            return None, False
        with suppress(DuplicatedStudyError), quiet_optuna():
            return storage.create_new_study([StudyDirection.MINIMIZE], study_name=name), True
        return storage.get_study_id_from_name(name), False

    def _attributes(self, study_id: int | None) -> dict[str, Any]:
        return {} if study_id is None else self._connected().get_study_user_attrs(study_id)

    def _held(self, index: int | None) -> dict[str, str]:
        """Settings in a header of this format; {} in a new store, or if its maker died early."""
        header = self._attributes(index).get(_HEADER)
        if header is None:
            return {}
        if not isinstance(header, dict) or header.get("format") != FORMAT:
            found = header.get("format") if isinstance(header, dict) else header
            raise StorageError(
                f"{self._where} in format {found!r}",
                f"format {FORMAT}",
                "use the version of etastar that wrote it, or another store",
            )
        return {str(key): str(value) for key, value in header["settings"].items()}

    def _study_name(self, size: Size) -> str:
        return f"{self._name}/{format_size(size)}"


def as_store(storage: Store | str | os.PathLike[str] | None, *, name: str = "sweep") -> Store:
    """The store that a caller means: a store, a path, a database's URL, or None for memory.

    It is not opened yet. `name` is that of the sweep in it.

    Example:
        >>> type(as_store(None)).__name__, type(as_store("runs.log")).__name__
        ('MemoryStore', 'OptunaStore')
    """
    if storage is None:
        return MemoryStore()
    if isinstance(storage, Store):
        return storage
    if not isinstance(storage, (str, os.PathLike)):
        raise StorageError(
            f"storage={storage!r}",
            "a path, a database's URL, a store, or None for memory",
            'give for example "runs.log"',
        )
    return OptunaStore(storage, name=name)
