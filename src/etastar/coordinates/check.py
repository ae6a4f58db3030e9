"""Do pre-activations, and their changes in training, keep their size over width and depth?"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from etastar.coordinates.coordinate_report import AxisCheck, AxisKind, CoordinateReport, LayerCheck
from etastar.coordinates.curves import Place, SizeRuns, run_size
from etastar.coordinates.verdict import (
    axis_law,
    find_remedies,
    fitting_remedies,
    known_exception,
    trend_of,
    written_advice,
)
from etastar.errors import MeasureError
from etastar.laws import Law
from etastar.measure.batch import (
    Batch,
    LossFn,
    Sizes,
    plain_modes,
    read_batch,
    read_sizes,
    varied_alone,
)
from etastar.measure.differences import ADDITION
from etastar.measure.subject import Made, OptimizerChoice
from etastar.naming import name_template
from etastar.optimizers import OptimizerKind
from etastar.parameter import Role
from etastar.typed import as_seeds, require_callable, require_number

_Key: TypeAlias = "tuple[str, str, Role | None]"
"""Module path, over depth with a star for every index; `Place.name`, likewise, with a number where
a module has several; role of its weights, None for sums and products."""

_Shares: TypeAlias = "tuple[dict[int, float], ...]"
"""For each size, of places by position, in the mean that is compared; positive, they sum to one."""


def coordinate_check(
    make_model: Callable[..., Made],
    sizes: Sizes,
    batch: Batch,
    loss_fn: LossFn | None = None,
    *,
    optimizer: OptimizerChoice | None = None,
    lr: float | None = None,
    num_steps: int = 3,
    seeds: int | Sequence[int] = 3,
) -> CoordinateReport:
    """Train networks of several sizes for a few steps, and say which layers depend on the size.

    For every pre-activation z (outputs of weight layers, the residual stream after each addition,
    attention logits) the exponents against the size are fitted of the root mean square of z_0 and,
    mean over the steps t, of z_t - z_0, with intervals by bootstrap over seeds. Flat: exponent
    within 0.2, interval within twice that. A layer that is not flat fails, but for the two
    exceptions of muP (before the first step, output and attention logits may shrink as
    width^(-1/2)). It comes with the parameters whose step moves it, the optimizer's groups they are
    in, and those of their settings that do not follow the rule: muP over width; over depth
    complete-p, or for chains -3/2.

    Over width layers match by their place in the order of execution; over depth by kind: module
    path with a star for every index, and role, compared at the same relative depth. There, what
    lies within a branch may shrink, as K branches add up.

    Args:
        make_model: `make_model(width=64)` gives a model, or (model, optimizer) where each size has
            its own plan; draws from the global random numbers.
        sizes: Two or more, [{"width": 32, "depth": 2}, {"width": 64, "depth": 2}, {"width": 32,
            "depth": 4}]: each setting is checked over the sizes in which the others are as in the
            first one.
        batch: Examples that are looked at, and stepped on.
        loss_fn: `loss_fn(output, targets)`; None for a model that computes its own loss.
        optimizer: As `measure_update` takes it; None where `make_model` gives it.
        lr: Learning rate of an optimizer given by name, class or kind; None with any other.
        num_steps: Steps of the optimizer.
        seeds: A number of seeds, or the seeds, of `make_model` and of dropout.

    Returns:
        The report; `passed` says it all.

    Raises:
        MeasureError: An argument is not accepted, or `make_model` raised.
        OptimizerError: The optimizer's name is unknown.
        CaptureError: The forward pass raised.

    Example:
        >>> def make(width):
        ...     ends = nn.Linear(4, width, bias=False), nn.Linear(width, 1, bias=False)
        ...     for layer in ends:
        ...         nn.init.normal_(layer.weight, std=layer.in_features**-0.5)
        ...     return nn.Sequential(*ends)
        >>> import torch
        >>> from torch import nn
        >>> batch = torch.randn(8, 4, generator=torch.Generator().manual_seed(0)), torch.zeros(8)
        >>> report = coordinate_check(
        ...     make, [{"width": n} for n in (64, 256, 1024)], batch, lambda z, _: z.mean(),
        ...     optimizer="adam", lr=1e-4,
        ... )
        >>> report.passed, [(layer.module, layer.verdict) for layer in report.axes[0].layers]
        (False, [('0', 'flat'), ('1', 'grows')])

    Source: [TP5] Appendix D.1 (coordinate checking), [CP]; docs/definitions.md, section 7.
    """
    require_callable("make_model", make_model, error=MeasureError)
    lines = varied_alone(read_sizes(sizes))
    require_number("num_steps", num_steps, error=MeasureError, least=1, whole=True)
    numbers = as_seeds(seeds, error=MeasureError)
    run = partial(
        run_size,
        make_model=make_model,
        optimizer=optimizer,
        lr=_read_lr(optimizer, lr),
        examples=read_batch(batch),
        loss_fn=loss_fn,
        num_steps=num_steps,
        seeds=numbers,
    )
    with plain_modes():
        checks = tuple(_axis_check(name, [*map(run, line)]) for name, line in lines.items())
    return CoordinateReport(checks, num_steps, numbers)


def _read_lr(optimizer: object, lr: float | None) -> float:
    is_named = isinstance(optimizer, (str, type, OptimizerKind))
    if is_named != (lr is not None):
        raise MeasureError(
            f"optimizer={optimizer!r} with lr={lr!r}",
            "a positive lr beside a name, class or kind of optimizer, and none with any other",
            "give lr beside the name, or set the rate in the optimizer itself",
        )
    return 1.0 if lr is None else float(require_number("lr", lr, error=MeasureError, above=0))


def _axis_check(name: str, sizes: Sequence[SizeRuns]) -> AxisCheck:
    """The verdicts along one axis."""
    values = tuple(one.size[name] for one in sizes)
    kind, matched, unmatched = _match_layers(sizes)
    law = axis_law(kind, sizes[-1])
    span = f"{name}={values[0]} to {values[-1]}"
    layers = []
    for key, shares in matched.items():
        moments = _mean_moments(sizes, shares)
        trends = trend_of(moments[:, :1], values), trend_of(moments[:, 1:], values)
        layers.append(_judged(LayerCheck(*key, *trends), sizes, shares[-1], kind=kind, law=law))
    advised = tuple(
        layer
        if layer.passed
        else replace(layer, advice=written_advice(layer, layers, law=law, span=span))
        for layer in layers
    )
    return AxisCheck(name, kind, values, advised, unmatched)


def _judged(
    layer: LayerCheck, sizes: Sequence[SizeRuns], places: Iterable[int], *, kind: AxisKind, law: Law
) -> LayerCheck:
    """With what moves it, and what of that does not follow the law; by its places at the end."""
    largest = sizes[-1]
    names = tuple(dict.fromkeys(n for place in places for n in largest.places[place].parameters))
    settings = largest.settings
    found = find_remedies(names, law, sizes[0], largest)
    in_branch = any(largest.infos[name].in_branch for name in names)
    read = {largest.infos[name].role for name in names if largest.infos[name].is_weight}
    judged = replace(layer, role="output") if read == {"output"} else layer  # a sum of readouts
    return replace(
        layer,
        parameters=names if kind == "width" else tuple(dict.fromkeys(map(name_template, names))),
        groups=tuple(dict.fromkeys(settings[n].group for n in names if n in settings)),
        exception=known_exception(judged, kind=kind, follows=not found, in_branch=in_branch),
        remedies=fitting_remedies(found, layer),
    )


def _match_layers(
    sizes: Sequence[SizeRuns],
) -> tuple[AxisKind, dict[_Key, _Shares], tuple[str, ...]]:
    """Match the pre-activations of all sizes, which are ascending.

    Where all sizes execute the same layers (width), each matches by its own name. Otherwise (depth)
    they match by kind: module path and parameter names with a star for every index, and role. Those
    of a kind are compared at the same relative depth (additions before, over all additions; of
    chains layers): at the places that the kind has at the smallest size, every other size is read
    off by linear interpolation between its own, and the mean over these places is taken.

    Returns:
        The kind of axis; what matches, in the order of the largest size; what some sizes lack.

    Raises:
        MeasureError: The sizes gave the same network, or nothing matches.
    """
    names = [[(p.module, p.name, p.number) for p in size.places] for size in sizes]
    if all(one == names[0] for one in names):
        _require_different(sizes)
        return ("width", *_by_kind(sizes, str))  # every name stays as it is: a kind of its own
    return ("depth", *_by_kind(sizes, name_template))


def _by_kind(
    sizes: Sequence[SizeRuns], template: Callable[[str], str]
) -> tuple[dict[_Key, _Shares], tuple[str, ...]]:
    def stem(place: Place) -> tuple[str, str]:
        return template(place.module), template(place.name)

    repeats = [  # most places of one name in one module
        {stem(place): place.number for place in sorted(size.places, key=lambda one: one.number)}
        for size in sizes
    ]
    members: list[dict[_Key, list[int]]] = []
    for size in sizes:
        found: dict[_Key, list[int]] = {}
        for position, place in enumerate(size.places):
            module, name = stem(place)
            # in a loop of the module's own forward the number is one of depth
            is_fixed = len({one.get((module, name)) for one in repeats}) == 1
            numbered = f"{name} {place.number}" if is_fixed and place.number > 1 else name
            found.setdefault((module, numbered, size.role(place)), []).append(position)
        members.append(found)
    shared = [key for key in members[-1] if all(key in found for found in members)]
    if not shared:
        raise MeasureError(
            f"sizes {[dict(size.size) for size in sizes]} that have no kind of layer in common",
            "networks of one family",
            "check the factory, or start from a larger size",
        )
    matched = {key: _shares([found[key] for found in members], sizes) for key in shared}
    lacking = {key: None for found in members for key in found if key not in shared}
    return matched, tuple(f"{module or '(root)'}: {name}" for module, name, _ in lacking)


def _shares(members: list[list[int]], sizes: Sequence[SizeRuns]) -> _Shares:
    """The members of a kind, weighted so that their mean is at the smallest size's places."""
    positions = [
        [_relative_depth(size.places, member) for member in own]
        for size, own in zip(sizes, members, strict=True)
    ]
    weights = [_interpolation(positions[0], own) for own in positions]
    return tuple(
        {member: weight for member, weight in zip(*both, strict=True) if weight > 0}
        for both in zip(members, weights, strict=True)
    )


def _mean_moments(sizes: Sequence[SizeRuns], shares: _Shares) -> NDArray[np.float64]:
    """Moments of z_0 and z_t - z_0, mean over the places: (seeds, 1 + steps, sizes)."""
    means = [
        size.moments[:, :, list(own)] @ np.array(list(own.values()))
        for size, own in zip(sizes, shares, strict=True)
    ]
    return np.stack(means, axis=-1)


def _relative_depth(places: Sequence[Place], position: int) -> float:
    """Share of the network's additions (of a chain's layers) up to a place."""
    counts = [place.name == ADDITION for place in places]
    if not any(counts):
        counts = [place.is_layer for place in places]
    return sum(counts[: position + 1]) / sum(counts)


def _interpolation(wanted: Sequence[float], own: Sequence[float]) -> list[float]:
    """Weight of each own place in the mean over the wanted ones, by linear interpolation."""
    units = np.eye(len(own))
    return [float(np.interp(wanted, own, unit).mean()) for unit in units]


def _require_different(sizes: Sequence[SizeRuns]) -> None:
    shapes = [tuple(p.shape for p in size.architecture.parameters) for size in sizes]
    for before, after, small, large in zip(shapes, shapes[1:], sizes, sizes[1:], strict=False):
        if before == after:
            raise MeasureError(
                f"sizes {dict(small.size)} and {dict(large.size)}, which gave the same network",
                "a setting that changes width or depth",
                "check that the factory uses what it is given",
            )
