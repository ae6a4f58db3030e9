"""Which parameter of the base stands for which of the target.

Parameters correspond by name, the index of a repeated block left open, and by their place in the
network. An index that runs over the same numbers at both networks (stages, the layers of a block)
is a name: `blocks.2.1.conv` and `blocks.3.1.conv` never stand for each other, however widths were
rounded. Where the base has no counterpart (a base with no hidden layer, or one block per stage),
the sizes that the other parameters have at both networks tell what its shape would be.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from operator import itemgetter
from typing import Any, TypeAlias

from etastar.errors import PlanError
from etastar.formatting import first_few
from etastar.laws import ParamPair
from etastar.naming import name_indices, name_template, separated_indices
from etastar.parameter import ParamInfo
from etastar.transfer.stages import (
    Key,
    grouped,
    name_distance,
    shared_levels,
    stage_name,
    stage_pairs,
)

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
    shared = shared_levels((i.name for i in ours), (i.name for i in theirs))
    found = _Matcher(theirs, shared).match(ours)
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


_Sizes: TypeAlias = "defaultdict[Any, set[Any]]"
"""Sizes, or kernels, of the target, and those of the base that they stand for."""


def _sizes() -> _Sizes:
    return defaultdict(set)


@dataclass
class _Matcher:
    """State of one matching: the sizes seen at both networks, and the parameters found.

    `shared` are the levels of index that are names, by template. `sizes` are those of all
    parameters, under "", and of each stage; kernels are no sizes.
    """

    base: Sequence[ParamInfo]
    shared: Mapping[str, tuple[int, ...]]
    sizes: defaultdict[str, _Sizes] = field(default_factory=lambda: defaultdict(_sizes))
    kernels: _Sizes = field(default_factory=_sizes)
    found: dict[str, ParamInfo] = field(default_factory=dict)
    unclear: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        keys = (self._numbered(key) for key in (_place, _kind))
        self._alike = [(key, _nearby(self.base, key)) for key in keys]

    def match(self, target: Sequence[ParamInfo]) -> dict[str, ParamInfo]:
        """What was found in the base, by the target's names."""
        for step in (self._named, self._in_stages, self._anchor, self._same_name, self._by_index):
            step(target)
        return self.found

    def _numbered(self, key: Callable[[ParamInfo], Key]) -> Callable[[ParamInfo], Key]:
        """The same key, with the indices that are names."""

        def numbered(info: ParamInfo) -> Key:
            indices = name_indices(info.name)
            levels = self.shared.get(name_template(info.name), ())
            return (*key(info), *(indices[level] for level in levels))

        return numbered

    def _named(self, target: Sequence[ParamInfo]) -> None:
        """What has no index but those that are names."""
        known = {info.name: info for info in self.base}
        for info in target:
            other = known.get(info.name)
            levels = self.shared.get(name_template(info.name), ())
            if other and other.ndim == info.ndim and len(levels) == len(name_indices(info.name)):
                self._take(info, other)

    def _in_stages(self, target: Sequence[ParamInfo]) -> None:
        """In a stage, whose blocks have one shape but for the first: by name, else the nearest.

        The only block of a stage stands for others where none of its sizes stands for two: a block
        that reads as much as it makes is none that narrows.
        """
        key = self._numbered(lambda info: (*_kind(info), bool(info.features_out)))
        stages = [grouped(infos, key) for infos in (self._open(target), self.base)]
        new = []
        for place, ours in stages[0].items():
            if self.shared.get(name_template(ours[0].name)):
                theirs = stages[1].get(place, ())
                for info, other in stage_pairs(ours, theirs):
                    if info.name == other.name:
                        self._take(info, other)
                    else:
                        new.append((info, other, len(theirs) == 1))
        for info, other, is_only in new:
            known = self.sizes[stage_name(info.name, self.shared)]
            if is_only and any(len(known[size]) > 1 for size in _features(info)):
                self.unclear.add(info.name)
            else:
                self._take(info, other)

    def _anchor(self, target: Sequence[ParamInfo]) -> None:
        """Places that exist once in either network are certain, whatever their index."""
        ours, theirs = (grouped(infos, _place) for infos in (self._open(target), self.base))
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
            candidates = self._candidates(info)
            is_only = len(candidates) == 1 and bool(self.shared.get(name_template(info.name)))
            sized = self._by_sizes(info) if is_only else None  # of a stage of one block, its first
            candidate = sized or self._likeliest(candidates, info) or self._by_sizes(info)
            if candidate is not None:
                self._take(info, candidate)

    def _open(self, target: Sequence[ParamInfo]) -> list[ParamInfo]:
        return [i for i in target if i.name not in self.found and i.name not in self.unclear]

    def _take(self, info: ParamInfo, candidate: ParamInfo) -> None:
        self.found[info.name] = candidate
        self.kernels[info.kernel_size].add(candidate.kernel_size)
        for ours, theirs in zip(_features(info), _features(candidate), strict=False):
            for place in {"", stage_name(info.name, self.shared)}:
                self.sizes[place][ours].add(theirs)

    def _candidates(self, info: ParamInfo) -> list[ParamInfo]:
        """Parameters of the base at the same place, else of the same kind.

        Of each shape the nearest alone, as sizes decide between them; nearest first.
        """
        indices = name_indices(info.name)

        def distance(candidate: ParamInfo) -> tuple[object, ...]:
            return name_distance(candidate.name, info.name)

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
        sizes = self.sizes[""]
        agreeing = [
            candidate
            for candidate in candidates
            if candidate.kernel_size in self.kernels.get(info.kernel_size, {candidate.kernel_size})
            and all(
                ours not in sizes or theirs in sizes[ours]
                for ours, theirs in zip(_features(info), _features(candidate), strict=False)
            )
        ]
        if len(agreeing) < 2:
            return next(iter(agreeing), None)
        ratios = {size / one for size, known in sizes.items() for one in known}
        widened = any(ratio != 1 for ratio in ratios)

        def strangeness(candidate: ParamInfo) -> int:
            grown = (
                size / other
                for size, other in zip(_features(info), _features(candidate), strict=False)
                if size not in sizes
            )
            strange = 2 * (candidate.kernel_size != info.kernel_size)
            return strange + sum(
                2 if one not in ratios else int(one == 1 and widened) for one in grown
            )

        return min(agreeing, key=strangeness)

    def _size(self, size: int, stage: str) -> int:
        known = self._known(size, stage)
        if len(known) != 1:
            raise LookupError(size)
        return next(iter(known))

    def _known(self, size: int, stage: str) -> set[int]:
        return self.sizes[stage].get(size) or self.sizes[""].get(size, set())

    def _shape(self, info: ParamInfo, stage: str) -> tuple[int, ...]:
        """Features that it would have in the base; of unknown ones, as many times a known size."""
        known: dict[int, int] = {}
        for size in _features(info):
            with suppress(LookupError):
                known[size] = self._size(size, stage)
        for size in _features(info):
            if size not in known:
                whole = next((one for one in known if 1 < one < size and size % one == 0), None)
                if whole is None:
                    raise LookupError(size)
                known[size] = known[whole] * (size // whole)
        return tuple(known[size] for size in _features(info))

    def _by_sizes(self, info: ParamInfo) -> ParamInfo | None:
        """The parameter as the base would have it, if every size has one counterpart."""
        try:
            features = self._shape(info, stage := stage_name(info.name, self.shared))
            kernels = self.kernels.get(info.kernel_size, {info.kernel_size})
            kernel = info.kernel_size if info.kernel_size in kernels else min(kernels)
            fan_in, read = self._fan_in(
                info, kernel, dict(zip(_features(info), features, strict=True)), stage
            )
        except LookupError:
            return None
        shape = features + kernel[: info.ndim - len(features)]
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
            features_out=made and min(self._known(made, stage), default=round(made * rest)),
            stream_additions=next(additions, 0) if info.in_branch else 0,
            aliases=(),
        )

    def _fan_in(
        self, info: ParamInfo, kernel: Iterable[int], known: Mapping[int, int], stage: str
    ) -> tuple[int, int]:
        """Fan-in and channels that it would have in the base."""
        if info.fan_in == 1:
            return 1, 1
        channels = info.features_in or info.fan_in // math.prod(info.kernel_size)
        read = 1 if channels == 1 else known.get(channels) or self._size(channels, stage)
        taps = math.prod(kernel) / math.prod(info.kernel_size)
        return round(info.fan_in * read / channels * taps), read


def _features(info: ParamInfo) -> tuple[int, ...]:
    """The shape without a convolution's kernel."""
    return info.shape[:2] if info.kernel_size and info.ndim > 2 else info.shape


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


def _container(info: ParamInfo) -> str:
    return name_template(info.name).rpartition("*")[0]
