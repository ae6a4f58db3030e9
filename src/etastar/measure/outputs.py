"""Outputs of a pass, kept until another pass is compared with them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from torch import Tensor

from etastar.graph.regions import StorageLog

__all__ = ["Outputs"]


class Outputs:
    """Outputs of a pass, copied only where a later operation is about to write to them.

    Args:
        room: Bytes that they may take; beyond it the earliest ones are let go.

    Example:
        >>> import torch
        >>> outputs, x = Outputs(), torch.ones(2)
        >>> outputs.keep(0, x)
        >>> outputs.before_write(x)
        >>> _ = x.zero_()
        >>> outputs.of([0, 1])
        {0: tensor([1., 1.])}
    """

    def __init__(self, room: float = math.inf) -> None:
        self._room = room
        self._found: dict[int, Tensor] = {}
        self._by_storage: dict[Any, list[int]] = {}

    def of(self, nodes: Iterable[int]) -> dict[int, Tensor]:
        """Those of some nodes, without the ones that were let go."""
        return {index: self._found[index] for index in nodes if index in self._found}

    def keep(self, index: int, output: Tensor) -> None:
        """Observer."""
        self._found[index] = output.detach()
        self._by_storage.setdefault(StorageLog.key(output), []).append(index)
        self._room -= _num_bytes(output)
        while self._room < 0:
            self._room += _num_bytes(self._found.pop(next(iter(self._found))))

    def before_write(self, tensor: Tensor) -> None:
        """Copy what the storage of a tensor holds of the outputs."""
        for index in self._by_storage.pop(StorageLog.key(tensor), ()):
            if index in self._found:
                self._found[index] = self._found[index].clone()


def _num_bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
