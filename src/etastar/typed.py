"""Values from a user checked against the type that a signature or a record states."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from numbers import Integral, Real
from operator import index
from sys import float_info
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from etastar.errors import EtastarError, ModelSpecError

_MOST = 1_000_000  # seeds: nobody runs so many, and a list of more fills the memory
_WORDS = {bool: "True or False", int: "an integer", float: "a finite number", str: "a text"}


def require_type(
    name: str, value: object, annotation: Any, *, error: type[EtastarError] = ModelSpecError
) -> None:
    """Refuse a value that is not of the type of its argument, as `typing.get_type_hints` gives it.

    Checked are bool, int, float, str, Literal, and one of them or None; a number is no bool, and an
    integer will do for a float. Anything else is left to whoever takes the value.

    Raises:
        EtastarError: Of the class `error`: the value is of another type, or no finite number.

    Example:
        >>> require_type("size", None, int | None)
        >>> require_type("size", "big", int | None)
        Traceback (most recent call last):
        ...
        etastar.errors.ModelSpecError: received: size='big'
        expected: an integer or None
        what to do: change size
    """
    if get_origin(annotation) is Literal:
        choices = get_args(annotation)
        if not any(type(value) is type(choice) and value == choice for choice in choices):
            expected = "one of: " + ", ".join(str(choice) for choice in choices)
            raise error(f"{name}={value!r}", expected, f"choose {name} from the list")
        return
    kinds = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    known = [kind for kind in kinds if kind is not NoneType]
    if not all(kind in _WORDS for kind in known) or (value is None and NoneType in kinds):
        return
    if not any(_is_a(value, kind) for kind in known):
        expected = " or ".join([_WORDS[kind] for kind in known] + ["None"] * (NoneType in kinds))
        raise error(f"{name}={value!r}", expected, f"change {name}")


def _is_a(value: object, kind: type) -> bool:
    if isinstance(value, bool) or kind is bool:
        return isinstance(value, bool) and kind is bool
    if kind is float:
        return isinstance(value, (int, float)) and abs(value) <= float_info.max
    return isinstance(value, kind)


def require_number(
    name: str,
    value: object,
    *,
    error: type[EtastarError],
    least: float = -inf,
    above: float = -inf,
    whole: bool = False,
    owner: str = "",
) -> Any:
    """A number as Python's own; refused where it is not finite or lies outside of its range.

    Args:
        name: Name of the argument.
        value: What was given; see `plain_number`.
        error: What to raise.
        least: Smallest value allowed.
        above: What the value must exceed.
        whole: Only an integer will do.
        owner: Whose argument it is, for the message.

    Returns:
        The number, an int or a float.

    Raises:
        EtastarError: Of the class `error`.

    Example:
        >>> require_number("steps", 10, error=ModelSpecError, least=1, whole=True)
        10
        >>> require_number("lr", 0.0, error=ModelSpecError, above=0)
        Traceback (most recent call last):
        ...
        etastar.errors.ModelSpecError: received: lr=0.0
        expected: a finite number above 0
        what to do: change lr
    """
    found = plain_number(value)
    # an integer beyond every float is none that can be computed with, or counted to
    most = 2**63 - 1 if whole else float_info.max
    in_range = found is not None and abs(found) <= most and above < found >= least
    if not in_range or (whole and not isinstance(found, int)):
        bounds = [f"above {above:g}"] * (above > -inf) + [f"of at least {least:g}"] * (least > -inf)
        bounds += ["below 2^63"] * (whole and isinstance(found, int) and found > most)
        raise error(
            f"{name}={value!r}{f' of {owner}' if owner else ''}",
            " ".join([f"a {'whole' if whole else 'finite'} number", *bounds]),
            f"change {name}",
        )
    return found


def require_callable(
    name: str, value: object, *, error: type[EtastarError], optional: bool = False
) -> None:
    """Refuse what cannot be called where a function is asked for; None may stand for no function.

    Raises:
        EtastarError: Of the class `error`.

    Example:
        >>> require_callable("loss_fn", max, error=ModelSpecError)
    """
    if not callable(value) and not (optional and value is None):
        expected = "a function, or None" if optional else "a function"
        raise error(f"{name}={value!r}", expected, f"give a function as {name}")


def plain_number(value: object) -> int | float | None:
    """A number as Python's own, whoever made it; None for anything else, True and False among it.

    That is an int or a float, a number of NumPy, a fraction or any other real number, or an array
    or tensor without dimensions that holds one.

    Example:
        >>> import torch
        >>> plain_number(torch.tensor(0.5)), plain_number(3), plain_number(True)
        (0.5, 3, None)
    """
    item = getattr(value, "item", None)
    if callable(item) and getattr(value, "ndim", None) == 0:
        try:
            value = item()
        except RuntimeError:  # a tensor without values
            return None
    if isinstance(value, bool) or not isinstance(value, Real):
        return None
    try:
        return int(value) if isinstance(value, Integral) else float(value)
    except OverflowError:
        return inf


def set_numbers(record: object, *names: str, error: type[EtastarError], **bounds: Any) -> None:
    """Make fields of a frozen record under construction Python's numbers, as `require_number` does.

    Raises:
        EtastarError: Of the class `error`.

    Example:
        >>> from types import SimpleNamespace
        >>> import numpy as np
        >>> record = SimpleNamespace(lr=np.float32(0.5))
        >>> set_numbers(record, "lr", error=ModelSpecError, above=0)
        >>> record
        namespace(lr=0.5)
    """
    for name in names:
        value = require_number(name, getattr(record, name), error=error, **bounds)
        object.__setattr__(record, name, value)


def as_seeds(seeds: int | Sequence[int], *, error: type[EtastarError]) -> tuple[int, ...]:
    """The seeds: 0 to n - 1 for a number n, or those of a sequence.

    Raises:
        EtastarError: Of the class `error`: no seed, one twice, or one that is no whole number of at
            least 0.

    Example:
        >>> as_seeds(3, error=ModelSpecError), as_seeds([7], error=ModelSpecError)
        ((0, 1, 2), (7,))
    """
    try:
        given = tuple(seeds) if hasattr(seeds, "__iter__") else tuple(range(min(seeds, _MOST)))
        found = tuple(map(index, given))
    except TypeError:
        given, found = (), ()
    is_flag = any(isinstance(one, bool) for one in (seeds, *given))
    is_range = found and min(found) >= 0 and max(found) < 2**63 and len(found) < _MOST
    if is_flag or not is_range or len(set(found)) < len(found):
        raise error(
            f"seeds={seeds!r}",
            "a number of seeds, one or more, or different whole numbers of at least 0",
            "give for example seeds=3, or seeds=[0, 1, 2]",
        )
    return found
