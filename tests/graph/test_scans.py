"""Loops over positions: their sums do not count, and do not grow with the example."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from etastar.depth import DepthReport
from etastar.graph.capture import capture_graph

D, BLOCKS = 4, 3


class Decayed(nn.Module):
    """A gated linear recurrence, in one of the ways that people take a position out."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        self.keep, self.new, self.out = (nn.Linear(D, D) for _ in range(3))

    def _positions(self, x: Tensor) -> list[Tensor]:
        if self.how == "unbind":
            return list(x.unbind(1))
        if self.how == "slice":
            return [x[:, t : t + 1] for t in range(x.shape[1])]
        return [x[:, t] for t in range(x.shape[1])]

    def forward(self, x: Tensor) -> Tensor:
        keep, new = self.keep(x).sigmoid(), self.new(x)
        state, states = torch.zeros_like(self._positions(x)[0]), []
        for a, b in zip(self._positions(keep), self._positions(new), strict=True):
            state = a * state + (1 - a) * b
            states.append(state)
        join = torch.cat if self.how == "slice" else torch.stack
        return self.out(join(states, 1))


class Scanned(nn.Module):
    def __init__(self, how: str) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Decayed(how) for _ in range(BLOCKS))
        self.head = nn.Linear(D, 2)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = x + block(x)
        return self.head(x)


class Stepwise(nn.Module):
    """Weights within the loop: hidden states go through a layer at every position."""

    def __init__(self) -> None:
        super().__init__()
        self.read, self.step = nn.Linear(D, D), nn.Linear(D, D)

    def forward(self, x: Tensor) -> Tensor:
        h, read = torch.zeros(x.shape[0], D), self.read(x)
        for t in range(x.shape[1]):
            h = (read[:, t] + self.step(h)).tanh()
        return h


class EachExample(nn.Module):
    """A loop over the examples of a batch, with a residual of two layers in each."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = nn.Linear(D, D), nn.Linear(D, D)

    def forward(self, x: Tensor) -> Tensor:
        one = self.one(x)
        other = self.other(one)
        return torch.stack([one[i] + other[i] for i in range(len(x))])


def _depth(model: nn.Module, *shape: int) -> DepthReport:
    return capture_graph(model, torch.zeros(*shape)).depth()


@pytest.mark.parametrize("how", ["select", "slice", "unbind"])
def test_additions_and_paths_do_not_grow_with_the_example(how: str) -> None:
    short, long = (_depth(Scanned(how), 2, length, D) for length in (3, 7))
    for report in (short, long):
        assert report.residual_additions == BLOCKS
        assert report.effective_depth == BLOCKS + 1
        assert report.path_count == 3**BLOCKS  # around a block, by `keep` or by `new`
    (note,) = long.notes
    assert note.startswith(f"{7 * BLOCKS} sums of loops")
    assert "blocks.* (3)" in note


def test_a_stream_over_scans_has_as_many_additions_as_blocks() -> None:
    graph = capture_graph(Scanned("select"), torch.zeros(2, 5, D))
    placed = {info.name: info for info in graph.parameters}
    for name in ("blocks.0.keep.weight", "blocks.0.new.weight", "blocks.2.out.weight"):
        assert placed[name].stream_additions == BLOCKS


def test_a_loop_with_a_weight_in_it_is_recurrent_and_stays_as_it_is() -> None:
    report = _depth(Stepwise(), 2, 4, D)
    assert report.recurrent == ("step.weight",)
    assert report.residual_additions == 3
    assert not any("loop" in note for note in report.notes)


def test_a_loop_over_examples_sums_as_the_whole_batch_does() -> None:
    report = _depth(EachExample(), 3, D)
    assert report.residual_additions == 3
    assert report.effective_depth == 2
    assert report.notes == ()


@pytest.mark.parametrize(("name", "per_block"), [("Mamba", 1), ("Rwkv", 2)])
def test_streams_of_models_with_scans(name: str, per_block: int) -> None:
    transformers = pytest.importorskip("transformers")
    sizes: dict[str, Any] = {"vocab_size": 10, "hidden_size": 8, "num_hidden_layers": 3}
    config = getattr(transformers, f"{name}Config")(**sizes)
    model = getattr(transformers, f"{name}Model")(config)
    graphs = [capture_graph(model, torch.zeros(1, n, dtype=torch.long)) for n in (2, 5)]
    first, second = (graph.depth() for graph in graphs)
    assert first.path_length_moments == second.path_length_moments
    assert first.effective_depth == second.effective_depth == 3 * per_block + 1
    last = [i for i in graphs[1].parameters if ".output." in i.name or ".out_proj.w" in i.name]
    assert [i.stream_additions for i in last] == [3 * per_block] * 3


def test_nothing_is_said_of_sums_that_would_not_count_anyway() -> None:
    class Luminance(nn.Module):
        """Channels of an image, weighted and summed one by one."""

        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(D, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(0.3 * x[:, 0] + 0.6 * x[:, 1] + 0.1 * x[:, 2])

    report = _depth(Luminance(), 2, 3, D)
    assert (report.notes, report.residual_additions) == ((), 0)
