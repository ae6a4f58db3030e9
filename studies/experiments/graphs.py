"""Random cells: which depth of a graph predicts the optimal learning rate [WU] [CH]."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from etastar.sweep.recipe import Size
from studies.cells import NODES, CellPlan, cell_plan
from studies.declaration import Budget, Data, Study, ladder, options, size
from studies.initialization import InDegreeInit
from studies.protocol import ADAM, SGD, Protocol
from studies.records import Claim

if TYPE_CHECKING:
    from studies.declaration import Axis, Family, OptimizerChoice, Scale

_WEIGHTLESS: Final = ("skip", "avgpool")

_STACKED: Final = ladder([1, 2, 4, 8])

_AXES: Final[tuple[Axis, ...]] = ("effective-depth", "path-sum", "nominal-depth")


def stable_cells(number: int) -> tuple[int, ...]:
    """Seeds of the first cells whose signals an initialization can keep stable, each cell once.

    A sum of w operands that came from one node without a weight on the way is w times that node,
    and no weight's variance can make up for it; so at most one way without a weight may lead from a
    node to the output.

    Args:
        number: How many.

    Returns:
        The seeds, in order.

    Example:
        >>> stable_cells(4)
        (0, 1, 2, 4)
    """
    found: dict[str, int] = {}
    for seed in itertools.count():
        plan = cell_plan(seed)
        if max(_weightless_ways(plan).values()) <= 1:
            found.setdefault(plan.text, seed)
        if len(found) == number:
            break
    return tuple(found.values())


def _weightless_ways(plan: CellPlan) -> dict[int, int]:
    """Number of ways without a weight from each node to the output."""
    last = NODES - 1
    ways = {last: 1}
    for node in reversed(range(last)):
        after = [t for (s, t), op in plan.edges.items() if s == node and op in _WEIGHTLESS]
        ways[node] = sum(ways[target] for target in after)
    return ways


def _cells(number: int, depths: tuple[int, ...]) -> tuple[Size, ...]:
    """The shallow network of every cell before the deep ones: the first size starts the search."""
    seeds = stable_cells(number)
    return tuple(size(cell_seed=seed, depth=depth) for depth in depths for seed in seeds)


_PROTOCOLS: Final[Mapping[str, Protocol]] = MappingProxyType(
    {
        "smoke": Protocol(
            Data("digits"),
            _cells(2, (1, 2)),
            Budget(2, 8),
            (0, 1),
            options(width=4, batch_norm=True),
            exhaustive=False,
        ),
        "cpu": Protocol(
            Data("digits"),
            _cells(6, (2, 6)),
            Budget(100, 32),
            (0, 1),
            options(width=8, batch_norm=True),
        ),
        "paper": Protocol(
            Data("hf:cifar10"),
            _cells(40, (3, 9)),
            Budget(390, 128),
            (0, 1, 2),
            options(width=32, batch_norm=True, in_channels=3, image_size=32),
        ),
    }
)
"""Cells are taken in the order of their seeds, by `stable_cells` alone."""


def study(scale: Scale) -> Study:
    """Cells drawn at random, each at two depths; one power law through the optima of all of them.

    Args:
        scale: "smoke", "cpu" or "paper".

    Returns:
        The declaration.

    Example:
        >>> [family.name for family in study("smoke").families[:2]]
        ['random cells, SGD', 'random cells, Adam']
    """
    protocol = _PROTOCOLS[scale]
    families = (
        _family(protocol, "random cells, SGD", SGD, start=0.1),
        _family(protocol, "random cells, Adam", ADAM, start=0.01),
    )
    stacks = tuple(
        _stack(protocol, f"{which}, {label}", cell_seed, optimizer, start=start)
        for which, cell_seed in (("cell without skip", 0), ("cell with skip", 5))
        for label, optimizer, start in (("SGD", SGD, 0.1), ("Adam", ADAM, 0.01))
    )
    claims = tuple(
        Claim(statement, source, family.name, -1.5, axis=axis)
        for family in families
        for statement, source, axis in (
            ("-3/2 in effective depth", "[WU]", "effective-depth"),
            ("-3/2 in path-sum depth, M_3^(1/3)", "[CH]", "path-sum"),
        )
    )
    return Study(
        name="graphs",
        title="Optimal learning rate of random cells: which depth predicts it",
        papers=("[WU] arXiv 2602.07494", "[CH] arXiv 2402.17440", "arXiv 2001.00326 (cells)"),
        scale=scale,
        families=families + stacks,
        claims=claims,
        notes=(
            "Random cells: a size is a cell and the number of times it is stacked. All cells share "
            "one power law, so R^2 says which depth predicts best. Width and image size are fixed.",
            "The stacks of one cell are for the regret table: cell 0 has no way from input to "
            "output without a layer, cell 5 has one (through pooling).",
            "Cells are taken in the order of their seeds, leaving out those that sum two ways "
            "without a weight from one node: no initialization keeps their signals stable.",
            "A BatchNorm follows every convolution, as in the search space. Without it three cells "
            "of 8 channels, tried before this was fixed, learned next to nothing with SGD.",
            "Initialization: in-degree [CH], and 1/K where a cell has a skip from input to output.",
        ),
    )


def _family(protocol: Protocol, name: str, optimizer: OptimizerChoice, *, start: float) -> Family:
    """No targets: laws carry a rate to another depth of the same cell, not to another cell."""
    made = protocol.family(name, "cell", optimizer=optimizer, start=start)
    return replace(made, bases=(), targets=(), axes=_AXES, initialization=InDegreeInit())


def _stack(
    protocol: Protocol, name: str, cell_seed: int, optimizer: OptimizerChoice, *, start: float
) -> Family:
    """One cell over depth."""
    stacked = replace(protocol, sizes=_STACKED)
    made = stacked.family(name, "cell", optimizer=optimizer, start=start, cell_seed=cell_seed)
    return replace(made, axes=_AXES, initialization=InDegreeInit())
