"""What is a weight layer, what is an addition, and what is neither."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from etastar.graph.capture import capture_graph, effective_depth
from etastar.graph.dag import Graph
from etastar.graph.node import WeightUse


class Calls(nn.Module):
    """Calls a function on itself, after giving itself some layers and parameters."""

    def __init__(self, function: Any, **members: Any) -> None:
        super().__init__()
        self.function = function
        for name, member in members.items():
            setattr(self, name, member)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(self, *args, **kwargs)


def matrix(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.zeros(shape))


def lengths(model: nn.Module, *args: Any, **kwargs: Any) -> tuple[int, int, int, int]:
    report = effective_depth(model, *args, **kwargs)
    assert report.capture == "fake", report.capture_note
    return report.path_length_moments


def moments(*lengths: int) -> tuple[int, ...]:
    return tuple(sum(n**k for n in lengths) for k in range(4))


def only_weight(graph: Graph) -> WeightUse:
    (node,) = graph.weight_layers()
    assert node.weight is not None
    return node.weight


def kinds(graph: Graph) -> list[str]:
    return [node.kind for node in graph]


x24 = torch.zeros(2, 4)
x254 = torch.zeros(2, 5, 4)


# -- weight layers -------------------------------------------------------------------------------


CONTRACTIONS = {
    "linear": (lambda m, x: F.linear(x, m.w), (6, 4), x254, (4, 6)),
    "linear_vector": (lambda m, x: F.linear(x, m.w), (6, 4), torch.zeros(4), (4, 6)),
    "matmul": (lambda m, x: x @ m.w, (4, 6), x24, (4, 6)),
    "matmul_left": (lambda m, x: m.w @ x.T, (6, 4), x24, (4, 6)),
    "matmul_vector": (lambda m, x: m.w @ x, (6, 4), torch.zeros(4), (4, 6)),
    "batched": (lambda m, x: x @ m.w, (2, 4, 6), x254, (4, 6)),
    "einsum": (lambda m, x: torch.einsum("btc,cd->btd", x, m.w), (4, 6), x254, (4, 6)),
    "einsum_heads": (
        lambda m, x: torch.einsum("btc,hcd->bthd", x, m.w),
        (3, 4, 2),
        x254,
        (4, 6),
    ),
    "tensordot": (lambda m, x: torch.tensordot(x, m.w, dims=1), (4, 6), x254, (4, 6)),
    "addmm": (lambda m, x: torch.addmm(torch.zeros(6), x, m.w), (4, 6), x24, (4, 6)),
    "transposed_view": (lambda m, x: x @ m.w.t().contiguous(), (6, 4), x24, (4, 6)),
    "cast": (lambda m, x: x.double() @ m.w.double(), (4, 6), x24, (4, 6)),
    "scaled": (lambda m, x: x @ (m.w * 0.5), (4, 6), x24, (4, 6)),
    "slice": (lambda m, x: x @ m.w[:, :3], (4, 6), x24, (4, 3)),
}


@pytest.mark.parametrize("name", CONTRACTIONS)
def test_contraction_with_a_parameter_is_one_weight_layer(name: str) -> None:
    function, shape, x, fans = CONTRACTIONS[name]
    model = Calls(function, w=matrix(*shape))
    weight = only_weight(capture_graph(model, x))
    assert (weight.layer_type, weight.parameters) == ("linear", ("w",))
    assert (weight.fan_in, weight.fan_out) == fans
    assert lengths(model, x) == moments(1)


CONVOLUTIONS: list[tuple[type[nn.Module], dict[str, Any], int, int]] = [
    (nn.Conv1d, {}, 4 * 3, 6 * 3),
    (nn.Conv2d, {}, 4 * 9, 6 * 9),
    (nn.Conv3d, {}, 4 * 27, 6 * 27),
    (nn.Conv2d, {"groups": 2}, 2 * 9, 3 * 9),
    (nn.Conv1d, {"groups": 4, "out_channels": 8}, 3, 2 * 3),
    (nn.Conv2d, {"groups": 4, "out_channels": 4}, 9, 9),
    (nn.Conv2d, {"padding": 1, "padding_mode": "circular"}, 4 * 9, 6 * 9),
    (nn.Conv2d, {"stride": 2, "dilation": 2}, 4 * 9, 6 * 9),
    (nn.ConvTranspose1d, {}, 4 * 3, 6 * 3),
    (nn.ConvTranspose2d, {}, 4 * 9, 6 * 9),
    (nn.ConvTranspose3d, {}, 4 * 27, 6 * 27),
    (nn.ConvTranspose2d, {"groups": 2}, 2 * 9, 3 * 9),
]


@pytest.mark.parametrize(("layer", "options", "fan_in", "fan_out"), CONVOLUTIONS)
def test_convolution_is_one_weight_layer_with_its_fans(
    layer: type[nn.Module], options: dict[str, Any], fan_in: int, fan_out: int
) -> None:
    settings = {"in_channels": 4, "out_channels": 6, "kernel_size": 3, **options}
    model = layer(**settings)
    dimensions = int(layer.__name__[-2])
    weight = only_weight(capture_graph(model, torch.zeros(2, 4, *[7] * dimensions)))
    assert (weight.layer_type, weight.parameters) == ("convolution", ("weight",))
    assert (weight.fan_in, weight.fan_out) == (fan_in, fan_out)
    assert weight.kernel_size == (3,) * dimensions


def test_lookup_is_one_weight_layer() -> None:
    tokens = torch.zeros(2, 5, dtype=torch.long)
    indexed = Calls(lambda m, t: m.w[t], w=matrix(10, 4))
    selected = Calls(lambda m, t: m.w.index_select(0, t[0]), w=matrix(10, 4))
    bag = nn.EmbeddingBag(10, 4)
    for model in (nn.Embedding(10, 4), indexed, selected, bag):
        weight = only_weight(capture_graph(model, tokens))
        assert (weight.layer_type, weight.fan_in, weight.fan_out) == ("embedding", 1, 4)


def test_bilinear_is_one_weight_layer_of_both_inputs() -> None:
    report = effective_depth(nn.Bilinear(3, 4, 5), torch.zeros(2, 3), torch.zeros(2, 4))
    assert report.path_count == 2
    assert report.sources == ("input1", "input2")
    assert report.longest_path == 1


def test_vector_parameters_are_no_weights() -> None:
    model = Calls(lambda m, x: m.l(x * m.g + m.g) @ m.g, l=nn.Linear(4, 4), g=matrix(4))
    graph = capture_graph(model, x24)
    assert [n.module for n in graph.weight_layers()] == ["l"]


def test_parameter_kept_in_lists_and_dicts_is_named_by_its_path() -> None:
    members = {"ps": nn.ParameterList([matrix(4, 4)]), "pd": nn.ParameterDict({"a": matrix(4, 4)})}
    graph = capture_graph(Calls(lambda m, x: x @ m.ps[0] @ m.pd["a"], **members), x24)
    assert [n.weight and n.weight.parameters for n in graph.weight_layers()] == [
        ("ps.0",),
        ("pd.a",),
    ]


def test_bias_positional_table_and_mask_are_no_operands_of_an_addition() -> None:
    def run(self: Any, tokens: Tensor, mask: Tensor) -> Tensor:
        h = self.table(tokens) + self.positions[: tokens.shape[1]]
        h = self.query(h) + mask[..., None]
        return self.head(h + self.bias)

    members = {"table": nn.Embedding(9, 4), "positions": matrix(7, 4), "bias": matrix(4)}
    model = Calls(run, query=nn.Linear(4, 4), head=nn.Linear(4, 2), **members)
    tokens = torch.zeros(2, 5, dtype=torch.long)
    report = effective_depth(model, tokens, torch.zeros(2, 5))
    assert report.sources == ("args.0",)
    assert report.path_length_moments == moments(3)
    assert report.residual_additions == 0
    assert report.matrix == {"args.0": {"output": 3}, "args.1": {"output": 1}}


def test_addmm_with_an_activation_as_addend_is_layer_and_addition() -> None:
    def run(self: Any, x: Tensor) -> Tensor:
        return torch.addmm(x, self.first(x), self.w)

    model = Calls(run, first=nn.Linear(4, 4), w=matrix(4, 4))
    graph = capture_graph(model, x24)
    assert [k for k in kinds(graph) if k != "view"] == [
        "input",
        "weight layer",
        "weight layer",
        "residual addition",
    ]
    assert graph.depth().path_length_moments == moments(1, 3)


def test_fused_sums_are_additions() -> None:
    def run(self: Any, x: Tensor) -> Tensor:
        a = self.a(x)
        return torch.addcmul(x, a, self.b(a)) if self.fused else torch.lerp(x, a, 0.5)

    layers = {"a": nn.Linear(4, 4), "b": nn.Linear(4, 4)}
    assert lengths(Calls(run, fused=False, **layers), x24) == moments(1, 2)
    assert lengths(Calls(run, fused=True, **layers), x24) == moments(1, 2, 3)


@pytest.mark.parametrize(
    "add",
    [
        lambda x, y: x + y,
        lambda x, y: x - y,
        lambda x, y: torch.rsub(x, y),
        lambda x, y: torch.add(x, y, alpha=0.3),
        lambda x, y: x.clone().add_(y),
        lambda x, y: x.view(-1).add(y.reshape(-1)).view_as(x),
        lambda x, y: x.index_add(0, torch.arange(2), y),
        lambda x, y: sum([x, y]),
        lambda x, y: x * 0.5 + 0.5 * y,
    ],
)
def test_every_form_of_sum_counts_when_its_operands_come_from_different_places(add: Any) -> None:
    layer = {"layer": nn.Linear(4, 4)}
    assert lengths(Calls(lambda m, x: add(x, m.layer(x)), **layer), x24) == moments(1, 2)
    assert lengths(Calls(lambda m, x: add(m.layer(x), torch.relu(m.layer(x))), **layer), x24)[
        1
    ] in (1, 4)  # two uses of one layer: two places
    once = Calls(lambda m, x: (lambda h: add(h, torch.tanh(h)))(m.layer(x)), **layer)
    assert lengths(once, x24) == moments(1)


@pytest.mark.parametrize(
    "mix",
    [
        lambda h: F.avg_pool1d(h, 3, 1, 1),
        lambda h: F.max_pool1d(h, 3, 1, 1),
        lambda h: torch.fft.fft(torch.fft.fft(h), dim=-2).real,
        lambda h: F.scaled_dot_product_attention(h, h, h),
        lambda h: torch.softmax(h @ h.mT, -1) @ h,
    ],
)
def test_sum_with_a_mixing_branch_without_weights_counts(mix: Any) -> None:
    model = Calls(lambda m, x: (lambda h: h + mix(h))(m.layer(x)), layer=nn.Linear(4, 4))
    report = effective_depth(model, x254)
    assert report.path_length_moments == moments(2)
    assert report.residual_additions == 1


def test_sums_within_activations_rotations_and_norms_do_not_count() -> None:
    def run(self: Any, x: Tensor) -> Tensor:
        h = self.layer(x)
        gelu = 0.5 * h * (1 + torch.tanh(0.8 * (h + 0.04 * h**3)))
        one, two = gelu.chunk(2, -1)
        rotated = gelu * 0.6 + torch.cat([-two, one], -1) * 0.8
        centred = rotated - rotated.mean(-1, keepdim=True)
        return self.layer2(centred * torch.rsqrt(centred.square().mean(-1, keepdim=True) + 1e-5))

    model = Calls(run, layer=nn.Linear(4, 4), layer2=nn.Linear(4, 4))
    report = effective_depth(model, x24)
    assert (report.path_length_moments, report.residual_additions) == (moments(2), 0)
