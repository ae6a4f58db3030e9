"""Layers that training mode skips by chance are in the graph all the same."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from etastar.graph.capture import capture_graph
from etastar.graph.dag import Graph

LAYERS = 6
DRAWS: dict[str, Callable[[], float]] = {
    "python": random.random,
    "numpy": lambda: float(np.random.rand()),  # noqa: NPY002
    "torch": lambda: torch.rand(()).item(),
    "own": random.Random(0).random,
}


class Dropped(nn.Module):
    """Blocks that are skipped with probability `p` in training mode."""

    def __init__(self, draw: Callable[[], float], p: float = 0.7) -> None:
        super().__init__()
        self.draw, self.p = draw, p
        self.blocks = nn.ModuleList(nn.Linear(4, 4) for _ in range(LAYERS))

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            if not self.training or self.draw() >= self.p:
                x = x + block(x).relu()
        return x


class Shared(Dropped):
    """One block, whose weights every layer uses: no parameter is ever left out."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks[0](x)
        for _ in range(LAYERS):
            if not self.training or self.draw() >= self.p:
                x = x + self.blocks[0](x)
        return x


class Branching(nn.Module):
    """Evaluation mode leaves an auxiliary head out, and training mode may leave a block out."""

    def __init__(self) -> None:
        super().__init__()
        self.block, self.head, self.beside = (nn.Linear(4, 4) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        if not self.training:
            return self.head(x + self.block(x))
        return self.head(x), self.beside(x)


def _graph(model: nn.Module) -> Graph:
    return capture_graph(model, torch.zeros(2, 4))


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_the_depth_does_not_depend_on_a_random_number(draw: Callable[[], float]) -> None:
    model = Dropped(draw)
    for seed in range(3):
        random.seed(seed), np.random.seed(seed), torch.manual_seed(seed)  # noqa: NPY002
        report = _graph(model).depth()
        assert (report.effective_depth, report.weight_layers) == (LAYERS, LAYERS)
    assert model.training


@pytest.mark.parametrize("draw", [random.random, DRAWS["torch"]], ids=["python", "torch"])
def test_uses_of_shared_weights_that_are_skipped_are_found_too(draw: Callable[[], float]) -> None:
    assert _graph(Shared(draw)).depth().weight_layers == LAYERS + 1


def test_a_note_names_the_outermost_modules_that_were_skipped() -> None:
    class Wrapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.ModuleList(
                nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4)) for _ in range(LAYERS)
            )

        def forward(self, x: Tensor) -> Tensor:
            for number, block in enumerate(self.inner):
                if number == 0 or not self.training:
                    x = x + block(x)
            return x

    report = _graph(Wrapped()).depth()
    assert report.effective_depth == LAYERS
    (note,) = report.notes
    assert note.endswith("evaluation mode runs: inner.* (5)")
    assert note.split(":")[0] in " ".join(str(report).split())


def test_nothing_is_said_where_both_modes_run_the_same() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Dropout(), nn.BatchNorm1d(4), nn.Linear(4, 4))
    model.add_module("beside", nn.Identity())
    model.register_parameter("unused", nn.Parameter(torch.zeros(2)))
    for mode in (True, False):
        assert _graph(model.train(mode)).notes == ()


def test_training_mode_stays_where_it_runs_what_evaluation_mode_does_not() -> None:
    graph = _graph(Branching())
    assert graph.outputs.keys() == {"0", "1"}
    assert graph.depth().effective_depth == 1
    (note,) = graph.notes
    assert note.startswith("training mode, which was captured, leaves out")
    assert "block" in note


def test_it_is_said_that_evaluation_mode_could_not_be_asked() -> None:
    class Trainable(Dropped):
        def forward(self, x: Tensor) -> Tensor:
            if not self.training:
                raise RuntimeError("trains only")
            return self.blocks[0](super().forward(x))

    (note,) = _graph(Trainable(random.random, p=2.0)).notes
    assert "is not known" in note
    assert "trains only" in note


@pytest.mark.parametrize("name", ["OPT", "Bart"])
def test_layerdrop_of_transformers_leaves_no_layer_out(name: str) -> None:
    transformers = pytest.importorskip("transformers")
    sizes = {
        "OPT": {
            "hidden_size": 8,
            "num_hidden_layers": LAYERS,
            "num_attention_heads": 2,
            "ffn_dim": 8,
            "word_embed_proj_dim": 8,
            "layerdrop": 0.7,
        },
        "Bart": {
            "d_model": 8,
            **{f"{part}_layers": LAYERS for part in ("encoder", "decoder")},
            **{f"{part}_attention_heads": 2 for part in ("encoder", "decoder")},
            **{f"{part}_ffn_dim": 8 for part in ("encoder", "decoder")},
            **{f"{part}_layerdrop": 0.7 for part in ("encoder", "decoder")},
        },
    }[name]
    config = getattr(transformers, f"{name}Config")(vocab_size=10, **sizes)
    model = getattr(transformers, f"{name}Model")(config).train()
    tokens = torch.full((1, 4), 3)
    report = capture_graph(model, tokens).depth()
    assert report == capture_graph(model.eval(), tokens).depth() or report.notes
    assert report.residual_additions == {"OPT": 2 * LAYERS, "Bart": 5 * LAYERS}[name]


def test_a_model_that_cannot_be_copied_is_in_training_mode_afterwards() -> None:
    class Single(Dropped):
        def __deepcopy__(self, memo: dict[int, object]) -> Single:
            raise TypeError("there is one of it alone")

    model = Single(random.random)
    model.blocks[0].eval()
    assert _graph(model).depth().effective_depth == LAYERS
    assert [module.training for module in model.blocks] == [False] + [True] * (LAYERS - 1)
    assert model.training
