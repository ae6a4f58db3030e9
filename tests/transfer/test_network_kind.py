"""Kinds of networks, found in the graph: where norms sit, what scales a branch, how long it is."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from etastar.graph import capture_graph
from etastar.models import build, example_inputs
from etastar.optimizers import optimizer_kind
from etastar.parameter import NetworkFeatures
from etastar.transfer import read_architecture
from etastar.transfer.network_kind import network_features, network_kind


def features(model, *args, **kwargs):
    graph = capture_graph(model, *args, **kwargs)
    return network_features(graph, graph.depth())


def residual(norm, *, batch_norm=False, scaled=False, layers=2, convolves=False):
    found = NetworkFeatures("residual", norm, batch_norm, scaled, layers)
    return replace(found, convolutional=convolves)


@pytest.mark.parametrize(
    ("name", "settings", "expected"),
    [
        ("mlp", {}, NetworkFeatures("chain", "none", False, False, 0)),
        ("cnn2d", {}, NetworkFeatures("chain", "none", False, False, 0, convolutional=True)),
        ("gpt", {}, residual("pre")),
        ("gpt", {"affine": False}, residual("pre")),
        ("gpt", {"parallel": True}, residual("pre")),
        ("vit", {}, residual("pre")),
        ("resnet", {}, residual("none", layers=1, convolves=True)),
        ("resnet", {"batch_norm": True}, residual("pre", batch_norm=True, layers=1)),
        ("resmlp", {"branch_layers": 2}, residual("none")),
    ],
)
def test_networks_of_the_zoo_are_of_one_kind_at_every_depth(name, settings, expected):
    for depth in (1, 3):
        size = {"depth": depth, "width": 16, **settings}
        assert features(build(name, **size), *example_inputs(name, **size)) == expected


def separable(channels):
    """Depthwise and pointwise, as MobileNet alternates them."""
    return nn.Conv2d(channels, channels, 3, padding=1, groups=channels), nn.Conv2d(channels, 8, 1)


@pytest.mark.parametrize(
    ("layers", "convolutional"),
    [
        (
            [nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.Flatten(), nn.Linear(128, 2)],
            True,
        ),
        ([nn.Conv2d(3, 8, 3), *separable(8), nn.ReLU(), *separable(8), nn.Flatten()], True),
        ([nn.Conv2d(3, 8, 1), nn.ReLU(), nn.Conv2d(8, 8, 1), nn.Flatten()], False),
        ([nn.Conv2d(3, 8, 8), nn.Flatten(), *(nn.Linear(8, 8) for _ in range(3))], False),
        ([nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 2, 3)], False),
    ],
    ids=["plain", "separable", "one position", "patches", "normalized"],
)
def test_a_chain_without_norms_convolves_where_a_third_of_its_layers_do(layers, convolutional):
    found = features(nn.Sequential(*layers), torch.zeros(2, 3, 8, 8))
    assert (found.structure, found.convolutional) == ("chain", convolutional)


@pytest.mark.parametrize(("size", "convolutional"), [(1, False), (3, True)])
def test_residual_branches_without_norms_convolve_by_their_kernel(size, convolutional):
    def branch():
        layers = nn.Conv1d(4, 4, size, padding=size // 2), nn.ReLU(), nn.Conv1d(4, 4, 1)
        return nn.Sequential(*layers)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.branches = nn.Conv1d(2, 4, 5), nn.ModuleList(branch() for _ in range(3))

        def forward(self, x):
            x = self.stem(x)
            for one in self.branches:
                x = x + one(x)
            return x

    expected = residual("none", convolves=convolutional)
    assert features(Net(), torch.zeros(2, 2, 16)) == expected


class Blocks(nn.Module):
    """Stem, blocks, head; a block is a function of the stream and its own modules."""

    def __init__(self, depth, make, forward):
        super().__init__()
        self.stem, self.head = nn.Linear(6, 8), nn.Linear(8, 3)
        self.blocks = nn.ModuleList(make() for _ in range(depth))
        self.step = forward

    def forward(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = self.step(block, x)
        return self.head(x)


class RMSNorm(nn.Module):
    """Written out, with a gain."""

    def __init__(self, power):
        super().__init__()
        self.gain, self.power = nn.Parameter(torch.ones(8)), power

    def forward(self, x):
        mean = x.pow(2).mean(-1, keepdim=True) + 1e-6
        return self.gain * (x * (mean.pow(-0.5) if self.power else mean.rsqrt()))


def parts(norm=nn.LayerNorm, **extra):
    def make():
        block = nn.ModuleDict({"f": nn.Linear(8, 8), "g": nn.Linear(8, 8), "norm": norm(8)})
        for name, value in extra.items():
            block.register_parameter(name, nn.Parameter(torch.full(value, 0.1)))
        return block

    return make


def branch(b, x):
    return b["g"](torch.relu(b["f"](x)))


CASES = {
    "pre": (parts(), lambda b, x: x + branch(b, b["norm"](x)), residual("pre")),
    "post": (parts(), lambda b, x: b["norm"](x + branch(b, x)), residual("post")),
    "behind the branch": (
        parts(), lambda b, x: x + b["norm"](branch(b, x)), residual("inside"),
    ),
    "within the branch": (
        parts(), lambda b, x: x + b["g"](b["norm"](b["f"](x))), residual("inside"),
    ),
    "BatchNorm within": (
        parts(nn.BatchNorm1d), lambda b, x: x + b["g"](b["norm"](b["f"](x))),
        residual("inside", batch_norm=True),
    ),
    "written out": (
        parts(lambda n: RMSNorm(False)), lambda b, x: x + branch(b, b["norm"](x)), residual("pre"),
    ),
    "written out as a power": (
        parts(lambda n: RMSNorm(True)), lambda b, x: x + branch(b, b["norm"](x)), residual("pre"),
    ),
    "the gain of a norm is no scale": (
        parts(lambda n: RMSNorm(False)), lambda b, x: x + b["norm"](branch(b, x)),
        residual("inside"),
    ),
    "LayerScale": (
        parts(gamma=(8,)), lambda b, x: x + b.gamma * branch(b, b["norm"](x)),
        residual("pre", scaled=True),
    ),
    "ReZero": (
        parts(alpha=()), lambda b, x: x + branch(b, x) * b.alpha, residual("none", scaled=True),
    ),
    "a scale within is none of the branch": (
        parts(beta=(8,)), lambda b, x: x + b["g"](b.beta * b["f"](x)), residual("none"),
    ),
    "one layer": (parts(), lambda b, x: x + b["f"](torch.relu(x)), residual("none", layers=1)),
}  # fmt: skip


@pytest.mark.parametrize(("make", "forward", "expected"), CASES.values(), ids=CASES)
def test_blocks_of_every_form(make, forward, expected):
    for depth in (2, 5):
        assert features(Blocks(depth, make, forward), torch.zeros(4, 6)) == expected


def test_a_final_norm_and_one_behind_the_stem_are_none_of_the_blocks():
    class Ends(Blocks):
        def __init__(self, depth):
            super().__init__(depth, parts(), lambda b, x: x + branch(b, x))
            self.first, self.last = nn.LayerNorm(8), nn.LayerNorm(8)

        def forward(self, x):
            x = self.first(self.stem(x))
            for block in self.blocks:
                x = self.step(block, x)
            return self.head(self.last(x))

    for depth in (1, 2, 5):
        assert features(Ends(depth), torch.zeros(4, 6)) == residual("none")


def test_a_chain_with_norms_and_a_network_of_neither_form():
    normed = nn.Sequential(
        nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3)
    )
    assert features(normed, torch.zeros(4, 6)) == NetworkFeatures("chain", "inside", True, False, 0)
    last = nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 8), nn.LayerNorm(8))
    assert features(last, torch.zeros(4, 6)).norm == "none"

    class Dense(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two = nn.Linear(6, 4), nn.Linear(10, 3)

        def forward(self, x):
            return self.two(torch.cat([x, self.one(x)], -1))

    assert features(Dense(), torch.zeros(4, 6)).structure == "other"


@pytest.mark.parametrize(("norm_first", "norm"), [(True, "pre"), (False, "post")])
def test_torchs_own_layers(norm_first, norm):
    layer = nn.TransformerEncoderLayer(16, 2, 32, norm_first=norm_first, batch_first=True)
    for depth in (1, 3):
        encoder = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)
        assert features(nn.Sequential(nn.Linear(8, 16), encoder), torch.zeros(2, 5, 8)) == residual(
            norm
        )


@pytest.mark.slow
def test_models_of_transformers():
    hf = pytest.importorskip("transformers")
    small = {"vocab_size": 50, "num_attention_heads": 2, "intermediate_size": 64}
    ids = torch.zeros(1, 4, dtype=torch.long)
    for depth in (1, 2):
        gpt2 = hf.GPT2Config(
            n_embd=32, n_layer=depth, n_head=2, vocab_size=50, bos_token_id=0, eos_token_id=0
        )
        llama = hf.LlamaConfig(
            hidden_size=32, num_hidden_layers=depth, num_key_value_heads=2, **small
        )
        bert = hf.BertConfig(hidden_size=32, num_hidden_layers=depth, **small)
        stages = {"hidden_sizes": [8, 16], "depths": [depth, depth]}
        convnext = hf.ConvNextModel(hf.ConvNextConfig(num_stages=2, **stages))
        resnet = hf.ResNetModel(hf.ResNetConfig(embedding_size=8, layer_type="basic", **stages))
        image = torch.zeros(2, 3, 32, 32)
        assert features(hf.GPT2LMHeadModel(gpt2), input_ids=ids) == residual("pre")
        assert features(hf.LlamaForCausalLM(llama), input_ids=ids) == residual("pre")
        assert features(hf.BertModel(bert), input_ids=ids) == residual("post")
        assert features(convnext, image) == residual("inside", scaled=True)
        assert features(resnet, image) == residual("inside", batch_norm=True)


def test_the_kind_holds_the_update_and_an_architecture_its_features():
    network = build("gpt", depth=1, width=16), example_inputs("gpt", depth=1, width=16)
    found = read_architecture(network).features
    assert found == residual("pre")
    kinds = [network_kind(found, optimizer_kind(name)) for name in ("adam", "adamw", "muon", "sgd")]
    assert [kind.update for kind in kinds] == ["adam", "adam", "muon", "sgd"]
    assert kinds[0] == kinds[1] != kinds[2]
    assert str(kinds[0]) == "pre-norm residual network"
    assert network_kind(None, optimizer_kind("sgd")) is None
