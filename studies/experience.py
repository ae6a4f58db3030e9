"""What `law="auto"` knows: from a family's optima to a record, from records to its table."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from etastar.fit import fit_power_law
from etastar.optimizers import optimizer_kind
from etastar.transfer.experience import (
    EXPERIENCE_FORMAT,
    CriterionRecord,
    Experience,
    ExperienceRecord,
    Parametrization,
)
from etastar.transfer.network_kind import NetworkKind, network_kind
from studies.declaration import Family
from studies.experiments.registry import EXPERIMENTS
from studies.exponents import NOISE
from studies.initialization import OwnInit, StableInit
from studies.network import ZooNetwork, network_architecture

if TYPE_CHECKING:
    from studies.declaration import Scale

_UNFIT: Final = frozenset({"edge", "no optimum"})
_AGAIN: Final = "gradinit"
"""Its families are those of `resnet`, their runs the same, or initialized by what they learnt."""


def record_of(
    family: str,
    kind: NetworkKind,
    optimizer: str,
    parametrization: Parametrization,
    optima: Mapping[int, float],
    *,
    well_posed: bool = True,
) -> ExperienceRecord:
    """The record of one family from the best rates of its sizes.

    The exponent is the slope of log rate on log effective depth, its standard deviation
    (max(residual variance, 0.15^2) / S_xx)^(1/2).

    Args:
        family: Its name.
        kind: Of its networks and optimizer.
        optimizer: Name of the optimizer.
        parametrization: What was in force beside one rate.
        optima: Best rate by effective depth, at least two.
        well_posed: Whether the optima are optima.

    Returns:
        The record.

    Example:
        >>> from etastar.transfer.network_kind import NetworkKind
        >>> chain = NetworkKind("chain", "none", False, False, 0, "sgd")
        >>> one = record_of("mlp", chain, "sgd", "own", {2: 0.8, 8: 0.1, 32: 0.0125})
        >>> round(one.exponent, 9), round(one.exponent_sd, 4), one.depths
        (-1.5, 0.0765, (2, 8, 32))
    """
    depths = sorted(optima)
    lrs = [optima[depth] for depth in depths]
    fit = fit_power_law(depths, lrs)
    x = np.log(depths)
    residuals = np.log(lrs) - fit.intercept - fit.exponent * x
    freedom = len(depths) - 2
    variance = max(NOISE**2, float(residuals @ residuals) / freedom if freedom else 0.0)
    return ExperienceRecord(
        family=family,
        kind=kind,
        optimizer=optimizer,
        parametrization=parametrization,
        exponent=fit.exponent,
        exponent_sd=math.sqrt(variance / float(np.sum((x - x.mean()) ** 2))),
        depths=tuple(depths),
        well_posed=well_posed,
    )


def experience_document(known: Experience) -> str:
    """The table as the package reads it.

    Args:
        known: Its records.

    Returns:
        JSON, the same for the same records.

    Example:
        >>> json.loads(experience_document(Experience()))
        {'format': 1, 'records': [], 'criterion': []}
    """
    parts = [f'{{"format": {EXPERIENCE_FORMAT}']
    for name in ("records", "criterion"):
        rows = sorted(json.dumps(_plain(asdict(row))) for row in getattr(known, name))
        lines = ",\n  ".join(rows)
        parts.append(f' "{name}": [\n  {lines}\n ]' if rows else f' "{name}": []')
    return ",\n".join(parts) + "}\n"


def _plain(value: Any) -> Any:
    """Floats to four digits: more were noise."""
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items() if one is not None}
    return round(value, 4) if isinstance(value, float) else value


def first_evidence(results: Path, *, scale: Scale = "cpu") -> Experience:
    """Records of the stored experiments, as far as their families have a kind.

    Args:
        results: Folder of all results.
        scale: Of the declarations and the results.

    Returns:
        The records. Families of one network within one experiment share their name.
    """
    records: list[ExperienceRecord] = []
    errors: list[CriterionRecord] = []
    for experiment, study in EXPERIMENTS.items():
        folder = results / experiment / scale
        if experiment == _AGAIN or not (folder / "optima.json").exists():
            continue
        stored = {name: _read(folder / f"{name}.json") for name in ("fits", "optima", "regret")}
        for family in study(scale).families:
            if not isinstance(family, Family):
                continue
            name = _family_name(experiment, family)
            kind = None if name is None else _kind(family)
            if name is not None and kind is not None:
                records += _records(name, kind, family, stored)
                errors += _errors(name, kind, family, stored)
    return Experience(tuple(records), tuple(errors))


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _family_name(experiment: str, family: Family) -> str | None:
    network = family.network
    if "effective-depth" not in family.axes or not isinstance(network, ZooNetwork):
        return None
    if network.branch_power or network.name == "cell":
        return None
    own = [f"{key}={value}" for key, value in network.options if key in _APART]
    return ", ".join([f"{experiment}: {network.name}", *own])


_APART: Final = frozenset(
    "activation padding kernel_size affine batch_norm dropout width branch_layers".split()
)
"""Arguments of a network by which an experiment has several of it."""


def _optima(family: Family, stored: Mapping[str, Any]) -> dict[int, dict[str, Any]]:
    """Optimum by effective depth; of several widths, the first at each depth."""
    found: dict[int, dict[str, Any]] = {}
    for one in stored["optima"]:
        if one["family"] == family.name and one.get("lr") is not None:
            found.setdefault(round(one["axes"].get("effective-depth", 0)), one)
    return {depth: one for depth, one in found.items() if depth}


def _kind(family: Family) -> NetworkKind | None:
    """Of the smallest and of the largest size; None where they differ."""
    optimizer = optimizer_kind(family.optimizer.name)
    smallest, largest = (
        network_kind(network_architecture(family.network, size).features, optimizer)
        for size in (family.sizes[0], family.sizes[-1])
    )
    return smallest if smallest == largest else None


def _records(
    name: str, kind: NetworkKind, family: Family, stored: Mapping[str, Any]
) -> Iterator[ExperienceRecord]:
    parametrization, optima = _parametrization(family), _optima(family, stored)
    fits = [
        fit
        for fit in stored["fits"]["exponents"]
        if fit["family"] == family.name and fit["axis"] == "effective-depth"
    ]
    if parametrization is None or len(optima) < 2 or not fits:
        return
    yield record_of(
        name,
        kind,
        family.optimizer.name,
        parametrization,
        {depth: one["lr"] for depth, one in optima.items()},
        well_posed=not _UNFIT & set(fits[0]["flags"]),
    )


def _parametrization(family: Family) -> Parametrization | None:
    """What was in force; None for what the default choice does not speak of."""
    law = None if family.parametrization is None else family.parametrization.law
    made = family.initialization
    own = isinstance(made, OwnInit) or made == StableInit(residual="none")
    if law in (None, "constant"):
        return "own" if own else "stabilized" if made == StableInit() else None
    if own and law in ("complete-p", "depth-mup"):
        return law  # type: ignore[return-value]  # the two that are named
    return None


def _errors(
    name: str, kind: NetworkKind, family: Family, stored: Mapping[str, Any]
) -> Iterator[CriterionRecord]:
    """Of the farthest target to which the criterion carried a rate, if its optimum is one."""
    optima = {
        tuple(sorted(one["size"].items())): depth
        for depth, one in _optima(family, stored).items()
        if not _UNFIT & set(one["flags"])
    }
    found = []
    for row in stored["regret"]:
        measured = row["rule"] in ("measured", "measured+mup") and row["lr"] is not None
        if row["family"] != family.name or not measured:
            continue
        base, target = (
            optima.get(tuple(sorted(one.items())), 0) for one in (row["bases"][0], row["target"])
        )
        if 0 < base < target:
            error = math.log(row["lr"] / row["reference_lr"])
            found.append(CriterionRecord(name, kind, error, (base, target)))
    if found:
        yield max(found, key=lambda one: one.depths[1])


def judged_without_itself(known: Experience) -> tuple[tuple[ExperienceRecord, bool | None], ...]:
    """Whether the interval that the other families let expect holds each family's exponent.

    Args:
        known: The records.

    Returns:
        Every well-posed record, and the answer for the exponent with its own error; None where the
        others say nothing of the kind.
    """
    found: list[tuple[ExperienceRecord, bool | None]] = []
    for one in known.records:
        if not one.well_posed:
            continue
        prior = known.without(one.family).prior(one.kind, one.parametrization)
        if prior is None:
            found.append((one, None))
            continue
        reach = 1.96 * math.hypot(prior.sd, one.exponent_sd)
        found.append((one, abs(one.exponent - prior.mean) <= reach))
    return tuple(found)
