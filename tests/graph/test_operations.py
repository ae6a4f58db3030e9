"""What carries no values: shapes, comparisons, integers, indices."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from etastar.graph.capture import capture_graph, effective_depth


class Calls(nn.Module):
    """Calls a function on itself, after giving itself some layers and parameters."""

    def __init__(self, function: Any, **members: Any) -> None:
        super().__init__()
        self.function = function
        for name, member in members.items():
            setattr(self, name, member)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(self, *args, **kwargs)


def matrix(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.zeros(shape))


def lengths(model: nn.Module, *args: Any, **kwargs: Any) -> tuple[int, int, int, int]:
    report = effective_depth(model, *args, **kwargs)
    assert report.capture == "fake", report.capture_note
    return report.path_length_moments


def moments(*lengths: int) -> tuple[int, ...]:
    return tuple(sum(n**k for n in lengths) for k in range(4))


x24 = torch.zeros(2, 4)


# -- what carries no values ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "empty",
    [
        torch.zeros_like,
        torch.ones_like,
        torch.empty_like,
        torch.rand_like,
        lambda y: torch.full_like(y, 2.0),
        lambda y: y.new_zeros(y.shape),
        lambda y: y.new_full(y.shape, 1.0),
        lambda y: torch.ones(y.shape[0], y.size(1)),
        lambda y: (y > 0).float(),
        lambda y: y.argmax(-1, keepdim=True).float().expand_as(y),
        lambda y: y.detach().clone().zero_(),
        lambda y: y.long(),
    ],
)
def test_shapes_fills_comparisons_and_integers_cut_the_dependency(empty: Any) -> None:
    model = Calls(lambda m, x: m.a(x) + empty(m.b(x)), a=nn.Linear(4, 4), b=nn.Linear(4, 4))
    report = effective_depth(model, x24)
    assert (report.path_length_moments, report.residual_additions) == (moments(1), 0)


def test_positions_made_of_shapes_are_no_source() -> None:
    def run(self: Any, tokens: Tensor) -> Tensor:
        positions = torch.arange(tokens.shape[1])
        return self.head(self.table(tokens) + self.positions(positions))

    members = {"table": nn.Embedding(9, 4), "positions": nn.Embedding(9, 4)}
    model = Calls(run, head=nn.Linear(4, 2), **members)
    tokens = torch.zeros(2, 5, dtype=torch.long)
    assert lengths(model, tokens) == moments(2)


@pytest.mark.parametrize(
    "one_hot",
    [
        lambda t: F.one_hot(t, 9).float(),
        lambda t: (t[..., None] == torch.arange(9)).float(),
        lambda t: torch.eq(t.unsqueeze(-1), torch.arange(9)).to(torch.float32),
    ],
)
def test_one_hot_tokens_reach_the_layers(one_hot: Any) -> None:
    model = Calls(
        lambda m, t: m.head(one_hot(t) @ m.table), table=matrix(9, 4), head=nn.Linear(4, 2)
    )
    assert lengths(model, torch.zeros(2, 5, dtype=torch.long)) == moments(2)


def test_padding_comparison_of_tokens_is_a_mask_not_a_path() -> None:
    def run(self: Any, tokens: Tensor) -> Tensor:
        keep = (tokens != 0).unsqueeze(-1)
        h = self.table(tokens) * keep
        return self.head(h.masked_fill(tokens.eq(0).unsqueeze(-1), 0.0))

    model = Calls(run, table=nn.Embedding(9, 4), head=nn.Linear(4, 2))
    assert lengths(model, torch.zeros(2, 5, dtype=torch.long)) == moments(2)


def test_routing_indices_are_dropped_beside_the_values_they_route() -> None:
    def run(self: Any, x: Tensor) -> Tensor:
        scores, chosen = self.router(x).topk(2, dim=1)
        rows = torch.gather(self.value(x), 1, chosen)
        picked = self.value(x)[torch.arange(2), chosen[:, 0]]
        return rows.sum() + picked.sum() + scores.sum() * 0.0

    model = Calls(run, router=nn.Linear(4, 4), value=nn.Linear(4, 4))
    graph = capture_graph(model, x24)
    router = next(n.index for n in graph.weight_layers() if n.module == "router")
    consumers = [n.op for n in graph if router in n.inputs]
    assert consumers == ["aten.topk.default"]
    gathers = [n for n in graph if n.op.startswith(("aten.gather", "aten.index"))]
    assert len(gathers) == 2
    for node in gathers:
        assert {graph.nodes[p].module for p in node.inputs} == {"value"}


def test_indices_that_are_inputs_are_no_path_beside_activations() -> None:
    def run(self: Any, x: Tensor, rows: Tensor) -> Tensor:
        h = self.a(x)
        return self.b(torch.gather(h, 1, rows) + h[torch.arange(2), rows[:, 0]][:, None])

    model = Calls(run, a=nn.Linear(4, 4), b=nn.Linear(4, 4))
    report = effective_depth(model, x24, torch.zeros(2, 4, dtype=torch.long))
    assert report.matrix == {"args.0": {"output": 2}, "args.1": {"output": None}}
