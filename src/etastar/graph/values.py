"""The values of a model's own tensors, put back where a forward pass wrote to them."""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType
from typing import Any, NamedTuple

import torch

from etastar.graph.storage import StorageLog

__all__ = ["ValuesKept"]


class _Kept(NamedTuple):
    tensor: torch.Tensor
    alias: torch.Tensor  # holds the storage, should the forward pass set `tensor.data`
    version: int | None


def _version(tensor: torch.Tensor) -> int | None:
    return None if tensor.is_inference() else tensor._version  # noqa: SLF001


_set_version: Any = torch._C._autograd._unsafe_set_version_counter  # noqa: SLF001


class ValuesKept:
    """Context in which tensors may be written to: storage, values and versions are put back.

    A copy of a storage is made only when it is about to be written to (`before_write`), so that
    nothing is copied where nothing is written.

    Args:
        tensors: The tensors to protect.

    Example:
        >>> weight = torch.ones(2)
        >>> with ValuesKept([weight]) as kept:
        ...     kept.before_write(weight[:1])
        ...     _ = weight[:1].zero_()
        >>> weight, weight._version
        (tensor([1., 1.]), 0)
    """

    def __init__(self, tensors: Iterable[torch.Tensor]) -> None:
        self._kept = [_Kept(tensor, tensor.detach(), _version(tensor)) for tensor in tensors]
        self._storages = {StorageLog.key(kept.alias): kept.alias for kept in self._kept}
        self._copies: dict[object, torch.UntypedStorage] = {}

    def before_write(self, tensor: torch.Tensor) -> None:
        """Copy the storage of `tensor`, if it is one of the protected ones."""
        key = StorageLog.key(tensor)
        if key in self._storages and key not in self._copies and tensor.device.type != "meta":
            storage: Any = self._storages[key].untyped_storage()
            self._copies[key] = storage.clone()

    def __enter__(self) -> ValuesKept:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for key, values in self._copies.items():
            self._storages[key].untyped_storage().copy_(values)
        for tensor, alias, version in self._kept:
            if StorageLog.key(tensor) != StorageLog.key(alias):
                tensor.data = alias
            if version is not None and _version(tensor) != version:
                _set_version((tensor,), (version,))
