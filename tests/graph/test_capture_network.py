"""One form of a network: its graph, or a model with what it takes."""

import pytest
import torch
from torch import nn

from etastar.errors import CaptureError
from etastar.graph import capture_graph
from etastar.graph.capture import graph_of


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(3, 4), nn.Linear(5, 4)

    def forward(self, x, y):
        return self.first(x) + self.second(y)


X, Y = torch.zeros(2, 3), torch.zeros(2, 5)


def test_one_argument_needs_no_tuple():
    linear = nn.Linear(3, 4)
    graph = capture_graph(linear, X)
    assert graph_of((linear, X)) == graph_of((linear, (X,))) == graph
    assert graph_of((linear, {"input": X})) == graph
    assert graph_of(graph) is graph


def test_several_arguments_are_a_tuple_or_a_dict():
    model = Two()
    graph = capture_graph(model, X, Y)
    assert graph_of((model, (X, Y))) == graph
    assert graph_of((model, {"x": X, "y": Y})) == graph


@pytest.mark.parametrize(
    "network",
    [None, 3, "x", nn.Linear(1, 1), (nn.Linear(1, 1),), (X, nn.Linear(1, 1)), (nn.ReLU(), 1, 2)],
)
def test_anything_else_is_refused(network):
    with pytest.raises(CaptureError, match="example inputs"):
        graph_of(network)
