"""The page of a scale: every optimum, whether it is well-posed, and the slopes by both counts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from studies.families.curves import FamilyCurves
from studies.families.declared import families_of
from studies.families.runs import FAMILY_RUNS, RunFile

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from studies.families.declared import FamilyScale

__all__ = ["family_page"]

_HEAD = """# Families at scale `{scale}`

What the [declaration](../../../families/README.md) says, as far as it was run: {runs} runs. A rate
in brackets is of a size that is not well-posed; such sizes count in no slope, unless the others do
not span a factor of four, which puts the slope in brackets too. A slope is d log eta* / d log
depth, by effective depth and by blocks.

| family | optimizer | parametrization | optimum (blocks: rate) | by effective depth | by blocks |
| --- | --- | --- | --- | --- | --- |
"""


def family_page(scale: FamilyScale, folder: Path = FAMILY_RUNS) -> str:
    """Optima and slopes of all families, as far as they were run.

    Args:
        scale: The scale.
        folder: Where the runs are.

    Returns:
        Markdown, the same for the same runs.
    """
    files = [RunFile(family, scale, folder) for family in families_of(scale)]
    rows = [row for file in files for row in _rows(FamilyCurves(file))]
    runs = sum(len(file.read()) for file in files)
    missing = [file.family.name for file in files if not file.read()]
    end = f"\nNot run yet: {', '.join(missing)}.\n" if missing else ""
    return _HEAD.format(scale=scale.name, runs=runs) + "".join(f"{row}\n" for row in rows) + end


def _rows(curves: FamilyCurves) -> Iterator[str]:
    family = curves.family
    for parametrization in family.parametrizations:
        cells = []
        for depth in family.sizes(curves.scale):
            curve = curves.curve(parametrization, depth)
            if curve is not None:
                rate = f"{curve.optimum.lr:.2g}"
                posed = curves.well_posed(parametrization, depth)
                cells.append(f"{depth}: {rate if posed else f'({rate})'}")
        ran = any(name == parametrization for name, _ in curves.curves)
        if not ran:
            continue
        found, slopes = curves.exponent(parametrization), ("", "")
        if found is not None:
            slopes = (f"{found.value:.2f} ± {found.sd:.2f}", f"{found.by_blocks:.2f}")
            slopes = slopes if found.well_posed else (f"({slopes[0]})", f"({slopes[1]})")
        row = (family.name, family.optimizer, parametrization, ", ".join(cells), *slopes)
        yield f"| {' | '.join(row)} |"
