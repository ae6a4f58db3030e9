import math

import pytest
import torch
from torch import nn

from etastar.errors import InitError
from etastar.graph.capture import capture_graph
from etastar.init import check_stability, check_stability_over, initialize_
from etastar.models import build, example_inputs


def prepared(name, depth, *, inputs=None, seed=0, init=None, **arguments):
    model = build(name, depth=depth, **arguments)
    inputs = inputs or example_inputs(name)
    initialize_(model, capture_graph(model, *inputs), seed=seed, **(init or {}))
    return model, inputs


def features(number=64):
    return (torch.randn(number, 64, generator=torch.Generator().manual_seed(1)),)


def stream_growth(model, inputs):
    """Mean square of the stream after the last addition over that of the stem."""
    additions = [x for x in check_stability(model, *inputs).layers if x.kind != "weight layer"]
    return additions[-1].forward_ratio


@pytest.mark.parametrize("depth", [4, 32])
@pytest.mark.parametrize(
    ("branch_layers", "residual", "growth"),
    [
        (1, "all", lambda k: (1 + 1 / k) ** k),
        (2, "last", lambda k: (1 + 1 / k) ** k),
        (2, "all", lambda k: (1 + 1 / k**2) ** k),
    ],
)
def test_the_stream_of_a_residual_network_grows_as_predicted(
    depth, branch_layers, residual, growth
):
    found = [
        stream_growth(
            *prepared(
                "resmlp", depth, width=128, branch_layers=branch_layers, seed=seed,
                inputs=features(), init={"residual": residual},
            )
        )
        for seed in range(3)
    ]  # fmt: skip
    assert sum(found) / 3 == pytest.approx(growth(depth), rel=0.2)


def test_without_the_residual_factor_the_stream_doubles_with_every_block():
    model, inputs = prepared("resmlp", 6, width=256, inputs=features(), init={"residual": "none"})
    assert stream_growth(model, inputs) == pytest.approx(2**6, rel=0.3)


@pytest.mark.parametrize("depth", [4, 16, 48])
def test_a_relu_chain_keeps_its_second_moment(depth):
    found = [
        check_stability(*_flat(prepared("mlp", depth, width=256, inputs=features(), seed=seed)))
        for seed in range(4)
    ]
    assert all(report.stable for report in found)
    mean = sum(report.layers[-2].forward_ratio for report in found) / 4
    assert mean == pytest.approx(1, rel=0.35)


def _flat(pair):
    model, inputs = pair
    return (model, *inputs)


@pytest.mark.parametrize(
    ("name", "depths", "arguments"),
    [
        ("mlp", (4, 24), {"width": 128}),
        ("resmlp", (4, 24), {"width": 64, "branch_layers": 2}),
        ("resnet", (2, 12), {"width": 16}),
        ("resnet", (2, 12), {"width": 16, "branch_layers": 2, "batch_norm": True}),
        ("gpt", (1, 6), {"width": 64}),
        ("gpt", (1, 6), {"width": 64, "parallel": True}),
        ("vit", (1, 6), {"width": 64}),
    ],
)
def test_the_scheme_is_stable_over_depth_on_the_zoo(name, depths, arguments):
    found = check_stability_over(lambda depth: prepared(name, depth, **arguments), depths)
    assert found.stable, found.first_unstable
    assert [depth for depth, _ in found.reports] == list(depths)


def test_pytorchs_own_initialization_of_a_deep_chain_is_not_stable():
    model = build("mlp", depth=24, width=128)
    assert not check_stability(model, *features()).stable


def test_over_depth_the_first_depth_that_fails_is_named():
    def factory(depth):
        return prepared("resmlp", depth, width=64, inputs=features(), init={"residual": "none"})

    depth, layer = check_stability_over(factory, (2, 4, 8, 16)).first_unstable
    assert depth == 4
    assert layer.kind == "residual addition"


def test_prepare_is_called_on_every_depth():
    def prepare(model, inputs):
        initialize_(model, capture_graph(model, *inputs))

    def factory(depth):
        return build("mlp", depth=depth, width=128), features()

    assert not check_stability_over(factory, (24,)).stable
    assert check_stability_over(factory, (24,), prepare=prepare).stable


@pytest.mark.parametrize("faulty", [1, 3, 7])
@pytest.mark.parametrize("factor", [8.0, 0.1])
def test_the_layer_with_the_wrong_variance_is_named(faulty, factor):
    model, inputs = prepared("mlp", 8, width=256, inputs=features())
    with torch.no_grad():
        model.layers[faulty].weight.mul_(factor)
    found = check_stability(model, *inputs)
    assert found.first_unstable.module == f"layers.{faulty}"
    assert found.first_unstable.leaves == "forward"
    assert f"the forward moment of layers.{faulty}" in found.verdict


@pytest.mark.parametrize("faulty", [3, 5])
def test_the_layer_whose_gradient_alone_is_wrong_is_named(faulty):
    model, inputs = prepared("mlp", 8, width=256, inputs=features())
    model.layers[faulty].register_forward_hook(lambda m, i, out: 10 * out - 9 * out.detach())
    found = check_stability(model, *inputs)
    # the hook multiplies what flows back into the layer, so that the layers after it are small
    assert found.first_unstable.module == f"layers.{faulty + 1}"
    assert found.first_unstable.leaves == "gradient"
    assert found.first_unstable.gradient_ratio < 0.1


def test_the_scale_of_the_input_changes_no_ratio():
    model, (x,) = prepared("mlp", 4, width=128, inputs=features())
    plain, scaled = check_stability(model, x), check_stability(model, 100 * x)
    assert [layer.forward_ratio for layer in scaled.layers] == pytest.approx(
        [layer.forward_ratio for layer in plain.layers], rel=1e-3
    )


def test_a_branch_that_explodes_is_named():
    model, inputs = prepared("resmlp", 6, width=128, inputs=features())
    with torch.no_grad():
        model.blocks[3].fc1.weight.mul_(20)
    found = check_stability(model, *inputs)
    assert found.first_unstable.module == "blocks.3.fc1"
    assert found.first_unstable.judged == "upper limit"


def test_a_branch_that_vanishes_is_stable():
    model, inputs = prepared("resmlp", 6, width=128, inputs=features())
    with torch.no_grad():
        for block in model.blocks:
            block.fc1.weight.zero_()
    assert check_stability(model, *inputs).stable


def last_hidden(depth, **init):
    pair = prepared("mlp", depth, width=256, activation="tanh", inputs=features(), init=init)
    return check_stability(*_flat(pair)).layers[-2]


def test_he_gain_lets_gradients_of_tanh_explode():
    model, inputs = prepared("mlp", 32, width=256, activation="tanh", inputs=features())
    assert check_stability(model, *inputs).first_unstable.leaves == "gradient"
    assert last_hidden(32).gradient_ratio < 0.02
    assert last_hidden(64).gradient_ratio < 0.02**2


@pytest.mark.parametrize("depth", [16, 48])
def test_the_edge_of_chaos_of_tanh_fades_like_one_over_the_depth_only(depth):
    found = last_hidden(depth, scheme="edge-of-chaos")
    assert found.forward_ratio == pytest.approx(1 / (2 * depth), rel=0.35)
    assert found.gradient_ratio < 4 * depth


def test_the_edge_of_chaos_with_biases_is_stable_where_he_is_not():
    init = {"scheme": "edge-of-chaos", "bias_variance": 0.05}
    pair = prepared("mlp", 48, width=256, activation="tanh", inputs=features(), init=init)
    assert check_stability(*_flat(pair)).stable


def test_a_zero_readout_is_stable_and_its_gradients_are_said_not_to_be_judged():
    model, inputs = prepared("mlp", 4, width=128, inputs=features(), init={"readout": "zero"})
    found = check_stability(model, *inputs)
    assert found.stable
    assert "readout is zero" in found.notes[0]
    assert {layer.gradient_ratio for layer in found.layers} == {None}


def test_a_mup_readout_is_stable():
    model, inputs = prepared("mlp", 4, width=256, inputs=features(), init={"readout": "mup"})
    assert check_stability(model, *inputs).stable


def test_a_dead_network_is_not_stable():
    model, inputs = prepared("mlp", 4, width=32, inputs=features())
    nn.init.constant_(model.layers[2].bias, -1e6)
    found = check_stability(model, *inputs)
    assert found.first_unstable.module == "layers.2"
    assert all(layer.leaves == "gradient" for layer in found.layers[:2])


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_finite_lies_in_no_band(value):
    model, inputs = prepared("mlp", 4, width=32, inputs=features())
    with torch.no_grad():
        model.layers[2].weight[0, 0] = value
    assert check_stability(model, *inputs).first_unstable.module == "layers.2"


def test_a_wider_band_forgives():
    model, inputs = prepared("mlp", 4, width=128, inputs=features())
    with torch.no_grad():
        model.layers[2].weight.mul_(5)
    assert check_stability(model, *inputs).first_unstable.module == "layers.2"
    assert check_stability(model, *inputs, band=(1e-3, 1e3)).stable


def test_keyword_inputs_and_a_loss_are_passed_on():
    model = build("mlp", depth=3, width=128)
    (x,) = features()
    initialize_(model, capture_graph(model, x))
    found = check_stability(model, kwargs={"x": x}, loss_fn=lambda y: y.square().mean())
    assert found.stable
    assert all(layer.gradient > 0 for layer in found.layers)
    default = check_stability(model, x)
    assert [a.gradient for a in found.layers] != [b.gradient for b in default.layers]


@pytest.mark.parametrize("band", [(0.0, 10.0), (2.0, 10.0), (0.1, 0.5), (0.1, math.nan)])
def test_a_band_without_one_in_it_is_refused(band):
    with pytest.raises(InitError, match="0 < lower < 1 < upper"):
        check_stability(build("mlp"), *features(), band=band)


def test_a_model_without_layers_is_refused():
    class Scale(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(()))

        def forward(self, x):
            return self.scale * x

    with pytest.raises(InitError, match="without weight layers"):
        check_stability(Scale(), torch.ones(2))


def test_no_depths_are_refused():
    with pytest.raises(InitError, match="no depths"):
        check_stability_over(lambda depth: prepared("mlp", depth), ())


def test_the_report_prints_its_verdict_and_a_line_for_each_layer():
    model, inputs = prepared("resmlp", 6, width=64, inputs=features(), init={"residual": "none"})
    report = check_stability(model, *inputs, band=(0.5, 2.0))
    first, head, *lines = str(report).splitlines()
    assert first == report.verdict
    assert head.split() == ["forward", "gradient", "layer", "(ratios", "to", "the", "first)"]
    assert len(lines) == len(report.layers) + len(report.notes)
    marked = [line for line in lines if line.endswith("<- forward")]
    assert len(marked) == sum(layer.leaves == "forward" for layer in report.layers) > 0
