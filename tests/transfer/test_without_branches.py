"""Laws of branches for networks in which they find none, or none that grows: the plan says so."""

import pytest
import torch
from torch import nn

from etastar.graph import capture_graph
from etastar.models import build, example_inputs
from etastar.transfer import Tuned, plan_transfer

X = torch.zeros(2, 8)
NONE = "no residual branch was found"
SHORT = "no residual stream grows"


class Stream(nn.Module):
    """Blocks of one layer, and a layer to `outputs`."""

    def __init__(self, blocks, outputs=8):
        super().__init__()
        self.blocks = nn.ModuleList(nn.Linear(8, 8) for _ in range(blocks))
        self.last = nn.Linear(8, outputs)

    def forward(self, x):
        for block in self.blocks:
            x = x + torch.relu(block(x))
        return self.last(x)


def chain(depth):
    return build("mlp", depth=depth), example_inputs("mlp")


def around(depth):
    """A chain that grows, and one stream of two blocks behind it."""
    layers = [layer for _ in range(depth) for layer in (nn.Linear(8, 8), nn.ReLU())]
    return nn.Sequential(*layers, Stream(2)), X


def stages(depth):
    """More and more streams, each of two blocks."""
    return nn.Sequential(*[Stream(2) for _ in range(depth)]), X


def stream(depth):
    return Stream(depth), X


def matching(words, base, target, **settings):
    plan = plan_transfer(Tuned(base, 0.01), target, optimizer="adamw", **settings)
    return [note for note in plan.notes if words in note]


@pytest.mark.parametrize("law", ["complete-p", "depth-mup"])
def test_a_chain_is_told_that_nothing_is_scaled(law):
    (note,) = matching(NONE, chain(4), chain(16), law=law)
    assert note.startswith(law)
    assert len(matching(NONE, chain(4), chain(16), law=law, init="keep", width="none")) == 1
    assert matching(NONE, stream(4), stream(8), law=law) == []
    assert matching(NONE, chain(4), chain(16), law="effective-depth") == []


def test_graphs_are_told_and_every_form_of_the_plan_says_it():
    graphs = [capture_graph(model, *inputs) for model, inputs in (chain(4), chain(16))]
    plan = plan_transfer(Tuned(graphs[0], 0.01), graphs[1], optimizer="sgd", law="complete-p")
    assert NONE in " ".join(str(plan).split())
    assert any(NONE in text for text in plan.as_dict()["notes"])
    assert NONE in plan.to_json()


@pytest.mark.parametrize("make", [around, stages])
def test_streams_of_one_length_are_not_scaled_either(make):
    (note,) = matching(SHORT, make(2), make(6), law="complete-p")
    assert note.startswith("complete-p: ")
    assert matching(SHORT, make(2), make(2), law="complete-p") == []
    assert matching(SHORT, stream(4), stream(8), law="complete-p") == []
