"""Of which kind a network is: what of its graph and its optimizer decides how rates go over depth.

Found in the executed graph, never by the name of a class. A branch votes by where a norm reads it:
walks go backwards from an addition, or from the first layers of its branch, through what is not
counted (norms, activations, views) up to the nearest counted nodes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Final

from etastar.depth import DepthReport
from etastar.graph import Graph, Node
from etastar.graph.residual import Branch, find_residuals
from etastar.optimizers import (
    OptimizerKind,
    Update,  # needed at run time: kinds are read from JSON
)
from etastar.parameter import NetworkFeatures

_ROOTS: Final = frozenset("rsqrt sqrt std var var_mean linalg_vector_norm norm".split())
"""What a norm that is written out takes of its input: RMSNorm, weight standardization."""

_NORMS: Final = {
    "none": "unnormalized",
    "pre": "pre-norm",
    "post": "post-norm",
    "inside": "norm-in-branch",
}

_MANY: Final = 1 / 3  # of the layers: depthwise and pointwise ones alternate (a choice)


@dataclass(frozen=True)
class NetworkKind(NetworkFeatures):
    """Features of a network, and how a step of its optimizer depends on the gradient.

    Example:
        >>> kind = NetworkKind("residual", "pre", False, False, 2, "adam")
        >>> print(kind)
        pre-norm residual network
        >>> print(NetworkKind("residual", "inside", True, True, 1, "sgd"))
        norm-in-branch residual network (BatchNorm, scaled one-layer branches)
        >>> print(NetworkKind("chain", "none", False, False, 0, "sgd", convolutional=True))
        unnormalized convolutional chain
    """

    update: Update

    def __str__(self) -> str:
        branches = ["scaled"] * self.scaled_branches + ["one-layer"] * (self.branch_layers == 1)
        details = ["BatchNorm"] * self.batch_norm
        details += [" ".join([*branches, "branches"])] if branches else []
        if self.structure == "residual":
            norm, form = _NORMS[self.norm], "residual network"
        else:
            norm = "unnormalized" if self.norm == "none" else "normalized"
            form = "chain" if self.structure == "chain" else "network of other form"
        name = f"{norm} {'convolutional ' if self.convolutional else ''}{form}"
        return f"{name} ({', '.join(details)})" if details else name


def network_kind(features: NetworkFeatures | None, optimizer: OptimizerKind) -> NetworkKind | None:
    """Features and optimizer together; None where the network's graph is not at hand."""
    return None if features is None else NetworkKind(**asdict(features), update=optimizer.update)


def network_features(graph: Graph, report: DepthReport) -> NetworkFeatures:
    """Structure, norms and branches of a network, from its executed graph and its depth report.

    Of residual networks those of most branches, but the first of each stream, for which an
    embedding may be normalized; the same at every number of blocks above one.
    """
    walk = _Backwards(graph)
    branches = [b for b in find_residuals(graph.contraction) if b.stream is not None and b.length]
    if not branches:
        norms = walk.norms_between_layers()
        layers = graph.weight_layers()
        return NetworkFeatures(
            structure="chain" if report.path_count == 1 else "other",
            norm="inside" if norms else "none",
            batch_norm=_has_batch_norm(norms),
            scaled_branches=False,
            branch_layers=0,
            convolutional=not norms and sum(map(_convolves, layers)) >= _MANY * len(layers),
        )
    later = [branch for branch in branches if branch.index > 0] or branches
    votes = Counter(_branch_features(walk, branch) for branch in later)
    return max(votes, key=lambda features: votes[features])


def _branch_features(walk: _Backwards, branch: Branch) -> NetworkFeatures:
    norms = {
        "post": walk.norms_of_skip(branch),
        "pre": walk.norms_before(branch),
        "inside": walk.norms_within(branch),
    }
    place = next((name for name, found in norms.items() if found), "none")
    return NetworkFeatures(
        structure="residual",
        norm=place,  # type: ignore[arg-type]  # a key of `norms`, or "none"
        batch_norm=_has_batch_norm(norms.get(place, [])),
        scaled_branches=walk.is_scaled(branch),
        branch_layers=min(branch.length, 2),
        convolutional=place == "none" and any(_convolves(walk.nodes[n]) for n in branch.positions),
    )


class _Backwards:
    """What lies between a node and the nearest counted nodes before it."""

    def __init__(self, graph: Graph) -> None:
        self.nodes = graph.nodes
        self.counted = {node.node: node for node in graph.contraction.counted}
        self._known: dict[int, tuple[frozenset[int], frozenset[int]]] = {}

    def region(self, index: int) -> tuple[frozenset[int], frozenset[int]]:
        """Nodes before one that are not counted, and the counted ones (or inputs) behind them."""
        if index not in self._known:
            between, ends = set[int](), set[int]()
            pending = list(self.nodes[index].inputs)
            while pending:
                node = pending.pop()
                if node in self.counted or self.nodes[node].kind == "input":
                    ends.add(node)
                elif node not in between:
                    between.add(node)
                    pending += self.nodes[node].inputs
            self._known[index] = frozenset(between), frozenset(ends)
        return self._known[index]

    def norms(self, indices: Iterable[int]) -> list[Node]:
        """Those of the nodes that normalize."""
        return [node for node in map(self.nodes.__getitem__, indices) if _normalizes(node)]

    def norms_between_layers(self) -> list[Node]:
        """Norms that read a layer's output and that a layer reads."""
        inner = [
            n for n, c in self.counted.items() if any(p in self.counted for p in c.predecessors)
        ]
        return self.norms({node for n in inner for node in self.region(n)[0]})

    def norms_of_skip(self, branch: Branch) -> list[Node]:
        """Norms of the stream itself: the addition reads a norm of an earlier addition."""
        between, _ = self.region(branch.addition)
        return [
            node
            for node in self.norms(between)
            if (ends := self.region(node.index)[1])
            and all(
                e in self.counted
                and self.counted[e].counted_as == "residual addition"
                and e not in branch.positions
                for e in ends
            )
        ]

    def norms_before(self, branch: Branch) -> list[Node]:
        """Norms through which the first layers of a branch, and not the skip, read the stream."""
        first = [
            n
            for n in branch.positions
            if not branch.positions.keys() & self.counted[n].predecessors
        ]
        read = {node for n in first for node in self.region(n)[0]}
        return self.norms(read - self.region(branch.addition)[0])

    def norms_within(self, branch: Branch) -> list[Node]:
        """Norms of what a layer of the branch made."""
        inside = {
            node
            for n in (branch.addition, *branch.positions)
            for node in self.region(n)[0]
            if self.region(node)[1] & branch.positions.keys()
        }
        return self.norms(inside)

    def is_scaled(self, branch: Branch) -> bool:
        """Whether a parameter that is no gain of a norm multiplies the branch's output."""
        return any(
            _multiplies_by_parameter(self.nodes[node])
            and self.region(node)[1] & branch.last
            and not self.norms(self.region(node)[0])
            for node in self.region(branch.addition)[0]
        )


def _convolves(node: Node) -> bool:
    return node.weight is not None and any(size > 1 for size in node.weight.kernel_size)


def _normalizes(node: Node) -> bool:
    if node.kind == "norm" or node.name in _ROOTS:
        return True
    power = node.call.args[1:2] if node.name == "pow" and node.call is not None else ()
    return any(isinstance(p, (int, float)) and p < 0 for p in power)


def _multiplies_by_parameter(node: Node) -> bool:
    return node.name == "mul" and any(o.parameters and not o.producers for o in node.operands)


def _has_batch_norm(norms: Iterable[Node]) -> bool:
    return any("batch_norm" in node.op for node in norms)
