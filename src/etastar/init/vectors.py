"""What biases, norm gains and other parameters that no weight layer contracts are set to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from etastar.graph.dag import Graph, Node, Slot

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    import torch

    from etastar.init.records import Action
    from etastar.parameter import ParamInfo

__all__ = ["VectorRule", "vector_rule"]

_ADDITIVE = frozenset(
    ["aten.add", "aten.sub", "aten.rsub", "aten.addmm", "aten.baddbmm", "aten.addmv", "aten.addbmm"]
)

_NORMALIZING = frozenset(
    ["aten.rsqrt", "aten.var", "aten.var_mean", "aten.linalg_vector_norm", "aten.std"]
)


@dataclass(frozen=True)
class VectorRule:
    """What to do with one parameter that is no weight, and why.

    Attributes:
        action: What to do.
        why: The rule.
        beside: For a table or token beside the data, the layers whose outputs it stands beside.
    """

    action: Action
    why: str
    beside: frozenset[int] = frozenset()


def vector_rule(
    info: ParamInfo,
    users: Sequence[Node],
    graph: Graph,
    *,
    values: Mapping[str, torch.Tensor],
    entry_layers: Collection[int] = (),
) -> VectorRule:
    """Biases zero, norm gains one, norm shifts zero; positional tables and tokens as the data.

    How the graph uses the parameter decides, not its name: a vector that is multiplied (a layer
    scale, the slope of a PReLU) is no bias and is kept. A table that is added to what the first
    layers made of the data, or a token joined to it, stands for data and has its variance.

    Args:
        info: Role of the parameter.
        users: Nodes that consume it.
        graph: The captured graph.
        values: Current values by name, to tell a gain w from a gain 1 + w.
        entry_layers: Nodes of the weight layers that read data.

    Returns:
        The rule.

    Example:
        >>> from etastar.graph.dag import Graph
        >>> from etastar.parameter import ParamInfo
        >>> info = ParamInfo("b", (4,), "bias", fan_in=1, fan_out=4)
        >>> vector_rule(info, (), Graph((), {}, {}, (), {}), values={}).action
        'kept'
    """
    if not users:
        return VectorRule("kept", "no operation used it")
    beside = _data_beside(info, users, graph)
    if beside and beside <= set(entry_layers):
        return VectorRule("normal", "a table or token beside the data", beside)
    if all(_adds(node, info.name) for node in users):
        if _is_table(info):
            return VectorRule("kept", "a table added inside the network: no variance rule")
        is_shift = any(node.kind == "norm" for node in users)
        return VectorRule("zero", "norm shift" if is_shift else "bias")
    if all(_argument_name(node, info.name) == "weight" and node.kind == "norm" for node in users):
        return VectorRule("one", "norm gain")
    if all(_scales_normalized(node, graph) for node in users):
        return _written_gain(values.get(info.name))
    return VectorRule("kept", f"used by {users[0].op}: no rule covers it")


def _is_table(info: ParamInfo) -> bool:
    return sum(length > 1 for length in info.shape) > 1


def _data_beside(info: ParamInfo, users: Sequence[Node], graph: Graph) -> frozenset[int]:
    """What a table is added to, or a token joined to; nothing if it is neither."""
    added = all(_operation(node) == "aten.add" for node in users) and _is_table(info)
    joined = all(_operation(node) == "aten.cat" for node in users)
    if not (added or joined):
        return frozenset()
    return frozenset().union(*(_makers(node, graph) for node in users))


def _makers(node: Node, graph: Graph) -> set[int]:
    """What a node's data came from, seen through views, joins and the addition of tables."""
    found: set[int] = set()
    pending = list(node.inputs)
    while pending:
        maker = graph.nodes[pending.pop()]
        passes = maker.kind == "view" or _operation(maker) in ("aten.cat", "aten.clone")
        table_added = _operation(maker) == "aten.add" and len(maker.inputs) == 1
        if passes or table_added:
            pending.extend(maker.inputs)
        else:
            found.add(maker.index)
    return found


def _operation(node: Node) -> str:
    return ".".join(node.op.split(".")[:2]).rstrip("_")


def _adds(node: Node, name: str) -> bool:
    """Whether the operation adds the parameter to its result."""
    argument = _argument_name(node, name)
    if node.weight is not None:
        return node.weight.layer_type != "recurrent" and name not in node.weight.parameters
    return _operation(node) in _ADDITIVE or argument == "bias"


def _argument_name(node: Node, name: str) -> str | None:
    """Name of the schema argument in which the operation received the parameter."""
    schema = getattr(node.call.func, "_schema", None) if node.call else None
    if node.call is None or schema is None:
        return None
    positional = zip((a.name for a in schema.arguments), node.call.args, strict=False)
    for argument, value in (*positional, *node.call.kwargs.items()):
        if isinstance(value, Slot) and name in node.operands[value.operand].parameters:
            return str(argument)
    return None


def _scales_normalized(node: Node, graph: Graph) -> bool:
    """Whether the operation multiplies what was just normalized, by a norm or by hand."""
    if _operation(node) != "aten.mul":
        return False
    pending, seen = list(node.inputs), set[int]()
    while pending:
        maker = graph.nodes[pending.pop()]
        if maker.kind == "norm" or _operation(maker) in _NORMALIZING:
            return True
        if maker.index not in seen and maker.kind in ("view", "activation", "other"):
            seen.add(maker.index)
            pending.extend(maker.inputs)
    return False


def _written_gain(value: torch.Tensor | None) -> VectorRule:
    """One for a gain w; zero for the form 1 + w, told by the value that it has now."""
    if value is None or value.is_meta or not value.numel():
        return VectorRule("kept", "norm gain written by hand, of unknown value")
    if abs(float(value.detach().double().mean())) < 0.5:
        return VectorRule("zero", "norm gain written by hand, near 0: taken for the form 1 + w")
    return VectorRule("one", "norm gain written by hand")
