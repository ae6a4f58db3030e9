"""Indices in names that are names themselves: stages, and the layers of a block.

An index that runs over the same numbers at two networks is one of the architecture, not a count of
blocks: `stages.2.blocks.1.conv` stands for `stages.2.blocks.0.conv`, never for one of another
stage, whatever sizes the two have. Widths cannot tell, as multipliers of width are rounded.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TypeAlias

from etastar.naming import name_indices, name_template
from etastar.parameter import ParamInfo

Key: TypeAlias = tuple[object, ...]


def grouped(
    infos: Iterable[ParamInfo], key: Callable[[ParamInfo], Key]
) -> dict[Key, list[ParamInfo]]:
    """The parameters by what `key` says of each, in order."""
    found: defaultdict[Key, list[ParamInfo]] = defaultdict(list)
    for info in infos:
        found[key(info)].append(info)
    return found


def shared_levels(ours: Iterable[str], theirs: Iterable[str]) -> dict[str, tuple[int, ...]]:
    """By template, the levels of index at which two networks have the same numbers.

    Within each number of the outer levels that are such: all stages have the same blocks, or the
    number of a block is none of them.

    Example:
        >>> shared_levels(["0.a.0", "0.a.1", "1.a.0"], ["0.a.0", "1.a.0"])
        {'*.a.*': (0,)}
    """
    both: defaultdict[str, tuple[list[tuple[int, ...]], list[tuple[int, ...]]]]
    both = defaultdict(lambda: ([], []))
    for side, names in enumerate((ours, theirs)):
        for name in names:
            both[name_template(name)][side].append(name_indices(name))
    found = {}
    for template, sides in both.items():
        levels: tuple[int, ...] = ()
        for level in range(template.count("*")):
            numbers = [{(*(i[n] for n in levels), i[level]) for i in side} for side in sides]
            levels += (level,) if numbers[0] == numbers[1] else ()
        found[template] = levels
    return found


def stage_name(name: str, levels: Mapping[str, tuple[int, ...]]) -> str:
    """A name up to its first index that counts.

    Example:
        >>> stage_name("stages.2.blocks.7.conv", {"stages.*.blocks.*.conv": (0,)})
        'stages.2.blocks'
    """
    shared, level, parts = levels.get(name_template(name), ()), 0, list[str]()
    for part in name.split("."):
        if part.isdigit():
            if level not in shared:
                break
            level += 1
        parts.append(part)
    return ".".join(parts)


def stage_pairs(
    ours: Sequence[ParamInfo], theirs: Sequence[ParamInfo]
) -> Iterator[tuple[ParamInfo, ParamInfo]]:
    """Pairs of one stage, by name; of a new block with the nearest, but the first if it differs.

    None where the blocks behind the first have several shapes: that is more than one stage.
    """
    if any(len({info.shape for info in blocks[1:]}) > 1 for blocks in (ours, theirs)):
        return
    known = {info.name: info for info in theirs}
    for info in ours:
        rest = theirs if info.shape == ours[0].shape else theirs[1:]
        if info.name in known:
            yield info, known[info.name]
        elif rest:
            yield info, min(rest, key=lambda other: name_distance(other.name, info.name))


def name_distance(name: str, other: str) -> tuple[bool, tuple[int, ...], tuple[int, ...]]:
    """Exact name first, then the nearest index, outer before inner, lower before higher."""
    ours, theirs = name_indices(name), name_indices(other)
    gaps = tuple(abs(a - b) for a, b in zip(ours, theirs, strict=True))
    return name != other, gaps, ours
