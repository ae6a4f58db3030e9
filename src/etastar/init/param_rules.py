"""What one parameter is set to: the variance of a weight, the value of any other parameter.

At the end, what the values that a model was given say: drawn by default, or set on purpose.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence

import torch

from etastar.graph.dag import Graph
from etastar.graph.node import Node, Operand, reached
from etastar.graph.operations import affine_form, argument_of
from etastar.init.edge_of_chaos import CriticalPoint
from etastar.init.gains import InputActivation
from etastar.init.schemes import Action, InitSettings, ParamInit
from etastar.parameter import ParamInfo

_NEAR_ZERO = 0.5
_ADDITIVE = frozenset(["add", "sub", "rsub", "addmm", "baddbmm", "addmv", "addbmm"])
_NORMALIZING = frozenset(["rsqrt", "var", "var_mean", "linalg_vector_norm", "std"])
_REPEATED = 1 / 8  # share of one value; of drawn numbers in bfloat16 at most about 1/100 are equal
_STANDARD_ERRORS = 5.0  # of the mean; one draw in two million leaves them
_FEWEST = 8  # values that have a mean and a spread worth the name
_MOST_ZERO = 2 / 3  # share of the weights above which a model counts as never initialized
_SMALLEST_DRAWN, _LARGEST_DRAWN = 1e-20, 1e6
_ROUNDING = 1e-2  # of a bound, in bfloat16


def weight_rule(
    info: ParamInfo,
    activation: InputActivation,
    settings: InitSettings,
    *,
    point: CriticalPoint | None = None,
) -> ParamInit:
    """The variance that one weight is drawn with, in its parts.

    Var[W] = g / fan_in, times 1 / K on a residual branch ([AM], `residual_share`) and 1 / d where d
    branches are summed [CH]; output weights 1 / fan_in^2 or 0 as asked [TP5].

    Args:
        info: Role, fans and branch of the weight.
        activation: What its input came through.
        settings: The options.
        point: The critical point of that activation; None where the scheme asks for none, or it has
            none.

    Example:
        >>> from etastar.init.gains import InputActivation
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
    gain, gain_why = _gain(activation, settings, point)
    factor, factor_why = _branch_factor(info, settings)
    why = ", ".join(filter(None, (gain_why, factor_why, *activation.notes)))
    return _drawn(info, gain, factor, why)


def _drawn(info: ParamInfo, gain: float, factor: float, why: str) -> ParamInit:
    variance = gain * factor / info.fan_in
    action: Action = "normal" if variance > 0 else "zero"
    std = math.sqrt(variance) if variance > 0 else None
    return ParamInit(info.name, action, std, gain, factor, info.fan_in, why)


def residual_share(info: ParamInfo) -> float:
    """Factor of the residual rule on the variance of a weight on a branch.

    1/K; of the last weight min(1, 1 / (K s^2)), s the factor that the network itself puts on the
    branch (1/L, 1/sqrt(L)): what the branch adds has 1/K once, and a network that makes it smaller
    stays as its authors made it. Times b^2, b the part of s before the layer, which the gain of
    what the layer reads takes back.

    Example:
        >>> from etastar.parameter import ParamInfo
        >>> half = ParamInfo("w", (4, 4), "hidden", 4, 4, stream=0, stream_additions=16,
        ...                  branch=0, branch_last=True, own_multiplier=0.5)
        >>> residual_share(half)
        0.25
    """
    k = max(1, info.stream_additions)
    if not info.branch_last:
        return 1 / k
    return info.own_before**2 * min(1.0, 1 / (k * info.own_multiplier**2))


def _branch_factor(info: ParamInfo, settings: InitSettings) -> tuple[float, str]:
    """1 / K of the residual rule times 1 / d of the in-degree rule, and the reasons.

    The in-degree rule divides the variance of each *branch* by d, so its factor sits on the last
    weight of the branch, however many weights the branch has.
    """
    factor, reasons = 1.0, []
    k, d = info.stream_additions, info.branch_fan
    scaled = settings.residual == "all" or (settings.residual == "last" and info.branch_last)
    if info.in_branch and scaled and k > 1:
        factor = residual_share(info)
        reasons = [f"residual 1/{k}"]
        if info.branch_last and info.own_multiplier != 1:
            reasons = [f"residual 1/{k} with the network's own factor {info.own_multiplier:.3g}"]
    if settings.scheme == "in-degree" and info.branch_last and d > 1:
        factor, reasons = factor / d, [*reasons, f"in-degree 1/{d}"]
    return factor, ", ".join(reasons)


def _gain(
    activation: InputActivation, settings: InitSettings, point: CriticalPoint | None
) -> tuple[float, str]:
    if activation.problem is not None:
        return 1.0, f"gain 1: activation not measured, {activation.problem}"
    if settings.scheme != "edge-of-chaos":
        return activation.gain, f"gain {activation.gain:.6g}"
    if activation.phi is None:
        why = "no critical point of a function of several tensors or with slopes by channel"
        return activation.gain, f"gain {activation.gain:.6g}: {why}"
    if point is None:
        return 1.0, "no activation: sigma_w^2 1"
    why = f"critical sigma_w^2 {point.weight_variance:.6g} at q {point.fixed_point:.4g}"
    return point.weight_variance, why


def vector_rule(
    info: ParamInfo, users: Sequence[Node], graph: Graph, *, value: torch.Tensor | None = None
) -> tuple[Action, str]:
    """Biases zero, norm gains one, norm shifts zero; what was set on purpose stays. And the rule.

    How the graph uses the parameter decides, not its name: a vector that is multiplied (a layer
    scale, the slope of a PReLU) is no bias and is kept. A gain that is read as 1 + w becomes zero.

    Args:
        info: Role of the parameter.
        users: Nodes that consume it.
        graph: The captured graph.
        value: Its current value, for what was set on purpose.
    """
    if not users:
        return "kept", "no operation used it"
    held = [o for node in users for o in node.operands if info.name in o.parameters]
    forms = {affine_form(operand.steps) for operand in held}
    form = forms.pop() if len(forms) == 1 else None
    if _is_table(info) and all(_adds(node, info.name) for node in users):
        return "kept", "a table added inside the network: no variance rule"
    is_alone = form is not None or all(_joins_vectors(o, graph) for o in held)
    if is_alone and all(_adds(node, info.name) for node in users):
        return _bias(users, graph, value)
    is_gain = all(
        _argument_name(node, info.name) == "weight" and node.kind == "norm" for node in users
    )
    if is_gain or all(_scales_normalized(node, graph) for node in users):
        return _gain_of_norm(form, value, by_hand=not is_gain)
    if info.role == "norm" and _is_near_zero(value):
        return "kept", "a gain near 0 (LayerScale, ReZero): its branch is small on purpose"
    return "kept", f"used by {users[0].op}: no rule covers it"


def _joins_vectors(operand: Operand, graph: Graph) -> bool:
    """Whether it was made of several vectors alone, as a bias for several layers at once is."""
    shapes = [graph.parameter_records[name].shape for name in operand.parameters]
    return len(shapes) > 1 and all(len(shape) == 1 for shape in shapes)


def _bias(users: Sequence[Node], graph: Graph, value: torch.Tensor | None) -> tuple[Action, str]:
    reason = _set_on_purpose(value, _default_bound(layer_of_bias(users, graph)))
    if reason is not None:
        return "kept", f"a bias that was set on purpose: {reason}"
    return "zero", "norm shift" if any(node.kind == "norm" for node in users) else "bias"


def layer_of_bias(users: Sequence[Node], graph: Graph) -> Node | None:
    """The first layer whose output a vector is added to, with nothing in between; None for none."""
    for node in users:
        for candidate in (node, *(graph.nodes[index] for index in node.inputs)):
            if candidate.weight is not None:
                return candidate
    return None


def _gain_of_norm(
    form: tuple[float, float] | None, value: torch.Tensor | None, *, by_hand: bool
) -> tuple[Action, str]:
    """One for a gain w, zero for the form 1 + w; zeros and layer scales are there on purpose."""
    what = "norm gain written by hand" if by_hand else "norm gain"
    if form == (1.0, 1.0):
        return "zero", f"{what}, read as 1 + w"
    if form != (1.0, 0.0):
        return "kept", f"{what}, read as another function of its value than w or 1 + w"
    if by_hand and (value is None or value.is_meta or not value.numel()):
        return "kept", "norm gain written by hand, of unknown value"
    if is_zero(value):
        return "kept", f"{what} of zero: its branch adds nothing on purpose"
    if by_hand and _is_near_zero(value):
        return "kept", "a gain near 0 (LayerScale, ReZero): its branch is small on purpose"
    return "one", what


def _is_near_zero(value: torch.Tensor | None) -> bool:
    if value is None or value.is_meta or not value.numel() or value.is_complex():
        return False
    return float(value.detach().double().abs().max()) < _NEAR_ZERO


def _is_table(info: ParamInfo) -> bool:
    return sum(length > 1 for length in info.shape) > 1


def data_beside(info: ParamInfo, users: Sequence[Node], graph: Graph) -> frozenset[int]:
    """What a table is added to, or a token joined to, by node; none if it is no table or token.

    Where that is what the first layers made of the data, the parameter stands for data.
    """
    added = all(node.name == "add" for node in users) and _is_table(info)
    joined = all(node.name == "cat" for node in users)
    if not (added or joined):
        return frozenset()
    return frozenset().union(*(_makers(node, graph) for node in users))


def _makers(node: Node, graph: Graph) -> set[int]:
    """What a node's data came from, seen through views, joins and the addition of tables."""

    def is_passed(maker: Node) -> bool:
        is_table_added = maker.name == "add" and len(maker.inputs) == 1
        return is_table_added or maker.kind == "view" or maker.name in ("cat", "clone")

    makers = reached(graph.nodes, node.inputs, lambda m: m.inputs if is_passed(m) else ())
    return {maker.index for maker in makers if not is_passed(maker)}


def _adds(node: Node, name: str) -> bool:
    """Whether the operation adds the parameter to its result."""
    if node.weight is not None:
        return node.weight.layer_type != "recurrent" and name not in node.weight.parameters
    return node.name in _ADDITIVE or _argument_name(node, name) == "bias"


def _argument_name(node: Node, name: str) -> str:
    """Name of the schema argument in which the operation received the parameter."""
    held = (i for i, operand in enumerate(node.operands) if name in operand.parameters)
    return next(filter(None, (argument_of(node, i) for i in held)), "")


def _scales_normalized(node: Node, graph: Graph) -> bool:
    """Whether the operation multiplies what was just normalized, by a norm or by hand."""
    kinds = ("view", "activation", "other")
    makers = reached(graph.nodes, node.inputs, lambda m: m.inputs if m.kind in kinds else ())
    return node.name == "mul" and any(m.kind == "norm" or m.name in _NORMALIZING for m in makers)


def is_zero(value: torch.Tensor | None) -> bool:
    """Whether a value is known, holds memory, and is zero throughout."""
    return value is not None and not value.is_meta and not bool(value.detach().any())


def _default_bound(layer: Node | None) -> float | None:
    """PyTorch draws a bias from U(-b, b), b = 1 / sqrt(fan_in) with the fan-in as it counts it."""
    if layer is None or layer.weight is None:
        return None
    fan_in = layer.weight.fan_in
    if layer.weight.layer_type == "convolution":
        fan_in = math.prod(layer.operands[layer.weight.operand].shape[1:])
    return 1 / math.sqrt(max(1, fan_in))


def _set_on_purpose(value: torch.Tensor | None, bound: float | None) -> str | None:
    """Why a bias is taken for one that was set, not drawn around zero; None if it is not.

    Set are a prior (a constant), the bias of a forget gate (one in a quarter of it), a time
    constant (all of one sign): one value over and over, or values beyond `bound`, PyTorch's default
    range, whose mean is not zero. A bias that was trained may look the same.
    """
    if value is None or value.is_meta or is_zero(value) or not value.numel():
        return None
    flat = value.detach().to("cpu", torch.float64).flatten()
    value_of_most, count = Counter(flat[flat != 0].tolist()).most_common(1)[0]
    if count >= max(2.0, _REPEATED * len(flat)):
        return f"it holds {value_of_most:.6g} over and over"
    largest = float(flat.abs().max())
    if bound is not None and largest <= bound * (1 + _ROUNDING):
        return None
    if len(flat) < _FEWEST:
        return f"it holds {float(flat[flat.abs().argmax()]):.6g}, which no default draws"
    mean, error = float(flat.mean()), float(flat.std()) / math.sqrt(len(flat))
    if abs(mean) > _STANDARD_ERRORS * error:
        return f"its values are around {mean:.3g}, not around 0"
    return None


def never_written(values: Mapping[str, torch.Tensor], weights: Collection[str]) -> bool:
    """Whether a model's memory was never written to, as `model.to_empty` leaves it.

    Such memory is zero for the most part, or holds numbers that no initialization draws: nothing in
    it can have been set on purpose.

    Args:
        values: Values of the parameters by name.
        weights: Names of those that are weights.
    """
    known = {n: v.detach() for n, v in values.items() if not v.is_meta and not v.is_complex()}
    zero = sum(is_zero(known[name]) for name in weights if name in known)
    if zero > _MOST_ZERO * sum(name in known for name in weights):
        return True
    return any(_is_strange(value) for value in known.values() if value.is_floating_point())


def _is_strange(value: torch.Tensor) -> bool:
    sizes = value.abs().to(torch.float32)
    drawn = (sizes == 0) | ((sizes > _SMALLEST_DRAWN) & (sizes < _LARGEST_DRAWN))
    return not bool(drawn.all())
