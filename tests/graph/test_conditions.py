"""A time, class or prompt conditions a network: its depth is that from the data."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from etastar import Tuned, plan_transfer
from etastar.errors import DepthError
from etastar.graph.capture import capture_graph
from etastar.graph.dag import Graph

D = 8
X, T, Y = torch.zeros(2, 3, D), torch.zeros(2, 5), torch.zeros(2, dtype=torch.long)


class AdaptiveBlock(nn.Module):
    """A block of DiT: the condition gives shift, gain and gate of both branches."""

    def __init__(self) -> None:
        super().__init__()
        self.adapt, self.mix = nn.Linear(D, 6 * D), nn.Linear(D, D)
        self.up, self.down = nn.Linear(D, D), nn.Linear(D, D)

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        a, b, g, d, e, h = self.adapt(functional.silu(c))[:, None].chunk(6, -1)
        x = x + g * self.mix(functional.layer_norm(x, (D,)) * (1 + a) + b)
        return x + h * self.down(self.up(functional.layer_norm(x, (D,)) * (1 + d) + e).relu())


class DiT(nn.Module):
    def __init__(self, blocks: int) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(D, D), nn.Linear(D, D)
        self.time = nn.Sequential(nn.Linear(5, D), nn.SiLU(), nn.Linear(D, D))
        self.label, self.last = nn.Embedding(4, D), nn.Linear(D, D)
        self.blocks = nn.ModuleList(AdaptiveBlock() for _ in range(blocks))

    def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        c, x = self.time(t) + self.label(y), self.stem(x)
        for block in self.blocks:
            x = block(x, c)
        return self.head(x * (1 + self.last(c)[:, None]))


class FiLM(nn.Module):
    """Gain and shift of every layer from the condition, with or without residuals."""

    def __init__(self, blocks: int, *, residual: bool) -> None:
        super().__init__()
        self.residual = residual
        self.stem, self.head = nn.Linear(D, D), nn.Linear(D, D)
        self.layers = nn.ModuleList(nn.Linear(D, D) for _ in range(blocks))
        self.gains = nn.ModuleList(nn.Linear(5, D) for _ in range(blocks))
        self.shifts = nn.ModuleList(nn.Linear(5, D) for _ in range(blocks))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        x = self.stem(x)
        for layer, gain, shift in zip(self.layers, self.gains, self.shifts, strict=True):
            new = (gain(t)[:, None] * layer(x) + shift(t)[:, None]).relu()
            x = x + new if self.residual else new
        return self.head(x)


class Denoiser(nn.Module):
    """The residual blocks of a diffusion U-Net: a time embedding is added within each."""

    def __init__(self, blocks: int) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(D, D), nn.Linear(D, D)
        self.time = nn.Sequential(nn.Linear(5, D), nn.SiLU(), nn.Linear(D, D))
        self.first, self.second, self.embedded = (
            nn.ModuleList(nn.Linear(D, D) for _ in range(blocks)) for _ in range(3)
        )

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        x, t = self.stem(x), self.time(t)[:, None]
        for first, second, embedded in zip(self.first, self.second, self.embedded, strict=True):
            x = x + second((first(x.relu()) + embedded(t)).relu())
        return self.head(x)


class CrossAttending(nn.Module):
    """A prompt is read by every block, through weights of its own."""

    def __init__(self, blocks: int) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(D, D), nn.Linear(D, D)
        self.read = nn.ModuleList(
            nn.MultiheadAttention(D, 2, kdim=5, vdim=5, batch_first=True) for _ in range(blocks)
        )

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        x, t = self.stem(x), t[:, None]
        for read in self.read:
            x = x + read(x, t, t, need_weights=False)[0]
        return self.head(x)


def _graph(model: nn.Module, *inputs: Any) -> Graph:
    return capture_graph(model, *inputs)


# stem and head count 2, every residual addition 1, every layer of a chain 1
CASES = {
    "DiT": (lambda n: _graph(DiT(n), X, T, Y), lambda n: 3 + 2 * n - 1),
    "FiLM": (lambda n: _graph(FiLM(n, residual=True), X, T), lambda n: n + 2),
    "cross-attention": (lambda n: _graph(CrossAttending(n), X, T), lambda n: n + 2),
    "time embedding": (lambda n: _graph(Denoiser(n), X, T), lambda n: n + 2),
    "FiLM of a chain": (lambda n: _graph(FiLM(n, residual=False), X, T), lambda n: n + 2),
}


@pytest.mark.parametrize("blocks", [2, 5])
@pytest.mark.parametrize("case", CASES)
def test_depth_is_that_from_the_data_and_grows_with_the_blocks(case: str, blocks: int) -> None:
    make, depth = CASES[case]
    graph = make(blocks)
    assert graph.data_inputs == ("x",)
    assert graph.depth().effective_depth == depth(blocks)
    assert graph.depth().sources == ("x",)


@pytest.mark.parametrize("case", CASES)
def test_what_the_other_inputs_would_give_is_said(case: str) -> None:
    graph = CASES[case][0](8)
    alone = graph.depth(sources=["t"]).effective_depth
    assert alone < graph.depth().effective_depth
    said = [note for note in graph.depth().notes if note.startswith("depth ")]
    assert len(said) == 1
    assert f"{alone} from t" in said[0]
    assert "condition" in said[0]


def test_additions_of_a_time_embedding_are_none_of_the_stream() -> None:
    graph = CASES["time embedding"][0](5)
    assert graph.depth().residual_additions == 5
    placed = {info.name: info for info in graph.parameters}
    assert placed["second.0.weight"].stream_additions == 5
    assert placed["second.0.weight"].branch_last


def test_layers_of_the_condition_keep_their_roles() -> None:
    roles = {info.name: info.role for info in CASES["DiT"][0](2).parameters}
    assert roles["stem.weight"] == roles["time.0.weight"] == "input"
    assert roles["label.weight"] == "embedding"
    hidden = ("time.2.weight", "blocks.0.adapt.weight", "last.weight", "blocks.1.up.weight")
    assert {roles[name] for name in hidden} == {"hidden"}
    assert roles["head.weight"] == "output"


def test_inputs_that_start_the_stream_together_are_all_data() -> None:
    class Summed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.other, self.block = (nn.Linear(D, D) for _ in range(3))

        def forward(self, x: Tensor, t: Tensor) -> Tensor:
            x = self.one(x) + self.other(t)
            return x + self.block(x)

    graph = _graph(Summed(), X, X)
    assert (graph.data_inputs, graph.conditions) == (("x", "t"), ())
    assert not any(note.startswith("depth ") for note in graph.depth().notes)


def test_two_towers_are_both_data_and_their_depths_are_said() -> None:
    class Towers(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.deep = nn.ModuleList(nn.Linear(D, D) for _ in range(4))
            self.flat = nn.Linear(D, D)

        def forward(self, x: Tensor, t: Tensor) -> Tensor:
            for layer in self.deep:
                x = layer(x).relu()
            return x * self.flat(t)

    graph = _graph(Towers(), X, X)
    assert graph.data_inputs == ("x", "t")
    assert graph.depth().effective_depth == 1
    assert graph.depth().notes[-1].startswith("depth 4 from x, 1 from t: the shortest is taken")


def test_an_encoder_is_data_of_its_decoder() -> None:
    model = nn.Transformer(D, 2, 3, 2, D, batch_first=True)
    graph = _graph(model, X, X)
    assert (graph.data_inputs, graph.conditions) == (("src", "tgt"), ())


class Prefixed(nn.Module):
    """Tokens behind the features of a vision tower, in one stream."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head, self.project = (nn.Linear(D, D) for _ in range(3))
        self.tokens = nn.Embedding(4, D)
        self.tower, self.blocks = (nn.ModuleList(nn.Linear(D, D) for _ in "abc") for _ in "ab")

    def forward(self, image: Tensor, tokens: Tensor) -> Tensor:
        image = self.stem(image)
        for block in self.tower:
            image = image + block(image)
        x = torch.cat([self.project(image), self.tokens(tokens)[:, None]], 1)
        for block in self.blocks:
            x = x + block(x)
        return self.head(x)


def test_tokens_that_join_a_tower_at_the_start_of_a_stream_are_data() -> None:
    graph = _graph(Prefixed(), X, Y)
    assert (graph.data_inputs, graph.conditions) == (("image", "tokens"), ())
    assert graph.depth().effective_depth == 5
    assert "depth 9 from image, 5 from tokens" in " ".join(graph.depth().notes)


def test_a_graph_remembers_sources_that_were_named() -> None:
    found = CASES["DiT"][0](5)
    named = found.from_sources(["t"])
    assert named.depth().effective_depth == found.depth(sources=["t"]).effective_depth
    assert named.data_inputs == ("t",)
    assert named.conditions == ("x", "y")
    assert named.from_sources(["x"]) == found
    assert found.data_inputs == ("x",)
    for wrong in (["z"], [], "x"):
        with pytest.raises(DepthError, match="one or more of: x, t, y"):
            found.from_sources(wrong)


def test_a_plan_goes_by_the_depth_from_the_data() -> None:
    base, target = ((DiT(n), (X, T, Y)) for n in (2, 8))
    plan = plan_transfer(Tuned(base, 0.1), target, optimizer="adamw", law="effective-depth")
    assert (plan.base.depth, plan.target_depth) == (6, 18)
    assert {entry.name for entry in plan.parameters} == {n for n, _ in DiT(8).named_parameters()}
