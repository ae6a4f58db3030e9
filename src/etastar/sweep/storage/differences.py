"""What tells the experiment of a store from the one that wants to use it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from etastar.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["require_same_settings"]

_ABSENT = "not set"


def require_same_settings(
    wanted: Mapping[str, str], held: Mapping[str, str], *, where: str
) -> None:
    """Refuse a store that holds another experiment.

    Args:
        wanted: Settings of the experiment at hand.
        held: Settings that the store holds.
        where: The store, as the message names it.

    Raises:
        StorageError: They differ; the message lists every setting that does.

    Example:
        >>> require_same_settings({"model": "mlp"}, {"model": "mlp"}, where="runs.log")
        >>> try:
        ...     require_same_settings({"model": "gpt"}, {"model": "mlp"}, where="runs.log")
        ... except StorageError as error:
        ...     print(error.received)
        runs.log holds another experiment: model is 'mlp' there and 'gpt' here
    """
    differences = [
        f"{key} is {_shown(held, key)} there and {_shown(wanted, key)} here"
        for key in sorted({*wanted, *held})
        if wanted.get(key) != held.get(key)
    ]
    if differences:
        raise StorageError(
            f"{where} holds another experiment: {'; '.join(differences)}",
            "a new store, or one of the same experiment",
            "give another path or another name, or the settings that the store holds",
        )


def _shown(settings: Mapping[str, str], key: str) -> str:
    return repr(settings[key]) if key in settings else _ABSENT
