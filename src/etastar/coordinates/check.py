"""Do pre-activations, and their changes in training, keep their size over width and depth?"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial

from etastar.coordinates.coordinate_report import AxisCheck, AxisKind, CoordinateReport, LayerCheck
from etastar.coordinates.curves import SizeRuns, run_size
from etastar.coordinates.layers import match_layers, mean_moments
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
from etastar.measure.subject import Made, OptimizerChoice
from etastar.naming import name_template
from etastar.optimizers import OptimizerKind
from etastar.typed import as_seeds, require_callable, require_number


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
    kind, matched, unmatched = match_layers(sizes)
    law = axis_law(kind, sizes[-1])
    span = f"{name}={values[0]} to {values[-1]}"
    layers = []
    for key, shares in matched.items():
        moments = mean_moments(sizes, shares)
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
    in_branch = any(info is not None and info.in_branch for info in map(largest.info, names))
    return replace(
        layer,
        parameters=names if kind == "width" else tuple(dict.fromkeys(map(name_template, names))),
        groups=tuple(dict.fromkeys(settings[n].group for n in names if n in settings)),
        exception=known_exception(layer, kind=kind, follows=not found, in_branch=in_branch),
        remedies=fitting_remedies(found, layer),
    )
