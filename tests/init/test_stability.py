import io
import json
import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from rich.console import Console
from torch import nn

from etastar.errors import CaptureError, InitError, MeasureError
from etastar.graph.capture import capture_graph
from etastar.init import check_stability, initialize_
from etastar.init.stability_report import LayerMoments, StabilityReport
from etastar.models import build, example_inputs


def prepared(name, depth, *, inputs=None, seed=0, init=None, **arguments):
    model = build(name, depth=depth, **arguments)
    inputs = inputs or example_inputs(name)
    initialize_(model, capture_graph(model, *inputs), seed=seed, **(init or {}))
    return model, inputs


def checked(pair, *args, **options):
    """The check of a model on its one input."""
    model, (x,) = pair
    return check_stability(model, x, *args, **options)


def features(number=64):
    return (torch.randn(number, 64, generator=torch.Generator().manual_seed(1)),)


def stream_growth(model, inputs):
    """Mean square of the stream after the last addition over that of the stem."""
    additions = [x for x in checked((model, inputs)).layers if x.kind != "weight layer"]
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
        checked(prepared("mlp", depth, width=256, inputs=features(), seed=seed))
        for seed in range(4)
    ]
    assert all(report.stable for report in found)
    mean = sum(report.layers[-2].forward_ratio for report in found) / 4
    assert mean == pytest.approx(1, rel=0.35)


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
    for depth in depths:
        found = checked(prepared(name, depth, **arguments))
        assert found.stable, (depth, found.first_unstable)


def test_pytorchs_own_initialization_of_a_deep_chain_is_not_stable():
    model = build("mlp", depth=24, width=128)
    assert not checked((model, features())).stable


@pytest.mark.parametrize(("depth", "stable"), [(2, True), (4, False), (16, False)])
def test_without_the_residual_factor_an_addition_leaves_the_band_at_some_depth(depth, stable):
    init = {"residual": "none"}
    found = checked(prepared("resmlp", depth, width=64, inputs=features(), init=init))
    assert found.stable is stable
    assert stable or found.first_unstable.kind == "residual addition"


@pytest.mark.parametrize("faulty", [1, 3, 7])
@pytest.mark.parametrize("factor", [8.0, 0.1])
def test_the_layer_with_the_wrong_variance_is_named(faulty, factor):
    model, inputs = prepared("mlp", 8, width=256, inputs=features())
    with torch.no_grad():
        model.layers[faulty].weight.mul_(factor)
    found = checked((model, inputs))
    assert found.first_unstable.module == f"layers.{faulty}"
    assert found.first_unstable.leaves == "forward"
    assert f"the forward moment of layers.{faulty}" in found.verdict


@pytest.mark.parametrize("faulty", [3, 5])
def test_the_layer_whose_gradient_alone_is_wrong_is_named(faulty):
    model, inputs = prepared("mlp", 8, width=256, inputs=features())
    model.layers[faulty].register_forward_hook(lambda m, i, out: 10 * out - 9 * out.detach())
    found = checked((model, inputs))
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


def test_an_input_that_is_returned_beside_the_output_is_not_projected():
    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 2)

        def forward(self, x):
            return x, self.layer(x)

    report = check_stability(Both(), (torch.randn(8, 4), None))
    assert [layer.module for layer in report.layers] == ["layer"]


def test_a_branch_that_explodes_is_named():
    model, inputs = prepared("resmlp", 6, width=128, inputs=features())
    with torch.no_grad():
        model.blocks[3].fc1.weight.mul_(20)
    found = checked((model, inputs))
    assert found.first_unstable.module == "blocks.3.fc1"


def test_a_branch_that_vanishes_is_stable():
    model, inputs = prepared("resmlp", 6, width=128, inputs=features())
    with torch.no_grad():
        for block in model.blocks:
            block.fc1.weight.zero_()
    assert checked((model, inputs)).stable


def last_hidden(depth, **init):
    pair = prepared("mlp", depth, width=256, activation="tanh", inputs=features(), init=init)
    return checked(pair).layers[-2]


def test_he_gain_lets_gradients_of_tanh_explode():
    model, inputs = prepared("mlp", 32, width=256, activation="tanh", inputs=features())
    assert checked((model, inputs)).first_unstable.leaves == "gradient"
    assert last_hidden(32).gradient_ratio < 0.02
    assert last_hidden(64).gradient_ratio < 0.02**2


@pytest.mark.parametrize("depth", [16, 48])
def test_the_edge_of_chaos_of_tanh_without_biases_fades_like_one_over_the_depth_only(depth):
    init = {"scheme": "edge-of-chaos"}
    arguments = {"width": 256, "activation": "tanh", "bias": False, "inputs": features()}
    found = checked(prepared("mlp", depth, init=init, **arguments)).layers[-2]
    assert found.forward_ratio == pytest.approx(1 / (2 * depth), rel=0.35)
    assert found.gradient_ratio < 4 * depth


CHAIN_ACTIVATIONS = {
    "relu": nn.ReLU, "tanh": nn.Tanh, "gelu": nn.GELU, "silu": nn.SiLU, "mish": nn.Mish,
    "hardswish": nn.Hardswish, "selu": nn.SELU,
}  # fmt: skip


def chain(activation, *, scheme, depth=50, width=256, seed=0):
    bends = (CHAIN_ACTIVATIONS[activation]() for _ in range(depth - 1))
    layers = [m for bend in bends for m in (bend, nn.Linear(width, width))]
    model, (x,) = nn.Sequential(nn.Linear(64, width), *layers), features()
    initialize_(model, capture_graph(model, x), scheme=scheme, seed=seed)
    return model, (x,)


@pytest.mark.parametrize("activation", CHAIN_ACTIVATIONS)
def test_the_edge_of_chaos_with_biases_holds_over_fifty_layers(activation):
    for seed in range(3):
        found = checked(chain(activation, scheme="edge-of-chaos", seed=seed))
        assert found.stable, (seed, found.verdict)


@pytest.mark.parametrize("activation", ["tanh", "gelu", "silu", "hardswish"])
def test_the_gain_of_he_leaves_the_band_over_fifty_layers(activation):
    assert not checked(chain(activation, scheme="he")).stable


def test_a_chain_that_starts_on_the_edge_of_chaos_keeps_its_variance_from_the_first_layer_on():
    found = checked(chain("silu", scheme="edge-of-chaos", depth=6, width=512)).layers
    assert [layer.forward_ratio for layer in found] == pytest.approx([1] * 6, rel=0.5)
    assert found[0].forward == pytest.approx(39.4, rel=0.2)  # q at sigma_b^2 = 1


def test_the_edge_of_chaos_without_fixed_point_names_the_weight():
    model = nn.Sequential(nn.Linear(8, 8), nn.SiLU(), nn.Linear(8, 8, bias=False))
    before = [p.clone() for p in model.parameters()]
    with pytest.raises(InitError, match=r"before 2\.weight, an activation without"):
        initialize_(model, capture_graph(model, torch.zeros(2, 8)), scheme="edge-of-chaos")
    assert all(torch.equal(p, b) for p, b in zip(model.parameters(), before, strict=True))


def test_a_zero_readout_is_stable_and_its_gradients_are_said_not_to_be_judged():
    model, inputs = prepared("mlp", 4, width=128, inputs=features(), init={"readout": "zero"})
    found = checked((model, inputs))
    assert found.stable
    assert "readout is zero" in found.notes[0]
    assert {layer.gradient_ratio for layer in found.layers} == {None}


def test_a_mup_readout_is_stable():
    model, inputs = prepared("mlp", 4, width=256, inputs=features(), init={"readout": "mup"})
    assert checked((model, inputs)).stable


def test_a_dead_network_is_not_stable():
    model, inputs = prepared("mlp", 4, width=32, inputs=features())
    nn.init.constant_(model.layers[2].bias, -1e6)
    found = checked((model, inputs))
    assert found.first_unstable.module == "layers.2"
    assert all(layer.leaves == "gradient" for layer in found.layers[:2])


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_finite_lies_in_no_band(value):
    model, inputs = prepared("mlp", 4, width=32, inputs=features())
    with torch.no_grad():
        model.layers[2].weight[0, 0] = value
    assert checked((model, inputs)).first_unstable.module == "layers.2"


def test_keyword_inputs_and_a_loss_are_passed_on():
    model = build("mlp", depth=3, width=128)
    (x,) = features()
    initialize_(model, capture_graph(model, x))

    def loss_fn(output, batch):
        assert batch["x"] is x
        return output.square().mean()

    found = check_stability(model, {"x": x}, loss_fn)
    assert found.stable
    assert all(layer.gradient > 0 for layer in found.layers)
    default = check_stability(model, {"x": x})
    assert [a.gradient for a in found.layers] != [b.gradient for b in default.layers]
    assert default == check_stability(model, x) == check_stability(model, (x, None))


def test_a_loss_of_output_and_targets_is_differentiated():
    model, (x,) = prepared("mlp", 3, width=128, inputs=features())
    targets = torch.arange(64) % 10
    found = check_stability(model, (x, targets), F.cross_entropy)
    output = model(x)
    (gradient,) = torch.autograd.grad(F.cross_entropy(output, targets), output)
    assert found.layers[-1].gradient == pytest.approx(float(gradient.square().mean()), rel=1e-4)
    assert found.stable


def test_a_model_without_layers_is_refused():
    class Scale(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(()))

        def forward(self, x):
            return self.scale * x

    with pytest.raises(InitError, match="without weight layers"):
        check_stability(Scale(), torch.ones(2))


@pytest.mark.parametrize(
    ("loss_fn", "message"),
    [
        (3, "loss_fn: TypeError"),
        (lambda output, targets: None, "a loss of NoneType"),
        (lambda output, targets: F.cross_entropy(output, targets[:3]), "loss_fn: ValueError"),
        (lambda output: output.mean(), "loss_fn: TypeError"),
    ],
)
def test_a_loss_of_another_shape_is_refused(loss_fn, message):
    with pytest.raises(InitError, match=message):
        check_stability(build("mlp"), (*features(), torch.arange(64) % 10), loss_fn)


def test_a_batch_of_no_known_form_is_refused():
    model, (x,) = build("mlp"), features()
    with pytest.raises(InitError, match="inputs alone"):
        check_stability(model, x, F.cross_entropy)
    for batch in (3, (x, x, x)):
        with pytest.raises(MeasureError, match="batch"):
            check_stability(model, batch)
    with pytest.raises(CaptureError, match="forward pass that failed"):
        check_stability(model, {"y": x})


def test_a_batch_without_examples_is_refused():
    (x,) = features()
    with pytest.raises(InitError, match="empty batch"):
        check_stability(build("mlp"), x[:0])


def test_the_report_prints_its_verdict_and_a_line_for_each_layer():
    model, inputs = prepared("resmlp", 12, width=64, inputs=features(), init={"residual": "none"})
    report = checked((model, inputs))
    text = str(report).splitlines()
    head = next(n for n, line in enumerate(text) if line.split()[0] == "forward")
    assert " ".join(text[:head]) == report.verdict
    lines = text[head + 1 :]
    assert len(lines) == len(report.layers) + len(report.notes)
    marked = [line for line in lines if line.endswith("<- forward")]
    assert len(marked) == sum(layer.leaves == "forward" for layer in report.layers) > 0


def test_a_report_fits_eighty_columns_and_cuts_no_number():
    layer = LayerMoments(
        "model." + 9 * "a_long_name." + "end", "weight layer", ("w",), 1.0, 1.0, 1.234e-30, 5.67e30,
        "forward",
    )  # fmt: skip
    report = StabilityReport((layer, replace(layer, leaves=None)), (30 * "a note ",))
    console = Console(width=80, file=io.StringIO())
    console.print(report)
    for text in (str(report), console.file.getvalue()):
        assert max(map(len, text.splitlines())) <= 80
        assert text.count("1.234e-30") == 2
        assert text.count("5.67e+30") == 2
        assert "<- forward" in text
        assert ".end" in text


def test_a_report_is_plain_data():
    found = json.loads(json.dumps(checked(prepared("mlp", 2, width=64)).as_dict()))
    assert found["stable"] is True
    assert found["layers"][0]["module"] == "layers.0"
