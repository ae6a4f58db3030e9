"""One tensor that holds the weights of several layers is neither recurrent nor planned for."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor, nn

from etastar import Tuned, plan_transfer
from etastar.errors import PlanError
from etastar.graph.capture import capture_graph
from etastar.graph.dag import Graph

D, X = 4, torch.zeros(2, 4)
_WAYS: dict[str, Callable[[nn.Parameter], Sequence[Tensor]]] = {
    "indexed": lambda w: [w[k] for k in range(len(w))],
    "unbound": lambda w: w.unbind(0),
    "cast, then indexed": lambda w: [w.to(torch.float64)[k].float() for k in range(len(w))],
    "indexed, then changed": lambda w: [(w[k] * 2).t() for k in range(len(w))],
    "in the middle": lambda w: [w.view(D, -1, D)[:, k] for k in range(len(w))],
}


class Stacked(nn.Module):
    def __init__(self, layers: int, way: str = "indexed") -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(D, D), nn.Linear(D, 2)
        self.weight = nn.Parameter(torch.zeros(layers, D, D))
        self.gains = nn.Parameter(torch.ones(layers, D))
        self.scales = nn.Parameter(torch.ones(layers))
        self.way = way

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for k, weight in enumerate(_WAYS[self.way](self.weight)):
            x = x + self.scales[k] * ((x * self.gains[k]) @ weight).relu()
        return self.head(x)


class Repeated(Stacked):
    """Two slices, each of which two layers use."""

    def forward(self, x: Tensor) -> Tensor:
        for k in range(4):
            x = x + (x @ self.weight[k % 2]).relu()
        return self.head(x)


class Normalized(Stacked):
    """Weights that are made from slices of two tensors: directions and magnitudes."""

    def forward(self, x: Tensor) -> Tensor:
        for direction, gain in zip(self.weight, self.gains, strict=True):
            x = x + (x @ (direction * gain)).relu()
        return self.head(x)


def _graph(model: nn.Module) -> Graph:
    return capture_graph(model, X)


@pytest.mark.parametrize("way", _WAYS)
def test_slices_of_one_tensor_are_counted_as_layers_and_not_as_reuse(way: str) -> None:
    report = _graph(Stacked(3, way)).depth()
    assert report.recurrent == ()
    assert report.stacked == {"weight": 3}
    assert (report.effective_depth, report.weight_layers) == (5, 5)
    assert "several layers" in str(report)


def test_gains_of_all_layers_are_neither_recurrent_nor_layers() -> None:
    report = _graph(Normalized(3)).depth()
    assert report.recurrent == ()
    assert report.stacked == {"weight": 3, "gains": 3}


def test_a_slice_that_is_used_twice_is_recurrent() -> None:
    report = _graph(Repeated(2)).depth()
    assert report.recurrent == ("weight",)
    assert report.stacked == {}


def test_slices_that_overlap_are_recurrent() -> None:
    class Overlapping(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(6, 4))

        def forward(self, x: Tensor) -> Tensor:
            return x @ self.weight[:4] @ self.weight[2:]

    assert _graph(Overlapping()).depth().recurrent == ("weight",)


def test_parts_of_one_layer_side_by_side_are_nothing_special() -> None:
    report = _graph(nn.TransformerEncoderLayer(D, 2, D)).depth()
    assert (report.recurrent, report.stacked) == ((), {})


@pytest.mark.parametrize("queries", [1, 9])
def test_a_pool_of_learned_queries_stacks_nothing(queries: int) -> None:
    class Pool(nn.Module):
        """Attention of a learned query: its own weights are slices of one tensor."""

        def __init__(self) -> None:
            super().__init__()
            self.query = nn.Parameter(torch.zeros(1, queries, D))
            self.attention = nn.MultiheadAttention(D, 2, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            x = x[None]
            return self.attention(self.query, x, 2 * x, need_weights=True)[0]

    report = _graph(Pool()).depth()
    assert (report.recurrent, report.stacked) == ((), {})


@pytest.mark.parametrize("queries", [1, D])
def test_a_pool_without_a_batch_stacks_nothing_either(queries: int) -> None:
    class Pool(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.query = nn.Parameter(torch.zeros(queries, D))
            self.weight = nn.Parameter(torch.zeros(3 * D, D))

        def forward(self, x: Tensor) -> Tensor:
            to_query, to_key, to_value = self.weight.chunk(3)
            scores = (self.query @ to_query.t()) @ (x @ to_key.t()).t()
            return scores.softmax(-1) @ (x @ to_value.t())

    report = _graph(Pool()).depth()
    assert (report.recurrent, report.stacked) == ((), {})


def test_the_fans_of_a_slice_are_its_own() -> None:
    infos = {info.name: info for info in _graph(Stacked(3)).parameters}
    assert (infos["weight"].fan_in, infos["weight"].fan_out) == (D, D)
    assert infos["weight"].role == "hidden"


@pytest.mark.parametrize("allow_recurrent", [False, True])
def test_a_plan_refuses_it_and_says_why(allow_recurrent: bool) -> None:
    base = Tuned((Stacked(2), X), 0.1)
    with pytest.raises(PlanError, match=r"weight, which holds the weights of [28] layers in one"):
        plan_transfer(base, (Stacked(8), X), optimizer="adamw", allow_recurrent=allow_recurrent)
