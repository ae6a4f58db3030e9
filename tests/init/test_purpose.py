"""What was set on purpose stays: zeros, priors, time constants, small gains; patterns; adapters."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrize

from etastar.errors import InitError
from etastar.graph.capture import capture_graph
from etastar.init import initialize_
from tests.init.drawing import Net, initialized


def changed(model, before):
    after = model.state_dict()
    return {name for name, value in before.items() if not torch.equal(value, after[name])}


def inverse_softplus(steps):
    return steps + torch.log(-torch.expm1(-steps))


class Mamba(nn.Module):
    """A selective state space, scanned in Python; `heads` for the form with one A for each head."""

    def __init__(self, width=16, states=4, *, heads=False):
        super().__init__()
        self.proj, self.conv = nn.Linear(width, width), nn.Conv1d(width, width, 3, groups=width)
        self.x = nn.Linear(width, 2 * states + width)
        self.A_log = nn.Parameter(torch.log(torch.arange(1.0, states + 1)).repeat(width, 1))
        self.D = nn.Parameter(torch.full((width,), 1.1))
        steps = torch.exp(torch.linspace(math.log(1e-3), math.log(1e-1), width))
        self.dt_bias = nn.Parameter(inverse_softplus(steps))
        self.out, self.states, self.heads = nn.Linear(width, width), states, heads

    def forward(self, u):
        x = F.silu(self.conv(F.pad(self.proj(u).mT, (2, 0)))).mT
        dt, b, c = self.x(x).split([x.shape[-1], self.states, self.states], -1)
        dt = F.softplus(dt + self.dt_bias)
        decay = torch.exp(-dt[..., None] * torch.exp(self.A_log.float()))
        h, outs = x.new_zeros(len(x), x.shape[-1], self.states), []
        for t in range(x.shape[1]):
            h = decay[:, t] * h + (dt * x)[:, t, :, None] * b[:, t, None]
            outs.append((h * c[:, t, None]).sum(-1))
        return u + self.out(torch.stack(outs, 1) + self.D * x)


class RWKV(nn.Module):
    """A decay for each channel in logarithmic form, and token shift."""

    def __init__(self, width=16):
        super().__init__()
        self.time_decay = nn.Parameter(torch.linspace(-6, 2, width))
        self.mix = nn.Parameter(torch.linspace(0, 1, width)[None, None])
        self.key, self.value = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x):
        before = F.pad(x, (0, 0, 1, 0))[:, :-1]
        k = self.key(x * self.mix + before * (1 - self.mix))
        h, outs = 0.0, []
        for t in range(x.shape[1]):
            h = h * torch.exp(-torch.exp(self.time_decay)) + k[:, t]
            outs.append(h)
        return x + self.value(torch.stack(outs, 1))


@pytest.mark.parametrize(
    ("block", "parametrized"),
    [(Mamba, {"A_log", "D", "dt_bias"}), (RWKV, {"time_decay", "mix"})],
)
def test_time_constants_of_a_recurrence_are_kept_and_listed(block, parametrized):
    model = nn.Sequential(nn.Linear(8, 16), block(), nn.Linear(16, 2))
    before = copy.deepcopy(model.state_dict())
    report = initialized(model, torch.randn(2, 5, 8))
    names = {f"1.{name}" for name in parametrized}
    assert names <= {entry.name for entry in report.kept}
    assert not names & changed(model, before)
    assert {"0.weight", "2.weight"} <= changed(model, before)
    graph = capture_graph(model, torch.randn(2, 5, 8))
    roles = {i.name: i.role for i in graph.parameters if i.name in names}
    assert set(roles.values()) <= {"norm", "bias"}


def lstm_by_hand():
    def forward(m, x):
        h = c = x.new_zeros(len(x), 16)
        i, f, g, o = m.gates(torch.cat([x, h], 1)).chunk(4, 1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        return m.head(torch.sigmoid(o) * torch.tanh(c))

    gates = nn.Linear(24, 64)
    with torch.no_grad():
        gates.bias[16:32] = 1.0
    return Net(forward, gates=gates, head=nn.Linear(16, 2)), "gates.bias", torch.randn(3, 8)


def detector():
    head = nn.Conv2d(16, 9, 1)
    nn.init.constant_(head.bias, -math.log(99))
    return nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), head), "2.bias", torch.randn(1, 3, 8, 8)


def class_prior():
    head = nn.Linear(16, 12)
    head.bias.data = torch.log_softmax(torch.linspace(0, 3, 12), 0)
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), head), "2.bias", torch.randn(2, 8)


def closed_gate():
    gate = nn.Linear(16, 1)
    nn.init.constant_(gate.bias, -3.0)
    forward = lambda m, x: m.out(torch.sigmoid(m.gate(m.first(x))) * m.first(x))  # noqa: E731
    parts = {"first": nn.Linear(8, 16), "gate": gate, "out": nn.Linear(16, 2)}
    return Net(forward, **parts), "gate.bias", torch.randn(2, 8)


@pytest.mark.parametrize("case", [lstm_by_hand, detector, class_prior, closed_gate])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_bias_that_was_set_stays_and_is_listed(case, dtype):
    model, name, x = case()
    model = model.to(dtype)
    before = model.get_parameter(name).clone()
    report = initialized(model, x.to(dtype))
    assert torch.equal(model.get_parameter(name), before)
    assert "set on purpose" in {e.name: e.why for e in report.kept}[name]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (lambda: nn.Linear(16, 3), (2, 16)),
        (lambda: nn.Linear(16, 512), (2, 16)),
        (lambda: nn.Conv2d(16, 8, 3, groups=4), (2, 16, 5, 5)),
        (lambda: nn.ConvTranspose2d(64, 4, 4, stride=2), (2, 64, 5, 5)),
        (lambda: nn.ConvTranspose1d(4, 64, 5, stride=3, groups=2), (2, 4, 5)),
    ],
)
def test_a_bias_that_pytorch_drew_becomes_zero(layer, shape, dtype):
    for seed in range(20):
        torch.manual_seed(seed)
        model = layer().to(dtype)
        initialized(model, torch.zeros(shape, dtype=dtype))
        assert not model.bias.any(), seed


def test_a_bias_of_zero_mean_is_drawn_whatever_its_spread():
    model = nn.Linear(4, 4096)
    nn.init.normal_(model.bias, std=3.0)
    initialized(model, torch.zeros(1, 4))
    assert not model.bias.any()


class LoRA(nn.Module):
    """A linear layer with a low-rank update, as adapters add it."""

    def __init__(self, base, rank, *, trained=False):
        super().__init__()
        self.base = base.requires_grad_(trained)
        self.lora_A = nn.Linear(base.in_features, rank, bias=False)
        self.lora_B = nn.Linear(rank, base.out_features, bias=False)
        nn.init.zeros_(self.lora_B.weight)

    def forward(self, x):
        return self.base(x) + 2 * self.lora_B(F.dropout(self.lora_A(x), 0.0))


class Adapter(nn.Module):
    """Houlsby's bottleneck, which starts as the identity."""

    def __init__(self, width):
        super().__init__()
        self.down, self.up = nn.Linear(width, 4), nn.Linear(4, width)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, x):
        return x + self.up(F.gelu(self.down(x)))


class MergedLoRA(nn.Module):
    """The update of a weight as a parametrization."""

    def __init__(self, width):
        super().__init__()
        self.a, self.b = nn.Parameter(torch.randn(2, width)), nn.Parameter(torch.zeros(width, 2))

    def forward(self, weight):
        return weight + self.b @ self.a


def lora(trained=False):
    layers = [LoRA(nn.Linear(16, 16), 4, trained=trained) for _ in range(3)]
    return nn.Sequential(*[m for layer in layers for m in (layer, nn.ReLU())], nn.Linear(16, 2))


def bottlenecks():
    layers = [nn.Linear(16, 16).requires_grad_(False) for _ in range(3)]
    return nn.Sequential(*[m for layer in layers for m in (layer, Adapter(16), nn.Tanh())])


@pytest.mark.parametrize("build", [lora, bottlenecks])
def test_an_adapter_still_adds_nothing_and_frozen_weights_are_walls(build):
    torch.manual_seed(0)
    model, x = build(), torch.randn(4, 16)
    before, frozen = copy.deepcopy(model.state_dict()), model[:-1](x) if build is lora else model(x)
    report = initialized(model, x)
    assert torch.equal(model[:-1](x) if build is lora else model(x), frozen)
    moved = changed(model, before)
    assert {n for n, p in model.named_parameters() if not p.requires_grad}.isdisjoint(moved)
    assert any("lora_A" in n or "down" in n for n in moved)
    assert sum("zero on purpose" in entry.why for entry in report.kept) == 3


def test_a_merged_adapter_is_left_as_it_is():
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 16))
    parametrize.register_parametrization(model[2], "weight", MergedLoRA(16))
    before, x = copy.deepcopy(model.state_dict()), torch.randn(2, 8)
    initialized(model, x)
    assert not {n for n in changed(model, before) if "parametrizations" in n}


def test_the_rank_of_an_adapter_is_no_width_and_a_bottlenecks_is():
    def features(model):
        graph = capture_graph(model, torch.randn(4, 16))
        return {i.name: (i.features_in, i.features_out) for i in graph.parameters}

    found = features(lora())
    assert (found["0.lora_A.weight"], found["0.lora_B.weight"]) == ((16, 0), (0, 16))
    assert found["0.base.weight"] == (16, 16)
    found = features(bottlenecks())
    assert (found["1.down.weight"], found["1.up.weight"]) == ((16, 4), (4, 16))


class Norm(nn.Module):
    """A norm written by hand."""

    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x):
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6) * self.weight


class ZeroEnd(nn.Module):
    """A branch whose last layer, or the gain behind it, starts at zero."""

    def __init__(self, width, *, norm):
        super().__init__()
        self.up, self.down = nn.Linear(width, width), nn.Linear(width, width)
        self.norm = nn.LayerNorm(width) if norm else nn.Identity()
        nn.init.zeros_(self.norm.weight if norm else self.down.weight)

    def forward(self, x):
        return x + self.norm(self.down(F.relu(self.up(x))))


@pytest.mark.parametrize("norm", [False, True])
def test_the_end_of_a_branch_that_starts_at_zero_stays_zero(norm):
    model = nn.Sequential(nn.Linear(8, 16), *(ZeroEnd(16, norm=norm) for _ in range(3)))
    x = torch.randn(64, 8)
    report = initialized(model, x)
    assert torch.equal(model(x), model[0](x))
    assert len(report.kept) == 3
    assert all("zero" in entry.why for entry in report.kept)


def test_a_model_whose_memory_was_never_written_is_drawn_whole():
    model = nn.Sequential(
        nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 2)
    )
    graph = capture_graph(model, torch.zeros(2, 8))
    for parameter in model.parameters():
        parameter.data.zero_()  # what `to_empty` often gives
    assert not initialize_(model, graph).kept
    assert all(bool(model[i].weight.any()) for i in (0, 2, 4))


@pytest.mark.parametrize("garbage", [-1.6e-27, 9.4e6, math.nan, math.inf])
def test_memory_that_no_initialization_wrote_holds_nothing_on_purpose(garbage):
    layers = (nn.Linear(8, 16), nn.LayerNorm(16), Norm(16), nn.ReLU(), nn.Linear(16, 4))
    model = nn.Sequential(*layers)
    graph = capture_graph(model, torch.zeros(2, 8))
    with torch.no_grad():
        model[0].bias.fill_(garbage)
        model[1].weight.zero_()
        model[1].bias.fill_(0.3)
        model[2].weight.zero_()
        model[4].weight.zero_()
    assert not initialize_(model, graph).kept
    assert not model[0].bias.any()
    assert not model[1].bias.any()
    assert bool((model[1].weight == 1).all())
    assert bool((model[2].weight == 1).all())
    assert bool(model[4].weight.any())


def test_a_readout_that_an_earlier_call_made_zero_is_drawn_again():
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2))
    graph = capture_graph(model, torch.zeros(2, 8))
    initialize_(model, graph, readout="zero")
    assert not model[2].weight.any()
    initialize_(model, graph)
    assert bool(model[2].weight.any())


class Scaled(nn.Module):
    def __init__(self, width, gain, *, behind_norm=False):
        super().__init__()
        self.fc, self.gain = nn.Linear(width, width), nn.Parameter(gain)
        self.norm = nn.LayerNorm(width, elementwise_affine=False) if behind_norm else nn.Identity()

    def forward(self, x):
        return x + self.gain * self.norm(self.fc(x))


@pytest.mark.parametrize("gain", [torch.full((16,), 1e-5), torch.tensor(0.0), torch.tensor([0.1])])
@pytest.mark.parametrize("behind_norm", [False, True])
def test_layer_scales_near_zero_are_left_and_said(gain, behind_norm):
    blocks = (Scaled(16, gain.clone(), behind_norm=behind_norm) for _ in range(3))
    model, x = nn.Sequential(nn.Linear(8, 16), *blocks, nn.Linear(16, 2)), torch.randn(2, 8)
    report = initialized(model, x)
    assert [entry.name for entry in report.kept] == ["1.gain", "2.gain", "3.gain"]
    assert all("small on purpose" in e.why or "of zero" in e.why for e in report.kept)
    assert torch.equal(model[1].gain, gain)


def test_exclude_and_only_leave_the_rest_as_it_is():
    def fresh():
        torch.manual_seed(1)
        return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2))

    x = torch.zeros(2, 8)
    cases = [
        ({"exclude": "0.*"}, {"2.weight", "2.bias"}),
        ({"only": ["*.weight"]}, {"0.weight", "2.weight"}),
        ({"only": ["2.*"], "exclude": ("*.bias",)}, {"2.weight"}),
    ]
    for options, expected in cases:
        model = fresh()
        before = copy.deepcopy(model.state_dict())
        report = initialized(model, x, **options)
        assert changed(model, before) == expected
        assert {e.name for e in report.kept} == set(before) - expected


@pytest.mark.parametrize("option", ["exclude", "only"])
def test_a_pattern_that_fits_nothing_is_refused_before_anything_changes(option):
    model = nn.Linear(8, 2)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(InitError, match=r"lora_.*which fits no parameter"):
        initialized(model, torch.zeros(2, 8), **{option: ["weight", "*lora_*"]})
    assert not changed(model, before)


def test_a_tied_weight_is_left_out_under_either_name():
    model = nn.Sequential(nn.Embedding(8, 8), nn.Linear(8, 8, bias=False))
    model[1].weight = model[0].weight
    report = initialized(model, torch.zeros(2, 3, dtype=torch.long), exclude="1.*")
    assert [entry.why for entry in report.entries] == ["left out by exclude"]
