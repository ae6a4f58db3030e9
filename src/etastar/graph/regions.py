"""What storages hold: who wrote it, resolved by region, and the values to put back.

Views share a storage and in-place operations change part of it, so that a tensor's last
producer is not a property of the tensor. Every write is logged with its strided region; a read
collects the latest writes that overlap its own region.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import reduce
from math import gcd
from operator import or_
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.lib.stride_tricks import as_strided
from torch.multiprocessing.reductions import StorageWeakRef

from etastar.graph.node import NOTHING, Operand, Region

_WHOLE = Region(0, (1 << 62,), (1,), 1)  # of any storage
_MOST_CELLS = 1 << 26  # of a grid; beyond, every write that overlaps counts as one that is read


class _Missing:
    """The bytes of a region that no later write has covered, on a grid over all writes.

    Args:
        region: What is read.
        written: The regions that may cover it.
    """

    def __init__(self, region: Region, written: Iterable[Region]) -> None:
        every = [region, *(one for one in written if one is not _WHOLE)]
        self._region = region
        self._unit = gcd(*(n for one in every for n in (one.offset, one.itemsize, *one.strides)))
        bounds = [one.bounds() for one in every]
        self._start = min(start for start, _ in bounds)
        cells = (max(end for _, end in bounds) - self._start) // self._unit
        self._cells = np.zeros(cells, dtype=bool) if cells <= _MOST_CELLS else None
        if self._cells is not None:
            self._view(region)[...] = True

    def take(self, region: Region) -> bool:
        """Cover a region more; whether it covers a byte that was missing, or may do so."""
        if self._cells is None:
            return region.overlaps(self._region)
        cells = self._cells if region is _WHOLE else self._view(region)
        found = bool(cells.any())
        cells[...] = False
        return found

    def is_empty(self) -> bool:
        """Whether nothing is missing; False may also mean unknown."""
        return self._cells is not None and not self._cells.any()

    def _view(self, region: Region) -> np.ndarray:
        assert self._cells is not None
        unit = self._unit
        start = (region.offset - self._start) // unit
        spread = [(n, s // unit) for n, s in zip(region.shape, region.strides, strict=True) if s]
        shape, strides = zip(*spread, (region.itemsize // unit, 1), strict=True)
        return as_strided(self._cells[start:], shape, strides)


class _Entry(NamedTuple):
    region: Region
    value: Operand
    is_view: bool


@dataclass
class _Log:
    storage: StorageWeakRef  # keeps the address from being used again
    entries: list[_Entry] = field(default_factory=list)

    def read(self, region: Region) -> Operand:
        """The values of the latest writes, newest first, until they cover the region."""
        found: list[Operand] = []
        missing: _Missing | None = None
        for entry in reversed(self.entries):
            is_same = entry.region == region
            if entry.is_view:
                if not found and is_same:
                    return entry.value
            elif is_same or entry.region.holds(region):
                found.append(entry.value)
                break
            else:
                missing = missing or _Missing(region, (e.region for e in self.entries))
                if missing.take(entry.region):
                    found.append(entry.value)
                if missing.is_empty():
                    break
        return reduce(or_, reversed(found), NOTHING)


class StorageLog:
    """Log of all writes of one forward pass.

    Example:
        >>> log, x = StorageLog(), torch.zeros(2, 3)
        >>> log.write(x, Operand((0,)))
        >>> log.write(x[:, 1], Operand((1,)))
        >>> [log.read(part).producers for part in (x[:, 0], x[:, 1], x)]
        [(0,), (1,), (0, 1)]
    """

    def __init__(self) -> None:
        self._logs: dict[object, _Log] = {}
        self._without_storage: dict[int, tuple[torch.Tensor, Operand]] = {}

    @staticmethod
    def key(tensor: torch.Tensor) -> object:
        """Identity of the storage of `tensor`; of the tensor itself where it has none."""
        try:
            return tensor.untyped_storage()._cdata  # noqa: SLF001
        except (NotImplementedError, RuntimeError):
            return ("tensor", id(tensor))

    def write(self, tensor: torch.Tensor, value: Operand, *, fresh: bool = False) -> None:
        """Log that `tensor` holds `value` from now on; `fresh`: nothing else has its storage."""
        self._append(tensor, value, is_view=False, fresh=fresh)

    def alias(self, tensor: torch.Tensor, value: Operand) -> None:
        """Log that `tensor` is a view named `value`, until its region is written again."""
        self._append(tensor, value, is_view=True)

    def read(self, tensor: torch.Tensor) -> Operand:
        """What `tensor` holds now."""
        key = self.key(tensor)
        if isinstance(key, tuple):
            return self._without_storage.get(id(tensor), (tensor, NOTHING))[1]
        log = self._logs.get(key)
        if log is None:
            return NOTHING
        first = log.entries[0]
        if first.region is _WHOLE and len(log.entries) == 1:
            return _sliced(first.value, tensor)  # by far the most frequent case
        return _sliced(log.read(Region.of(tensor)), tensor)

    def _append(
        self, tensor: torch.Tensor, value: Operand, *, is_view: bool, fresh: bool = False
    ) -> None:
        key = self.key(tensor)
        if isinstance(key, tuple):
            self._without_storage[id(tensor)] = (tensor, value)
            return
        log = self._logs.get(key)
        if log is None:
            log = self._logs[key] = _Log(
                StorageWeakRef(tensor.untyped_storage())  # type: ignore[no-untyped-call]
            )
        log.entries.append(_Entry(_WHOLE if fresh else Region.of(tensor), value, is_view))


def _sliced(value: Operand, tensor: torch.Tensor) -> Operand:
    """The value of `tensor`, which shares a storage: with its part, if it is not all of it."""
    is_slice = tensor.numel() * tensor.element_size() < tensor.untyped_storage().nbytes()
    if not is_slice or not value.parameters or value.producers or value.parts:
        return value
    part = Region.of(tensor).in_elements()
    return replace(value, parts=tuple((name, part) for name in value.parameters))


class _Kept:
    """A tensor as it was: storage, version, and what else hangs on it."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor: Any = tensor
        self.alias = tensor.detach()  # holds the storage, should the forward pass set `tensor.data`
        self.version = _version(tensor)
        self.requires_grad = tensor.requires_grad
        self.grad = tensor.grad if tensor.is_leaf else None
        self.held = self._held()

    def _held(self) -> list[dict[Any, Any] | None]:
        """Copies of its attributes and hooks."""
        found = (self.tensor.__dict__, *(getattr(self.tensor, name, None) for name in _HOOKS))
        return [None if holder is None else holder.copy() for holder in found]

    def put_back(self) -> None:
        """Undo what was done to the tensor, but for its values."""
        tensor: Any = self.tensor
        if StorageLog.key(tensor) != StorageLog.key(self.alias):
            tensor.data = self.alias
        if self.version is not None and _version(tensor) != self.version:
            _set_version((tensor,), (self.version,))
        if tensor.is_leaf:
            if tensor.requires_grad != self.requires_grad:
                tensor.requires_grad_(self.requires_grad)
            if tensor.grad is not self.grad:
                tensor.grad = self.grad
        if self._held() != self.held:
            tensor.__dict__.clear()
            tensor.__dict__.update(self.held[0] or {})
            for name, hooks in zip(_HOOKS, self.held[1:], strict=True):
                setattr(tensor, name, hooks)


_HOOKS = ("_backward_hooks", "_post_accumulate_grad_hooks")


def _version(tensor: torch.Tensor) -> int | None:
    return None if tensor.is_inference() else tensor._version  # noqa: SLF001


_set_version: Any = torch._C._autograd._unsafe_set_version_counter  # noqa: SLF001


class ValuesKept:
    """Tensors as they were: values, versions, gradients and hooks, which `put_back` puts back.

    A copy of a storage is made only when it is about to be written to (`before_write`), so that
    nothing is copied where nothing is written.

    Args:
        tensors: The tensors to protect, with the gradients that they hold.

    Example:
        >>> weight = torch.ones(2)
        >>> kept = ValuesKept([weight])
        >>> kept.before_write(weight[:1])
        >>> _ = weight[:1].zero_()
        >>> kept.put_back()
        >>> weight, weight._version
        (tensor([1., 1.]), 0)
    """

    def __init__(self, tensors: Iterable[torch.Tensor]) -> None:
        own = [_Kept(tensor) for tensor in tensors]
        self._kept = [*own, *(_Kept(kept.grad) for kept in own if kept.grad is not None)]
        self._storages = {StorageLog.key(kept.alias): kept.alias for kept in self._kept}
        self._copies: dict[object, torch.UntypedStorage] = {}

    def before_write(self, tensor: torch.Tensor) -> None:
        """Copy the storage of `tensor`, if it is one of the protected ones."""
        key = StorageLog.key(tensor)
        if key in self._storages and key not in self._copies and tensor.device.type != "meta":
            storage: Any = self._storages[key].untyped_storage()
            self._copies[key] = storage.clone()

    def put_back(self) -> None:
        """Undo what was done to the tensors since."""
        for key, values in self._copies.items():
            self._storages[key].untyped_storage().copy_(values)
        for kept in self._kept:
            kept.put_back()
