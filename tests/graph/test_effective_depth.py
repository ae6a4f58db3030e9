"""The depth report: choices of source and output, refusals, reuse of parameters."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from etastar.depth import DepthReport, PathStep
from etastar.errors import CaptureError, DepthError
from etastar.graph.capture import capture_graph, effective_depth

X = torch.zeros(2, 4)


class Calls(nn.Module):
    """Calls a function on itself, after giving itself some layers."""

    def __init__(self, function: Any, **members: Any) -> None:
        super().__init__()
        self.function = function
        for name, member in members.items():
            setattr(self, name, member)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(self, *args, **kwargs)


def linear() -> nn.Linear:
    return nn.Linear(4, 4)


# -- the report ----------------------------------------------------------------------------------


def test_path_names_modules_and_what_each_counted_as() -> None:
    model = Calls(lambda m, x: m.head(m.a(x) + m.b(torch.relu(m.a2(x)))), a=linear(), a2=linear())
    model.b, model.head = linear(), nn.Linear(4, 2)
    report = effective_depth(model, X)
    assert report.path == (
        PathStep("a", "weight layer", "aten.addmm.default"),
        PathStep("", "residual addition", "aten.add.Tensor"),
        PathStep("head", "weight layer", "aten.addmm.default"),
    )
    assert report.weight_layers == 4
    assert report.layer_path_length_moments == (2, 5, 13, 35)
    assert report.layer_longest_path == 3
    assert report.seconds > 0


def test_report_is_json_with_exact_integers() -> None:
    model = nn.Sequential(*[Calls(lambda m, x: x + m.a(x), a=linear()) for _ in range(80)])
    fields = json.loads(json.dumps(effective_depth(model, X).as_dict()))
    assert fields["path_count"] == 2**80
    assert set(fields) == set(DepthReport.__dataclass_fields__)


def test_layers_alone_follow_the_closed_form() -> None:
    for blocks in (1, 2, 5, 9):
        stream = [Calls(lambda m, x: x + m.a(x), a=linear()) for _ in range(blocks)]
        moments = effective_depth(nn.Sequential(*stream), X).layer_path_length_moments
        assert moments[0] == 2**blocks
        assert 8 * moments[3] == blocks**2 * (blocks + 3) * 2**blocks


def test_additions_and_layers_off_every_path_are_not_listed() -> None:
    def run(self: Any, x: Tensor) -> Any:
        h = self.a(x)
        return {"logits": self.b(h), "side": h + self.side(h)}

    report = effective_depth(Calls(run, a=linear(), b=linear(), side=linear()), X)
    assert (report.weight_layers, report.residual_additions) == (2, 0)


def test_sources_and_outputs_can_be_chosen() -> None:
    def run(self: Any, x: Tensor, y: Tensor) -> Any:
        return {"one": self.b(self.a(x)), "two": self.c(self.b(self.a(x)) + y)}

    graph = capture_graph(Calls(run, a=linear(), b=linear(), c=linear()), X, X)
    assert graph.depth().effective_depth == effective_depth(graph).effective_depth == 2
    assert graph.depth(outputs=["two"]).effective_depth == 3  # y is no data
    assert graph.depth(outputs=["two"], sources=["args.1"]).effective_depth == 1
    summed = graph.depth(outputs=["two"], sources=["args.0", "args.1"])
    assert summed.path_length_moments == (2, 6, 20, 72)
    both = graph.depth(outputs=["one", "two"])
    assert (both.outputs, both.path_count) == (("one", "two"), 2)


# -- refusals ------------------------------------------------------------------------------------


def _parts(error: pytest.ExceptionInfo[Any]) -> tuple[str, str, str]:
    lines = str(error.value).splitlines()
    assert [line.split(":")[0] for line in lines] == ["received", "expected", "what to do"]
    return error.value.received, error.value.expected, error.value.action


@pytest.mark.parametrize("what", ["sources", "outputs"])
@pytest.mark.parametrize("names", [["nowhere"], []])
def test_unknown_source_or_output_is_refused_with_the_known_ones(
    what: str, names: list[str]
) -> None:
    graph = capture_graph(linear(), X)
    with pytest.raises(DepthError) as error:
        graph.depth(**{what: names})
    received, expected, _ = _parts(error)
    assert ("nowhere" in received) == bool(names)
    assert ("input" if what == "sources" else "output") in expected


def test_model_without_weight_layers_is_refused() -> None:
    for model in (nn.ReLU(), nn.LayerNorm(4), nn.Sequential(nn.Flatten(), nn.Softmax(-1))):
        with pytest.raises(DepthError, match="no weight layer"):
            effective_depth(model, X)


def test_output_without_a_path_is_refused() -> None:
    def run(self: Any, x: Tensor) -> Any:
        return {"constant": self.a.weight * 2, "other": self.a(x)}

    with pytest.raises(DepthError, match=r"no path from args\.0 to constant") as error:
        effective_depth(Calls(run, a=linear()), X, outputs=["constant"])
    assert "other" in _parts(error)[2]


def test_detached_values_still_are_a_path() -> None:
    model = Calls(lambda m, x: m.b(m.a(x).detach()), a=linear(), b=linear())
    assert effective_depth(model, X).effective_depth == 2


def test_outputs_without_activations_are_refused() -> None:
    with pytest.raises(DepthError, match="no floating-point tensor"):
        effective_depth(Calls(lambda m, x: m.a(x).argmax(-1), a=linear()), X)
    with pytest.raises(DepthError, match="loss"):
        effective_depth(Calls(lambda m, x: {"loss": m.a(x).sum()}, a=linear()), X)


def test_graph_together_with_inputs_is_refused() -> None:
    with pytest.raises(DepthError, match="a graph together with example inputs"):
        effective_depth(capture_graph(linear(), X), X)


# -- failures of the forward pass ----------------------------------------------------------------


def test_wrong_shape_names_module_and_operation() -> None:
    model = nn.Sequential(linear(), nn.Sequential(nn.ReLU(), nn.Linear(5, 2)))
    with pytest.raises(CaptureError) as error:
        capture_graph(model, X)
    received, _, action = _parts(error)
    assert "operation aten.addmm.default in module '1.1'" in received
    assert "mat1 and mat2 shapes cannot be multiplied" in received
    assert "shapes" in action
    assert isinstance(error.value.__cause__, RuntimeError)


def test_error_outside_of_operations_names_the_module() -> None:
    class Raises(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise KeyError("vocabulary")

    with pytest.raises(CaptureError, match=r"module '1': KeyError: 'vocabulary'"):
        capture_graph(nn.Sequential(linear(), Raises()), X)


def test_missing_argument_is_one_clear_error() -> None:
    with pytest.raises(CaptureError, match="missing 1 required positional argument"):
        capture_graph(linear())


def test_meta_model_that_needs_values_cannot_fall_back_and_says_so() -> None:
    with torch.device("meta"):
        model = Calls(lambda m, x: m.a(x) * float(m.a(x).sum()), a=linear())
    with pytest.raises(CaptureError) as error:
        capture_graph(model, X)
    received = _parts(error)[0]
    assert "aten._local_scalar_dense.default" in received
    assert "its parameters hold no values (meta)" in received


def test_meta_input_that_needs_values_cannot_fall_back_and_says_so() -> None:
    model = Calls(lambda m, x: m.a(x) * float(x.sum()), a=linear())
    with pytest.raises(CaptureError, match="hold no values"):
        capture_graph(model, X.to("meta"))


def test_lazy_model_that_fails_its_dry_run_is_one_clear_error() -> None:
    model = nn.Sequential(nn.LazyLinear(3), nn.Linear(5, 2))
    with pytest.raises(CaptureError, match="mat1 and mat2"):
        capture_graph(model, X)


def test_result_without_tensors_is_refused() -> None:
    for result in (None, 3.0, {"a": [1]}):
        with pytest.raises(CaptureError, match="holds no tensor"):
            capture_graph(Calls(lambda m, x, r=result: (m.a(x), r)[1], a=linear()), X)


def test_what_is_no_module_is_refused() -> None:
    with pytest.raises(CaptureError, match="a function as model"):
        capture_graph(lambda x: x, X)


# -- reuse ---------------------------------------------------------------------------------------


def test_module_applied_again_on_one_path_is_recurrent_by_name() -> None:
    model = Calls(lambda m, x: m.head(m.a(torch.relu(m.a(x)))), a=linear(), head=linear())
    report = effective_depth(model, X)
    assert (report.recurrent, report.tied) == (("a.weight",), ())


def test_siblings_that_share_a_layer_are_not_recurrent() -> None:
    siamese = Calls(lambda m, x, y: m.head(m.a(x) * m.a(y)), a=linear(), head=linear())
    assert effective_depth(siamese, X, X).recurrent == ()
    heads = Calls(lambda m, x: m.b(x) * m.a(m.c(x)) + m.a(x), a=linear(), b=linear(), c=linear())
    assert effective_depth(heads, X).recurrent == ()


def test_reuse_far_apart_and_across_additions_is_found() -> None:
    def run(self: Any, x: Tensor) -> Tensor:
        h = self.shared(x)
        for block in self.blocks:
            h = h + block(h)
        return h + self.shared(torch.tanh(h))

    model = Calls(run, shared=linear(), blocks=nn.ModuleList(linear() for _ in range(20)))
    assert effective_depth(model, X).recurrent == ("shared.weight",)


def test_tied_table_and_head_are_reported_but_not_recurrent() -> None:
    def run(self: Any, tokens: Tensor) -> Tensor:
        return self.head(self.body(self.table(tokens)))

    model = Calls(run, table=nn.Embedding(9, 4), body=linear(), head=nn.Linear(4, 9, bias=False))
    model.head.weight = model.table.weight
    report = effective_depth(model, torch.zeros(2, 3, dtype=torch.long))
    assert (report.tied, report.recurrent) == (("table.weight",), ())
    graph = capture_graph(model, torch.zeros(2, 3, dtype=torch.long))
    assert graph.parameter_records["table.weight"].aliases == ("head.weight",)


def test_table_used_by_a_head_twice_on_one_path_is_recurrent() -> None:
    def run(self: Any, tokens: Tensor) -> Tensor:
        logits = self.table(tokens) @ self.table.weight.T
        return logits @ self.table.weight @ self.table.weight.T

    model = Calls(run, table=nn.Embedding(9, 4))
    report = effective_depth(model, torch.zeros(2, 3, dtype=torch.long))
    assert (report.tied, report.recurrent) == (("table.weight",), ("table.weight",))


def test_albert_is_recurrent_by_name() -> None:
    from transformers import AlbertConfig, AlbertModel

    config = AlbertConfig(
        vocab_size=32,
        embedding_size=8,
        hidden_size=8,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=8,
    )
    report = effective_depth(AlbertModel(config), input_ids=torch.zeros(1, 4, dtype=torch.long))
    assert "encoder.albert_layer_groups.0.albert_layers.0.ffn.weight" in report.recurrent
    assert "encoder.embedding_hidden_mapping_in.weight" not in report.recurrent


def test_recurrent_modules_are_recurrent_with_one_step_too() -> None:
    report = effective_depth(nn.GRU(4, 4), torch.zeros(1, 2, 4))
    assert report.recurrent == ("weight_ih_l0", "weight_hh_l0")


def test_parameters_that_nothing_consumed_are_listed() -> None:
    model = Calls(lambda m, x: m.a(x), a=linear(), spare=linear(), gain=nn.LayerNorm(4))
    assert effective_depth(model, X).unused_parameters == ("spare.weight",)


class _TwoHeads(nn.Module):
    """A chain of layers with a head behind its first and one behind its last."""

    def __init__(self, depth: int, names: list[str]) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(4, 4) for _ in range(depth)])
        self.early, self.late, self.names = nn.Linear(4, 2), nn.Linear(4, 2), names

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        first = x = torch.relu(self.layers[0](x))
        for layer in self.layers[1:]:
            x = torch.relu(layer(x))
        made = {"early": self.early(first), "late": self.late(x), "features": x}
        return {name: made[name] for name in self.names}


def test_a_deeper_output_than_the_first_is_named() -> None:
    graph = capture_graph(_TwoHeads(7, ["early", "late"]), torch.zeros(1, 4))
    note = (
        "the effective depth is that of the output early, 2; that of late is 8: if it is the one "
        "to be trained, return it first"
    )
    assert (graph.depth().effective_depth, graph.depth().notes) == (2, (note,))
    assert graph.depth(outputs=["early"]).notes == ()


@pytest.mark.parametrize(
    ("depth", "names"), [(7, ["late", "early"]), (7, ["features", "late"]), (3, ["early", "late"])]
)
def test_shallower_outputs_and_those_as_deep_are_no_surprise(depth: int, names: list[str]) -> None:
    assert capture_graph(_TwoHeads(depth, names), torch.zeros(1, 4)).depth().notes == ()
