"""What grows without being a width gets no factor for it: gains, ranks, experts, heads, classes."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from etastar.transfer import Tuned, plan_transfer

IDS = torch.randint(1, 32, (2, 6))
X = torch.randn(4, 8)


class Net(nn.Module):
    """`f(model, x)` over the parts given by name."""

    def __init__(self, f, **parts):
        super().__init__()
        self.f = f
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x):
        return self.f(self, x)


def entries(make, base, target, optimizer="sgd"):
    small, large = ((network, x) for network, x in (make(*base), make(*target)))
    plan = plan_transfer(
        Tuned(small, 0.1), large, optimizer=optimizer, law="constant", allow_recurrent=True
    )
    return {entry.name: entry for entry in plan.parameters}


def gains_in_one_vector(depth, width=16):
    def forward(m, x):
        x = m.first(x)
        for i, layer in enumerate(m.layers):
            x = m.lam[i] * x + m.rows[i] * layer(torch.relu(x))
        return m.last(x)

    return Net(
        forward,
        first=nn.Linear(8, width),
        layers=nn.ModuleList(nn.Linear(width, width) for _ in range(depth)),
        lam=nn.Parameter(torch.ones(depth)),
        rows=nn.Parameter(torch.ones(depth, width)),
        last=nn.Linear(width, 3),
    ), X


def value_residuals(depth, width=16):
    """One number a layer for each of two ways, in a table."""

    def forward(m, x):
        x = first = m.first(x)
        for i, layer in enumerate(m.layers):
            x = m.mix[i, 0] * x + m.mix[i, 1] * first
            x = x + layer(F.layer_norm(x, x.shape[-1:]))
        return m.last(x)

    return Net(
        forward,
        first=nn.Linear(8, width),
        layers=nn.ModuleList(nn.Linear(width, width) for _ in range(depth)),
        mix=nn.Parameter(torch.ones(depth, 2)),
        last=nn.Linear(width, 3),
    ), X


class Adapted(nn.Module):
    def __init__(self, width, rank):
        super().__init__()
        self.w = nn.Linear(width, width)
        self.down, self.up = (nn.Linear(*s, bias=False) for s in ((width, rank), (rank, width)))

    def forward(self, x):
        return torch.relu(self.w(x) + 0.5 * self.up(self.down(x)))


def adapters(rank, width=32):
    layers = [Adapted(width, rank) for _ in range(3)]
    return nn.Sequential(nn.Linear(8, width), *layers, nn.Linear(width, 3)), X


def factorized(rank, width=32):
    """Every layer a product of two matrices, a table of tokens among them."""
    layers = [
        layer
        for _ in range(2)
        for layer in (nn.Linear(width, rank), nn.Linear(rank, width), nn.GELU())
    ]
    return nn.Sequential(nn.Embedding(32, width), *layers, nn.Linear(width, 32)), IDS


def small_llama(width):
    return {
        "hidden_size": width, "intermediate_size": 2 * width, "num_hidden_layers": 2,
        "num_attention_heads": width // 16, "num_key_value_heads": width // 16, "head_dim": 16,
        "vocab_size": 32,
    }  # fmt: skip


def mixtral(experts, width=32):
    import transformers

    config = transformers.MixtralConfig(
        **small_llama(width), num_local_experts=experts, num_experts_per_tok=2
    )
    torch.manual_seed(0)
    return transformers.MixtralForCausalLM(config), torch.randint(1, 32, (4, 64))


def experts_in_one_tensor(experts, width=16):
    def forward(m, x):
        h = m.first(x)
        chances, chosen = torch.softmax(m.router(h), -1).topk(2)
        made = torch.bmm(h.expand(experts, -1, -1), m.experts).transpose(0, 1)
        read = made.gather(1, chosen[..., None].expand(-1, -1, width))
        return m.last((read * chances[..., None]).sum(1))

    return Net(
        forward,
        first=nn.Linear(8, width),
        router=nn.Linear(width, experts),
        experts=nn.Parameter(torch.randn(experts, width, width)),
        last=nn.Linear(width, 3),
    ), X


def classes(number, width=16):
    return nn.Sequential(nn.Linear(8, width), nn.ReLU(), nn.Linear(width, number)), X


def gpt2(positions, width=32):
    import transformers

    config = transformers.GPT2Config(
        n_embd=width, n_layer=2, n_head=2, n_positions=positions, vocab_size=32
    )
    return transformers.GPT2LMHeadModel(config), IDS


def image_positions(side, width=32):
    import transformers

    config = transformers.ViTConfig(
        hidden_size=width, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        image_size=8 * side, patch_size=8,
    )  # fmt: skip
    return transformers.ViTForImageClassification(config), torch.randn(1, 3, 8 * side, 8 * side)


GROWN = {
    "gains in one vector": (gains_in_one_vector, 2, 8),
    "gains in a table of two columns": (value_residuals, 2, 8),
    "rank": (adapters, 2, 16),
    "rank of two factors": (factorized, 2, 8),
    "experts": (mixtral, 2, 8),
    "experts in one tensor": (experts_in_one_tensor, 2, 8),
    "classes": (classes, 3, 12),
    "positions": (gpt2, 16, 64),
    "positions of an image": (image_positions, 2, 4),
}


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("kind", GROWN)
def test_what_is_no_width_has_no_factor(kind, optimizer):
    make, small, large = GROWN[kind]
    for entry in entries(make, (small,), (large,), optimizer).values():
        own = (entry.lr, entry.init, entry.eps)
        assert own == (0.1, 1.0, None if optimizer == "sgd" else 1e-8), entry.name


@pytest.mark.parametrize(
    ("make", "size", "expected"),
    [
        (gains_in_one_vector, 2, {"lam": 1, "rows": 4, "layers.0.weight": 1, "first.bias": 4}),
        (adapters, 4, {"1.down.weight": 1 / 4, "1.up.weight": 4, "1.w.weight": 1, "4.bias": 1}),
        (experts_in_one_tensor, 4, {"router.weight": 1 / 4, "router.bias": 1, "experts": 1}),
        (classes, 3, {"0.weight": 4, "2.weight": 1 / 4, "2.bias": 1}),
    ],
)
def test_of_the_same_networks_the_width_is_seen(make, size, expected):
    found = entries(make, (size, 16), (size, 64))
    assert {n: found[n].lr_multiplier for n in expected} == pytest.approx(expected)


def test_heads_of_one_size_are_no_width():
    import transformers

    def t5(heads):
        config = transformers.T5Config(
            d_model=16 * heads, d_kv=16, d_ff=32 * heads, num_heads=heads, num_layers=2,
            vocab_size=32, decoder_start_token_id=0, feed_forward_proj="gated-gelu",
        )  # fmt: skip
        return transformers.T5ForConditionalGeneration(config), {
            "input_ids": IDS, "decoder_input_ids": IDS,
        }  # fmt: skip

    def temperature(heads):
        def forward(m, x):
            q, k, v = (t.unflatten(-1, (heads, 8)).transpose(1, 2) for t in m.qkv(x).chunk(3, -1))
            read = torch.softmax(q @ k.mT * m.temperature, -1) @ v
            return m.last(read.transpose(1, 2).flatten(2))

        return Net(
            forward, qkv=nn.Linear(8, 24 * heads), last=nn.Linear(8 * heads, 3),
            temperature=nn.Parameter(torch.ones(heads, 1, 1)),
        ), torch.randn(2, 5, 8)  # fmt: skip

    found = entries(t5, (2,), (8,))
    biases = [n for n in found if "relative_attention_bias" in n]
    assert len(biases) == 2
    assert {found[n].lr_multiplier for n in biases} == {1.0}
    assert found["shared.weight"].lr_multiplier == 4.0
    found = entries(temperature, (2,), (8,))
    assert found["temperature"].lr_multiplier == 1.0
    assert found["qkv.weight"].lr_multiplier == found["qkv.bias"].lr_multiplier == 4.0


def test_biases_put_together_for_one_layer_have_the_width_of_their_parts():
    """Queries and values have one, keys none, as in BEiT and the second Swin."""

    def attention(width):
        def forward(m, x):
            bias = torch.cat([m.q, torch.zeros_like(m.q), m.v])
            q, k, v = F.linear(m.first(x), m.qkv.weight, bias).chunk(3, -1)
            return m.last(F.scaled_dot_product_attention(q, k, v))

        return Net(
            forward, first=nn.Linear(8, width), qkv=nn.Linear(width, 3 * width, bias=False),
            q=nn.Parameter(torch.zeros(width)), v=nn.Parameter(torch.zeros(width)),
            last=nn.Linear(width, 3),
        ), torch.randn(2, 5, 8)  # fmt: skip

    found = entries(attention, (16,), (64,))
    assert found["q"].lr_multiplier == found["v"].lr_multiplier == 4.0


def test_the_bias_of_a_convolution_behind_an_attention_is_that_of_its_channels():
    def attention(width):
        def forward(m, x):
            q, k, v = (t.flatten(2).transpose(1, 2) for t in m.qkv(m.first(x)).chunk(3, 1))
            read = F.scaled_dot_product_attention(q, k, v).transpose(1, 2)
            return m.last(m.proj(read.reshape(*read.shape[:2], *x.shape[2:])).relu())

        return Net(
            forward, first=nn.Conv2d(3, width, 1), qkv=nn.Conv2d(width, 3 * width, 1),
            proj=nn.Conv2d(width, width, 1), last=nn.Conv2d(width, 3, 1),
        ), torch.randn(2, 3, 4, 4)  # fmt: skip

    found = entries(attention, (16,), (64,))
    assert {found[f"{name}.bias"].lr_multiplier for name in ("first", "qkv", "proj")} == {4.0}
    assert found["last.bias"].lr_multiplier == 1.0


def test_a_base_that_is_read_from_sizes_has_widths_too():
    """The base has no hidden layer, so that its sizes tell what the target's would be there."""

    def net(depth, width):
        hidden = [layer for _ in range(depth) for layer in (nn.Linear(width, width), nn.ReLU())]
        return nn.Sequential(nn.Linear(8, width), *hidden, nn.Linear(width, 3)), X

    found = entries(net, (0, 16), (3, 64), "adamw")
    assert found["3.weight"].lr_multiplier == 1 / 4
    assert found["3.bias"].eps == pytest.approx(1e-8 / 4)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_layer_whose_inputs_grow_with_the_width_has_the_rates_of_a_hidden_one(optimizer):
    def make(width):
        def f(m, x):
            waves = x @ m.frequencies
            return m.out(torch.relu(m.time(torch.cat([waves.sin(), waves.cos()], dim=-1))))

        net = Net(f, time=nn.Linear(width, 4 * width), out=nn.Linear(4 * width, 3))
        net.register_buffer("frequencies", torch.randn(8, width // 2))
        return net, X

    rates = {name: entry.lr for name, entry in entries(make, (8,), (32,), optimizer).items()}
    assert rates["time.weight"] == pytest.approx(0.1 if optimizer == "sgd" else 0.025)
    assert rates["time.bias"] == pytest.approx(0.4 if optimizer == "sgd" else 0.1)
