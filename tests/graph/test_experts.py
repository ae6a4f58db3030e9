"""Mixture of experts: routing read in Python falls back to real tensors and says so."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from etastar.graph.capture import capture_graph, effective_depth


class Experts(nn.Module):
    """Top-1 routing over two-layer experts, in one of the ways that people write it."""

    def __init__(self, how: str, experts: int = 3) -> None:
        super().__init__()
        self.router = nn.Linear(4, experts)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4)) for _ in range(experts)
        )
        self.how = how
        with torch.no_grad():  # every token goes to expert 1
            self.router.weight.zero_()
            self.router.bias.copy_(torch.tensor([0.0, 1.0, 0.0]))

    def forward(self, x: Tensor) -> Tensor:
        weight, chosen = self.router(x).softmax(-1).max(-1)
        return x + getattr(self, self.how)(x, weight, chosen)

    def nonzero(self, x: Tensor, weight: Tensor, chosen: Tensor) -> Tensor:
        out = torch.zeros_like(x)
        for i, expert in enumerate(self.experts):
            rows = (chosen == i).nonzero(as_tuple=True)[0]
            if rows.numel():
                out.index_add_(0, rows, weight[rows, None] * expert(x[rows]))
        return out

    def item(self, x: Tensor, weight: Tensor, chosen: Tensor) -> Tensor:
        rows = [self.experts[int(e.item())](row) for row, e in zip(x, chosen, strict=True)]
        return torch.stack(rows) * weight[:, None]

    def boolean(self, x: Tensor, weight: Tensor, chosen: Tensor) -> Tensor:
        out = torch.zeros_like(x)
        for i, expert in enumerate(self.experts):
            keep = chosen == i
            if keep.any():
                out[keep] = expert(x[keep]) * weight[keep, None]
        return out

    def dense(self, x: Tensor, weight: Tensor, chosen: Tensor) -> Tensor:
        parts = [(chosen == i)[:, None] * e(x) for i, e in enumerate(self.experts)]
        return sum(parts[1:], parts[0]) * weight[:, None]


@pytest.mark.parametrize("how", ["nonzero", "item", "boolean"])
def test_routing_read_in_python_needs_real_tensors_and_says_so(how: str) -> None:
    report = effective_depth(Experts(how), torch.ones(5, 4))
    assert report.capture == "real"
    assert report.capture_note is not None
    assert report.capture_note.startswith("fake tensors refused aten.")
    unused = [f"experts.{i}.{j}.weight" for i in (0, 2) for j in (0, 2)]
    assert list(report.unused_parameters) == unused


@pytest.mark.parametrize("how", ["nonzero", "boolean"])
def test_expert_that_got_no_token_is_not_guessed(how: str) -> None:
    report = effective_depth(Experts(how), torch.ones(5, 4))
    # x; the router's weight; the expert's two layers; then one addition
    assert report.path_length_moments == (3, 6, 14, 36)


def test_experts_that_all_run_stay_on_fake_tensors() -> None:
    report = effective_depth(Experts("dense"), torch.ones(5, 4))
    assert report.capture == "fake"
    assert report.unused_parameters == ()
    assert report.longest_path == 4  # expert 2, the sum of experts, x + ...
    assert report.residual_additions == 2


def _mixtral(**settings: Any) -> nn.Module:
    from transformers import MixtralConfig, MixtralForCausalLM

    config = MixtralConfig(
        vocab_size=32,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        num_local_experts=4,
        num_experts_per_tok=2,
        **settings,
    )
    return MixtralForCausalLM(config)


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_mixtral_with_grouped_matmul_stays_on_fake_tensors(device: str) -> None:
    with torch.device(device):
        model = _mixtral(experts_implementation="grouped_mm")
    graph = capture_graph(model, input_ids=torch.arange(6)[None])
    report = graph.depth()
    assert report.capture == "fake", report.capture_note
    assert any(n.op.startswith("aten._grouped_mm") for n in graph.weight_layers())
    # embedding, head, and per block an attention and an expert addition
    assert report.effective_depth == 2 + 2 * 2
    assert report.residual_additions == 4
    assert report.unused_parameters == report.recurrent == ()


def test_mixtral_with_a_loop_over_experts_falls_back() -> None:
    model = _mixtral(experts_implementation="eager")
    report = effective_depth(model, input_ids=torch.arange(6)[None])
    assert report.capture == "real"
    assert report.effective_depth == 2 + 2 * 2
    assert report.recurrent == ()
