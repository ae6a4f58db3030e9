"""The depth report: effective depth and the statistics of all paths."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

__all__ = ["DepthReport", "PathStep"]


@dataclass(frozen=True)
class PathStep:
    """One counted node on a path: the module it ran in, what it counted as, its operation."""

    module: str
    counted_as: Literal["weight layer", "residual addition"]
    op: str


@dataclass(frozen=True)
class DepthReport:
    """Effective depth of a network and the statistics of its paths [WU] [CH].

    A path is a distinct sequence of counted nodes (weight layers and residual additions) from a
    source to an output; M_k = sum over paths of length^k.

    Attributes:
        effective_depth: Fewest counted nodes on a path from a source to an output.
        path: A shortest path, in order.
        longest_path: Most counted nodes on a path.
        residual_additions: Counted additions that lie on some path.
        weight_layers: Weight layers that lie on some path.
        path_count: Number of paths, M_0.
        path_length_moments: M_0 to M_3, exact integers.
        layer_longest_path: Most weight layers on a path.
        layer_path_count: Number of distinct sequences of weight layers.
        layer_path_length_moments: M_0 to M_3 with weight layers alone counted.
        tied: Parameters that serve an embedding and a projection, by name.
        recurrent: Parameters applied again on one path, by name; the laws do not cover them.
        unused_parameters: Parameters of two or more dimensions that no weight layer consumed.
        sources: Names of the inputs that count as data.
        outputs: Names of the outputs that were taken.
        matrix: `matrix[input][output]`: fewest counted nodes between them, None if unconnected.
        capture: Whether the graph was traced on fake tensors or on real ones.
        capture_note: Why real tensors were needed; None for fake.
        seconds: Time that capture and analysis took.
    """

    effective_depth: int
    path: tuple[PathStep, ...]
    longest_path: int
    residual_additions: int
    weight_layers: int
    path_count: int
    path_length_moments: tuple[int, int, int, int]
    layer_longest_path: int
    layer_path_count: int
    layer_path_length_moments: tuple[int, int, int, int]
    tied: tuple[str, ...] = ()
    recurrent: tuple[str, ...] = ()
    unused_parameters: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    matrix: dict[str, dict[str, int | None]] = field(default_factory=dict)
    capture: Literal["fake", "real"] = "fake"
    capture_note: str | None = None
    seconds: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """The fields as plain data for JSON; integers stay exact."""
        return asdict(self)
