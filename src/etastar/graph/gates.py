"""Multiplicative gates: the factor of a product that only weighs the other one.

In `f(x) * sigmoid(g(x))`, `silu(g(x)) * f(x)`, squeeze and excite or a mixture of experts, the way
of a signal leads through f; the weights of g are on no way of their own. Of two factors the gate is
the one that was squashed (sigmoid, softmax) while the other was not, else the one that was bent by
an activation while the other was not. Where neither or both were, both factors are ways.
"""

from __future__ import annotations

from collections.abc import Sequence

from etastar.graph.node import Node, Operand

__all__ = ["gating_operands"]

_SQUASHED = frozenset(("sigmoid", "hardsigmoid", "_softmax", "softmax", "_safe_softmax"))
# What is done to a gate before it is applied: selection, normalization, affine maps by constants.
_KEEPS = frozenset(
    "index index_select gather topk sort mul div add sub rsub neg pow sum mean clamp where _to_copy"
    " clone contiguous _unsafe_view masked_fill scatter index_put native_dropout expand cat stack"
    " upsample_nearest2d upsample_bilinear2d".split()
)


def gating_operands(nodes: Sequence[Node]) -> dict[int, Operand]:
    """Find the products of two activations of which one factor is a gate.

    Args:
        nodes: The nodes of a graph.

    Returns:
        The operand that is the gate, by the index of the product.

    Example:
        >>> import torch
        >>> from etastar.graph.capture import capture_graph
        >>> class Gated(torch.nn.Linear):
        ...     def forward(self, x):
        ...         return x * super().forward(x).sigmoid()
        >>> graph = capture_graph(Gated(2, 2), torch.zeros(1, 2))
        >>> [graph.nodes[p].op for o in gating_operands(graph.nodes).values() for p in o.producers]
        ['aten.sigmoid.default']
    """
    squashed: list[bool] = []
    bent: list[bool] = []
    gates: dict[int, Operand] = {}
    for node in nodes:
        factors = [operand for operand in node.operands if operand.producers]
        keeps = bool(factors) and (node.kind == "view" or node.name in _KEEPS)
        for found, is_made in (
            (squashed, node.name in _SQUASHED),
            (bent, node.kind == "activation" or node.name in _SQUASHED),
        ):
            found.append(is_made or (keeps and all(found[p] for p in node.inputs)))
        if node.name == "mul" and len(factors) == 2:
            for known in (squashed, bent):
                first, second = (all(known[p] for p in factor.producers) for factor in factors)
                if first != second:
                    gates[node.index] = factors[0 if first else 1]
                    break
    return gates
