"""Which sizes are widths, how a gain's value enters, and what acts on learned queries."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from etastar.graph import capture_graph
from etastar.graph.node import Call, Slot
from etastar.graph.operations import affine_form, derive


class Net(nn.Module):
    """`f(model, x)` over the modules and parameters given by name."""

    def __init__(self, f, **parts):
        super().__init__()
        self.f = f
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, *inputs):
        return self.f(self, *inputs)


def infos(model, *inputs):
    return {info.name: info for info in capture_graph(model, *inputs).parameters}


def features(model, *inputs):
    return {n: (i.features_in, i.features_out) for n, i in infos(model, *inputs).items()}


TRANSPOSED = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}


def mean_terms(layer, dims):
    """Slow twin: weights summed into one output of the middle, the mean over positions, by ones."""
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.fill_(1.0)
        layer.bias.zero_()
        found = layer(torch.ones(1, layer.in_channels, *[24 if dims < 3 else 14] * dims))
        for axis in range(2, 2 + dims):
            found = found.narrow(axis, 8, 6)  # whole periods of a stride of 1, 2 or 3
        return float(found.mean())


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize(
    "options",
    [
        {"kernel_size": 4, "stride": 2},
        {"kernel_size": 4, "stride": 2, "groups": 2},
        {"kernel_size": 2, "stride": 2, "padding": 1},
        {"kernel_size": 3, "stride": 2},
        {"kernel_size": 3, "stride": 3, "dilation": 2},
        {"kernel_size": 4, "stride": 1, "dilation": 2},
    ],
)
def test_the_fan_in_of_a_transposed_convolution_is_what_reaches_an_output(dims, options):
    layer = TRANSPOSED[dims](16, 8, **options)
    info = infos(layer, torch.zeros(1, 16, *[8] * dims))["weight"]
    assert info.fan_in == pytest.approx(mean_terms(layer, dims))
    assert (info.features_in, info.role) == (16 // layer.groups, "output")


class Norm(nn.Module):
    def __init__(self, width, read):
        super().__init__()
        self.weight, self.read = nn.Parameter(torch.zeros(width)), read

    def forward(self, x):
        return F.rms_norm(x, x.shape[-1:]) * self.read(self.weight)


FORMS = {
    "plain": (lambda w: w, 0.0, True),
    "1 + w": (lambda w: 1.0 + w.float(), 1.0, True),
    "(w + 1) in half": (lambda w: (w.bfloat16() + 1).float(), 1.0, True),
    "1 - w": (lambda w: 1 - w, -1.0, True),
    "2 w + 3": (lambda w: 2 * w + 3, 1.5, True),
    "viewed": (lambda w: w.view(1, 1, -1).expand(1, 1, -1).clone() + 1, 1.0, True),
    "exp": (torch.exp, 0.0, False),
    "softplus": (F.softplus, 0.0, False),
    "sigmoid": (torch.sigmoid, 0.0, False),
    "normalized": (lambda w: w / w.norm(), 0.0, False),
}


@pytest.mark.parametrize("form", FORMS)
def test_how_the_value_of_a_gain_enters_is_found_in_the_graph(form):
    read, offset, can_carry = FORMS[form]

    def forward(m, x):
        h = m.first(x)
        for layer, norm in zip(m.layers, m.norms, strict=True):
            h = h + norm(layer(h))
        return m.last(h)

    model = Net(
        forward,
        first=nn.Linear(8, 16),
        layers=nn.ModuleList(nn.Linear(16, 16) for _ in range(2)),
        norms=nn.ModuleList(Norm(16, read) for _ in range(2)),
        last=nn.Linear(16, 2),
    )
    info = infos(model, torch.randn(2, 3, 8))["norms.1.weight"]
    assert (info.role, info.gain_offset, info.branch_scale) == ("norm", offset, can_carry)


def test_a_default_device_without_values_does_not_hide_the_offset():
    with torch.device("meta"):
        net = nn.Sequential(nn.Linear(16, 16), Norm(16, lambda w: 1 + w))
        assert infos(net, torch.zeros(4, 16))["1.weight"].gain_offset == 1.0


def test_the_offset_makes_the_factor_right():
    norm = Norm(16, lambda w: 2 * w + 3)
    nn.init.normal_(norm.weight)
    x = torch.randn(4, 16)
    offset = infos(nn.Sequential(nn.Linear(16, 16), norm), x)["1.weight"].gain_offset
    before = norm(x)
    with torch.no_grad():
        norm.weight.copy_(0.25 * (norm.weight + offset) - offset)
    torch.testing.assert_close(norm(x), 0.25 * before)


def test_steps_are_run_again_on_other_values():
    aten = torch.ops.aten
    steps = (Call(aten.exp.default, (Slot(0),), {}), Call(aten.neg.default, (Slot(0),), {}))
    assert derive(steps, torch.zeros(2)).tolist() == [-1.0, -1.0]
    assert affine_form(steps) is None
    assert affine_form(None) is None
    assert affine_form(()) == (1.0, 0.0)


def gemma(cls, config, **changes):
    import transformers

    small = dict(
        hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, head_dim=8, vocab_size=32, pad_token_id=0, **changes,
    )  # fmt: skip
    model = getattr(transformers, cls)(getattr(transformers, config)(**small))
    return infos(model, torch.randint(1, 32, (1, 6)))


@pytest.mark.parametrize(
    ("cls", "config", "offset"),
    [
        ("GemmaForCausalLM", "GemmaConfig", 1.0),
        ("Gemma2ForCausalLM", "Gemma2Config", 1.0),
        ("Gemma3ForCausalLM", "Gemma3TextConfig", 1.0),
        ("LlamaForCausalLM", "LlamaConfig", 0.0),
        ("Qwen3ForCausalLM", "Qwen3Config", 0.0),
    ],
)
def test_gains_of_transformers_models(cls, config, offset):
    gains = [i for n, i in gemma(cls, config).items() if "norm" in n]
    assert len(gains) >= 5
    assert {(i.role, i.gain_offset) for i in gains} == {("norm", offset)}


@pytest.mark.parametrize(
    ("module", "cls", "offset"),
    [
        ("qwen3_next", "Qwen3NextRMSNorm", 1.0),
        ("gemma", "GemmaRMSNorm", 1.0),
        ("t5gemma", "T5GemmaRMSNorm", 1.0),
        ("llama", "LlamaRMSNorm", 0.0),
        ("t5", "T5LayerNorm", 0.0),
    ],
)
def test_norms_of_transformers(module, cls, offset):
    from importlib import import_module

    source = import_module(f"transformers.models.{module}.modeling_{module}")
    model = nn.Sequential(nn.Linear(8, 16), getattr(source, cls)(16), nn.Linear(16, 2))
    info = infos(model, torch.randn(2, 8))["1.weight"]
    assert (info.role, info.gain_offset) == ("norm", offset)


def heads(t, number=2):
    return t.reshape(len(t), -1, number, t.shape[-1] // number).transpose(1, 2)


def pool(m, x):
    """Attention pooling: queries are learned, keys and values come from the data."""
    h = m.first(x)
    queries = m.probe.expand(len(x), -1, -1)
    q, k, v = heads(m.q(queries)), heads(m.k(h)), heads(m.v(h))
    if m.fused:
        read = F.scaled_dot_product_attention(q, k, v)
    else:
        read = torch.softmax(q @ k.mT / 8**0.5, -1) @ v
    return m.out(read.transpose(1, 2).flatten(2).mean(1))


def detr(m, x):
    """A decoder layer whose self-attention reads learned queries alone."""
    h = m.first(x)
    tgt = m.probe.expand(len(x), -1, -1)
    q, k, v = (heads(part) for part in m.qkv(m.norm(tgt)).chunk(3, -1))
    if m.fused:
        read = F.scaled_dot_product_attention(q, k, v)
    else:
        read = torch.softmax(q @ k.mT / 8**0.5, -1) @ v
    tgt = tgt + m.q(read.transpose(1, 2).flatten(2))
    q, k, v = heads(tgt), heads(m.k(h)), heads(m.v(h))
    return m.out(torch.softmax(q @ k.mT / 8**0.5, -1).matmul(v).transpose(1, 2).flatten(2).mean(1))


def learned_queries(forward, *, fused):
    model = Net(
        forward,
        first=nn.Linear(6, 16),
        probe=nn.Parameter(torch.randn(1, 3, 16)),
        norm=nn.LayerNorm(16),
        qkv=nn.Linear(16, 48),
        **{name: nn.Linear(16, 16) for name in "qkv"},
        out=nn.Linear(16, 2),
    ) if forward is detr else Net(
        forward,
        first=nn.Linear(6, 16),
        probe=nn.Parameter(torch.randn(1, 3, 16)),
        **{name: nn.Linear(16, 16) for name in "qkv"},
        out=nn.Linear(16, 2),
    )  # fmt: skip
    model.fused = fused
    return model


@pytest.mark.parametrize("forward", [pool, detr])
@pytest.mark.parametrize("fused", [False, True])
def test_weights_that_act_on_learned_queries_are_hidden(forward, fused):
    found = infos(learned_queries(forward, fused=fused), torch.randn(2, 5, 6))
    acting = {"q.weight": 16} if forward is pool else {"q.weight": 16, "qkv.weight": 48}
    for name, made in acting.items():
        info = found[name]
        assert (info.role, info.fan_in, info.fan_out) == ("hidden", 16, made)
        assert (info.features_in, info.layer_type) == (16, "linear")
    assert found["probe"].role == "embedding"
    assert {found[f"{n}.bias"].role for n in "qk"} == {"bias"}


@pytest.mark.parametrize("forward", [pool, detr])
def test_fused_and_eager_attention_are_alike(forward):
    x = torch.randn(2, 5, 6)
    graphs = [capture_graph(learned_queries(forward, fused=f), x) for f in (False, True)]
    eager, fused = (list(g.parameters) for g in graphs)
    assert eager == fused
    assert graphs[0].depth().effective_depth == graphs[1].depth().effective_depth
    assert graphs[0].depth().weight_layers == graphs[1].depth().weight_layers


def test_one_number_a_layer_is_no_width():
    def forward(m, x):
        x = m.first(x)
        for i, layer in enumerate(m.layers):
            x = m.lam[i] * x + m.rows[i] * layer(x) * m.one
        return m.out(x)

    model = Net(
        forward,
        first=nn.Linear(8, 16),
        layers=nn.ModuleList(nn.Linear(16, 16) for _ in range(3)),
        lam=nn.Parameter(torch.ones(3)),
        rows=nn.Parameter(torch.ones(3, 16)),
        one=nn.Parameter(torch.ones(())),
        out=nn.Linear(16, 2),
    )
    found = infos(model, torch.randn(2, 8))
    assert [found[n].features_out for n in ("lam", "one", "rows")] == [0, 0, 16]
    assert {found[n].role for n in ("lam", "one", "rows")} == {"norm"}


def test_experts_are_no_width():
    def forward(m, x):
        h = m.first(x)
        chances, chosen = torch.softmax(m.router(h), -1).topk(2)
        made = torch.einsum("td,edf->tef", h, m.experts)
        read = made.gather(1, chosen[..., None].expand(-1, -1, 16))
        return m.out((read * chances[..., None]).sum(1))

    model = Net(
        forward,
        first=nn.Linear(8, 16),
        router=nn.Linear(16, 4),
        experts=nn.Parameter(torch.randn(4, 16, 16)),
        out=nn.Linear(16, 2),
    )
    found = features(model, torch.randn(5, 8))
    assert found["router.weight"] == (16, 0)
    assert found["first.weight"] == (8, 16)
    assert found["out.weight"] == (16, 0)


def test_a_sigmoid_router_makes_no_features():
    def forward(m, x):
        h = m.first(x)
        scores = torch.sigmoid(m.router(h))
        chosen = (scores + m.balance).topk(2).indices
        weights = scores.gather(-1, chosen)
        return m.out(h * weights.sum(-1, keepdim=True))

    model = Net(
        forward, first=nn.Linear(8, 16), router=nn.Linear(16, 4), out=nn.Linear(16, 2),
        balance=nn.Parameter(torch.zeros(4)),
    )  # fmt: skip
    assert features(model, torch.randn(5, 8))["router.weight"] == (16, 0)


def test_one_number_a_head_is_no_width():
    def forward(m, x):
        h = m.first(x)
        q, k, v = (heads(part) for part in m.qkv(h).chunk(3, -1))
        buckets = torch.arange(5)[:, None] - torch.arange(5)[None] + 4
        bias = m.bias(buckets).permute(2, 0, 1)[None]
        read = torch.softmax(q @ k.mT * m.temperature + bias, -1) @ v
        return m.out(read.transpose(1, 2).flatten(2))

    model = Net(
        forward,
        first=nn.Linear(8, 16),
        qkv=nn.Linear(16, 48),
        bias=nn.Embedding(9, 2),
        temperature=nn.Parameter(torch.ones(2, 1, 1)),
        out=nn.Linear(16, 2),
    )
    found = features(model, torch.randn(2, 5, 8))
    assert found["bias.weight"] == (None, 0)
    assert found["temperature"] == (None, 0)
    assert found["qkv.weight"] == (16, 48)


def test_the_features_of_ordinary_layers_are_their_sizes():
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 16, 3, groups=4),
        nn.ConvTranspose2d(16, 8, 4, stride=2), nn.Flatten(), nn.LazyLinear(4),
    )  # fmt: skip
    model(torch.zeros(1, 3, 9, 9))
    found = features(model, torch.zeros(2, 3, 9, 9))
    assert found["0.weight"] == (3, 8)
    assert found["1.weight"] == found["1.bias"] == (None, 8)
    assert found["3.weight"] == (2, 16)
    assert found["4.weight"] == (16, 8)
    assert found["6.weight"][1] == found["6.bias"][1] == 0


def test_a_deep_linear_network_has_widths_and_a_factorized_matrix_a_rank():
    deep = nn.Sequential(nn.Linear(8, 16), nn.Linear(16, 16), nn.Linear(16, 16), nn.Linear(16, 2))
    assert features(deep, torch.randn(2, 8))["1.weight"] == (16, 16)
    assert features(deep, torch.randn(2, 8))["2.weight"] == (16, 16)
    low = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3), nn.Linear(3, 16), nn.Tanh())
    found = features(nn.Sequential(*low, nn.Linear(16, 2)), torch.randn(2, 8))
    assert (found["2.weight"], found["3.weight"]) == ((16, 0), (0, 16))
