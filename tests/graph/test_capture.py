"""What is executed is what is captured: nodes, inputs, outputs, recurrence."""

from __future__ import annotations

import dataclasses
from collections import namedtuple
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from etastar.graph.capture import capture_graph, effective_depth
from etastar.graph.dag import Graph
from etastar.graph.node import Node


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


x24 = torch.zeros(2, 4)
x254 = torch.zeros(2, 5, 4)


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
    assert graph.depth().outputs == ("logits",)
    assert graph.depth().effective_depth == 2
    assert graph.depth(outputs=["hidden.states.1.0"]).effective_depth == 1
    assert graph.depth(outputs=["hidden.states.0"]).effective_depth == 0


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
    report = graph.depth()
    assert report.path_length_moments == moments(3)
    assert len(report.recurrent) == 3 * 2 * (1 + bidirectional)
    final_states = [name for name in graph.outputs if name.startswith("1")]
    assert graph.depth(outputs=final_states[:1]).longest_path == 3


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
    assert graph.depth().path_length_moments == moments(1)


@pytest.mark.parametrize("training", [True, False])
def test_dropout_and_batch_norm_change_nothing_in_either_mode(training: bool) -> None:
    body = [nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.3), nn.Conv2d(4, 2, 1)]
    model = nn.Sequential(*body).train(training)
    assert lengths(model, torch.zeros(2, 3, 5, 5)) == moments(2)
    graph = capture_graph(model, torch.zeros(2, 3, 5, 5))
    assert _node(graph, "norm").parameters == ("1.weight", "1.bias")


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_batch_norm_takes_one_value_a_channel(training: bool, device: str) -> None:
    pooled = [nn.Conv2d(3, 4, 1), nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1)]
    for model, x in (
        (nn.Sequential(*pooled), torch.zeros(1, 3, 8, 8, device=device)),
        (nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)), torch.zeros(1, 3, device=device)),
    ):
        graph = capture_graph(model.to(device).train(training), x)
        assert graph.capture == "fake"
        assert [node.kind for node in graph].count("norm") == 1


def test_batch_norm_in_train_mode_takes_one_example_with_one_pixel() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))
    assert lengths(model.train(), torch.zeros(1, 3, 1, 1)) == moments(2)
