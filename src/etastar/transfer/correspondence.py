"""Which parameter of the base stands for which of the target.

Parameters correspond by name, the index of a repeated block left open, and by their place in the
network. Where the base has no counterpart (a base with no hidden layer, or one block per stage),
the sizes that the other parameters have at both networks tell what its shape would be.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import itemgetter
from typing import Any, TypeAlias

from etastar.errors import PlanError
from etastar.formatting import first_few
from etastar.laws import ParamPair
from etastar.naming import name_indices, name_template, separated_indices
from etastar.parameter import ParamInfo

_Members: TypeAlias = "list[tuple[tuple[int, ...], ParamInfo]]"
"""Parameters whose names differ in their indices alone, with these, which sort them."""


def match_parameters(
    base: Sequence[ParamInfo], target: Sequence[ParamInfo]
) -> tuple[ParamPair, ...]:
    """Pair every parameter of the target with what stands for it in the base.

    Args:
        base: Parameters of the network whose learning rate was tuned.
        target: Parameters of the network to be trained.

    Returns:
        One pair for each parameter of the target, in its order.

    Raises:
        PlanError: The two are of different architecture; the parameters are named.

    Example:
        >>> from etastar.parameter import ParamInfo
        >>> small = ParamInfo("blocks.0.weight", (4, 4), "hidden", 4, 4)
        >>> large = ParamInfo("blocks.7.weight", (8, 8), "hidden", 8, 8)
        >>> match_parameters([small], [large])[0].fan_in_ratio
        2.0
    """
    spelled = separated_indices([i.name for i in base], [i.name for i in target])
    ours, theirs = ([_named(i, spelled[i.name]) for i in infos] for infos in (target, base))
    names = {spelled[info.name]: info.name for info in (*base, *target)}
    lone = [f"{names[n]!r} only in the target" for n in _without_counterpart(ours, theirs)]
    lone += [f"{names[n]!r} only in the base" for n in _without_counterpart(theirs, ours)]
    if lone:
        raise _different_architecture(lone)
    found = _Matcher(theirs).match(ours)
    if lost := [info for info in ours if info.name not in found]:
        raise _different_architecture(
            [f"{names[info.name]!r} {info.shape} fits no parameter of the base" for info in lost]
        )
    as_given = {id(copy): info for copy, info in zip(theirs, base, strict=True)}
    by_name = {info.name: info for info in ours}
    pairs = []
    for read, info in zip(ours, target, strict=True):
        other = found[read.name]
        known = as_given.get(id(other)) or replace(other, name=info.name)
        # of blocks alike, that of the same number: a factor may depend on the number
        same = by_name.get(other.name, read)
        alike = same if _kind(same) == _kind(read) else read
        pairs.append(ParamPair(known, info, alike.own_multiplier / other.own_multiplier))
    return tuple(pairs)


def _named(info: ParamInfo, name: str) -> ParamInfo:
    return info if info.name == name else replace(info, name=name)


def _place(info: ParamInfo) -> tuple[object, ...]:
    return (*_kind(info), info.layer_type, info.in_branch, info.branch_position)


def _kind(info: ParamInfo) -> tuple[object, ...]:
    return name_template(info.name), info.role, info.ndim


def _different_architecture(lines: Sequence[str]) -> PlanError:
    return PlanError(
        f"base and target of different architecture: {first_few(lines, 6)}",
        "two networks that differ in depth and width alone",
        "build both with the same code; give the base at least one block of every kind (two where "
        "the first of a stage differs)",
    )


def _without_counterpart(ours: Sequence[ParamInfo], theirs: Sequence[ParamInfo]) -> list[str]:
    known = {(name_template(info.name), info.ndim) for info in theirs}
    templates = {template for template, _ in known}
    return [
        info.name
        for info in ours
        if (name_template(info.name), info.ndim) not in known
        and not _new_container(name_template(info.name), templates)
    ]


def _new_container(template: str, others: Iterable[str]) -> bool:
    """Whether the repeated container it lies in has no member at all on the other side."""
    container, star, _ = template.rpartition("*")
    return bool(star) and not any(other.startswith(f"{container}*") for other in others)


@dataclass
class _Matcher:
    """State of one matching: the sizes seen at both networks, and the parameters found."""

    base: Sequence[ParamInfo]
    sizes: defaultdict[int, set[int]] = field(default_factory=lambda: defaultdict(set))
    found: dict[str, ParamInfo] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._alike = [(key, _nearby(self.base, key)) for key in (_place, _kind)]

    def match(self, target: Sequence[ParamInfo]) -> dict[str, ParamInfo]:
        """What was found in the base, by the target's names."""
        for step in (self._anchor, self._same_name, self._by_index):
            step(target)
        return self.found

    def _anchor(self, target: Sequence[ParamInfo]) -> None:
        """Places that exist once in either network are certain, whatever their index."""
        ours, theirs = _by_place(target), _by_place(self.base)
        for place, infos in ours.items():
            if len(infos) == len(theirs.get(place, ())) == 1:
                self._take(infos[0], theirs[place][0])

    def _same_name(self, target: Sequence[ParamInfo]) -> None:
        """The same name at the same place, unless its sizes contradict the anchors'."""
        chosen = []
        for info in self._open(target):
            candidates = self._candidates(info)
            if candidates and candidates[0].name == info.name:
                chosen.append((info, self._likeliest(candidates, info) or candidates[0]))
        for info, candidate in chosen:
            self._take(info, candidate)

    def _by_index(self, target: Sequence[ParamInfo]) -> None:
        """The nearest index whose sizes agree, else what the sizes alone tell."""
        for info in self._open(target):
            candidate = self._likeliest(self._candidates(info), info) or self._by_sizes(info)
            if candidate is not None:
                self._take(info, candidate)

    def _open(self, target: Sequence[ParamInfo]) -> list[ParamInfo]:
        return [info for info in target if info.name not in self.found]

    def _take(self, info: ParamInfo, candidate: ParamInfo) -> None:
        self.found[info.name] = candidate
        for ours, theirs in zip(info.shape, candidate.shape, strict=True):
            self.sizes[ours].add(theirs)

    def _candidates(self, info: ParamInfo) -> list[ParamInfo]:
        """Parameters of the base at the same place, else of the same kind.

        Of each shape the nearest alone, as sizes decide between them; nearest first.
        """
        indices = name_indices(info.name)

        def distance(candidate: ParamInfo) -> tuple[object, ...]:
            return _distance(candidate.name, info.name)

        for key, alike in self._alike:
            if same := alike.get(key(info)):
                near = (_nearest(own, indices, 0, 0, len(own)) for own in same.values())
                closest = (min((info for _, info in some), key=distance) for some in near)
                return sorted(closest, key=distance)
        return []

    def _likeliest(self, candidates: Sequence[ParamInfo], info: ParamInfo) -> ParamInfo | None:
        """Of those whose sizes agree, the first whose other sizes grew as the known ones did.

        Stages of one flat sequence have other widths under the same names at another depth.
        """
        agreeing = [
            candidate
            for candidate in candidates
            if all(
                ours not in self.sizes or theirs in self.sizes[ours]
                for ours, theirs in zip(info.shape, candidate.shape, strict=True)
            )
        ]
        if len(agreeing) < 2:
            return next(iter(agreeing), None)
        ratios = {size / one for size, known in self.sizes.items() for one in known}
        widened = any(ratio != 1 for ratio in ratios)

        def strangeness(candidate: ParamInfo) -> int:
            grown = (
                size / other
                for size, other in zip(info.shape, candidate.shape, strict=True)
                if size not in self.sizes
            )
            return sum(2 if one not in ratios else int(one == 1 and widened) for one in grown)

        return min(agreeing, key=strangeness)

    def _size(self, size: int) -> int:
        known = self.sizes.get(size, set())
        if len(known) != 1:
            raise LookupError(size)
        return next(iter(known))

    def _by_sizes(self, info: ParamInfo) -> ParamInfo | None:
        """The parameter as the base would have it, if every size has one counterpart."""
        try:
            shape = tuple(map(self._size, info.shape))
            kernel = tuple(map(self._size, info.kernel_size))
            fan_in, read = self._fan_in(info, kernel)
        except LookupError:
            return None
        rest = math.prod(shape) / math.prod(info.shape) * info.fan_in / fan_in
        made = info.features_out
        alike = (i for i in self.base if i.in_branch and _container(i) == _container(info))
        additions = (i.stream_additions for i in alike)  # K of the stream that corresponds
        return replace(
            info,
            shape=shape,
            kernel_size=kernel,
            fan_in=fan_in,
            fan_out=max(1, round(info.fan_out * rest)),
            features_in=info.features_in and read,
            features_out=made and min(self.sizes.get(made, ()), default=round(made * rest)),
            stream_additions=next(additions, 0) if info.in_branch else 0,
            aliases=(),
        )

    def _fan_in(self, info: ParamInfo, kernel: Iterable[int]) -> tuple[int, int]:
        """Fan-in and channels that it would have in the base."""
        if info.fan_in == 1:
            return 1, 1
        channels = info.features_in or info.fan_in // math.prod(info.kernel_size)
        read = 1 if channels == 1 else self._size(channels)
        taps = math.prod(kernel) / math.prod(info.kernel_size)
        return round(info.fan_in * read / channels * taps), read


def _nearby(
    infos: Iterable[ParamInfo], key: Callable[[ParamInfo], tuple[object, ...]]
) -> Mapping[tuple[object, ...], Mapping[tuple[int, ...], _Members]]:
    """By what `key` says, and by shape, in the order of their indices."""
    found: defaultdict[Any, defaultdict[Any, _Members]] = defaultdict(lambda: defaultdict(list))
    for info in infos:
        found[key(info)][info.shape].append((name_indices(info.name), info))
    for shapes in found.values():
        for members in shapes.values():
            members.sort(key=itemgetter(0))
    return found


def _nearest(
    members: _Members, indices: tuple[int, ...], level: int, start: int, stop: int
) -> _Members:
    """Those of the least gaps, outer indices before inner; lower and higher are equally near.

    Of a range whose members have one index at each of the levels before.
    """
    if level == len(indices):
        return members[start:stop]

    def index(member: tuple[tuple[int, ...], ParamInfo]) -> int:
        return member[0][level]

    after = bisect_left(members, indices[level], start, stop, key=index)
    around = members[max(start, after - 1) : min(stop, after + 1)]
    gaps = {n: abs(n - indices[level]) for n in map(index, around)}
    found = []
    for near in (n for n, gap in gaps.items() if gap == min(gaps.values())):
        ends = [bisect_left(members, n, start, stop, key=index) for n in (near, near + 1)]
        found += _nearest(members, indices, level + 1, *ends)
    return found


def _by_place(infos: Iterable[ParamInfo]) -> dict[tuple[object, ...], list[ParamInfo]]:
    places: defaultdict[tuple[object, ...], list[ParamInfo]] = defaultdict(list)
    for info in infos:
        places[_place(info)].append(info)
    return places


def _container(info: ParamInfo) -> str:
    return name_template(info.name).rpartition("*")[0]


def _distance(name: str, other: str) -> tuple[bool, tuple[int, ...], tuple[int, ...]]:
    """Exact name first, then the nearest index, outer before inner, lower before higher."""
    ours, theirs = name_indices(name), name_indices(other)
    gaps = tuple(abs(a - b) for a, b in zip(ours, theirs, strict=True))
    return name != other, gaps, ours
