"""Models as they are met: compiled, distributed, checkpointed, reparametrized, lazy, scripted."""

from __future__ import annotations

import contextlib
import copy
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint

from etastar.graph.capture import capture_graph
from etastar.graph.dag import Graph
from etastar.graph.effective_depth import effective_depth

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # torch's own

X = torch.zeros(2, 4)


class Net(nn.Module):
    """Two layers, the second one on a branch, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.a(x)
        return self.head(h + torch.relu(self.b(h)))


PLAIN = (2, 7, 25, 91)  # paths of length 3 and 4


def layers(graph: Graph) -> list[tuple[str, tuple[str, ...]]]:
    found = []
    for node in graph.weight_layers():
        assert node.weight is not None
        found.append((node.module, node.weight.parameters))
    return found


def assert_plain(model: nn.Module, *, capture: str = "fake") -> Graph:
    graph = capture_graph(model, X)
    report = effective_depth(graph)
    assert report.path_length_moments == PLAIN
    assert report.recurrent == report.tied == report.unused_parameters == ()
    assert report.capture == capture, report.capture_note
    expected = [(name, (f"{name}.weight",)) for name in ("a", "b", "head")]
    assert layers(graph) == expected
    return graph


# -- wrappers ------------------------------------------------------------------------------------


def test_compiled_model_is_captured_uncompiled() -> None:
    assert_plain(torch.compile(Net()))


def test_compiled_submodule_and_function_run_eagerly() -> None:
    model = Net()
    model.b = torch.compile(model.b)
    assert_plain(model)
    model = Net()
    model.forward = torch.compile(model.forward)
    assert_plain(model)


@pytest.fixture
def process_group(tmp_path: Any) -> Iterator[None]:
    store = dist.FileStore(str(tmp_path / "store"), 1)
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("process_group")
def test_distributed_model_has_the_names_of_its_inner_one() -> None:
    assert_plain(nn.parallel.DistributedDataParallel(Net()))
    assert_plain(torch.compile(nn.parallel.DistributedDataParallel(Net())))


def test_data_parallel_model_has_the_names_of_its_inner_one() -> None:
    assert_plain(nn.DataParallel(Net()))


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("training", [True, False])
def test_checkpointed_function_is_transparent(reentrant: bool, training: bool) -> None:
    class Checkpointed(Net):
        def forward(self, x: Tensor) -> Tensor:
            h = checkpoint(self.a, x, use_reentrant=reentrant)
            return self.head(h + checkpoint(self._branch, h, use_reentrant=reentrant))

        def _branch(self, h: Tensor) -> Tensor:
            return torch.relu(self.b(h))

    assert_plain(Checkpointed().train(training))


def test_checkpoint_wrapper_has_the_names_of_its_inner_module() -> None:
    from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper

    model = Net()
    model.b = checkpoint_wrapper(model.b)
    assert_plain(model)


@pytest.mark.parametrize("where", ["inside", "outside", "nested"])
def test_autocast_hides_no_weight(where: str) -> None:
    class Cast(Net):
        def forward(self, x: Tensor) -> Tensor:
            with torch.autocast("cpu", torch.bfloat16):
                first = super().forward(x)
                if where == "nested":
                    with torch.autocast("cpu", enabled=False):
                        return super().forward(x) * 0 + first.float().detach() * 0
                return first

    if where == "inside":
        graph = assert_plain(Cast())
        assert graph.weight_layers()[0].dtype == "torch.bfloat16"
    elif where == "outside":
        with torch.autocast("cpu", torch.bfloat16):
            model = Net()
            model(X)  # its casts are in the cache now
            assert_plain(model)
            assert model(X).dtype is torch.bfloat16
    else:
        graph = capture_graph(Cast(), X)
        assert [name for name, _ in layers(graph)] == ["a", "b", "head"] * 2


def test_meta_model_is_captured_as_it_is() -> None:
    with torch.device("meta"):
        model, x = Net(), torch.zeros(2, 4)
    assert_plain(model)
    graph = capture_graph(model, x)
    assert effective_depth(graph).path_length_moments == PLAIN
    assert all(p.is_meta for p in model.parameters())


def test_lazy_model_is_captured_and_stays_lazy() -> None:
    model = Net()
    model.b = nn.LazyLinear(4)
    model.head = nn.LazyLinear(2)
    assert_plain(model)
    assert isinstance(model.b, nn.LazyLinear)
    assert isinstance(model.b.weight, nn.UninitializedParameter)
    assert model.b._forward_pre_hooks


@pytest.mark.parametrize("how", ["script", "trace"])
def test_scripted_submodule_is_seen_inside(how: str) -> None:
    model = Net()
    model.b = torch.jit.script(model.b) if how == "script" else torch.jit.trace(model.b, X)
    graph = capture_graph(model, X)
    assert effective_depth(graph).path_length_moments == PLAIN
    assert [names for _, names in layers(graph)] == [("a.weight",), ("b.weight",), ("head.weight",)]
    with torch.no_grad():
        assert capture_graph(torch.jit.script(Net()), X).weight_layers()


def test_scripted_part_of_a_patched_model_keeps_its_names() -> None:
    model = Net()
    model.b = torch.jit.script(model.b)  # copied with its data, while the forward is not copied
    inner = model.forward
    model.forward = lambda x: inner(x)
    assert effective_depth(model, X).path_length_moments == PLAIN


def test_hooked_and_monkey_patched_modules_are_captured() -> None:
    model = Net()
    model.b.register_forward_hook(lambda module, args, output: output * 2)
    model.a.register_forward_pre_hook(lambda module, args: (args[0] + 1,))
    model.head.forward = lambda h: F.linear(torch.tanh(h), model.head.weight)
    graph = capture_graph(model, X)
    assert effective_depth(graph).path_length_moments == PLAIN


# -- reparametrized weights ----------------------------------------------------------------------


def test_weight_norm_is_one_layer_of_both_its_parameters() -> None:
    model = Net()
    parametrizations.weight_norm(model.b)
    graph = capture_graph(model, X)
    parts = ("b.parametrizations.weight.original0", "b.parametrizations.weight.original1")
    module, names = layers(graph)[1]
    assert (module, set(names)) == ("b", set(parts))
    assert effective_depth(graph).path_length_moments == PLAIN


@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated:FutureWarning")
def test_old_weight_norm_is_one_layer_of_both_its_parameters() -> None:
    model = Net()
    nn.utils.weight_norm(model.b)
    graph = capture_graph(model, X)
    module, names = layers(graph)[1]
    assert (module, set(names)) == ("b", {"b.weight_g", "b.weight_v"})
    assert effective_depth(graph).path_length_moments == PLAIN


@pytest.mark.filterwarnings("ignore:.*spectral_norm.* is deprecated:FutureWarning")
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("norm", [parametrizations.spectral_norm, nn.utils.spectral_norm])
def test_spectral_norm_is_one_layer_and_its_vectors_stay(norm: Any, training: bool) -> None:
    model = Net()
    norm(model.b)
    model.train(training)
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    graph = capture_graph(model, X)
    assert effective_depth(graph).path_length_moments == PLAIN
    assert [module for module, _ in layers(graph)] == ["a", "b", "head"]
    assert before
    for name, buffer in model.named_buffers():
        assert torch.equal(buffer, before[name])


class LowRank(nn.Module):
    """A frozen layer with a trainable low-rank update, added to the output or to the weight."""

    def __init__(self, *, merged: bool) -> None:
        super().__init__()
        self.base = nn.Linear(4, 4).requires_grad_(False)
        self.down = nn.Parameter(torch.zeros(2, 4))
        self.up = nn.Parameter(torch.zeros(4, 2))
        self.merged = merged

    def forward(self, x: Tensor) -> Tensor:
        if self.merged:
            return F.linear(x, self.base.weight + self.up @ self.down, self.base.bias)
        return self.base(x) + 2.0 * (x @ self.down.T) @ self.up.T


def test_merged_low_rank_adapter_is_one_layer() -> None:
    graph = capture_graph(LowRank(merged=True), X)
    assert layers(graph) == [("", ("base.weight", "up", "down"))]


def test_low_rank_adapter_beside_a_layer_is_a_branch() -> None:
    report = effective_depth(LowRank(merged=False), X)
    assert report.path_length_moments == (2, 5, 13, 35)
    assert report.residual_additions == 1


class Product(torch.autograd.Function):
    """A matrix product with a backward of its own."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor) -> Tensor:
        ctx.save_for_backward(x, w)
        return x @ w.T

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        x, w = ctx.saved_tensors
        return gradient @ w, gradient.T @ x


def test_custom_autograd_function_is_seen_inside() -> None:
    class Custom(Net):
        def forward(self, x: Tensor) -> Tensor:
            h = Product.apply(x, self.a.weight)
            return self.head(h + torch.relu(Product.apply(h, self.b.weight)))

    graph = capture_graph(Custom(), X)
    assert effective_depth(graph).path_length_moments == PLAIN
    assert [names for _, names in layers(graph)] == [("a.weight",), ("b.weight",), ("head.weight",)]


@pytest.mark.parametrize("over", ["examples", "weights"])
def test_vmap_inside_forward_is_seen_inside(over: str) -> None:
    class Mapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.zeros(3, 4, 4))
            self.head = nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            if over == "examples":
                return self.head(torch.vmap(lambda v: self.w[0] @ v)(x))
            return self.head(torch.vmap(lambda w: x @ w)(self.w).sum(0))

    graph = capture_graph(Mapped(), X)
    assert effective_depth(graph).path_length_moments == (1, 2, 4, 8)
    assert [names for _, names in layers(graph)] == [("w",), ("head.weight",)]


def test_functional_call_inside_forward_is_seen_inside() -> None:
    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = Net()

        def forward(self, x: Tensor) -> Tensor:
            halved = {name: p * 0.5 for name, p in self.net.named_parameters()}
            return torch.func.functional_call(self.net, halved, (x,))

    assert effective_depth(Functional(), X).path_length_moments == PLAIN


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile:UserWarning")
@pytest.mark.parametrize("causal", [False, True])
def test_flex_attention_is_seen(causal: bool) -> None:
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    def mask(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        return q >= k

    class Flex(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.qkv, self.out = nn.Linear(16, 48), nn.Linear(16, 16)
            self.block_mask = create_block_mask(mask, None, None, 16, 16, device="cpu")

        def forward(self, x: Tensor) -> Tensor:
            q, k, v = self.qkv(x).view(1, 16, 3, 1, 16).permute(2, 0, 3, 1, 4)
            block_mask = self.block_mask if causal else None
            return x + self.out(flex_attention(q, k, v, block_mask=block_mask).squeeze(1))

    graph = capture_graph(Flex(), torch.zeros(1, 16, 16))
    report = effective_depth(graph)
    assert report.path_length_moments == (2, 4, 10, 28)
    assert len(graph.weight_layers()) == 2
    assert any(node.kind == "attention contraction" for node in graph)


# -- models that keep state ----------------------------------------------------------------------


class Caching(Net):
    """Keeps tensors of its forward pass."""

    def __init__(self, *, copyable: bool = True) -> None:
        super().__init__()
        self.last: Any = None
        self.history: list[Tensor] = []
        self.by_name: dict[str, Tensor] = {}
        self.register_buffer("steps", torch.zeros(1), persistent=False)
        if not copyable:
            self.lock = threading.Lock()

    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        self.last = y
        self.history.append(y)
        self.by_name["y"] = y
        self.steps += 1
        self.fresh = y
        return y


@pytest.mark.parametrize("copyable", [True, False])
def test_module_that_keeps_tensors_of_its_forward_keeps_none_of_ours(copyable: bool) -> None:
    model = Caching(copyable=copyable)
    assert_plain(model)
    assert model.last is None
    assert model.history == []
    assert model.by_name == {}
    assert not hasattr(model, "fresh")
    assert model.steps.item() == 0
    model(X)
    kept = model.last
    assert_plain(model)
    assert model.last is kept
    assert len(model.history) == 1
    assert model.steps.item() == 1


def test_model_that_cannot_be_copied_is_captured() -> None:
    model = Caching(copyable=False)
    with pytest.raises(TypeError):
        copy.deepcopy(model)
    assert_plain(model)
    assert model(X).shape == (2, 2)


def test_rotary_tables_made_on_first_use_are_not_kept_as_fakes() -> None:
    class Rotary(Net):
        table: Tensor | None = None

        def forward(self, x: Tensor) -> Tensor:
            if self.table is None:
                self.table = torch.arange(4.0).cos()
            return super().forward(x * self.table)

    model = Rotary()
    assert_plain(model)
    assert model.table is None
    assert model(X).shape == (2, 2)


def test_weights_kept_as_plain_tensors_run_but_are_no_parameters() -> None:
    class Frozen(Net):
        def __init__(self) -> None:
            super().__init__()
            self.table = torch.zeros(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x @ self.table)

    assert_plain(Frozen())


def test_grad_mode_of_the_caller_does_not_matter() -> None:
    for mode in (torch.no_grad(), torch.enable_grad(), torch.inference_mode(), _nothing()):
        with mode:
            assert_plain(Net())


@contextlib.contextmanager
def _nothing() -> Iterator[None]:
    yield


def test_double_precision_and_complex_models_are_captured() -> None:
    graph = capture_graph(Net().double(), X.double())
    assert graph.weight_layers()[0].dtype == "torch.float64"
    layer = nn.Linear(4, 4, dtype=torch.complex64)
    assert effective_depth(layer, X.to(torch.complex64)).effective_depth == 1
