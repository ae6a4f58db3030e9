"""What biases, norm gains and other parameters that no weight layer contracts are set to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from etastar.graph.dag import Graph, Node, Slot

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch

    from etastar.init.records import Action
    from etastar.parameter import ParamInfo

__all__ = ["VectorRule", "vector_rule"]

_ADDITIVE = frozenset(
    ["aten.add", "aten.sub", "aten.rsub", "aten.addmm", "aten.baddbmm", "aten.addmv", "aten.addbmm"]
)


@dataclass(frozen=True)
class VectorRule:
    """What to do with one parameter that is no weight, and why."""

    action: Action
    why: str


def vector_rule(info: ParamInfo, graph: Graph, values: Mapping[str, torch.Tensor]) -> VectorRule:
    """Biases zero, norm gains one, norm shifts zero; anything else is kept.

    How the graph uses the parameter decides, not its name: a vector that is multiplied (a layer
    scale, the slope of a PReLU) is no bias.

    Args:
        info: Role of the parameter.
        graph: The captured graph.
        values: Current values by name, to tell a gain w from a gain 1 + w.

    Returns:
        The rule.

    Example:
        >>> info = ParamInfo("b", (4,), "bias", fan_in=1, fan_out=4)
        >>> vector_rule(info, Graph((), {}, {}, (), {}), {}).action
        'kept'
    """
    users = [node for node in graph.nodes if info.name in node.parameters]
    if not users:
        return VectorRule("kept", "no operation used it")
    if all(_adds(node, info.name) for node in users):
        if sum(length > 1 for length in info.shape) > 1:
            return VectorRule("kept", "an added table (positions): no variance rule covers it")
        return VectorRule("zero", "norm shift" if info.role == "norm" else "bias")
    if info.role == "norm":
        return _gain_rule(info, users, values)
    return VectorRule("kept", f"multiplied or joined by {users[0].op}: no rule covers it")


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


def _gain_rule(
    info: ParamInfo, users: list[Node], values: Mapping[str, torch.Tensor]
) -> VectorRule:
    if all(_argument_name(node, info.name) == "weight" for node in users):
        return VectorRule("one", "norm gain")
    value = values.get(info.name)
    if value is None or value.is_meta or not value.numel():
        return VectorRule("kept", "norm gain written by hand, of unknown value")
    if abs(float(value.detach().double().mean())) < 0.5:
        return VectorRule("zero", "norm gain written by hand, near 0: taken for the form 1 + w")
    return VectorRule("one", "norm gain written by hand")
