"""Numbers and names as text: never a number cut, names shortened in the middle."""

from __future__ import annotations

import math
import re
import textwrap
from abc import ABC, abstractmethod
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, fields, is_dataclass
from html import escape
from typing import TYPE_CHECKING, Any

from etastar.naming import name_indices, name_template

if TYPE_CHECKING:
    from rich.console import RenderableType

_LONG = 60  # characters of one value in a `__repr__`
_MANY = 12  # patterns, of which more are folded harder
_LINES = 5  # of patterns
_DIGITS = re.compile(r"\d+")


class Shown(ABC):
    """A frozen dataclass that shows itself: as text, on a terminal and as plain data for JSON.

    Example:
        >>> from dataclasses import dataclass
        >>> @dataclass(frozen=True)
        ... class Rate(Shown):
        ...     lr: float
        ...     def __rich__(self):
        ...         return f"lr {number(self.lr)}"
        >>> print(Rate(0.1)), Rate(0.1).as_dict()
        lr 0.1
        (None, {'lr': 0.1})
    """

    __slots__ = ()

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.__repr__ = short_repr  # type: ignore[method-assign]  # else that of its dataclass

    @abstractmethod
    def __rich__(self) -> RenderableType:
        """What Rich prints; at most 80 columns, styles by `Text`, since no markup is read."""

    def __str__(self) -> str:
        import io

        from rich.console import Console

        text = io.StringIO()
        console = Console(file=text, width=80, color_system=None, legacy_windows=False)
        console.print(self, highlight=False, markup=False)
        return "\n".join(line.rstrip() for line in text.getvalue().rstrip("\n").split("\n"))

    def _repr_html_(self) -> str:
        """What a notebook shows: the text, escaped, in letters of one width."""
        return f'<pre style="line-height: 1.25; white-space: pre">{escape(str(self))}</pre>'

    def as_dict(self) -> dict[str, Any]:
        """The fields as plain data for JSON."""
        return asdict(self)  # type: ignore[call-overload, no-any-return]


def short_repr(record: Any) -> str:
    """A dataclass on one line, for its `__repr__`: what is long is counted or named, not listed.

    Fields with `repr=False` are left out.

    Example:
        >>> from dataclasses import make_dataclass
        >>> Path = make_dataclass("Path", ["length", "ends", "nodes"])
        >>> short_repr(Path(100, (0, 1), list(range(100))))
        'Path(length=100, ends=(0, 1), nodes=<100 int>)'
    """
    shown = (f"{f.name}={_short(getattr(record, f.name))}" for f in fields(record) if f.repr)
    return f"{type(record).__name__}({', '.join(shown)})"


def _short(value: Any) -> str:
    match value:
        case int() if abs(value) >= 10**24:
            return f"{str(value)[:4]}...<{len(str(abs(value)))} digits>"
        case str() | int() | float() | None:
            return shorten_middle(repr(value), _LONG)
        case tuple() | list() | set() | frozenset() | Mapping() if not _is_plain(value):
            return f"<{len(value)} {' or '.join(sorted({type(item).__name__ for item in value}))}>"
        case Mapping():
            return f"{{{', '.join(f'{key!r}: {_short(item)}' for key, item in value.items())}}}"
        case tuple() | list():
            inner, comma = ", ".join(map(_short, value)), "," * (len(value) == 1)
            return f"({inner}{comma})" if isinstance(value, tuple) else f"[{inner}]"
    if is_dataclass(value):
        text = repr(value)
        return text if len(text) <= 5 * _LONG else f"{type(value).__name__}(...)"
    return str(getattr(value, "__name__", type(value).__name__))


def _is_plain(value: Collection[Any]) -> bool:
    """A few entries that are no records."""
    entries = value.values() if isinstance(value, Mapping) else value
    is_kind = isinstance(value, (tuple, list, Mapping))
    return is_kind and len(value) <= 4 and not any(is_dataclass(item) for item in entries)


def number(x: float) -> str:
    """A number with four significant digits: at most ten characters, eleven below zero.

    Example:
        >>> number(0.0003123456), number(250), number(1e-9)
        ('0.0003123', '250', '1e-09')
    """
    return f"{x:.4g}"


def interval(low: float, high: float) -> str:
    """An interval by its two ends.

    Example:
        >>> interval(0.01, 0.2)
        '0.01 to 0.2'
    """
    return f"{number(low)} to {number(high)}"


def seeds_interval(ends: Sequence[float] | None) -> str:
    """An interval over seeds; of one seed there is none.

    Example:
        >>> seeds_interval((0.01, 0.2)), seeds_interval(None)
        ('0.01 to 0.2', 'one seed')
    """
    return "one seed" if ends is None else interval(*ends)


def first_few(texts: Sequence[str], most: int, *, separator: str = "; ") -> str:
    """The first texts in a row, and how many more there are.

    Example:
        >>> first_few(["a", "b", "c"], 2)
        'a; b; and 1 more'
    """
    left = [f"and {len(texts) - most} more"] if len(texts) > most else []
    return separator.join([*texts[:most], *left])


def percent(x: float) -> str:
    """A share (1 is all) as a percentage; infinity stands for a run that diverged.

    Example:
        >>> percent(0.0314), percent(math.inf)
        ('3.1%', 'diverged')
    """
    return f"{100 * x:.1f}%" if math.isfinite(x) else "diverged"


def name_pattern(names: Iterable[str]) -> str:
    """Names with their indices left open, and how often each occurs, on one line.

    Example:
        >>> name_pattern(["blocks.0.weight", "blocks.1.weight", "head.bias"])
        'blocks.*.weight (2), head.bias'
    """
    counts = _patterns(names)
    return ", ".join(f"{pattern} ({n})" if n > 1 else pattern for pattern, n in counts.items())


def _patterns(names: Iterable[str]) -> Counter[str]:
    """How often each template occurs; an inner index that all of its names share is kept."""
    alike: defaultdict[str, list[str]] = defaultdict(list)
    for name in names:
        alike[name_template(name)].append(name)
    found: Counter[str] = Counter()
    for template, some in alike.items():
        _, *inner = zip(*map(name_indices, some), strict=True) if "*" in template else [()]
        shown = [str(own[0]) if len({*own}) == 1 < len(some) else "*" for own in inner]
        outer, *between = template.split("*")
        stars = ["*", *shown]
        found[outer + "".join(map("".join, zip(stars, between, strict=False)))] += len(some)
    return found


def name_lines(names: Iterable[str], width: int) -> Iterator[str]:
    r"""Names as patterns on a few lines: what is in the same blocks stands behind these, once.

    Args:
        names: Dotted names of parameters or modules.
        width: Most characters of a line.

    Yields:
        Lines that break between patterns; past the fifth, how many names there are.

    Example:
        >>> names = [f"blocks.{i}.{name}" for i in range(6) for name in ("fc.weight", "fc.bias")]
        >>> print(*name_lines(["head.weight", *names], 80), sep="\n")
        head.weight
        blocks.* (6): fc.weight, fc.bias
    """
    listed = list(names)
    counts = _patterns(listed)
    if len(counts) > _MANY:  # blocks are attributes, as `denselayer25`
        counts = Counter(_DIGITS.sub("*", name) for name in listed)
    within: defaultdict[tuple[str, int], list[str]] = defaultdict(list)
    for pattern, n in counts.items():
        block, star, rest = pattern.rpartition("*.")
        within[block + star[:1], n].append(rest)
    plain: list[str] = []
    texts = [plain]
    for (block, n), rests in within.items():
        count = f" ({n})" if n > 1 else ""
        if block and len(rests) > 1:
            texts.append([f"{block}{count}: {rests[0]}", *rests[1:]])
        else:
            plain += [f"{block}.{rest}{count}" if block else f"{rest}{count}" for rest in rests]
    lines = [line for parts in texts for line in _broken(parts, width)]
    yield from lines[:_LINES]
    if len(lines) > _LINES:
        yield f"... {len(listed)} in all"


def _broken(parts: Iterable[str], width: int) -> list[str]:
    text = ", ".join(shorten_middle(part, width - 3) for part in parts)
    lines = textwrap.TextWrapper(
        width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
    )
    return lines.wrap(text)


def shorten_middle(text: str, width: int) -> str:
    """A text of one line, or its beginning and end where it is longer than `width`.

    Example:
        >>> shorten_middle("encoder.layers.*.attention.weight", 20)
        'encoder.l…ion.weight'
    """
    if len(text) <= width:
        return text
    end = width // 2
    return f"{text[: width - end - 1]}…{text[len(text) - end :]}"


def json_numbers(data: Any) -> Any:
    """Nested plain data with None in place of numbers that are not finite, which JSON lacks.

    Example:
        >>> json_numbers({"interval": (0.5, math.inf)})
        {'interval': [0.5, None]}
    """
    if isinstance(data, dict):
        return {name: json_numbers(value) for name, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [json_numbers(value) for value in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data
