"""Fake twins of a model's tensors: the same shapes and the same sharing of storages, no values."""

from __future__ import annotations

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily

__all__ = ["FakeTwins"]

_CPU = torch.device("cpu")
_PLAIN = (torch.Tensor, nn.Parameter, nn.Buffer)


class FakeTwins:
    """The fake twin of each tensor, always the same one; views of one storage stay views of one.

    PyTorch's own conversion takes ten times as long, which a model of a thousand layers feels; it
    is used for whatever is not a plain strided tensor. A meta tensor's twin is on the CPU, so that
    constants made in forward match it.

    Args:
        fake_mode: The mode that the twins belong to.

    Example:
        >>> twins, weight = FakeTwins(FakeTensorMode()), torch.zeros(2, 3)
        >>> twins.of(weight) is twins.of(weight), twins.of(weight).shape
        (True, torch.Size([2, 3]))
    """

    def __init__(self, fake_mode: FakeTensorMode) -> None:
        self.mode = fake_mode
        self._known: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self._storages: dict[int, tuple[torch.Tensor, torch.UntypedStorage]] = {}

    def of(self, tensor: torch.Tensor) -> torch.Tensor:
        """The twin; `tensor` itself if it is fake."""
        known = self._known.get(id(tensor))
        if known is not None:
            return known[1]
        if isinstance(tensor, FakeTensor):
            return tensor
        with unset_fake_temporarily():  # what a twin is made of is not fake itself
            twin = self._made(tensor)
        self.pair(tensor, twin)
        return twin

    def pair(self, tensor: torch.Tensor, twin: torch.Tensor) -> None:
        """Make `twin` the twin of `tensor`; both are kept alive, so that the identity is theirs."""
        self._known[id(tensor)] = (tensor, twin)

    def clone_of(self, tensor: torch.Tensor) -> torch.Tensor:
        """A fake tensor of the same form with a storage of its own, every time another one."""
        form = (tensor.shape, tensor.stride())
        with unset_fake_temporarily():
            empty = torch.empty_strided(*form, dtype=tensor.dtype, device="meta")
            return self._fake(empty, like=tensor)

    def _made(self, tensor: torch.Tensor) -> torch.Tensor:
        is_plain = type(tensor) in _PLAIN and tensor.layout is torch.strided
        if not is_plain or tensor.is_quantized or tensor.is_conj() or tensor.is_neg():
            return self.mode.from_tensor(tensor)
        twin = self._fake(tensor.detach() if tensor.is_meta else self._on_meta(tensor), like=tensor)
        if isinstance(tensor, nn.Parameter):
            twin._is_param = True  # noqa: SLF001  what makes it an instance of nn.Parameter
        return twin

    def _fake(self, meta: torch.Tensor, *, like: torch.Tensor) -> torch.Tensor:
        device = _CPU if like.is_meta else like.device
        return FakeTensor(self.mode, meta.requires_grad_(like.requires_grad), device)

    def _on_meta(self, tensor: torch.Tensor) -> torch.Tensor:
        """A meta tensor at the same place of the meta storage that stands for the same storage."""
        storage = tensor.untyped_storage()
        key = storage._cdata  # noqa: SLF001
        if key not in self._storages:
            bytes_ = torch.empty(storage.nbytes(), dtype=torch.uint8, device="meta")
            self._storages[key] = (tensor, bytes_.untyped_storage())
        empty = torch.empty(0, dtype=tensor.dtype, device="meta")
        place = (tensor.storage_offset(), tensor.shape, tensor.stride())
        return empty.set_(self._storages[key][1], *place)
