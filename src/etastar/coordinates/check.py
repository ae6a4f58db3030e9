"""Do pre-activations, and their changes in training, keep their size over width and depth?"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import nn

from etastar.coordinates.coordinate_report import AxisCheck, CoordinateReport, LayerCheck, Trend
from etastar.coordinates.curves import Curves, Made, Norm, RunSetting, run_curves
from etastar.coordinates.layers import MatchedLayer, SizeRuns, match_layers
from etastar.coordinates.remedy import (
    axis_law,
    find_remedies,
    fitting_remedies,
    written_advice,
)
from etastar.coordinates.verdict import (
    BAND,
    INIT,
    Quantity,
    chosen_quantity,
    known_exception,
    size_curves,
    trend_of,
)
from etastar.errors import MeasureError
from etastar.graph import capture_graph, effective_depth, parameter_roles
from etastar.graph.isolation import global_state_kept
from etastar.laws import Architecture
from etastar.measure.batch import Batch, Examples, LossFn, read_batch
from etastar.naming import name_template

if TYPE_CHECKING:
    from etastar.coordinates.coordinate_report import AxisKind
    from etastar.laws import Law
    from etastar.measure.optimizers import MakeOptimizer
    from etastar.measure.warm_up import Batches

__all__ = ["coordinate_check"]

_MIN_SIZES = 2


def coordinate_check(
    factory: Callable[..., Made],
    sizes: Mapping[str, Sequence[int]],
    batch: Batch,
    loss_fn: LossFn | None = None,
    *,
    optimizer: str | MakeOptimizer | None = None,
    lr: float | None = None,
    num_steps: int = 3,
    seeds: Sequence[int] = (0, 1, 2),
    batches: Batches | None = None,
    norm: Norm = "rms",
    band: float = BAND,
) -> CoordinateReport:
    """Train networks of several sizes for a few steps, and say which layers depend on the size.

    For every pre-activation z (outputs of weight layers, the residual stream after each addition,
    attention logits) the exponents against the size are fitted of |z_0| and, mean over the
    steps t, of |z_t - z_0|, with intervals by bootstrap over seeds. Flat: exponent within the band,
    interval within twice the band. A layer that is not flat fails, but for the two exceptions of
    muP (before the first step, output and attention logits may shrink as width^(-1/2)). It comes
    with the parameters whose step moves it, the optimizer's groups they are in, and those of their
    settings that do not follow the rule: muP over width; over depth complete-p, or for chains -3/2.

    Over width layers match by their place in the order of execution; over depth by kind: module
    path with a star for every index, and role, compared at the same relative depth. There, what
    lies within a branch may shrink, as K branches add up.

    Args:
        factory: `factory(width=64)` gives a model, or (model, optimizer) where each size has its
            own plan; draws from PyTorch's global random numbers.
        sizes: Values of each setting, {"width": [32, 64, 128], "depth": [2, 4, 8]}; each is varied
            alone, the others at their first value.
        batch: Examples that are looked at; the steps are on them too unless `batches` is given.
        loss_fn: `loss_fn(output, targets)`; None for a model that computes its own loss.
        optimizer: Function from a model to its optimizer, or to several; "sgd", "adam" or "adamw",
            with `lr`; None where the factory gives it.
        lr: Learning rate of a named optimizer.
        num_steps: Steps of the optimizer.
        seeds: Of the factory, of dropout and of `batches`.
        batches: `batches(seed)` gives the batches of the steps.
        norm: Size of z: "rms" for (mean z^2)^(1/2), "l1" for mean |z|.
        band: Largest exponent that is called flat.

    Returns:
        The report; `passed` says it all.

    Raises:
        MeasureError: A setting, the batch or the factory is not accepted.
        CaptureError: The forward pass raised.

    Example:
        >>> def make(width):
        ...     ends = nn.Linear(4, width, bias=False), nn.Linear(width, 1, bias=False)
        ...     for layer in ends:
        ...         nn.init.normal_(layer.weight, std=layer.in_features**-0.5)
        ...     return nn.Sequential(*ends)
        >>> batch = torch.randn(8, 4, generator=torch.Generator().manual_seed(0)), torch.zeros(8)
        >>> report = coordinate_check(
        ...     make, {"width": [64, 256, 1024]}, batch, lambda z, _: z.mean(),
        ...     optimizer="adam", lr=1e-4,
        ... )
        >>> report.passed, [(layer.module, layer.verdict) for layer in report.axes[0].layers]
        (False, [('0', 'flat'), ('1', 'grows')])

    Source: [TP5] Appendix D.1 (coordinate checking), [CP]; docs/definitions.md, section 7.
    """
    axes = {name: tuple(sorted(set(values))) for name, values in sizes.items()}
    _require(axes, seeds=seeds, num_steps=num_steps, lr=lr, optimizer=optimizer, band=band)
    setting = RunSetting(optimizer, lr, read_batch(batch), loss_fn, num_steps, batches, norm)
    first = {name: values[0] for name, values in sizes.items()}
    checker = _Checker(factory, setting, tuple(seeds), band)
    with global_state_kept():
        checks = tuple(checker.axis(name, values, first) for name, values in axes.items())
    return CoordinateReport(checks, num_steps, tuple(seeds), norm, band)


@dataclass(frozen=True)
class _Checker:
    factory: Callable[..., Made]
    setting: RunSetting
    seeds: tuple[int, ...]
    band: float

    def axis(self, name: str, values: tuple[int, ...], first: Mapping[str, int]) -> AxisCheck:
        """The verdicts along one axis."""
        sizes = [self._runs(value, {**first, name: value}) for value in values]
        kind, matched, unmatched = match_layers(sizes)
        law = axis_law(kind, sizes[-1])
        layers = [self._layer(layer, sizes, kind, law) for layer in matched]
        span = f"{name}={values[0]} to {values[-1]}"
        told = tuple(
            layer
            if layer.passed
            else replace(layer, advice=written_advice(layer, layers, law=law, span=span))
            for layer in layers
        )
        return AxisCheck(name, kind, values, told, unmatched)

    def _runs(self, value: int, size: Mapping[str, int]) -> SizeRuns:
        make = partial(self.factory, **size)
        runs: tuple[Curves, ...] = tuple(
            run_curves(make, self.setting, seed=seed) for seed in self.seeds
        )
        return SizeRuns(value, _architecture(make, self.setting.examples, self.seeds[0]), runs)

    def _layer(
        self, layer: MatchedLayer, sizes: Sequence[SizeRuns], kind: AxisKind, law: Law
    ) -> LayerCheck:
        numbers = [size.size for size in sizes]
        values, norm = layer.values(sizes), self.setting.norm
        init = trend_of(values[:, :1], numbers, norm=norm, band=self.band)
        change = trend_of(layer.changes(sizes), numbers, norm=norm, band=self.band)
        verdict, quantity = chosen_quantity(init, change)
        names = layer.parameters(sizes[-1], len(sizes) - 1)
        settings = sizes[-1].runs[0].settings
        found = find_remedies(names, law, sizes[0], sizes[-1])
        trends: dict[Quantity, Trend] = {"change": change, INIT: init}
        return LayerCheck(
            module=layer.module,
            name=layer.name,
            role=layer.role,
            init=init,
            change=change,
            values=size_curves(values, norm=norm),
            verdict=verdict,
            quantity=quantity,
            exception=known_exception(
                layer,
                trends,
                kind=kind,
                quantity=quantity,
                follows=not found,
                in_branch=_in_branch(names, sizes[-1]),
                band=self.band,
            ),
            parameters=names
            if kind == "width"
            else tuple(dict.fromkeys(map(name_template, names))),
            groups=tuple(dict.fromkeys(settings[n].group for n in names if n in settings)),
            remedies=()
            if verdict == "flat"
            else fitting_remedies(found, trends[quantity], quantity=quantity),
        )


def _in_branch(names: Sequence[str], size: SizeRuns) -> bool:
    infos = [size.info(name) for name in names]
    return any(info is not None and info.in_branch for info in infos)


def _architecture(make: Callable[[], Made], examples: Examples, seed: int) -> Architecture:
    torch.manual_seed(seed)
    made = make()
    model = made if isinstance(made, nn.Module) else made[0]
    placed = examples.to(model)
    graph = capture_graph(model, *placed.args, **placed.kwargs)
    return Architecture(effective_depth(graph), parameter_roles(graph))


def _require(
    axes: Mapping[str, tuple[int, ...]],
    *,
    seeds: Sequence[int],
    num_steps: int,
    lr: float | None,
    optimizer: object,
    band: float,
) -> None:
    if not axes or any(len(v) < _MIN_SIZES or v[0] < 1 for v in axes.values()):
        raise MeasureError(
            f"sizes {dict(axes)}",
            "two different positive values or more of each setting",
            "give for example sizes={'width': [32, 64, 128]}",
        )
    if not seeds or num_steps < 1 or not (math.isfinite(band) and band > 0):
        raise MeasureError(
            f"seeds={seeds}, num_steps={num_steps}, band={band}",
            "one seed or more, one step or more, a positive band",
            "correct the setting that is out of range",
        )
    if isinstance(optimizer, str) != (lr is not None) or not (lr is None or 0 < lr < math.inf):
        raise MeasureError(
            f"optimizer={optimizer!r} with lr={lr}",
            "a positive lr with a named optimizer, and none with any other",
            "give lr beside the name, or set the rate in the optimizer itself",
        )
