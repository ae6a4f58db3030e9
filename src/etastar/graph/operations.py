"""What each ATen operation is: tensor product, lookup, sum, norm, activation, mixing, cut.

Names are those of the operation packet, without overload; a trailing underscore (in place) is
dropped. An operation that no table lists is pointwise or of kind "other". Behind the tables stands
what is run on fake tensors where the operation's own kernel for them is missing, or refuses what is
legal. What is computed without data (`1 + w`, `exp(w)`, a cast, a slice) makes no node: at the end,
the calls that are kept with the tensor instead, so that they can be run again on other values.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import torch

from etastar.graph.node import Call, Node, Slot


@dataclass(frozen=True)
class TensorProduct:
    """Where an operation has the two tensors that it contracts, or looks up: among its arguments.

    Attributes:
        left: Position of the first factor; of the table.
        right: Position of the second factor; of the indices.
        family: "matmul", "linear", "convolution", "bilinear" or "lookup".
    """

    left: int
    right: int
    family: str = "matmul"


_FUSED_PRODUCTS = "addmm baddbmm addbmm addmv _addmm_activation _sparse_addmm sspaddmm"

_PRODUCTS = {
    **dict.fromkeys(
        "mm bmm mv dot vdot matmul hspmm _grouped_mm _scaled_mm _scaled_grouped_mm _int_mm".split(),
        TensorProduct(0, 1),
    ),
    **dict.fromkeys(f"{_FUSED_PRODUCTS} sparse_sampled_addmm".split(), TensorProduct(1, 2)),
    **dict.fromkeys("linear mkldnn_linear".split(), TensorProduct(0, 1, family="linear")),
    **dict.fromkeys(
        "convolution _convolution convolution_overrideable mkldnn_convolution conv1d conv2d conv3d"
        " cudnn_convolution miopen_convolution deform_conv2d".split(),
        TensorProduct(0, 1, family="convolution"),
    ),
    "_trilinear": TensorProduct(0, 1, family="bilinear"),
    **dict.fromkeys(
        "embedding _embedding_bag _embedding_bag_forward_only index _unsafe_index take".split(),
        TensorProduct(0, 1, family="lookup"),
    ),
    **dict.fromkeys("index_select gather".split(), TensorProduct(0, 2, family="lookup")),
}

# Operands that are summed, by position among the tensor operands.
_SUMS = {
    "add": (0, 1),
    "sub": (0, 1),
    "rsub": (0, 1),
    "lerp": (0, 1),
    "index_add": (0, 2),
    "scatter_add": (0, 2),
}

# Sums fused with something else, whose first argument is what is added.
_FUSED_SUMS = frozenset(f"{_FUSED_PRODUCTS} addcmul addcdiv".split())

COPIES = frozenset(
    "_to_copy clone contiguous _unsafe_view copy lift_fresh detach alias expand".split()
)
"""The same values in another place or precision."""
REARRANGED = frozenset(
    "constant_pad_nd reflection_pad1d reflection_pad2d reflection_pad3d replication_pad1d"
    " replication_pad2d replication_pad3d upsample_nearest1d upsample_nearest2d upsample_nearest3d"
    " _upsample_nearest_exact1d _upsample_nearest_exact2d _upsample_nearest_exact3d pixel_shuffle"
    " pixel_unshuffle channel_shuffle native_channel_shuffle roll flip rot90 index index_select"
    " _unsafe_index gather take repeat tile sort im2col masked_select".split()
)
"""The same values at other positions, some of them repeated."""
JOINS = frozenset(("cat", "stack"))
"""Several tensors beside each other in one, which hold parts of it."""
_POOLS = (
    "avg_pool1d avg_pool2d avg_pool3d max_pool1d max_pool2d max_pool3d max_pool2d_with_indices"
    " max_pool3d_with_indices adaptive_avg_pool1d _adaptive_avg_pool2d _adaptive_avg_pool3d"
    " adaptive_max_pool2d adaptive_max_pool3d fractional_max_pool2d fractional_max_pool3d"
    " mkldnn_max_pool2d"
)
POOLED = frozenset(
    f"{_POOLS} mean amax upsample_linear1d upsample_bilinear2d _upsample_bilinear2d_aa"
    " upsample_bicubic2d _upsample_bicubic2d_aa upsample_trilinear3d".split()
)
"""Neighbours joined to one value: the moments of that depend on how alike they are."""

Group = Literal["norm", "activation", "attention", "mixing", "cut"]

_NAMES_OF_GROUPS: dict[Group, str] = {
    "norm": (
        "native_layer_norm native_batch_norm _native_batch_norm_legit batch_norm cudnn_batch_norm"
        " _native_batch_norm_legit_no_training _batch_norm_with_update _batch_norm_no_update"
        " miopen_batch_norm native_group_norm _fused_rms_norm rms_norm layer_norm group_norm"
    ),
    "activation": (
        "relu gelu silu tanh sigmoid elu leaky_relu hardswish hardtanh hardsigmoid softplus mish"
        " celu selu prelu _prelu_kernel rrelu_with_noise log_sigmoid_forward glu threshold"
        " softshrink hardshrink relu6 clamp_min erf sin cos exp"
    ),
    "attention": (
        "_scaled_dot_product_flash_attention_for_cpu _scaled_dot_product_flash_attention"
        " _scaled_dot_product_efficient_attention _scaled_dot_product_cudnn_attention"
        " _scaled_dot_product_attention_math _scaled_dot_product_fused_attention_overrideable"
        " scaled_dot_product_attention _flash_attention_forward _efficient_attention_forward"
        " flex_attention"
    ),
    # exchange between positions without a weight: pooling, Fourier transforms, sums over neighbours
    "mixing": f"{_POOLS} _fft_r2c _fft_c2c _fft_c2r index_add scatter_add scatter_reduce",
    # their result has the shape of the argument, but none of its values
    "cut": (
        "new_zeros new_ones new_empty new_full new_empty_strided zeros_like ones_like empty_like"
        " full_like rand_like randn_like randint_like bernoulli sym_size sym_numel sym_stride"
        " sym_storage_offset _local_scalar_dense is_same_size _shape_as_tensor device"
    ),
}
_GROUPS = {name: group for group, names in _NAMES_OF_GROUPS.items() for name in names.split()}

# They overwrite their argument without reading it.
_OVERWRITES = frozenset(
    "copy zero fill normal uniform bernoulli random exponential set geometric cauchy log_normal"
    " resize".split()
)


# Arguments that an operation writes to although its schema does not say so.
_HIDDEN_WRITES = dict.fromkeys(
    "native_batch_norm cudnn_batch_norm miopen_batch_norm".split(), ("running_mean", "running_var")
)


@dataclass(frozen=True)
class Operation:
    """What an operation does to the graph, read once per operation.

    Attributes:
        name: Packet name without a trailing underscore.
        full_name: Namespace, name and overload, "aten.mm.default".
        argument_names: Names of its arguments, in order.
        mutated: Names of the arguments it writes to.
        written: The same, with those that its schema hides.
        reads_mutated: Whether it reads them first.
        product: How it contracts two tensors or looks rows up, or None.
        addends: Operand positions that it sums; () if it is no sum.
        has_fused_addend: Whether its first argument is added to what it computes from the others.
        group: What else it is: "attention" and "mixing" exchange information between positions.
    """

    name: str
    full_name: str
    argument_names: tuple[str, ...] = ()
    mutated: tuple[str, ...] = ()
    written: tuple[str, ...] = ()
    reads_mutated: bool = True
    product: TensorProduct | None = None
    addends: tuple[int, ...] = ()
    has_fused_addend: bool = False
    group: Group | None = None

    def argument(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The value of an argument; None where it was left out, or the operation has none such."""
        if name not in self.argument_names:
            return None
        position = self.argument_names.index(name)
        return args[position] if position < len(args) else kwargs.get(name)


@cache
def operation_of(func: Any) -> Operation:
    """The description of an `OpOverload` or of a higher-order operator; always the same object.

    Example:
        >>> operation_of(torch.ops.aten.addmm.default).product
        TensorProduct(left=1, right=2, family='matmul')
        >>> operation_of(torch.ops.aten.add_.Tensor).mutated
        ('self',)
    """
    schema = getattr(func, "_schema", None)
    if schema is None:
        name = func.name() if callable(func.name) else str(func)
        return Operation(name, str(func), group=_GROUPS.get(name))
    namespace, _, name = schema.name.partition("::")
    overload = schema.overload_name or "default"
    arguments = schema.arguments
    mutated = tuple(a.name for a in arguments if a.alias_info and a.alias_info.is_write)
    plain = name.rstrip("_") if name.endswith("_") and not name.endswith("__") else name
    is_out = any(a.is_out for a in arguments)
    return Operation(
        name=plain,
        full_name=f"{namespace}.{name}.{overload}",
        argument_names=tuple(a.name for a in arguments),
        mutated=mutated,
        written=mutated + _HIDDEN_WRITES.get(plain, ()),
        reads_mutated=not is_out and not (mutated and plain in _OVERWRITES),
        product=_PRODUCTS.get(plain),
        addends=_SUMS.get(plain, ()),
        has_fused_addend=plain in _FUSED_SUMS,
        group=_GROUPS.get(plain),
    )


def argument_of(node: Node, operand: int) -> str:
    """Name of the argument that an operand was passed as; "" where it is not known."""
    if node.call is None:
        return ""
    names = operation_of(node.call.func).argument_names
    positional = zip(names, node.call.args, strict=False)
    passed: tuple[tuple[str, Any], ...] = (*positional, *node.call.kwargs.items())
    return next((name for name, value in passed if value == Slot(operand)), "")


def run_fake(
    func: Callable[..., Any], operation: Operation, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """The result of one operation on fake tensors.

    Raises:
        TypeError: Real tensors of these dtypes would be refused, which fake ones are not.
    """
    _require_dtypes(operation, args)
    kernel = _KERNELS.get(operation.name)
    return func(*args, **kwargs) if kernel is None else kernel(func, args, kwargs)


_MIXED_DTYPES = frozenset(("_scaled_mm", "_scaled_grouped_mm", "_int_mm", "_trilinear"))


def _require_dtypes(operation: Operation, args: tuple[Any, ...]) -> None:
    """The two factors of a product have one dtype, and indices of a table are integers."""
    product, name = operation.product, operation.name
    if product is None or len(args) <= product.right:
        return
    left, right = args[product.left], args[product.right]
    if product.family == "lookup":
        if "embedding" in name and (right.is_floating_point() or right.is_complex()):
            raise TypeError(f"{name} with indices of {right.dtype}")
    elif name not in _MIXED_DTYPES and left.dtype != right.dtype:
        raise TypeError(f"{name} of {left.dtype} and {right.dtype}, which must be the same")


def _batch_norm(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """One value per channel: in training the running variance would be divided by n - 1 = 0."""
    x, is_training = args[0], args[5]
    if is_training and x.ndim > 1 and x.numel() == x.shape[1]:
        args = (*args[:3], None, None, *args[5:])
    return func(*args, **kwargs)


def _grouped_mm(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The fake kernel takes bfloat16 alone; on CPU every floating dtype runs."""
    left, right = args[:2]
    groups = args[2] if len(args) > 2 else kwargs.get("offs")
    dtype = args[4] if len(args) > 4 else kwargs.get("out_dtype")
    rows, columns = left.shape[-2], right.shape[-1]
    if left.ndim == right.ndim:
        count = (left if groups is None else groups).shape[0]
        return left.new_empty((count, rows, columns), dtype=dtype or left.dtype)
    return left.new_empty((rows, columns), dtype=dtype or left.dtype)


_KERNELS: dict[str, Callable[..., Any]] = {
    "native_batch_norm": _batch_norm,
    "_grouped_mm": _grouped_mm,
}


# Element-wise, but without PyTorch's tag for it.
_ALSO_POINTWISE = frozenset(
    ["_prelu_kernel", "prelu", "hardswish", "rrelu_with_noise", "log_sigmoid_forward", "softplus"]
)
_MOVES = COPIES | REARRANGED | {"narrow_copy", "unfold_copy", "permute_copy"}
_POINTS = (-0.75, -0.25, 0.0, 0.5, 1.5)
_ROUNDING = 1e-5  # of float32 casts on the way


def is_pointwise(func: Any, name: str) -> bool:
    """Whether an operation, of that name, works on each element by itself."""
    return torch.Tag.pointwise in getattr(func, "tags", ()) or name in _ALSO_POINTWISE


_ALONE = COPIES | {"native_dropout", "mean", "amax", "var", "linalg_vector_norm"}
_OVER_LAST = frozenset("native_layer_norm layer_norm _fused_rms_norm rms_norm".split())


def keeps_apart(operation: Operation, call: Call, node: Node, dim: int) -> bool:
    """Whether each position along `dim` of a result is made of that position of the data alone.

    Element by element, or by a norm or mean over other dimensions.
    """
    data = [operand.shape for operand in node.operands if operand.producers]
    if any(len(s) != len(node.shape) or s[dim] != node.shape[dim] for s in data):
        return False
    if operation.name in _OVER_LAST:
        over = operation.argument("normalized_shape", call.args, call.kwargs)
        return dim < len(node.shape) - len(over)
    return operation.name in _ALONE or is_pointwise(call.func, operation.name)


def derived_steps(
    operation: Operation, call: Call, before: Sequence[tuple[Call, ...] | None]
) -> tuple[Call, ...] | None:
    """The element-wise calls that led from one parameter to a result without data.

    `before` holds the same for each tensor that it read. Copies are left out; None where the result
    is no element-wise function of one parameter.
    """
    if operation.name in _MOVES or getattr(call.func, "is_view", False):
        return before[-1 if operation.name == "copy" else 0] if before else None
    if len(before) != 1 or before[0] is None or not is_pointwise(call.func, operation.name):
        return None
    return (*before[0], call)


def derive(steps: Sequence[Call], value: torch.Tensor) -> torch.Tensor:
    """The tensor that the network read, made by those calls of a value of the parameter."""
    for step in steps:
        value = step.on([value.clone()])
    return value


def affine_form(steps: Sequence[Call] | None) -> tuple[float, float] | None:
    """(a, c), a not zero, if what the network reads of the parameter w is a w + c; else None.

    Example:
        >>> affine_form((Call(torch.ops.aten.add.Tensor, (Slot(0), 1.0), {}),))
        (1.0, 1.0)
        >>> affine_form((Call(torch.ops.aten.exp.default, (Slot(0),), {}),)) is None
        True
    """
    if steps is None:
        return None
    points = torch.tensor(_POINTS, dtype=torch.float64, device="cpu")
    try:
        values = derive(steps, points).double()
    except (RuntimeError, TypeError, ValueError):
        return None
    offset = float(values[2])
    slope = float(values[3] - values[2]) / _POINTS[3]
    if slope == 0 or not torch.allclose(values, slope * points + offset, rtol=_ROUNDING):
        return None
    return slope, offset
