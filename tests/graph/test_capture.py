"""What is executed is what is captured: operations, inputs, outputs, recurrence, cuts."""

from __future__ import annotations

import dataclasses
from collections import namedtuple
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from etastar.graph.capture import capture_graph
from etastar.graph.dag import Graph, Node, WeightUse
from etastar.graph.effective_depth import effective_depth


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


# -- nodes ---------------------------------------------------------------------------------------


def test_every_node_knows_operation_kind_module_parameters_shape_and_dtype() -> None:
    model = nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6), nn.GELU(), nn.Linear(6, 2))
    graph = capture_graph(model, torch.zeros(3, 4))
    rows = [(n.op, n.kind, n.module, n.parameters, n.shape, n.dtype) for n in graph]
    assert rows == [
        ("input", "input", "", (), (3, 4), "torch.float32"),
        (
            "aten.addmm.default",
            "weight layer",
            "0",
            ("0.bias", "0.weight"),
            (3, 6),
            "torch.float32",
        ),
        (
            "aten.native_layer_norm.default",
            "norm",
            "1",
            ("1.weight", "1.bias"),
            (3, 6),
            "torch.float32",
        ),
        ("aten.gelu.default", "activation", "2", (), (3, 6), "torch.float32"),
        (
            "aten.addmm.default",
            "weight layer",
            "3",
            ("3.bias", "3.weight"),
            (3, 2),
            "torch.float32",
        ),
    ]
    assert [n.inputs for n in graph] == [(), (0,), (1,), (2,), (3,)]


def test_edges_point_backwards_and_indices_are_places() -> None:
    model = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    graph = capture_graph(model, torch.zeros(2, 3, 8))
    for place, node in enumerate(graph):
        assert node.index == place
        assert all(source < place for source in node.inputs)


def test_real_tensors_give_the_same_graph_as_fake_ones() -> None:
    for body in (
        nn.TransformerEncoderLayer(8, 2, 16, batch_first=True),
        nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8), nn.Dropout(0.5), nn.Linear(8, 8)),
        nn.MultiheadAttention(8, 2),
    ):

        def call(self: Any, x: Tensor, body: nn.Module = body) -> Any:
            if self.peek:
                float(x.sum())
            return body(x, x, x)[0] if isinstance(body, nn.MultiheadAttention) else body(x)

        graphs = []
        for peek in (False, True):
            graphs.append(capture_graph(Calls(call, peek=peek, body=body), torch.ones(2, 3, 8)))
        fake, real = graphs
        assert (fake.capture, real.capture) == ("fake", "real")
        assert _shapes_of(fake) == [row for row in _shapes_of(real) if row[0] != "aten.sum.default"]


def _shapes_of(graph: Graph) -> list[tuple[str, str, str, tuple[int, ...]]]:
    return [(n.op, n.kind, n.module, n.shape) for n in graph if n.kind != "view"]


# -- weight layers -------------------------------------------------------------------------------

x24 = torch.zeros(2, 4)
x254 = torch.zeros(2, 5, 4)

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
    assert effective_depth(graph).path_length_moments == moments(1, 3)


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


# -- what carries no values ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "empty",
    [
        torch.zeros_like,
        torch.ones_like,
        torch.empty_like,
        torch.rand_like,
        lambda y: torch.full_like(y, 2.0),
        lambda y: y.new_zeros(y.shape),
        lambda y: y.new_full(y.shape, 1.0),
        lambda y: torch.ones(y.shape[0], y.size(1)),
        lambda y: (y > 0).float(),
        lambda y: y.argmax(-1, keepdim=True).float().expand_as(y),
        lambda y: y.detach().clone().zero_(),
        lambda y: y.long(),
    ],
)
def test_shapes_fills_comparisons_and_integers_cut_the_dependency(empty: Any) -> None:
    model = Calls(lambda m, x: m.a(x) + empty(m.b(x)), a=nn.Linear(4, 4), b=nn.Linear(4, 4))
    report = effective_depth(model, x24)
    assert (report.path_length_moments, report.residual_additions) == (moments(1), 0)


def test_positions_made_of_shapes_are_no_source() -> None:
    def run(self: Any, tokens: Tensor) -> Tensor:
        positions = torch.arange(tokens.shape[1])
        return self.head(self.table(tokens) + self.positions(positions))

    members = {"table": nn.Embedding(9, 4), "positions": nn.Embedding(9, 4)}
    model = Calls(run, head=nn.Linear(4, 2), **members)
    tokens = torch.zeros(2, 5, dtype=torch.long)
    assert lengths(model, tokens) == moments(2)


@pytest.mark.parametrize(
    "one_hot",
    [
        lambda t: F.one_hot(t, 9).float(),
        lambda t: (t[..., None] == torch.arange(9)).float(),
        lambda t: torch.eq(t.unsqueeze(-1), torch.arange(9)).to(torch.float32),
    ],
)
def test_one_hot_tokens_reach_the_layers(one_hot: Any) -> None:
    model = Calls(
        lambda m, t: m.head(one_hot(t) @ m.table), table=matrix(9, 4), head=nn.Linear(4, 2)
    )
    assert lengths(model, torch.zeros(2, 5, dtype=torch.long)) == moments(2)


def test_padding_comparison_of_tokens_is_a_mask_not_a_path() -> None:
    def run(self: Any, tokens: Tensor) -> Tensor:
        keep = (tokens != 0).unsqueeze(-1)
        h = self.table(tokens) * keep
        return self.head(h.masked_fill(tokens.eq(0).unsqueeze(-1), 0.0))

    model = Calls(run, table=nn.Embedding(9, 4), head=nn.Linear(4, 2))
    assert lengths(model, torch.zeros(2, 5, dtype=torch.long)) == moments(2)


def test_routing_indices_are_dropped_beside_the_values_they_route() -> None:
    def run(self: Any, x: Tensor) -> Tensor:
        scores, chosen = self.router(x).topk(2, dim=1)
        rows = torch.gather(self.value(x), 1, chosen)
        picked = self.value(x)[torch.arange(2), chosen[:, 0]]
        return rows.sum() + picked.sum() + scores.sum() * 0.0

    model = Calls(run, router=nn.Linear(4, 4), value=nn.Linear(4, 4))
    graph = capture_graph(model, x24)
    router = next(n.index for n in graph.weight_layers() if n.module == "router")
    consumers = [n.op for n in graph if router in n.inputs]
    assert consumers == ["aten.topk.default"]
    gathers = [n for n in graph if n.op.startswith(("aten.gather", "aten.index"))]
    assert len(gathers) == 2
    for node in gathers:
        assert {graph.nodes[p].module for p in node.inputs} == {"value"}


def test_indices_that_are_inputs_are_no_path_beside_activations() -> None:
    def run(self: Any, x: Tensor, rows: Tensor) -> Tensor:
        h = self.a(x)
        return self.b(torch.gather(h, 1, rows) + h[torch.arange(2), rows[:, 0]][:, None])

    model = Calls(run, a=nn.Linear(4, 4), b=nn.Linear(4, 4))
    report = effective_depth(model, x24, torch.zeros(2, 4, dtype=torch.long))
    assert report.matrix == {"args.0": {"output": 2}, "args.1": {"output": None}}


# -- inputs and outputs --------------------------------------------------------------------------

Pair = namedtuple("Pair", ["logits", "extra"])


@dataclasses.dataclass
class Nested:
    logits: Tensor
    hidden: dict[str, Any]


def test_nested_outputs_are_named_by_their_path() -> None:
    def run(self: Any, x: Tensor) -> Any:
        h = self.a(x)
        return Nested(self.b(h), {"states": (x * 2, [h]), "mask": x > 0, "none": None})

    model = Calls(run, a=nn.Linear(4, 4), b=nn.Linear(4, 2))
    graph = capture_graph(model, x24)
    assert list(graph.outputs) == ["logits", "hidden.states.0", "hidden.states.1.0"]
    assert effective_depth(graph).outputs == ("logits",)
    assert effective_depth(graph).effective_depth == 2
    assert effective_depth(graph, outputs=["hidden.states.1.0"]).effective_depth == 1
    assert effective_depth(graph, outputs=["hidden.states.0"]).effective_depth == 0


def test_tuple_dict_and_named_tuple_outputs() -> None:
    def run(self: Any, x: Tensor, form: str) -> Any:
        h = self.a(x)
        y = self.b(h)
        return {"tuple": (h, y), "dict": {"h": h, "logits": y}, "named": Pair(y, h)}[form]

    model = Calls(run, a=nn.Linear(4, 4), b=nn.Linear(4, 2))
    assert effective_depth(model, x24, form="tuple").effective_depth == 1
    assert effective_depth(model, x24, form="dict").effective_depth == 2
    assert effective_depth(model, x24, form="named").outputs == ("logits",)


def test_loss_and_cache_are_never_taken_by_default() -> None:
    def run(self: Any, x: Tensor) -> Any:
        y = self.a(x)
        return {"loss": y.sum(), "past_key_values": [x], "scores": self.b(y)}

    report = effective_depth(Calls(run, a=nn.Linear(4, 4), b=nn.Linear(4, 2)), x24)
    assert report.outputs == ("scores",)


def test_several_inputs_and_outputs_make_a_matrix() -> None:
    def run(self: Any, left: Tensor, right: Tensor, *, scale: Tensor) -> Any:
        a = self.a(left)
        return {
            "joint": self.c(a + self.b(self.b1(right))),
            "left": a * scale,
            "none": self.a(right),
        }

    layers = {name: nn.Linear(4, 4) for name in ("a", "b", "b1", "c")}
    report = effective_depth(Calls(run, **layers), x24, x24, scale=torch.ones(1))
    assert report.sources == ("args.0", "args.1")
    assert report.matrix == {
        "args.0": {"joint": 3, "left": 1, "none": None},
        "args.1": {"joint": 4, "left": None, "none": 1},
        "scale": {"joint": None, "left": 0, "none": None},
    }


def test_keyword_only_and_nested_inputs_are_named() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Linear(4, 4)

        def forward(self, first: Any, /, *rest: Tensor, last: Tensor) -> Tensor:
            return self.a(first["x"]) + self.a(rest[0]) + self.a(last)

    graph = capture_graph(Model(), {"x": x24, "n": 3}, x24, last=x24)
    assert list(graph.inputs) == ["first.x", "rest.0", "last"]
    assert graph.data_inputs == ("first.x", "rest.0", "last")


def test_one_tensor_passed_twice_is_two_inputs() -> None:
    model = Calls(lambda m, q, k: m.b(m.a(q) * k), a=nn.Linear(4, 4), b=nn.Linear(4, 4))
    report = effective_depth(model, x24, x24)
    assert report.matrix == {"args.0": {"output": 2}, "args.1": {"output": 1}}


def test_clone_of_an_input_keeps_its_strides_and_gradient_flag() -> None:
    seen: list[tuple[int, ...]] = []

    def run(self: Any, x: Tensor) -> Tensor:
        seen.append(x.stride())
        return self.a(x)

    capture_graph(Calls(run, a=nn.Linear(4, 4)), torch.zeros(4, 2).t())
    assert seen == [(1, 2)]


# -- recurrence ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_recurrent_module_is_one_layer_per_stacked_layer(kind: Any, bidirectional: bool) -> None:
    model = kind(4, 6, num_layers=3, bidirectional=bidirectional, dropout=0.1)
    graph = capture_graph(model, x254)
    ops = [n.op for n in graph if n.kind == "weight layer"]
    assert ops == [f"recurrent.{kind.__name__.lower()}"] * 3
    report = effective_depth(graph)
    assert report.path_length_moments == moments(3)
    assert len(report.recurrent) == 3 * 2 * (1 + bidirectional)
    final_states = [name for name in graph.outputs if name.startswith("1")]
    assert effective_depth(graph, outputs=final_states[:1]).longest_path == 3


def test_packed_sequence_passes_through_a_recurrent_module() -> None:
    def run(self: Any, x: Tensor) -> Tensor:
        packed = nn.utils.rnn.pack_padded_sequence(x, torch.tensor([5, 3]), batch_first=True)
        out, _ = nn.utils.rnn.pad_packed_sequence(self.rnn(packed)[0], batch_first=True)
        return self.head(out)

    model = Calls(run, rnn=nn.LSTM(4, 6, batch_first=True), head=nn.Linear(6, 2))
    report = effective_depth(model, x254)
    assert report.path_length_moments == moments(2)


@pytest.mark.parametrize("cell", [nn.LSTMCell, nn.GRUCell, nn.RNNCell])
def test_cell_unrolled_by_hand_stays_unrolled(cell: Any) -> None:
    def run(self: Any, x: Tensor) -> Tensor:
        state: Any = None
        for t in range(3):
            state = self.cell(x[:, t], state)
        return self.head(state[0] if isinstance(state, tuple) else state)

    report = effective_depth(Calls(run, cell=cell(4, 6), head=nn.Linear(6, 2)), x254)
    assert "cell.weight_hh" in report.recurrent
    assert report.longest_path >= 4
    assert report.effective_depth < report.longest_path


def test_tracing_twice_gives_the_same_graph() -> None:
    model = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    x = torch.zeros(2, 3, 8)
    assert capture_graph(model, x) == capture_graph(model, x)


def _node(graph: Graph, kind: str) -> Node:
    return next(n for n in graph if n.kind == kind)


@pytest.mark.parametrize("training", [True, False])
def test_multi_head_attention_is_seen_inside_and_its_fast_path_restored(training: bool) -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).train(training)
    before = torch.backends.mha.get_fastpath_enabled()
    graph = capture_graph(layer, torch.zeros(2, 3, 8))
    assert torch.backends.mha.get_fastpath_enabled() is before is True
    assert len(graph.weight_layers()) == 4
    assert _node(graph, "attention contraction").module == "self_attn"


@pytest.mark.parametrize("dropout", [0.0, 0.1])
@pytest.mark.parametrize("causal", [False, True])
def test_fused_attention_is_an_attention_contraction(dropout: float, causal: bool) -> None:
    def run(self: Any, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).view(2, 5, 3, 2, 2).permute(2, 0, 3, 1, 4)
        return F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=causal)

    graph = capture_graph(Calls(run, qkv=nn.Linear(4, 12)), x254)
    assert _node(graph, "attention contraction").mixes
    assert effective_depth(graph).path_length_moments == moments(1)


@pytest.mark.parametrize("training", [True, False])
def test_dropout_and_batch_norm_change_nothing_in_either_mode(training: bool) -> None:
    body = [nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.3), nn.Conv2d(4, 2, 1)]
    model = nn.Sequential(*body).train(training)
    assert lengths(model, torch.zeros(2, 3, 5, 5)) == moments(2)
    graph = capture_graph(model, torch.zeros(2, 3, 5, 5))
    assert _node(graph, "norm").parameters == ("1.weight", "1.bias")


def test_batch_norm_in_train_mode_takes_one_example_with_one_pixel() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))
    assert lengths(model.train(), torch.zeros(1, 3, 1, 1)) == moments(2)
