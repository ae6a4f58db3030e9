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
from torch.utils.checkpoint import checkpoint

from etastar.graph.capture import capture_graph, effective_depth
from etastar.graph.dag import Graph

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
    report = graph.depth()
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
    assert graph.depth().path_length_moments == PLAIN
    assert all(p.is_meta for p in model.parameters())


def test_lazy_model_is_captured_and_stays_lazy() -> None:
    model = Net()
    model.b = nn.LazyLinear(4)
    model.head = nn.LazyLinear(2)
    assert_plain(model)
    assert isinstance(model.b, nn.LazyLinear)
    assert isinstance(model.b.weight, nn.UninitializedParameter)
    assert model.b._forward_pre_hooks


@pytest.mark.filterwarnings("ignore:`torch.jit.trace")  # deprecated from 2.14 on
@pytest.mark.parametrize("how", ["script", "trace"])
def test_scripted_submodule_is_seen_inside(how: str) -> None:
    model = Net()
    model.b = torch.jit.script(model.b) if how == "script" else torch.jit.trace(model.b, X)
    graph = capture_graph(model, X)
    assert graph.depth().path_length_moments == PLAIN
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
    assert graph.depth().path_length_moments == PLAIN


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
