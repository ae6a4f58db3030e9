"""What counts as one addition: stacked sums, sums within mixing, sums of embeddings."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch
import torch.nn.functional as F
from numpy.polynomial import Polynomial
from torch import nn

from etastar.graph.addends import group_sums
from etastar.graph.capture import capture_graph, effective_depth

X = torch.zeros(2, 8)
TOKENS = torch.zeros(1, 6, dtype=torch.long)
x = Polynomial([0, 1])

SUMS = {
    "stack and sum": lambda a, b: torch.stack([a, b]).sum(0),
    "stack at the end and mean": lambda a, b: torch.stack([a, b], -1).mean(-1),
    "mean that keeps its dimension": lambda a, b: torch.stack([a, b], 1).mean(1, keepdim=True)[
        :, 0
    ],
    "cat, view and sum": lambda a, b: torch.cat([a, b], -1).view(2, 2, 8).sum(1),
    "cat of slices": lambda a, b: torch.cat([a[None], b[None]]).sum(0),
    "cumulative sum": lambda a, b: torch.stack([a, b]).cumsum(0)[-1],
    "einsum": lambda a, b: torch.einsum("kbd->bd", torch.stack([a, b])),
    "of lists": lambda a, b: torch._foreach_add([a], [b])[0],
}


@pytest.mark.parametrize("how", SUMS)
@pytest.mark.parametrize("blocks", [2, 5])
def test_residual_sum_however_it_is_written(how, blocks, network, linears, has_paths):
    def run(self, h):
        h = self.stem(h)
        for layer in self.layers:
            h = SUMS[how](h, layer(torch.relu(h)))
        return self.head(h)

    model = network(run, stem=nn.Linear(8, 8), layers=linears(blocks), head=nn.Linear(8, 2))
    graph = capture_graph(model, X)
    assert has_paths(graph.depth(), x**2 * (x + x**2) ** blocks)
    assert graph.depth().residual_additions == blocks
    on_branches = [i for i in graph.parameters if i.name.startswith("layers")]
    assert all(
        (i.stream, i.stream_additions, i.branch_scale) == (0, blocks, True) for i in on_branches
    )


@pytest.mark.parametrize(
    "pool",
    [
        lambda a, b: torch.cat([a[:, None], b[:, None].expand(2, 3, 8)], 1).mean(1),  # positions
        lambda a, b: torch.stack([a, b]).sum(-1),  # over features, not over what is stacked
        lambda a, b: torch.cat([a, b], -1).view(2, 2, 8).sum(2),
    ],
)
def test_sum_over_another_dimension_is_no_addition(pool, network):
    model = network(lambda m, h: pool(m.a(h), m.b(m.a(h))), a=nn.Linear(8, 8), b=nn.Linear(8, 8))
    assert effective_depth(model, X).residual_additions == 0


def test_a_stack_that_is_read_twice_is_summed_once_for_each(network):
    def run(self, h):
        both = torch.stack([h := self.a(h), self.b(h)])
        return both.sum(0) * both.mean(0)

    graph = capture_graph(network(run, a=nn.Linear(8, 8), b=nn.Linear(8, 8)), X)
    assert group_sums(graph.nodes, (len(graph) - 1,)) == (
        {},
        {},
    )  # as other operations that it feeds


# -- x + s (pool(x) - x) -------------------------------------------------------------------------


def mixer_blocks(mix, blocks, network, linears):
    def run(self, h):
        h = self.stem(h)
        for scale, layer in zip(self.scales, self.layers, strict=True):
            h = h + scale * mix(h)
            h = h + scale * layer(torch.relu(h))
        return self.head(h)

    scales = nn.ParameterList(nn.Parameter(torch.ones(8)) for _ in range(blocks))
    layers = linears(blocks)
    return network(run, stem=nn.Linear(8, 8), scales=scales, layers=layers, head=nn.Linear(8, 2))


MIXERS = {
    "pooling": lambda h: F.avg_pool1d(h, 3, 1, 1) - h,
    "pooling, in another order": lambda h: -(h - F.max_pool1d(h, 3, 1, 1)),
    "Fourier transform": lambda h: torch.fft.fft(h).real - h,
}


@pytest.mark.parametrize("name", MIXERS)
@pytest.mark.parametrize("blocks", [1, 3])
def test_inner_difference_of_a_mixer_is_no_addition(name, blocks, network, linears, has_paths):
    model = mixer_blocks(MIXERS[name], blocks, network, linears)
    graph = capture_graph(model, X[None])
    assert has_paths(graph.depth(), x**2 * (x * (x + x**2)) ** blocks)
    assert {i.stream_additions for i in graph.parameters if i.in_branch} == {2 * blocks}


def test_difference_of_a_mixer_alone_still_counts(network):
    model = network(lambda m, h: m.b(F.avg_pool1d(m.a(h), 3, 1, 1) - m.a(h)), a=nn.Linear(8, 8))
    model.b = nn.Linear(8, 2)
    assert effective_depth(model, X).residual_additions == 1


# -- embeddings of inputs ------------------------------------------------------------------------


def embedded(names, network):
    def run(self, *inputs):
        h = sum(getattr(self, name)(i) for name, i in zip(names, inputs, strict=True))
        h = F.layer_norm(h, (8,))
        for layer in self.layers:
            h = h + layer(torch.relu(h))
        return self.head(h)

    tables = {name: nn.Embedding(9, 8) for name in names}
    layers = nn.ModuleList(nn.Linear(8, 8) for _ in range(3))
    return network(run, **tables, layers=layers, head=nn.Linear(8, 2))


OPTIONAL = ("types", "positions")


@pytest.mark.parametrize("passed", [c for n in range(3) for c in combinations(OPTIONAL, n)])
def test_depth_is_the_same_whichever_embeddings_are_summed(passed, network, has_paths):
    names = ("tokens", *passed)
    graph = capture_graph(embedded(names, network), *[TOKENS] * len(names))
    assert has_paths(graph.depth(), len(names) * x**2 * (x + x**2) ** 3)
    layers = [i for i in graph.parameters if i.name.startswith("layers")]
    assert {(i.stream, i.stream_additions) for i in layers} == {(0, 3)}
    assert not any(i.in_branch for i in graph.parameters if i not in layers)


def test_bert_has_one_depth_with_and_without_types_and_positions():
    from transformers import BertConfig, BertModel

    config = BertConfig(
        hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16,
        vocab_size=9, max_position_embeddings=8,
    )  # fmt: skip
    model = BertModel(config)
    others = {"token_type_ids": TOKENS, "position_ids": TOKENS}
    for extra in ({}, others):
        report = effective_depth(model, input_ids=TOKENS, **extra)
        assert (report.effective_depth, report.residual_additions) == (5, 4)


def test_patches_and_a_table_of_positions_that_is_passed(network):
    def run(self, image, positions):
        h = self.patch(image) + self.table(positions)
        return self.head(h + self.layer(h))

    model = network(run, patch=nn.Linear(8, 8), table=nn.Embedding(9, 8), layer=nn.Linear(8, 8))
    model.head = nn.Linear(8, 2)
    report = effective_depth(model, torch.zeros(1, 6, 8), TOKENS)
    assert (report.effective_depth, report.residual_additions) == (3, 1)


def test_two_towers_still_are_an_addition(network):
    model = network(lambda m, a, b: m.a(a) + m.b(b), a=nn.Linear(8, 8), b=nn.Linear(8, 8))
    assert effective_depth(model, X, X).residual_additions == 1
