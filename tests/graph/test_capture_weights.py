"""Weights as they are met: normalized, adapted, mapped, in functions of their own."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations

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


# -- reparametrized weights ----------------------------------------------------------------------


def test_weight_norm_is_one_layer_of_both_its_parameters() -> None:
    model = Net()
    parametrizations.weight_norm(model.b)
    graph = capture_graph(model, X)
    parts = ("b.parametrizations.weight.original0", "b.parametrizations.weight.original1")
    module, names = layers(graph)[1]
    assert (module, set(names)) == ("b", set(parts))
    assert graph.depth().path_length_moments == PLAIN


@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated:FutureWarning")
def test_old_weight_norm_is_one_layer_of_both_its_parameters() -> None:
    model = Net()
    nn.utils.weight_norm(model.b)
    graph = capture_graph(model, X)
    module, names = layers(graph)[1]
    assert (module, set(names)) == ("b", {"b.weight_g", "b.weight_v"})
    assert graph.depth().path_length_moments == PLAIN


@pytest.mark.filterwarnings("ignore:.*spectral_norm.* is deprecated:FutureWarning")
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("norm", [parametrizations.spectral_norm, nn.utils.spectral_norm])
def test_spectral_norm_is_one_layer_and_its_vectors_stay(norm: Any, training: bool) -> None:
    model = Net()
    norm(model.b)
    model.train(training)
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    graph = capture_graph(model, X)
    assert graph.depth().path_length_moments == PLAIN
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


class OfBag(nn.Module):
    """A layer that reads a sparse bag of words, and one that averages over a sparse graph."""

    def __init__(self, product: Any) -> None:
        super().__init__()
        self.table, self.head = nn.Parameter(torch.zeros(6, 4)), nn.Linear(4, 2)
        self.product = product

    def forward(self, bag: Tensor) -> Tensor:
        return self.head(torch.relu(self.product(bag, self.table)))


@pytest.mark.filterwarnings("ignore:.*torch.sparse:UserWarning")
@pytest.mark.parametrize(
    "product",
    [
        torch.matmul,
        torch.sparse.mm,
        lambda bag, table: torch.sparse.addmm(torch.ones(3, 4), bag, table),
        lambda bag, table: torch.hspmm(bag, table).to_dense(),
    ],
)
def test_a_product_with_a_sparse_input_is_a_layer(product: Any) -> None:
    bag = torch.eye(3, 6).to_sparse()
    graph = capture_graph(OfBag(product), bag)
    assert graph.depth().path_length_moments == (1, 2, 4, 8)
    roles = {info.name: info.role for info in graph.parameters if info.is_weight}
    assert roles == {"table": "input", "head.weight": "output"}


def test_a_sum_with_what_a_sparse_graph_spreads_counts_as_with_a_dense_one() -> None:
    class Spread(nn.Module):
        def __init__(self, edges: Tensor) -> None:
            super().__init__()
            self.edges, self.layer = edges, nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            mixed = torch.sparse.mm(self.edges, x) if self.edges.is_sparse else self.edges @ x
            return self.layer(x + mixed)

    edges = torch.ones(2, 2)
    for given in (edges, edges.to_sparse()):
        assert effective_depth(Spread(given), X).residual_additions == 1


@pytest.mark.parametrize("how", ["index_add", "scatter_add", "scatter_reduce"])
def test_a_sum_with_what_edges_carry_counts_as_with_a_dense_graph(how: str) -> None:
    class Carried(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.head = nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, x: Tensor, edges: Tensor) -> Tensor:
            x, source, to = self.layer(x), edges[0], edges[1]
            zeros, each = torch.zeros_like(x), to[:, None].expand(-1, 4)
            if how == "index_add":
                return self.head(2 * x + zeros.index_add(0, to, x[source]))
            if how == "scatter_add":
                return self.head(2 * x + zeros.scatter_add(0, each, x[source]))
            return self.head(2 * x + zeros.scatter_reduce(0, each, x[source], "sum"))

    edges = torch.tensor([[0, 1, 1], [1, 0, 1]])
    assert effective_depth(Carried(), X, edges).path_length_moments[0] == 1
    assert effective_depth(Carried(), X, edges).effective_depth == 3


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
    assert graph.depth().path_length_moments == PLAIN
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
    assert graph.depth().path_length_moments == (1, 2, 4, 8)
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
    report = graph.depth()
    assert report.path_length_moments == (2, 4, 10, 28)
    assert len(graph.weight_layers()) == 2
    assert any(node.kind == "attention contraction" for node in graph)


@torch.library.custom_op("etastar_tests::shifted", mutates_args=())
def shifted(x: Tensor, weight: Tensor) -> Tensor:
    """Stands for a kernel of another library, of which no more than the arguments is known."""
    return x @ weight


@shifted.register_fake
def _(x: Tensor, weight: Tensor) -> Tensor:
    return torch.empty_like(x)


@torch.library.custom_op("etastar_tests::deform_conv2d", mutates_args=())
def deformed(x: Tensor, weight: Tensor, offset: Tensor) -> Tensor:
    """The first arguments of the operation of that name in torchvision."""
    return F.conv2d(x, weight, padding=1)


@deformed.register_fake
def _(x: Tensor, weight: Tensor, offset: Tensor) -> Tensor:
    return torch.empty_like(x)


class OfAnother(nn.Module):
    """Two blocks between a stem and a head, each of one operation of another library."""

    def __init__(self, operation: Any, *shape: int) -> None:
        super().__init__()
        self.operation = operation
        self.blocks = nn.ParameterList(torch.zeros(shape) for _ in range(2))
        self.stem, self.head = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for weight in self.blocks:
            x = torch.relu(self.operation(x, weight))
        return self.head(x)


def test_operations_of_another_library_that_read_weights_are_named() -> None:
    report = effective_depth(OfAnother(shifted, 4, 4), X)
    assert report.effective_depth == 2
    (note,) = report.notes
    assert "etastar_tests.shifted of blocks.* (2): a layer among them is not counted" in note
    known = OfAnother(lambda x, w: deformed(x, w, x[:, :1]), 3, 3, 3, 3)
    report = effective_depth(known, torch.zeros(2, 3, 4, 4))
    assert (report.effective_depth, report.notes) == (4, ())
