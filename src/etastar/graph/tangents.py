"""Which tensors of a forward pass in forward mode are tangents, and not the model's own values."""

from __future__ import annotations

from typing import Any

from torch.multiprocessing.reductions import StorageWeakRef

from etastar.graph.arguments import tensors_in
from etastar.graph.regions import StorageLog

__all__ = ["TangentLog"]


class TangentLog:
    """The tangents seen so far, by their storage.

    Below autograd a pass in forward mode is two interleaved ones: every operation on values is
    followed by those that compute its tangent. Whatever reads a tangent is one of the latter.

    Example:
        >>> import torch
        >>> log, tangent = TangentLog(), torch.ones(2)
        >>> log.add(tangent)
        >>> log.is_among([torch.zeros(2), tangent[:1]]), log.is_among(torch.zeros(2))
        (True, False)
    """

    def __init__(self) -> None:
        self._storages: dict[object, Any] = {}

    def add(self, tensors: Any) -> None:
        """Remember the tensors within a nested value as tangents."""
        for tensor in tensors_in(tensors):
            key = StorageLog.key(tensor)
            # the weak reference keeps the address from being used again
            self._storages[key] = (
                tensor if isinstance(key, tuple) else StorageWeakRef(tensor.untyped_storage())  # type: ignore[no-untyped-call]
            )

    def is_among(self, tensors: Any) -> bool:
        """Whether a nested value holds a tangent."""
        return any(StorageLog.key(tensor) in self._storages for tensor in tensors_in(tensors))
