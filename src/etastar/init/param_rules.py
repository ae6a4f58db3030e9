"""What one parameter is set to: the variance of a weight, the value of any other parameter."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from etastar.errors import InitError
from etastar.graph.dag import Graph, Node, Slot
from etastar.init.gains import critical_point
from etastar.init.pointwise import operation_name
from etastar.init.schemes import ParamInit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from etastar.init.activation_path import InputActivation
    from etastar.init.schemes import Action, InitSettings
    from etastar.parameter import ParamInfo

__all__ = ["data_beside", "vector_rule", "weight_rule"]

_ADDITIVE = frozenset(["add", "sub", "rsub", "addmm", "baddbmm", "addmv", "addbmm"])
_NORMALIZING = frozenset(["rsqrt", "var", "var_mean", "linalg_vector_norm", "std"])


def weight_rule(info: ParamInfo, activation: InputActivation, settings: InitSettings) -> ParamInit:
    """The variance that one weight is drawn with.

    Var[W] = g / fan_in, times 1 / K on a residual branch [AM] and 1 / d where d branches are
    summed [CH]; output weights 1 / fan_in^2 or 0 as asked [TP5].

    Args:
        info: Role, fans and branch of the weight.
        activation: What its input came through.
        settings: The options.

    Returns:
        What the weight is set to, the variance in its parts.

    Raises:
        InitError: On the edge of chaos, if the activation has no stable critical point.

    Example:
        >>> from etastar.init.activation_path import InputActivation
        >>> from etastar.init.schemes import InitSettings
        >>> from etastar.parameter import ParamInfo
        >>> info = ParamInfo("w", (4, 8), "hidden", fan_in=8, fan_out=4, stream=0,
        ...                  stream_additions=5, branch=0, branch_position=0)
        >>> relu = InputActivation(0.5, None)
        >>> round(weight_rule(info, relu, InitSettings()).std ** 2, 12)
        0.05

    Reference: docs/definitions.md, section 2.
    """
    fan_in = info.fan_in
    if info.role == "output" and settings.readout != "standard":
        if settings.readout == "zero":
            return _drawn(info, 0.0, 1.0, "readout zero")
        return _drawn(info, 1.0, 1 / fan_in, "readout 1/fan_in^2 [TP5]")
    gain, gain_why = _gain(info, activation, settings)
    factor, factor_why = _branch_factor(info, settings)
    why = ", ".join(filter(None, (gain_why, factor_why, *activation.notes)))
    return _drawn(info, gain, factor, why)


def _drawn(info: ParamInfo, gain: float, factor: float, why: str) -> ParamInit:
    variance = gain * factor / info.fan_in
    action: Action = "normal" if variance > 0 else "zero"
    std = math.sqrt(variance) if variance > 0 else None
    return ParamInit(info.name, action, std, gain, factor, info.fan_in, why)


def _branch_factor(info: ParamInfo, settings: InitSettings) -> tuple[float, str]:
    """1 / K of the residual rule times 1 / d of the in-degree rule, and the reasons.

    The in-degree rule divides the variance of each *branch* by d, so its factor sits on the last
    weight of the branch, however many weights the branch has.
    """
    factor, reasons = 1.0, []
    k, d = info.stream_additions, info.branch_fan
    scaled = settings.residual == "all" or (settings.residual == "last" and info.branch_last)
    if info.in_branch and scaled and k > 1:
        factor, reasons = factor / k, [f"residual 1/{k}"]
    if settings.scheme == "in-degree" and info.branch_last and d > 1:
        factor, reasons = factor / d, [*reasons, f"in-degree 1/{d}"]
    return factor, ", ".join(reasons)


def _gain(
    info: ParamInfo, activation: InputActivation, settings: InitSettings
) -> tuple[float, str]:
    if activation.problem is not None:
        return 1.0, f"gain 1: activation not measured, {activation.problem}"
    if settings.scheme == "edge-of-chaos":
        return _critical_gain(info, activation, settings.bias_variance)
    return activation.gain, f"gain {activation.gain:.6g}"


def _critical_gain(
    info: ParamInfo, activation: InputActivation, bias_variance: float
) -> tuple[float, str]:
    phi = activation.phi
    if phi is None:
        why = "no critical point of a function of several tensors or with slopes by channel"
        return activation.gain, f"gain {activation.gain:.6g}: {why}"
    probe = torch.linspace(-2, 2, 9, dtype=torch.float64)
    if torch.equal(phi(probe), probe):
        return 1.0, "no activation: sigma_w^2 1"
    try:
        point = critical_point(phi, bias_variance=bias_variance)
    except InitError as error:
        received = f"before {info.name}, {error.received}"
        raise InitError(received, error.expected, error.action) from error
    why = f"critical sigma_w^2 {point.weight_variance:.6g} at q {point.fixed_point:.4g}"
    return point.weight_variance, why


def vector_rule(
    info: ParamInfo, users: Sequence[Node], graph: Graph, *, value: torch.Tensor | None = None
) -> tuple[Action, str]:
    """Biases zero, norm gains one, norm shifts zero.

    How the graph uses the parameter decides, not its name: a vector that is multiplied (a layer
    scale, the slope of a PReLU) is no bias and is kept.

    Args:
        info: Role of the parameter.
        users: Nodes that consume it.
        graph: The captured graph.
        value: Its current value, to tell a gain w from a gain 1 + w.

    Returns:
        What to do, and the rule.

    Example:
        >>> from etastar.graph.dag import Graph
        >>> from etastar.parameter import ParamInfo
        >>> info = ParamInfo("b", (4,), "bias", fan_in=1, fan_out=4)
        >>> vector_rule(info, (), Graph((), {}, {}, (), {}))
        ('kept', 'no operation used it')
    """
    if not users:
        return "kept", "no operation used it"
    if all(_adds(node, info.name) for node in users):
        if _is_table(info):
            return "kept", "a table added inside the network: no variance rule"
        return "zero", "norm shift" if any(node.kind == "norm" for node in users) else "bias"
    if all(_argument_name(node, info.name) == "weight" and node.kind == "norm" for node in users):
        return "one", "norm gain"
    if all(_scales_normalized(node, graph) for node in users):
        return _written_gain(value)
    return "kept", f"used by {users[0].op}: no rule covers it"


def _is_table(info: ParamInfo) -> bool:
    return sum(length > 1 for length in info.shape) > 1


def data_beside(info: ParamInfo, users: Sequence[Node], graph: Graph) -> frozenset[int]:
    """What a table is added to, or a token joined to.

    Where that is what the first layers made of the data, the parameter stands for data.

    Args:
        info: Shape of the parameter.
        users: Nodes that consume it.
        graph: The captured graph.

    Returns:
        Indices of the nodes; none if it is no such table or token.
    """
    added = all(operation_name(node) == "add" for node in users) and _is_table(info)
    joined = all(operation_name(node) == "cat" for node in users)
    if not (added or joined):
        return frozenset()
    return frozenset().union(*(_makers(node, graph) for node in users))


def _makers(node: Node, graph: Graph) -> set[int]:
    """What a node's data came from, seen through views, joins and the addition of tables."""
    found: set[int] = set()
    pending = list(node.inputs)
    while pending:
        maker = graph.nodes[pending.pop()]
        passes = maker.kind == "view" or operation_name(maker) in ("cat", "clone")
        table_added = operation_name(maker) == "add" and len(maker.inputs) == 1
        if passes or table_added:
            pending.extend(maker.inputs)
        else:
            found.add(maker.index)
    return found


def _adds(node: Node, name: str) -> bool:
    """Whether the operation adds the parameter to its result."""
    argument = _argument_name(node, name)
    if node.weight is not None:
        return node.weight.layer_type != "recurrent" and name not in node.weight.parameters
    return operation_name(node) in _ADDITIVE or argument == "bias"


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
    if operation_name(node) != "mul":
        return False
    pending, seen = list(node.inputs), set[int]()
    while pending:
        maker = graph.nodes[pending.pop()]
        if maker.kind == "norm" or operation_name(maker) in _NORMALIZING:
            return True
        if maker.index not in seen and maker.kind in ("view", "activation", "other"):
            seen.add(maker.index)
            pending.extend(maker.inputs)
    return False


def _written_gain(value: torch.Tensor | None) -> tuple[Action, str]:
    """One for a gain w; zero for the form 1 + w, which its present value shows."""
    if value is None or value.is_meta or not value.numel():
        return "kept", "norm gain written by hand, of unknown value"
    if abs(float(value.detach().double().mean())) < 0.5:
        return "zero", "norm gain written by hand, near 0: taken for the form 1 + w"
    return "one", "norm gain written by hand"
