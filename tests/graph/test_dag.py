"""The records of a graph."""

import pickle

import torch
from torch import nn

from etastar.graph import capture_graph
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
