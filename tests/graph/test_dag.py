"""The records of a graph."""

import pickle
import tracemalloc

import pytest
import torch
from torch import nn

from etastar.graph import capture_graph
from etastar.graph.contraction import data_inputs
from etastar.init import initialize_


def test_a_graph_survives_pickling_with_its_calls():
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.GELU(), nn.Flatten(), nn.Linear(16, 2))
    graph = capture_graph(model, torch.zeros(1, 1, 4, 4))
    again = pickle.loads(pickle.dumps(graph))
    assert again == graph
    assert [n.call and n.call.func for n in again] == [n.call and n.call.func for n in graph]
    gains = [initialize_(model, g, seed=0)["3.weight"].gain for g in (graph, again)]
    assert gains[0] == gains[1] > 1


def test_nodes_know_what_they_read():
    graph = capture_graph(nn.Linear(3, 2), torch.zeros(1, 3))
    (layer,) = graph.weight_layers()
    assert (layer.inputs, layer.parameters) == ((0,), ("bias", "weight"))
    assert (layer.shape, layer.dtype, layer.module) == ((1, 2), "torch.float32", "")
    assert len(graph) == len(list(graph)) == 2


class Repeated(nn.Module):
    """x + W x, 800 times, with one W or one for each."""

    def __init__(self, num_layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(2, 2) for _ in range(num_layers))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for number in range(800):
            x = x + self.layers[number % len(self.layers)](x)
        return x


@pytest.mark.parametrize("num_layers", [1, 800])
def test_a_walk_over_many_blocks_keeps_less_than_a_list_of_them_for_each(num_layers):
    graph = capture_graph(Repeated(num_layers), torch.zeros(1, 2))
    walks = (
        lambda: data_inputs(graph.nodes, graph.inputs),
        lambda: graph.depth(sources=["x"]),
    )
    for walk in walks:
        tracemalloc.start()
        walk()
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 8 * 800 * len(graph)
