"""Which parametrizations keep the coordinates: standard ones fail, our plans pass."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from etastar.coordinates import coordinate_check
from etastar.datasets import load
from etastar.graph import capture_graph
from etastar.init import initialize_
from etastar.models import build, example_inputs
from etastar.transfer import Tuned, plan_transfer

OPTIMIZERS = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}


def loss_fn(output, targets):
    return F.cross_entropy(output.flatten(0, -2), targets.flatten())


class Family:
    """A network of the zoo, initialized by us; trained by a plan, or with one rate for all."""

    def __init__(self, name, base, optimizer, lr, law="constant", plan=True, **common):
        self.name, self.base, self.common, self.with_plan = name, base, common, plan
        self.optimizer, self.graphs = optimizer, {}
        self.lr, self.settings = lr, {"optimizer": optimizer, "law": law}

    def graph(self, **size):
        arguments = {**self.common, **size}
        key = tuple(sorted(arguments.items()))
        if key not in self.graphs:
            model = build(self.name, **arguments)
            self.graphs[key] = capture_graph(model, *example_inputs(self.name, **arguments))
        return self.graphs[key]

    def __call__(self, **size):
        model = build(self.name, **self.common, **size)
        graph = self.graph(**size)
        initialize_(model, graph, residual="none", seed=torch.initial_seed())
        if not self.with_plan:
            return model, OPTIMIZERS[self.optimizer](model.parameters(), lr=self.lr)
        plan = plan_transfer(Tuned(self.graph(**self.base), self.lr), graph, **self.settings)
        plan.rescale_(model)
        return model, OPTIMIZERS[self.optimizer](plan.param_groups(model))


@pytest.fixture(scope="module")
def digits():
    return next(iter(load("digits").batches(0, 64, 1)))


@pytest.fixture(scope="module")
def text():
    return next(iter(load("stdlib-text", context=8).batches(0, 16, 1)))


def layers_of(report):
    return {layer.module: layer for layer in report.axes[0].layers if layer.role is not None}


def over(name, *values):
    return [{name: value} for value in values]


WIDTHS = over("width", 32, 64, 128, 256)


def test_one_rate_for_all_widths_fails_naming_hidden_layers(digits):
    family = Family("mlp", {"width": 32}, "adam", 1e-3, plan=False, depth=3)
    report = coordinate_check(family, WIDTHS, digits, loss_fn)
    assert not report.passed
    found = layers_of(report)
    assert found["layers.0"].verdict == "flat"
    for name in ("layers.1", "layers.2"):
        assert (found[name].role, found[name].verdict) == ("hidden", "grows")
        assert found[name].quantity == "change"
        assert found[name].groups == ("Adam, group 0",)
        (remedy,) = found[name].remedies
        assert (remedy.parameter, remedy.setting) == (f"{name}.weight", "learning rate")
        assert remedy.wanted == pytest.approx(1 / 8)
    head = {remedy.setting: remedy for remedy in found["head"].remedies}
    assert head["learning rate"].wanted == pytest.approx(1 / 8)
    assert head["initial size"].wanted == pytest.approx(1 / 8)
    assert head["initial size"].found == pytest.approx(8**-0.5, rel=0.1)


@pytest.mark.parametrize(("optimizer", "lr"), [("adam", 1e-3), ("sgd", 0.1)])
def test_the_width_plan_passes(digits, optimizer, lr):
    family = Family("mlp", {"width": 32}, optimizer, lr, depth=3)
    report = coordinate_check(family, WIDTHS, digits, loss_fn)
    assert report.passed
    found = layers_of(report)
    assert all(found[name].verdict == "flat" for name in ("layers.0", "layers.1", "layers.2"))
    assert found["head"].init.exponent == pytest.approx(-0.5, abs=0.15)
    assert "readout" in found["head"].exception


def test_the_width_plan_passes_on_a_transformer(text):
    family = Family("gpt", {"width": 32}, "adam", 1e-3, depth=1, context=8)
    report = coordinate_check(family, over("width", 32, 64, 128), text, loss_fn)
    assert report.passed
    logits = [layer for layer in report.axes[0].layers if layer.name == "attention logits"]
    assert [layer.verdict for layer in logits] == ["flat"]
    assert logits[0].parameters == ("blocks.0.attn.qkv.bias", "blocks.0.attn.qkv.weight")


def test_a_head_that_grows_with_width_is_seen_at_the_attention_logits(text):
    class Wide(Family):
        def graph(self, **size):
            self.common["head_width"] = size["width"]
            return super().graph(**size)

        def __call__(self, **size):
            self.common["head_width"] = size["width"]
            return super().__call__(**size)

    family = Wide("gpt", {"width": 32}, "adam", 1e-3, depth=1, context=8)
    report = coordinate_check(family, over("width", 32, 64, 128), text, loss_fn)
    (logits,) = [layer for layer in report.axes[0].layers if layer.name == "attention logits"]
    assert logits.change.exponent == pytest.approx(0.5, abs=0.2)
    assert logits.verdict == "grows"
    assert not report.passed


DEPTHS = over("depth", 2, 4, 8)


def test_a_standard_transformer_grows_with_depth(text):
    family = Family("gpt", {"depth": 2}, "adam", 1e-3, plan=False, width=32, context=8)
    report = coordinate_check(family, DEPTHS, text, loss_fn, seeds=(0, 1))
    assert not report.passed
    assert report.axes[0].kind == "depth"
    stream = [layer for layer in report.axes[0].layers if layer.name.startswith("addition")]
    assert len(stream) == 2
    assert all(layer.verdict == "grows" for layer in stream)
    assert all(0.8 < layer.change.exponent < 1.5 for layer in stream)  # K coherent updates
    assert all("complete-p" in layer.advice for layer in stream)
    found = layers_of(report)
    assert found["blocks.*.attn.qkv"].verdict == "grows"
    assert found["blocks.*.attn.qkv"].remedies == ()  # its input grows
    assert "mend blocks.*" in found["blocks.*.attn.qkv"].advice


def test_complete_p_passes_over_depth(text):
    family = Family("gpt", {"depth": 2}, "adam", 1e-3, law="complete-p", width=32, context=8)
    report = coordinate_check(family, DEPTHS, text, loss_fn, seeds=(0, 1))
    assert report.passed
    found = layers_of(report)
    for name in ("embedding", "blocks.*.attn.qkv", "blocks.*.mlp.fc", "head"):
        assert found[name].verdict == "flat"
    for name in ("blocks.*.attn.proj", "blocks.*.mlp.proj"):  # 1/K of the stream each
        assert found[name].change.exponent == pytest.approx(-1.0, abs=0.15)
        assert found[name].exception


def test_a_chain_is_held_against_the_law_of_chains(digits):
    family = Family("mlp", {"depth": 2}, "sgd", 0.1, plan=False, width=64)
    report = coordinate_check(family, over("depth", 2, 4, 8, 16), digits, loss_fn)
    (remedy, *_) = report.failures[-1].remedies
    assert remedy.wanted == pytest.approx((17 / 3) ** -1.5)
    assert "effective-depth" in report.failures[-1].advice


def test_one_seed_has_no_interval_and_more_seeds_have(digits):
    family = Family("mlp", {"width": 16}, "sgd", 0.1, depth=1)
    one = coordinate_check(family, over("width", 16, 32), digits, loss_fn, seeds=[3], num_steps=1)
    two = coordinate_check(
        family, over("width", 16, 32), digits, loss_fn, seeds=[3, 4], num_steps=1
    )
    assert {layer.change.interval for layer in one.axes[0].layers} == {None}
    low, high = two.axes[0].layers[0].change.interval
    assert low < two.axes[0].layers[0].change.exponent < high
    assert all(math.isfinite(end) for end in (low, high))


class Attention(nn.Module):
    """One head, logits written out, divided by the width, as muP has them."""

    def __init__(self, width):
        super().__init__()
        self.embed = nn.Linear(4, width, bias=False)
        self.query = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(width, width, bias=False)
        self.head = nn.Linear(width, 1, bias=False)
        for layer in (self.embed, self.query, self.key):
            nn.init.normal_(layer.weight, std=layer.in_features**-0.5)
        nn.init.zeros_(self.head.weight)

    def forward(self, x):
        z = self.embed(x)
        logits = self.query(z) @ self.key(z).transpose(-1, -2) / z.shape[-1]
        return self.head((logits + 1.0).softmax(-1) @ z)


def test_logits_over_the_width_shrink_before_the_first_step_as_an_exception():
    x = torch.randn(8, 6, 4, generator=torch.Generator().manual_seed(0))

    def factory(width):
        model = Attention(width)
        hidden = [model.query.weight, model.key.weight]
        groups = [
            {"params": [model.embed.weight]},
            {"params": hidden, "lr": 1e-2 * 32 / width},
            {"params": [model.head.weight], "lr": 1e-2 * 32 / width},
        ]
        return model, torch.optim.Adam(groups, lr=1e-2)

    report = coordinate_check(
        factory, over("width", 32, 128, 512), (x, None), lambda z, _: (z - 1).square().mean()
    )
    (logits,) = [layer for layer in report.axes[0].layers if layer.name == "attention logits"]
    assert logits.init.exponent == pytest.approx(-0.5, abs=0.1)
    assert (logits.verdict, logits.quantity) == ("shrinks", "size at initialization")
    assert "attention logits" in logits.exception
    assert logits.passed


def test_a_table_tied_to_the_readout_is_named_as_such(text):
    family = Family("gpt", {"width": 32}, "adam", 1e-3, depth=1, context=8, tied=True)
    report = coordinate_check(family, over("width", 32, 128), text, loss_fn, seeds=[0], num_steps=1)
    head = report.axes[0].layers[-1]
    assert (head.module, head.role, head.verdict) == ("head", "embedding", "grows")
    assert "untie" in head.advice
    assert head.remedies == ()


def test_a_layer_whose_bias_shrinks_with_width_is_to_be_drawn_otherwise():
    """Under PyTorch's default its bias, of size fan_in^(-1/2), is all that a small input leaves."""

    def factory(width):
        layers = (nn.Linear(4, width, bias=False), nn.Linear(width, width), nn.Linear(width, 1))
        model, x = nn.Sequential(*layers), torch.full((1, 4), 1e-3)
        small = nn.Sequential(nn.Linear(4, 32, bias=False), nn.Linear(32, 32), nn.Linear(32, 1))
        plan = plan_transfer(Tuned((small, x), 1e-3), (model, x), optimizer="adam", law="constant")
        plan.rescale_(model)
        return model, torch.optim.Adam(plan.param_groups(model))

    batch = torch.full((8, 4), 1e-3), torch.zeros(8, 1)
    report = coordinate_check(factory, over("width", 32, 128, 512), batch, F.mse_loss)
    layer = report.axes[0].layers[1]
    assert (layer.quantity, layer.verdict) == ("size at initialization", "shrinks")
    assert "initialize_" in layer.advice


class TwoReadouts(nn.Module):
    """A score for every class, and one that is added to all of them."""

    def __init__(self, width):
        super().__init__()
        self.first, self.second = nn.Linear(64, width), nn.Linear(width, width)
        self.all, self.each = nn.Linear(width, 1), nn.Linear(width, 10)

    def forward(self, x):
        h = torch.tanh(self.second(torch.tanh(self.first(x.flatten(1)))))
        return self.each(h) + self.all(h)


def test_a_sum_of_readouts_may_shrink_before_the_first_step(digits):
    example = torch.zeros(1, 64)

    def planned(width):
        model = TwoReadouts(width)
        base = Tuned((TwoReadouts(32), example), 1e-2)
        plan = plan_transfer(base, (model, example), optimizer="adam", law="constant")
        plan.rescale_(model)
        return model, torch.optim.Adam(plan.param_groups(model))

    report = coordinate_check(planned, WIDTHS, digits, loss_fn, seeds=4)
    assert report.passed, str(report)
    (total,) = (layer for layer in report.axes[0].layers if layer.role is None)
    assert (total.verdict, total.quantity) == ("shrinks", "size at initialization")
