"""What the families say to the default choice."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from etastar.optimizers import optimizer_kind
from etastar.transfer import read_architecture
from etastar.transfer.experience import (
    Experience,
    ExperienceRecord,
    Parametrization,
    read_experience,
)
from etastar.transfer.network_kind import NetworkKind, network_kind
from studies.experience import experience_document
from studies.families.curves import FamilyCurves
from studies.families.declared import families_of
from studies.families.recipes import family_graph
from studies.families.runs import FAMILY_RUNS, RunFile

if TYPE_CHECKING:
    from studies.families.declared import FamilyScale, NetworkFamily

EXPONENTS: Final = "exponents.json"

DRAWN: Final = frozenset("mlp-relu mlp-tanh mlp-adam cnn-relu cnn-adam resnet-am resmlp-am".split())
"""Families whose own initialization is the one that `initialize_` draws."""


def known_as(family: NetworkFamily, parametrization: Parametrization) -> Parametrization:
    """The name under which the default choice knows a parametrization.

    Args:
        family: The family.
        parametrization: As it was run.

    Returns:
        "stabilized" for networks whose own initialization is that of `initialize_`.

    Example:
        >>> from studies.families.declared import FAMILIES
        >>> [known_as(family, "own") for family in FAMILIES[:3]]
        ['own', 'own', 'stabilized']
    """
    return "stabilized" if parametrization == "own" and family.name in DRAWN else parametrization


def family_kind(family: NetworkFamily, scale: FamilyScale) -> NetworkKind | None:
    """The kind of a family; None where its sizes differ in kind.

    Args:
        family: The family.
        scale: The scale.

    Returns:
        Features of its graphs, and its optimizer.
    """
    sizes = family.sizes(scale)
    kinds = [
        network_kind(
            read_architecture(family_graph(family.name, scale.name, depth)).features,
            optimizer_kind(family.optimizer),
        )
        for depth in (sizes[0], sizes[-1])
    ]
    return kinds[0] if kinds[0] == kinds[1] else None


def family_experience(scale: FamilyScale, folder: Path = FAMILY_RUNS) -> Experience:
    """Exponents of all families, as far as they were run.

    Args:
        scale: The scale.
        folder: Where the runs are.

    Returns:
        A record for each family and parametrization with two sizes.
    """
    records = []
    for family in families_of(scale):
        curves, kind = FamilyCurves(RunFile(family, scale, folder)), None
        for parametrization in family.parametrizations:
            found = curves.exponent(parametrization)
            if found is None:
                continue
            kind = kind or family_kind(family, scale)
            if kind is None:
                break
            records.append(
                ExperienceRecord(
                    *(family.name, kind, family.optimizer),
                    parametrization=known_as(family, parametrization),
                    exponent=found.value,
                    exponent_sd=found.sd,
                    depths=found.depths,
                    well_posed=found.well_posed,
                    advantage=curves.advantage(parametrization),
                )
            )
    return Experience(tuple(records))


def stored_family_experience(root: Path, *, scale: str = "cpu") -> Experience:
    """The records that `write_experience` stored.

    Args:
        root: Folder of the families' results.
        scale: Name of the scale.

    Returns:
        The records; none where the scale was not run.
    """
    path = root / scale / EXPONENTS
    return read_experience(path.read_text(encoding="utf-8")) if path.exists() else Experience()


def write_experience(scale: FamilyScale, folder: Path = FAMILY_RUNS) -> Path:
    """Store what the families say beside their runs: to make it again, every graph is captured.

    Args:
        scale: The scale.
        folder: Where the runs are.

    Returns:
        The file.
    """
    path = folder / scale.name / EXPONENTS
    path.write_text(experience_document(family_experience(scale, folder)), encoding="utf-8")
    return path


def with_first_evidence(families: Experience, first: Experience) -> Experience:
    """The records of both evidences; a fit of the first counts with its own, larger error.

    Args:
        families: Of the second evidence.
        first: Of the first.

    Returns:
        All records. The criterion's errors are those of the first where the second has none.
    """
    return Experience((*families.records, *first.records), families.criterion or first.criterion)
