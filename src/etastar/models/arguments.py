"""Checks of the arguments that every factory of the zoo shares."""

from __future__ import annotations

from math import isfinite

from etastar.errors import ModelSpecError

__all__ = ["require_choice", "require_finite", "require_fraction", "require_positive"]


def require_positive(**values: object) -> None:
    """Refuse every value that is not an integer of one or more.

    Args:
        **values: Arguments by name.

    Raises:
        ModelSpecError: One of them is not an integer, or is less than 1.

    Example:
        >>> require_positive(depth=4, width=64)
    """
    for name, value in values.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ModelSpecError(f"{name}={value!r}", "an integer of 1 or more", f"change {name}")


def require_choice(name: str, value: object, choices: tuple[object, ...]) -> None:
    """Refuse a value that is none of the choices.

    Args:
        name: Name of the argument.
        value: What was given.
        choices: What is accepted.

    Raises:
        ModelSpecError: The value is none of the choices.

    Example:
        >>> require_choice("branch_layers", 2, (1, 2))
    """
    if value not in choices:
        expected = "one of: " + ", ".join(str(choice) for choice in choices)
        raise ModelSpecError(f"{name}={value!r}", expected, f"choose {name} from the list")


def require_fraction(name: str, value: object) -> None:
    """Refuse a probability outside of [0, 1).

    Args:
        name: Name of the argument.
        value: What was given.

    Raises:
        ModelSpecError: It is no number of 0 or more and less than 1.

    Example:
        >>> require_fraction("dropout", 0.1)
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1:
        raise ModelSpecError(f"{name}={value!r}", "a number in [0, 1)", f"change {name}")


def require_finite(name: str, value: object) -> None:
    """Refuse what is not a finite number.

    Args:
        name: Name of the argument.
        value: What was given.

    Raises:
        ModelSpecError: It is no number, or is infinite or NaN.

    Example:
        >>> require_finite("branch_multiplier", 0.5)
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not isfinite(value):
        raise ModelSpecError(f"{name}={value!r}", "a finite number", f"change {name}")
