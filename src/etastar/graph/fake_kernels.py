"""Shapes of operations whose own kernel for fake tensors is missing, or refuses what is legal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from etastar.graph.operations import Operation

__all__ = ["run_fake"]


def run_fake(
    func: Callable[..., Any], operation: Operation, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Run one operation on fake tensors.

    Args:
        func: The operation.
        operation: Its description.
        args: Its positional arguments, all tensors fake.
        kwargs: Its keyword arguments, likewise.

    Returns:
        Its result, fake.
    """
    kernel = _KERNELS.get(operation.name)
    return func(*args, **kwargs) if kernel is None else kernel(func, args, kwargs)


def _batch_norm(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """One value per channel: the running variance would be divided by n - 1 = 0."""
    x = args[0]
    if x.ndim > 1 and x.numel() == x.shape[1]:
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
