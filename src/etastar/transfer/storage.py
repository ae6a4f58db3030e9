"""Plan files: JSON with a format version, checked field by field."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import tempfile
import types
import typing
from pathlib import Path
from typing import Any, TypeVar

from etastar.errors import PlanError

__all__ = ["FORMAT_VERSION", "decode", "parse_json", "read_text", "write_text"]

FORMAT_VERSION = 1

Record = TypeVar("Record")


def parse_json(text: str, *, source: str) -> dict[str, Any]:
    """The JSON object of a plan, if it is of a version that this release reads.

    Args:
        text: Content of a plan file.
        source: Where it came from, for messages.

    Returns:
        The object.

    Raises:
        PlanError: Not JSON, not a plan, or of another format version.
    """
    try:
        data = json.loads(text)
    except ValueError as error:
        raise _corrupt(source, f"no JSON ({error})") from error
    if not isinstance(data, dict) or "format_version" not in data:
        raise _corrupt(source, "no format_version")
    version = data["format_version"]
    if version != FORMAT_VERSION or isinstance(version, bool):
        raise PlanError(
            f"{source} of format version {version!r}",
            f"format version {FORMAT_VERSION}",
            "read it with the release of etastar that wrote it, or make the plan again",
        )
    return data


def _corrupt(source: str, what: str) -> PlanError:
    return PlanError(f"{source} with {what}", "a plan written by plan.save", "make the plan again")


def decode(record: type[Record], data: object, *, source: str) -> Record:
    """Build a frozen record from plain data, every field present and of its declared type.

    Args:
        record: The dataclass.
        data: What `json.loads` gave.
        source: Where it came from, for messages.

    Returns:
        The record.

    Raises:
        PlanError: A field is missing, unknown or of a wrong type; it is named.
    """
    return typing.cast("Record", _decode(record, data, source))


def _decode(hint: Any, data: object, where: str) -> object:
    if dataclasses.is_dataclass(hint):
        return _record(hint, data, where)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is tuple:
        return _tuple(arguments, data, where)
    if origin in (typing.Union, types.UnionType):
        return _union(arguments, data, where)
    if origin is typing.Literal:
        return _checked(data in arguments, data, where)
    if hint is float:
        return float(_checked(_is_number(data), data, where))
    return _checked(type(data) is hint, data, where)


def _is_number(data: object) -> bool:
    return type(data) in (int, float) and math.isfinite(typing.cast("float", data))


def _checked(valid: bool, data: Any, where: str) -> Any:
    if not valid:
        raise _corrupt(where, f"the value {data!r}")
    return data


def _union(arguments: tuple[Any, ...], data: object, where: str) -> object:
    for plain in (types.NoneType, str):
        if plain in arguments and type(data) is plain:
            return data
    rest = [hint for hint in arguments if hint not in (types.NoneType, str)]
    return _decode(rest[0], data, where) if rest else _checked(valid=False, data=data, where=where)


def _tuple(arguments: tuple[Any, ...], data: object, where: str) -> tuple[object, ...]:
    items = _checked(isinstance(data, list), data, where)
    if arguments[-1] is Ellipsis:
        arguments = (arguments[0],) * len(items)
    _checked(len(items) == len(arguments), data, where)
    return tuple(
        _decode(hint, item, f"{where}[{number}]")
        for number, (hint, item) in enumerate(zip(arguments, items, strict=True))
    )


def _record(record: Any, data: object, where: str) -> object:
    items = _checked(isinstance(data, dict), data, where)
    names = [field.name for field in dataclasses.fields(record)]
    if set(items) != set(names):
        raise _corrupt(where, f"the keys {sorted(items)} in place of {sorted(names)}")
    hints = typing.get_type_hints(record)
    return record(**{n: _decode(hints[n], items[n], f"{where}.{n}") for n in names})


def read_text(path: str | os.PathLike[str]) -> str:
    """Content of a plan file.

    Args:
        path: The file.

    Returns:
        Its text.

    Raises:
        PlanError: The file cannot be read, or is no text.
    """
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise PlanError(
            f"plan file {os.fspath(path)!r} ({error})", "a readable plan file", "check the path"
        ) from error


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a file at once or not at all: to a temporary file beside it, then renamed.

    Args:
        path: The file; replaced if it exists.
        text: Its new content.

    Raises:
        PlanError: The file cannot be written; what was there before is unchanged.
    """
    goal = Path(path)
    try:
        descriptor, temporary = tempfile.mkstemp(dir=goal.parent, prefix=f".{goal.name}.")
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).replace(goal)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise PlanError(
            f"plan file {os.fspath(path)!r} ({error})", "a writable path", "choose another path"
        ) from error
