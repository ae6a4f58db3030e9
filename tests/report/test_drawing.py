"""The network drawn: the lit path, folds, edges, names escaped."""

import re
from xml.etree import ElementTree

import pytest
import torch
from torch import nn

from etastar.graph import capture_graph
from etastar.report.drawing import DrawnNode, Fold, draw_network, drawn_nodes, fold_rows
from etastar.sources.model_spec import capture_spec


class UNet(nn.Module):
    """A network whose shortest path by-passes most of its layers."""

    def __init__(self):
        super().__init__()
        self.down, self.deep, self.up = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(16, 8)

    def forward(self, x):
        skip = self.down(x).relu()
        return self.up(torch.cat([skip, self.deep(skip).relu()], -1))


def flat(items):
    for item in items:
        if isinstance(item, Fold):
            yield from flat(item.items)
        else:
            yield item


GRAPHS = {
    "gpt 3": lambda: capture_spec("zoo:gpt", {"depth": 3}),
    "gpt 12": lambda: capture_spec("zoo:gpt", {"depth": 12}),
    "resnet": lambda: capture_spec("zoo:resnet", {"depth": 6}),
    "mlp": lambda: capture_spec("zoo:mlp", {"depth": 5}),
    "cnn": lambda: capture_spec("zoo:cnn2d", {}),
    "u-net": lambda: capture_graph(UNet(), torch.zeros(1, 8)),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_the_lit_path_has_effective_depth_operations_in_order(name):
    graph = GRAPHS[name]()
    report, nodes = graph.depth(), drawn_nodes(graph)
    lit = [(node.module, node.kind) for node in nodes if node.lit]
    assert lit == [(step.module, step.counted_as) for step in report.path]
    picture = draw_network(nodes)
    assert len(re.findall(r'class="node [a-z-]+ lit"', picture)) == report.effective_depth
    assert len(re.findall(r'class="node ', picture)) == len(nodes)
    ElementTree.fromstring(f"<div>{picture}</div>")  # well formed


@pytest.mark.parametrize("name", GRAPHS)
def test_every_row_is_there_once_in_the_order_of_execution(name):
    nodes = drawn_nodes(GRAPHS[name]())
    assert list(flat(fold_rows(nodes))) == list(range(len(nodes)))


def test_ninety_six_blocks_are_one_fold():
    nodes = drawn_nodes(capture_spec("zoo:gpt", {"depth": 96}))
    items = fold_rows(nodes)
    assert len(items) == 4
    fold = items[1]
    assert fold.title == "blocks.0 to blocks.95"
    assert fold.content == "96 alike, each 4 layers, 2 additions"
    assert len(fold.items) == 96
    assert {len(list(flat([one]))) for one in fold.items} == {10}


def test_layers_that_alternate_are_folded_by_their_period():
    chain = nn.Sequential(*[f() for _ in range(9) for f in (lambda: nn.Linear(4, 4), nn.Tanh)])
    fold, *rest = fold_rows(drawn_nodes(capture_graph(chain, torch.zeros(1, 4))))
    assert fold.content == "8 alike, each 1 layer"
    assert rest == [16, 17]  # the last activation is on no way to a counted operation


def test_unlike_blocks_and_short_networks_stay_open():
    nodes = [DrawnNode(f"b.{k}", "weight layer", f"op{k}") for k in range(30)]
    assert fold_rows(nodes) == tuple(range(30))
    assert fold_rows(nodes[:1] * 3) == (0, 1, 2)
    assert fold_rows([]) == ()


def test_stages_within_stages_are_folded_within():
    names = [f"stages.{s}.blocks.{b}.fc" for s in range(2) for b in range(9 - 3 * s)]
    items = fold_rows([DrawnNode(name, "weight layer", "mm") for name in names])
    assert [item.title for item in items if isinstance(item, Fold)] == [
        "stages.0.blocks.0 to stages.0.blocks.8"
    ]
    assert list(flat(items)) == list(range(15))


def test_the_path_is_straight_and_a_branch_leaves_and_joins_it():
    nodes = drawn_nodes(capture_graph(UNet(), torch.zeros(1, 8)))
    assert [(node.module, node.on_path) for node in nodes] == [
        ("down", True),
        ("", True),
        ("deep", False),
        ("", False),
        ("up", True),
    ]
    assert nodes[-1].sources == (1, 3)
    assert draw_network(nodes).count('class="lit"') == 2


def test_names_are_escaped_in_every_place():
    evil = '<script>alert("x")</script>&\''
    nodes = [DrawnNode(f"{evil}.{k}", "weight layer", evil) for k in range(9)]
    picture = draw_network(nodes)
    root = ElementTree.fromstring(f"<div>{picture}</div>")
    assert not list(root.iter("script"))
    assert evil in next(root.iter("g")).get("data-tip")
