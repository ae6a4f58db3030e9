"""Random cells: their drawing, their formula, and graph depths found by hand."""

import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from etastar.errors import ModelSpecError
from etastar.graph import effective_depth
from studies.cells import EDGES, CellPlan, cell, cell_inputs, cell_plan

IMAGE = torch.zeros(2, 1, 8, 8)
OPS = ("zero", "skip", "conv1x1", "conv3x3", "avgpool")


def by_formula(model, x):
    """NAS-Bench-201: node i is the sum over j < i of edge (j, i) of node j."""
    x = model.stem(x)
    for one in model.cells:
        nodes = [x]
        for i in (1, 2, 3):
            incoming = [(f"{j}to{i}", nodes[j]) for j in range(i) if f"{j}to{i}" in one.ops]
            nodes.append(sum(one.ops[key](value) for key, value in incoming))
        x = nodes[3]
    return model.head(x.relu().mean((2, 3)))


@settings(deadline=None, max_examples=25)
@given(cell_seed=st.integers(0, 10**6))
def test_a_drawn_network_is_its_formula_and_every_parameter_gets_a_gradient(cell_seed):
    model = cell(depth=2, width=4, cell_seed=cell_seed)
    x = torch.randn(2, 1, 8, 8)
    output = model(x)
    torch.testing.assert_close(output, by_formula(model, x))
    output.square().mean().backward()
    assert all(p.grad is not None for p in model.parameters())


@settings(deadline=None, max_examples=200)
@given(ops=st.lists(st.sampled_from(OPS), min_size=6, max_size=6))
def test_pruning_keeps_exactly_the_edges_on_a_way(ops):
    written = dict(zip(EDGES, ops, strict=True))
    ways = [[(0, 3)], [(0, 1), (1, 3)], [(0, 2), (2, 3)], [(0, 1), (1, 2), (2, 3)]]
    open_ways = [way for way in ways if all(written[edge] != "zero" for edge in way)]
    expected = {edge: written[edge] for way in open_ways for edge in way}
    if any(op.startswith("conv") for op in expected.values()):
        assert cell_plan(edges=",".join(ops)).edges == expected
    else:
        with pytest.raises(ValueError, match="convolution on a way"):
            cell_plan(edges=",".join(ops))


def test_seeds_draw_many_cells_and_every_operation():
    plans = [cell_plan(seed) for seed in range(200)]
    assert plans == [cell_plan(seed) for seed in range(200)]
    assert len(set(plans)) > 100
    assert {op for plan in plans for op in plan.ops} == set(OPS)
    assert all(cell_plan(edges=plan.text) == plan for plan in plans)


def test_the_first_cells_are_the_same_everywhere():
    assert cell_plan(0) == CellPlan(("conv3x3", "conv3x3", "zero", "conv1x1", "avgpool", "conv3x3"))
    assert cell_plan(3) == CellPlan(("skip", "avgpool", "avgpool", "skip", "conv1x1", "avgpool"))


@pytest.mark.parametrize(
    ("edges", "shortest", "longest", "additions", "layer_paths"),
    [
        # one convolution from input to output: a chain
        ("zero,zero,zero,conv3x3,zero,zero", 1, 1, 0, {1: 1}),
        # three convolutions in a row
        ("conv3x3,zero,conv1x1,zero,zero,conv3x3", 3, 3, 0, {3: 1}),
        # x + conv(conv(x)): only the addition on the skip
        ("conv3x3,zero,zero,skip,conv3x3,zero", 1, 3, 1, {0: 1, 2: 1}),
        # conv(x) + conv(x): both ways hold a layer
        ("conv1x1,zero,zero,conv3x3,skip,zero", 2, 2, 1, {1: 2}),
        # x + pool(x) + conv(x), one addition of three operands
        ("skip,avgpool,zero,conv3x3,skip,skip", 1, 2, 1, {0: 1, 1: 1}),
        # n2 = x + conv(x), then conv(n2) and the skip around both
        ("skip,conv1x1,skip,skip,zero,conv3x3", 1, 4, 2, {0: 1, 1: 1, 2: 1}),
    ],
)
@pytest.mark.parametrize("cells", [1, 2])
def test_depths_by_hand(edges, shortest, longest, additions, layer_paths, cells):
    report = effective_depth(cell(depth=cells, width=4, edges=edges), IMAGE)
    assert report.effective_depth == shortest * cells + 2
    assert report.longest_path == longest * cells + 2
    assert report.residual_additions == additions * cells
    assert report.layer_longest_path == max(layer_paths) * cells + 2
    assert report.layer_path_length_moments[0] == sum(layer_paths.values()) ** cells
    if cells == 1:
        third = sum(count * (layers + 2) ** 3 for layers, count in layer_paths.items())
        assert report.layer_path_length_moments[3] == third


def test_batch_norm_follows_every_convolution_of_a_cell():
    plan = cell_plan(4)
    model = cell(depth=3, cell_seed=4, batch_norm=True)
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(norms) == 3 * sum(op.startswith("conv") for op in plan.ops)


def test_a_cell_adds_as_many_weight_layers_as_it_has_convolutions():
    per_cell = sum(op.startswith("conv") for op in cell_plan(0).ops)
    for depth in (1, 2, 7):
        layers = [m for m in cell(depth=depth).modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
        assert len(layers) == 2 + per_cell * depth


def test_width_changes_shapes_but_neither_names_nor_depth():
    narrow, wide = (dict(cell(width=width).named_parameters()) for width in (16, 32))
    assert list(narrow) == list(wide)
    assert all(wide[key].numel() > narrow[key].numel() for key in narrow if "head.bias" not in key)


def test_example_inputs_fit_and_leave_the_random_numbers():
    given = {"in_channels": 3, "image_size": 12}
    state = torch.get_rng_state()
    (x,) = cell_inputs(depth=1, **given)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(x, cell_inputs(**given)[0])
    assert x.shape == (2, 3, 12, 12)
    assert cell(1, num_classes=5, **given)(x).shape == (2, 5)


def test_without_bias_no_layer_has_one():
    modules = cell(bias=False).named_modules()
    assert [n for n, m in modules if getattr(m, "bias", None) is not None] == []


def test_cells_can_be_pickled():
    model = cell().eval()
    assert torch.equal(pickle.loads(pickle.dumps(model))(IMAGE), model(IMAGE))


@pytest.mark.parametrize(
    ("argument", "bad"),
    [(name, bad) for name in ("depth", "width") for bad in (0, -1)]
    + [("width", bad) for bad in (2.5, "8", True, None)]
    + [("activation", "swish"), ("padding", "reflect"), ("image_size", 0)]
    + [("cell_seed", bad) for bad in (-1, 1.5, True)]
    + [("edges", bad) for bad in ("skip", "warp,skip,skip,skip,skip,conv1x1")]
    + [("edges", "conv1x1,zero,zero,skip,zero,skip")],
)
def test_a_bad_value_is_refused_by_name(argument, bad):
    with pytest.raises(ModelSpecError, match=rf"received: .*{argument}={bad!r}"):
        cell(**{argument: bad})
