"""How the value of one parameter becomes the tensor that an operation reads.

What is computed without data (`1 + w`, `exp(w)`, a cast, a slice) makes no node; the calls are kept
with the tensor instead, so that they can be run again on other values.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from etastar.graph.node import Call, Slot

if TYPE_CHECKING:
    from etastar.graph.operations import Operation

__all__ = ["affine_form", "derive", "derived_steps", "is_pointwise"]

# Element-wise, but without PyTorch's tag for it.
_ALSO_POINTWISE = frozenset(
    ["_prelu_kernel", "prelu", "hardswish", "rrelu_with_noise", "log_sigmoid_forward", "softplus"]
)
# The same values in another place or precision.
_COPIES = frozenset(
    "_to_copy clone contiguous _unsafe_view copy lift_fresh detach alias expand repeat flip roll"
    " index index_select narrow_copy constant_pad_nd unfold_copy permute_copy".split()
)
_POINTS = (-0.75, -0.25, 0.0, 0.5, 1.5)
_ROUNDING = 1e-5  # of float32 casts on the way


def is_pointwise(func: Any, name: str) -> bool:
    """Whether an operation works on each element by itself.

    Args:
        func: The operation.
        name: Its name without namespace, overload and underscore.

    Returns:
        True for element-wise operations.

    Example:
        >>> is_pointwise(torch.ops.aten.exp.default, "exp")
        True
        >>> is_pointwise(torch.ops.aten.sum.default, "sum")
        False
    """
    return torch.Tag.pointwise in getattr(func, "tags", ()) or name in _ALSO_POINTWISE


def derived_steps(
    operation: Operation, call: Call, before: Sequence[tuple[Call, ...] | None]
) -> tuple[Call, ...] | None:
    """The element-wise calls that led from one parameter to a result without data.

    Args:
        operation: What was executed.
        call: The call.
        before: For each tensor that it read, the calls that led to that from its one parameter;
            None where there is no such parameter.

    Returns:
        The calls with this one, copies left out; None where the result is no element-wise function
        of one parameter.
    """
    if operation.name in _COPIES or getattr(call.func, "is_view", False):
        return before[-1 if operation.name == "copy" else 0] if before else None
    if len(before) != 1 or before[0] is None or not is_pointwise(call.func, operation.name):
        return None
    return (*before[0], call)


def derive(steps: Sequence[Call], value: torch.Tensor) -> torch.Tensor:
    """Run the calls again on a value.

    Args:
        steps: As `derived_steps` gives them.
        value: Value of the parameter.

    Returns:
        The tensor that the network read; `value` itself where there are no steps.

    Raises:
        RuntimeError: A call failed on this value.

    Example:
        >>> steps = (Call(torch.ops.aten.add.Tensor, (Slot(0), 1.0), {}),)
        >>> derive(steps, torch.tensor([0.5])).item()
        1.5
    """
    for step in steps:
        copy = value.clone()
        args = tuple(copy if isinstance(a, Slot) else a for a in step.args)
        kwargs = {k: copy if isinstance(a, Slot) else a for k, a in step.kwargs.items()}
        value = step.func(*args, **kwargs)
    return value


def affine_form(steps: Sequence[Call] | None) -> tuple[float, float] | None:
    """(a, c), if what the network reads of the parameter w is a w + c.

    Args:
        steps: As `derived_steps` gives them.

    Returns:
        The two numbers, a not zero; None for any other function.

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
