"""A record as the fields of an Optuna trial, exact to the last bit."""

from __future__ import annotations

import zlib
from base64 import b64decode, b64encode
from math import inf, isfinite
from struct import pack, unpack
from typing import TYPE_CHECKING, Any

from etastar.errors import StorageError
from etastar.sweep.recipe import Point
from etastar.sweep.trial import TrialRecord

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from etastar.sweep.recipe import Size

__all__ = ["objective_value", "pack_losses", "read_record", "record_fields", "unpack_losses"]

_PLAIN_LOSSES = 64
"""Curves up to this long are stored as a list that one can read."""


def objective_value(record: TrialRecord) -> float:
    """The value of the trial that Optuna shows: the loss, +inf where it is not finite or diverged.

    Optuna keeps no NaN as a value; the exact loss is among the fields.

    Args:
        record: A finished run.

    Returns:
        The value.
    """
    return record.loss if isfinite(record.loss) and not record.diverged else inf


def record_fields(record: TrialRecord) -> dict[str, Any]:
    """What a finished run adds to its trial, as JSON-safe values by name.

    Args:
        record: A finished run.

    Returns:
        User attributes.
    """
    return {
        "losses": pack_losses(record.losses),
        "run": {
            "loss": _text(record.loss),
            "initial_loss": _text(record.initial_loss),
            "diverged": record.diverged,
            "steps": record.steps,
            "device": record.device,
            "versions": dict(record.versions),
        },
    }


def read_record(size: Size, fields: Mapping[str, Any], *, trial: str) -> TrialRecord:
    """The record that a finished trial holds.

    Args:
        size: Size of the network.
        fields: User attributes of the trial, its learning rate as "lr" among them.
        trial: The trial, as a message names it.

    Returns:
        The record, equal to the one that was stored.

    Raises:
        StorageError: It is not a trial of etastar.
    """
    try:
        run = fields["run"]
        return TrialRecord(
            size=size,
            point=Point(lr=float(fields["lr"]), seed=int(fields["seed"])),
            loss=float(run["loss"]),
            losses=unpack_losses(fields["losses"]),
            diverged=bool(run["diverged"]),
            steps=int(run["steps"]),
            initial_loss=float(run["initial_loss"]),
            device=str(run["device"]),
            versions=tuple(sorted(run["versions"].items())),
        )
    except (KeyError, TypeError, ValueError, zlib.error) as error:
        raise StorageError(
            f"{trial}, whose fields do not make a run ({type(error).__name__}: {error})",
            "trials that etastar wrote",
            "give the sweep a store or a name of its own",
        ) from error


def pack_losses(losses: Sequence[float]) -> list[float] | str:
    """A loss curve as JSON: a list, or text where it is long or holds what JSON cannot.

    Args:
        losses: (num_steps,) losses.

    Returns:
        The list, or the base64 of the deflated little-endian doubles.

    Example:
        >>> pack_losses([0.5, 0.25])
        [0.5, 0.25]
        >>> unpack_losses(pack_losses([0.1] * 1000)) == (0.1,) * 1000
        True
    """
    if len(losses) <= _PLAIN_LOSSES and all(map(isfinite, losses)):
        return list(losses)
    return b64encode(zlib.compress(pack(f"<{len(losses)}d", *losses))).decode()


def unpack_losses(packed: Sequence[float] | str) -> tuple[float, ...]:
    """The losses that `pack_losses` wrote.

    Args:
        packed: Its list or text.

    Returns:
        The losses, bit for bit.

    Raises:
        ValueError: It is no such text.
    """
    if not isinstance(packed, str):
        return tuple(float(loss) for loss in packed)
    raw = zlib.decompress(b64decode(packed))
    return unpack(f"<{len(raw) // 8}d", raw)


def _text(value: float) -> float | str:
    """Finite numbers as they are; the others, which JSON does not know, as text."""
    return value if isfinite(value) else repr(value)
