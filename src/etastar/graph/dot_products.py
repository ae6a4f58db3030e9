"""Vectors that are contracted with features: `h @ v`, `(h * v).sum(-1)`, a layer of one output.

They are no weight layers, whose parameter has two dimensions or more, and count nothing; but they
read features as those do, so that a width rule and an initialization are those of a weight.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from etastar.graph.node import Node, Operand, Slot
from etastar.graph.operations import operation_of


def dot_products(
    nodes: Sequence[Node],
    consumers: Mapping[int, Sequence[int]],
    before: Sequence[frozenset[int]],
) -> dict[int, int]:
    """Nodes that contract a vector with the features of activations, and of how many.

    Args:
        nodes: The nodes of a graph.
        consumers: Nodes that read each node.
        before: Nearest counted nodes (or inputs) before each node. They make as many features: a
            vector that weighs layers, heads or positions is none of these.
    """
    found = {}
    for node in nodes:
        is_product = node.weight is None and node.call is not None
        for position, operand in enumerate(node.operands if is_product else ()):
            if operand.parameters and not operand.producers and not operand.weights:
                size = _contracted(nodes, consumers, node, position, operand)
                if size > 1 and all(_features(nodes[i]) == size for i in before[node.index]):
                    found[node.index] = size
    return found


def _contracted(
    nodes: Sequence[Node],
    consumers: Mapping[int, Sequence[int]],
    node: Node,
    position: int,
    operand: Operand,
) -> int:
    """How many products of the operand are summed into one number; 0 of an elementwise product."""
    assert node.call is not None
    product = operation_of(node.call.func).product
    if product is not None:
        factors = node.call.args[product.left : product.right + 1]
        is_vector = math.prod(operand.shape) == max(operand.shape, default=0)
        return max(operand.shape) if is_vector and Slot(position) in factors else 0
    readers = [nodes[index] for index in consumers[node.index]]
    if node.name != "mul" or [reader.name for reader in readers] != ["sum"]:
        return 0
    (total,) = readers
    dims = total.call.args[1] if total.call is not None and len(total.call.args) > 1 else None
    is_over_last = not dims or {-1, len(node.shape) - 1}.intersection(dims)
    is_one_each = operand.shape[-1:] == node.shape[-1:]
    return node.shape[-1] if is_over_last and is_one_each else 0


def _features(node: Node) -> int:
    is_map = node.weight is not None and node.weight.layer_type == "convolution"
    return node.shape[1 if is_map else -1] if node.shape else 0
