"""In-place writes and views: what a tensor holds is what was last written to its region."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from etastar.graph.capture import effective_depth
from etastar.graph.node import NOTHING, Operand, Region
from etastar.graph.regions import StorageLog

SIZE = 24


@st.composite
def strided(draw: st.DrawFn) -> tuple[tuple[int, ...], tuple[int, ...], int]:
    shape = tuple(draw(st.lists(st.integers(1, 4), min_size=0, max_size=3)))
    strides = tuple(draw(st.integers(0, 6)) for _ in shape)
    reach = sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
    if reach >= SIZE:
        shape, strides, reach = shape[:1], strides[:1], (shape[0] - 1) * strides[0]
    return shape, strides, draw(st.integers(0, SIZE - 1 - reach))


def _touched(tensor: Tensor) -> set[int]:
    base = torch.zeros(SIZE)
    base.as_strided(tensor.shape, tensor.stride(), tensor.storage_offset()).fill_(1)
    return set(np.flatnonzero(base.numpy()))


@settings(deadline=None, max_examples=300)
@given(strided(), strided())
def test_regions_overlap_exactly_when_they_share_an_element(
    one: tuple[tuple[int, ...], tuple[int, ...], int],
    other: tuple[tuple[int, ...], tuple[int, ...], int],
) -> None:
    base = torch.zeros(SIZE)
    a, b = base.as_strided(*one), base.as_strided(*other)
    assert Region.of(a).overlaps(Region.of(b)) == bool(_touched(a) & _touched(b))
    if Region.of(a).is_dense():
        start, end = Region.of(a).bounds()
        assert _touched(a) == set(range(start // 4, end // 4))


@settings(deadline=None, max_examples=200)
@given(st.lists(strided(), min_size=1, max_size=6), strided())
def test_read_finds_the_last_writer_of_every_element(
    writes: list[tuple[tuple[int, ...], tuple[int, ...], int]],
    read: tuple[tuple[int, ...], tuple[int, ...], int],
) -> None:
    base, log = torch.zeros(SIZE), StorageLog()
    writer: dict[int, int] = {}
    for i, region in enumerate(writes):
        tensor = base.as_strided(*region)
        log.write(tensor, Operand((i,)))
        writer.update(dict.fromkeys(_touched(tensor), i))
    target = base.as_strided(*read)
    found = set(log.read(target).producers)
    assert found == {writer[e] for e in _touched(target) if e in writer}


def test_a_storage_too_large_for_a_grid_keeps_every_write_that_overlaps() -> None:
    large, log = torch.zeros(2, (1 << 26) + 2, dtype=torch.int8, device="meta"), StorageLog()
    for number, part in enumerate((large, large[:, ::2], large[:, 1::2], large[0])):
        log.write(part, Operand((number,)))
    assert log.read(large[1]).producers == (0, 1, 2)
    assert log.read(large[0]).producers == (3,)


def test_alias_holds_until_its_region_is_written_again() -> None:
    log, x = StorageLog(), torch.zeros(2, 3)
    log.write(x, Operand((0,)))
    log.alias(x[0], Operand((1,)))
    assert log.read(x[0]) == Operand((1,))
    assert log.read(x) == Operand((0,))
    log.write(x[:, 0], Operand((2,)))
    assert set(log.read(x[0]).producers) == {0, 2}


def test_unknown_tensor_holds_nothing() -> None:
    assert StorageLog().read(torch.zeros(2)) == NOTHING


def test_values_unite_in_order_without_repetition() -> None:
    both = Operand((1, 2), ("a",)) | Operand((2, 3), ("b", "a"))
    assert (both, both.steps) == (Operand((1, 2, 3), ("a", "b")), None)
    assert Operand((1,)) | NOTHING == Operand((1,))


class Rows(nn.Module):
    """Fills a buffer row by row, each by its own layer, then reads some of it."""

    def __init__(self, read: slice | int) -> None:
        super().__init__()
        self.rows = nn.ModuleList(nn.Linear(4, 4) for _ in range(3))
        self.deep = nn.Linear(4, 4)
        self.head = nn.Linear(4, 2)
        self.read = read

    def forward(self, x: Tensor) -> Tensor:
        buffer = x.new_zeros(x.shape[0], 3, 4)
        for t, layer in enumerate(self.rows):
            buffer[:, t] = layer(x)
        buffer[:, 2] = self.deep(buffer[:, 2])
        return self.head(buffer[:, self.read])


def test_rows_of_a_buffer_are_told_apart() -> None:
    x = torch.zeros(2, 4)
    assert effective_depth(Rows(0), x).path_length_moments == (1, 2, 4, 8)
    assert effective_depth(Rows(2), x).path_length_moments == (1, 3, 9, 27)
    whole = effective_depth(Rows(slice(None)), x)
    assert whole.path_length_moments == (3, 7, 17, 43)


class InPlace(nn.Module):
    """One of several in-place operations between two layers."""

    def __init__(self, operation: str) -> None:
        super().__init__()
        self.a, self.b, self.head = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2)
        self.operation = operation

    def forward(self, x: Tensor) -> Tensor:
        y = self.a(x)
        getattr(self, self.operation)(y, x)
        return self.head(y)

    def iadd(self, y: Tensor, x: Tensor) -> None:
        y += self.b(y)

    def sub(self, y: Tensor, x: Tensor) -> None:
        y.sub_(self.b(y))

    def through_view(self, y: Tensor, x: Tensor) -> None:
        y.view(-1).add_(self.b(y).view(-1))

    def out(self, y: Tensor, x: Tensor) -> None:
        torch.add(y.clone(), self.b(y), out=y)

    def relu(self, y: Tensor, x: Tensor) -> None:
        y.view(-1).relu_()

    def overwritten(self, y: Tensor, x: Tensor) -> None:
        y.copy_(self.b(x))

    def zeroed(self, y: Tensor, x: Tensor) -> None:
        y.zero_().add_(self.b(x))

    def masked(self, y: Tensor, x: Tensor) -> None:
        y.masked_fill_(x > 0, -1.0)

    def halves(self, y: Tensor, x: Tensor) -> None:
        branch = self.b(y)
        y[:, :2].add_(branch[:, :2])
        y[:, 2:] += branch[:, 2:]

    def checkerboard(self, y: Tensor, x: Tensor) -> None:
        new = y + self.b(y)
        y[:, ::2], y[:, 1::2] = new[:, ::2], new[:, 1::2]

    def half(self, y: Tensor, x: Tensor) -> None:
        y[:, :2] += self.b(y)[:, :2]

    def accumulated(self, y: Tensor, x: Tensor) -> None:
        y.index_add_(0, torch.arange(2), self.b(y))

    def put(self, y: Tensor, x: Tensor) -> None:
        y.index_put_((torch.arange(2),), self.b(y), accumulate=True)


def _moments(lengths: list[int]) -> tuple[int, ...]:
    return tuple(sum(n**k for n in lengths) for k in range(4))


def test_in_place_operations_change_what_their_tensor_holds() -> None:
    added, plain = [3, 4], [2]
    expected = {
        **dict.fromkeys(["iadd", "sub", "through_view", "out", "accumulated", "put"], added),
        **dict.fromkeys(["relu", "overwritten", "zeroed", "masked"], plain),
        "halves": [3, 3, 4, 4],
        "checkerboard": added,
        "half": [2, 3, 4],  # the untouched half goes past the addition
    }
    for operation, lengths in expected.items():
        report = effective_depth(InPlace(operation), torch.zeros(2, 4))
        assert report.path_length_moments == _moments(lengths), operation
        used = "a" if operation not in ("overwritten", "zeroed") else "b"
        assert used in [step.module for step in report.path], operation


def test_a_view_of_a_buffer_holds_what_was_written_to_its_own_part() -> None:
    class Stateful(nn.Module):
        """Layers that keep their states in slices of one tensor."""

        def __init__(self) -> None:
            super().__init__()
            self.one, self.other = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            states = torch.zeros(len(x), 4, 2)
            for number, layer in enumerate((self.one, self.other)):
                new = layer(x + states[:, :, number])
                states[:, :, number] = x
                x = new
            return x

    report = effective_depth(Stateful(), torch.zeros(1, 4))
    assert (report.effective_depth, report.residual_additions) == (2, 0)
