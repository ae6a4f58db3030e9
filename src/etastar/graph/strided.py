"""The region of a storage that a strided tensor covers."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import torch

__all__ = ["Region"]


class Region(NamedTuple):
    """The bytes of a storage that a strided tensor covers."""

    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    itemsize: int

    @classmethod
    def of(cls, tensor: torch.Tensor) -> Region:
        """Region of a strided tensor."""
        size = tensor.element_size()
        strides = tuple(s * size for s in tensor.stride())
        return cls(int(tensor.storage_offset()) * size, tuple(tensor.shape), strides, size)

    def in_elements(self) -> Region:
        """The same counted in elements, so that casts of one tensor can be compared."""
        size = self.itemsize
        return Region(self.offset // size, self.shape, tuple(s // size for s in self.strides), 1)

    def bounds(self) -> tuple[int, int]:
        """First byte, and the byte after the last one."""
        if 0 in self.shape:
            return self.offset, self.offset
        reach = sum((n - 1) * s for n, s in zip(self.shape, self.strides, strict=True))
        return self.offset, self.offset + reach + self.itemsize

    def is_dense(self) -> bool:
        """Whether it covers every byte between its bounds."""
        reach = self.itemsize
        for stride, n in sorted(zip(self.strides, self.shape, strict=True)):
            if n > 1:
                if stride > reach:
                    return False
                reach += stride * (n - 1)
        return True

    def overlaps(self, other: Region) -> bool:
        """Whether the two share a byte; exact, but True where that is too hard to decide."""
        (a, b), (c, d) = self.bounds(), other.bounds()
        if b <= c or d <= a:
            return False
        if self.is_dense() and other.is_dense():
            return True
        try:
            effort: Any = 100_000  # the stubs know the named levels only
            return bool(np.shares_memory(self._as_array(), other._as_array(), max_work=effort))
        except np.exceptions.TooHardError:
            return True

    def _as_array(self) -> np.ndarray:
        """An array at this region of an imaginary storage; its memory is never touched."""
        interface = {
            "version": 3,
            "data": ((1 << 40) + self.offset, True),
            "shape": self.shape,
            "strides": self.strides,
            "typestr": f"|V{self.itemsize}",
        }
        return np.asarray(SimpleNamespace(__array_interface__=interface))
