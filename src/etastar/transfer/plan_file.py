"""Plan files: JSON with a format version, checked field by field."""

from __future__ import annotations

import dataclasses
import json
import os
import secrets
import stat
import typing
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from etastar.errors import EtastarError, LawError, PlanError
from etastar.laws import LAWS, residual_rule
from etastar.optimizers import OPTIMIZERS, OptimizerKind
from etastar.typed import require_type

FORMAT_VERSION = 4

Record = TypeVar("Record")


def decode(record: type[Record], text: str, *, source: str) -> Record:
    """Build a frozen record from a plan's JSON, every field present and of its declared type.

    Fields that are not compared are not in the file and take their defaults.
    """
    try:
        data = json.loads(text)
    except (ValueError, TypeError, RecursionError) as error:
        raise _corrupt(source, f"no JSON ({error})") from error
    if not isinstance(data, dict) or "format_version" not in data:
        raise _corrupt(source, "no format_version")
    version = data["format_version"]
    if type(version) is not int or version not in (1, FORMAT_VERSION):
        raise PlanError(
            f"{source} of format version {version!r}",
            f"a format version of 1 (etastar 0.1) or {FORMAT_VERSION}",
            "read it with the version of etastar that wrote it, or make the plan again",
        )
    if version == 1:
        data = _from_format_1(data, source)
    made: Record = _record(record, data, source)
    return made


def _from_format_1(data: dict[str, Any], source: str) -> dict[str, Any]:
    """An object of format 1 as one of today: settings of the base apart, no betas, no interval."""
    same = {key: value for key, value in data.items() if key != "format_version"}
    try:
        named = [
            LAWS[law["name"]](**dict(law["options"])) for law in data["laws"] if law["name"] in LAWS
        ]
        return dict(  # a key of both is none of format 1
            format_version=FORMAT_VERSION,
            optimizer=_kind_of_format_1(same.pop("optimizer")),
            base={
                "depth": same.pop("base_depth"),
                "lr": same.pop("base_lr"),
                **{k: same.pop(k) for k in ("aux_lr", "weight_decay", "eps")},
                **dict.fromkeys(("betas", "batch_size", "num_steps", "log_lr_sd")),
            },
            parameters=[_entry_of_format_1(entry) for entry in same.pop("parameters")],
            initialization={"residual": residual_rule(named)},
            lr_interval=None,
            why="",
            **same,
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _corrupt(source, f"no plan of format 1 ({error})") from error


def _kind_of_format_1(kind: dict[str, Any]) -> dict[str, Any]:
    known = OPTIMIZERS.get(kind["name"])
    blank = asdict(OptimizerKind("", "sgd", decoupled_weight_decay=False))
    if known is not None:
        fallback = known.fallback and {**asdict(known.fallback), "betas": None}
        blank |= {"source": known.source, "fallback": fallback}
    return {**blank, **kind, "betas": None}


def _entry_of_format_1(entry: dict[str, Any]) -> dict[str, Any]:
    factors = [[law, {**factors, "betas": [1.0, 1.0]}] for law, factors in entry["factors"]]
    return {**entry, "factors": factors, "betas": None, "gain_offset": 0.0}


def _corrupt(source: str, what: str) -> PlanError:
    return PlanError(f"{source} with {what}", "a plan written by plan.save", "make the plan again")


def _record(record: Any, data: object, where: str) -> Any:
    names = [field.name for field in dataclasses.fields(record) if field.compare]
    if not isinstance(data, dict) or set(data) != set(names):
        found = f"the keys {sorted(data)}" if isinstance(data, dict) else f"the value {data!r}"
        raise _corrupt(where, f"{found} in place of the keys {sorted(names)}")
    hints = typing.get_type_hints(record)
    fields = {name: _decode(hints[name], data[name], f"{where}.{name}") for name in names}
    try:
        return record(**fields)
    except LawError as error:
        raise _corrupt(where, error.received) from error


def _decode(hint: Any, data: Any, where: str) -> Any:
    if dataclasses.is_dataclass(hint):
        return _record(hint, data, where)
    arguments = typing.get_args(hint)
    if typing.get_origin(hint) is tuple:
        return _tuple(arguments, data, where)
    for one in arguments if data is not None else ():  # a record or a tuple, or None
        if dataclasses.is_dataclass(one) or typing.get_origin(one) is tuple:
            return _decode(one, data, where)
    require_type(where, data, hint, error=PlanError)
    return float(data) if type(data) is int and float in (hint, *arguments) else data


def _tuple(arguments: tuple[Any, ...], data: object, where: str) -> tuple[object, ...]:
    is_open = arguments[-1] is Ellipsis
    if not isinstance(data, list) or not (is_open or len(data) == len(arguments)):
        raise _corrupt(where, f"the value {data!r}")
    hints = arguments[:1] * len(data) if is_open else arguments
    return tuple(
        _decode(hint, item, f"{where}[{number}]")
        for number, (hint, item) in enumerate(zip(hints, data, strict=True))
    )


def read_text(path: str | os.PathLike[str]) -> str:
    """Content of a plan file, refused where it cannot be read or is no text."""
    goal = ordinary_file(path)
    try:
        return goal.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise PlanError(
            f"plan file {os.fspath(path)!r} ({error})", "a readable plan file", "check the path"
        ) from error


def ordinary_file(
    path: object, *, what: str = "plan file", error: type[EtastarError] = PlanError
) -> Path:
    """A path that is an ordinary file or nothing yet: a pipe would block, a device is no plan.

    A symbolic link stands for what it points at. `what` is for the message.
    """
    problem = "no path"
    if isinstance(path, (str, os.PathLike)) and "\0" not in str(path):
        try:
            goal = Path(os.path.realpath(path))
            if (not goal.exists() and not goal.is_symlink()) or goal.is_file() or goal.is_dir():
                return goal
            problem = "neither a file nor new"
        except OSError as failed:
            problem = str(failed)
    raise error(f"{what} {path!r} ({problem})", "an ordinary file", "give the path of one")


def require_place(path: str | os.PathLike[str]) -> None:
    """Refuse a path to which no plan can be written, before what the plan needs is run."""
    goal = ordinary_file(path)
    if goal.is_dir() or not os.access(goal.parent, os.W_OK):
        raise PlanError(
            f"plan file {os.fspath(path)!r} (no file can be written there)",
            "a file in a folder that is there and writable",
            "make the folder, or choose another path",
        )


def write_text(
    path: str | os.PathLike[str],
    text: str,
    *,
    what: str = "plan file",
    error: type[EtastarError] = PlanError,
) -> None:
    """Write a file at once or not at all: to a temporary file beside it, then renamed.

    A file that was there keeps its mode, and a symbolic link to it stays one. `what` is for the
    message.
    """
    goal = ordinary_file(path, what=what, error=error)
    temporary = goal.with_name(f".{goal.name[:200]}.{secrets.token_hex(4)}")
    try:
        try:
            with temporary.open("x", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            if goal.exists():
                temporary.chmod(stat.S_IMODE(goal.stat().st_mode))
            temporary.replace(goal)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as failed:
        raise error(
            f"{what} {os.fspath(path)!r} ({failed})", "a writable path", "choose another path"
        ) from failed
