"""Roles, fans, places and sharing of parameters."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from etastar.graph import capture_graph


def roles(model, *inputs, **kwargs):
    return {info.name: info for info in capture_graph(model, *inputs, **kwargs).parameters}


CONVS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}


def terms_per_output(layer, x):
    """Slow twin: how many weights one output unit sums, counted with ones."""
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.fill_(1.0)
        layer.bias.zero_()
        return int(layer(torch.ones_like(x)).max())


def reach_per_input(layer, x):
    """Slow twin: how many output units one input unit in the middle reaches."""
    one = torch.zeros_like(x)
    one[(0, 0, *(n // 2 for n in x.shape[2:]))] = 1.0
    with torch.no_grad():
        return int((layer(one) != 0).sum())


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("table", [CONVS, TRANSPOSED], ids=["conv", "transposed"])
def test_fans_of_convolutions_equal_counted_terms(table, dims, groups):
    layer = table[dims](4, 8, 3, groups=groups)
    x = torch.zeros(1, 4, *[7] * dims)
    info = roles(layer, x)["weight"]
    assert info.fan_in == terms_per_output(layer, x)
    assert info.fan_out == reach_per_input(layer, x)
    assert info.kernel_size == (3,) * dims
    assert info.layer_type == "convolution"


def test_depthwise_convolution():
    info = roles(nn.Conv2d(6, 6, 5, groups=6), torch.zeros(1, 6, 9, 9))["weight"]
    assert (info.fan_in, info.fan_out) == (25, 25)


def test_chain_has_input_hidden_output():
    chain = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 7), nn.Linear(7, 2))
    found = roles(chain, torch.zeros(1, 3))
    weights = [(i.role, i.fan_in, i.fan_out) for n, i in found.items() if n.endswith("weight")]
    assert weights == [("input", 3, 5), ("hidden", 5, 7), ("output", 7, 2)]
    biases = [i for n, i in found.items() if n.endswith("bias")]
    assert all((i.role, i.fan_in, i.layer_type) == ("bias", 1, "linear") for i in biases)
    assert [i.fan_out for i in biases] == [5, 7, 2]


def test_matrix_used_from_the_left_or_by_einsum():
    class Products(nn.Module):
        def __init__(self):
            super().__init__()
            self.left = nn.Parameter(torch.zeros(6, 4))
            self.heads = nn.Parameter(torch.zeros(6, 2, 5))

        def forward(self, x):
            return torch.einsum("td,dhk->thk", (self.left @ x).T, self.heads)

    found = roles(Products(), torch.zeros(4, 3))
    assert (found["left"].fan_in, found["left"].fan_out) == (4, 6)
    assert (found["heads"].fan_in, found["heads"].fan_out) == (6, 10)


class Block(nn.Module):
    def __init__(self, norm_last=False, bend=None):
        super().__init__()
        self.norm = nn.LayerNorm(4)
        self.up, self.down = nn.Linear(4, 8), nn.Linear(8, 4)
        self.scale = nn.LayerNorm(4) if norm_last else nn.Identity()
        self.bend = bend or nn.Identity()

    def forward(self, x):
        return x + self.bend(self.scale(self.down(F.gelu(self.up(self.norm(x))))))


def net(**kwargs):
    return nn.Sequential(
        nn.Linear(3, 4), Block(**kwargs), Block(**kwargs), nn.LayerNorm(4), nn.Linear(4, 2)
    )


X = torch.zeros(2, 3)


def test_place_in_the_residual_stream():
    found = roles(net(), X)
    assert {n for n, i in found.items() if i.in_branch} == {
        n for n in found if n.startswith(("1.", "2."))
    }
    up, down = found["2.up.weight"], found["2.down.weight"]
    assert (up.stream, up.stream_additions, up.branch, up.branch_length) == (0, 2, 1, 2)
    assert (up.branch_position, up.branch_last) == (0, False)
    assert (down.branch_position, down.branch_last, down.branch_fan) == (1, True, 1)
    assert found["2.norm.weight"].role == "norm"
    assert found["2.norm.bias"].role == "bias"
    assert found["2.norm.weight"].branch_position is None


def scaling(found):
    return {n for n, i in found.items() if i.branch_scale}


def test_branch_output_is_scaled_by_its_last_layer():
    assert scaling(roles(net(), X)) == {f"{b}.down.{p}" for b in (1, 2) for p in ("weight", "bias")}


def test_branch_output_is_scaled_by_the_gain_behind_the_last_layer():
    assert scaling(roles(net(norm_last=True), X)) == {
        f"{b}.scale.{p}" for b in (1, 2) for p in ("weight", "bias")
    }


@pytest.mark.parametrize("bend", [nn.GELU(), nn.Tanh(), nn.LayerNorm(4, elementwise_affine=False)])
def test_bent_branch_output_cannot_be_scaled(bend):
    assert scaling(roles(net(bend=bend), X)) == set()


@pytest.mark.parametrize("bend", [nn.ReLU(), nn.Dropout(0.5), nn.Identity()])
def test_homogeneous_branch_end_passes_the_scale_on(bend):
    assert len(scaling(roles(net(bend=bend), X))) == 4


@pytest.mark.parametrize("norm_last", [False, True])
def test_scaling_these_parameters_scales_the_branch(norm_last):
    torch.manual_seed(0)
    model = net(norm_last=norm_last).double().requires_grad_(False)
    x = torch.randn(5, 4, dtype=torch.float64)
    before = model[1](x) - x
    for name in scaling(roles(model, X.double())):
        model.get_parameter(name).mul_(0.25)
    torch.testing.assert_close(model[1](x) - x, 0.25 * before)


class Gated(nn.Module):
    """x + down(x) * gate, where the gate reads x, or the branch itself."""

    def __init__(self, own):
        super().__init__()
        self.down, self.gate, self.own = nn.Linear(4, 4), nn.Linear(4, 1), own

    def forward(self, x):
        y = self.down(x)
        return x + y * torch.sigmoid(self.gate(y if self.own else x))


@pytest.mark.parametrize("own", [False, True])
def test_gated_branch_is_scaled_by_what_the_gate_does_not_read(own):
    found = roles(nn.Sequential(nn.Linear(3, 4), Gated(own), nn.Linear(4, 2)), X)
    assert scaling(found) == (set() if own else {"1.down.weight", "1.down.bias"})


def test_tied_table_is_one_embedding():
    class LM(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.head = nn.Embedding(11, 4), nn.Linear(4, 11, bias=False)
            self.head.weight = self.embed.weight

        def forward(self, ids):
            return self.head(self.embed(ids))

    (info,) = roles(LM(), torch.zeros(1, 3, dtype=torch.long)).values()
    assert (info.role, info.fan_in, info.fan_out) == ("embedding", 1, 4)
    assert (info.name, info.aliases) == ("embed.weight", ("head.weight",))


def test_tables_and_tokens_that_are_added_are_embeddings():
    class Tokens(nn.Module):
        def __init__(self):
            super().__init__()
            self.patch = nn.Linear(3, 4)
            self.position = nn.Parameter(torch.zeros(1, 6, 4))
            self.learnt = nn.Embedding(6, 4)

        def forward(self, x):
            return self.patch(x) + self.position + self.learnt(torch.arange(x.shape[1]))

    found = roles(Tokens(), torch.zeros(2, 6, 3))
    assert found["position"].role == found["learnt.weight"].role == "embedding"
    assert found["position"].fan_out == 4


def test_weight_norm_has_a_gain_and_a_direction():
    found = roles(nn.Sequential(weight_norm(nn.Linear(3, 5)), nn.Linear(5, 2)), X)
    gain = found["0.parametrizations.weight.original0"]
    direction = found["0.parametrizations.weight.original1"]
    assert gain.role == "norm"
    assert (direction.role, direction.fan_in, direction.fan_out) == ("input", 3, 5)


def test_low_rank_factors_have_their_own_fans():
    class LoRA(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.zeros(5, 3))
            self.a, self.b = nn.Parameter(torch.zeros(2, 3)), nn.Parameter(torch.zeros(5, 2))

        def forward(self, x):
            return F.linear(x, self.w + self.b @ self.a)

    found = roles(nn.Sequential(LoRA(), nn.Linear(5, 2)), X)
    assert (found["0.w"].fan_in, found["0.w"].fan_out) == (3, 5)
    assert (found["0.a"].fan_in, found["0.a"].fan_out) == (3, 2)
    assert (found["0.b"].fan_in, found["0.b"].fan_out) == (2, 5)
    assert [(found[f"0.{n}"].features_in, found[f"0.{n}"].features_out) for n in "wab"] == [
        (3, 5),
        (3, 0),
        (0, 5),
    ]


def test_recurrent_gates():
    found = roles(nn.LSTM(3, 5, 2, batch_first=True), torch.zeros(1, 4, 3))
    assert (found["weight_ih_l0"].fan_in, found["weight_ih_l0"].fan_out) == (3, 20)
    assert found["weight_hh_l1"].layer_type == "recurrent"


@pytest.mark.parametrize(("module", "gates"), [(nn.LSTM, 4), (nn.GRU, 3), (nn.RNN, 1)])
def test_recurrent_weights_read_the_state_as_features(module, gates):
    model = nn.Sequential()
    model.rnn, model.head = module(3, 5, 2, bidirectional=True), nn.Linear(10, 2)
    model.forward = lambda x: model.head(model.rnn(x)[0])
    found = roles(model, torch.zeros(4, 1, 3))
    made = 5 * gates
    for end in ("", "_reverse"):
        sizes = {
            name: (info.role, info.features_in, info.features_out)
            for name in ("weight_ih_l0", "weight_hh_l0", "weight_ih_l1", "bias_hh_l0")
            if (info := found[f"rnn.{name}{end}"])
        }
        assert sizes == {
            "weight_ih_l0": ("input", 3, made),
            "weight_hh_l0": ("hidden", 5, made),
            "weight_ih_l1": ("hidden", 10, made),
            "bias_hh_l0": ("bias", None, made),
        }


def test_unused_parameters_have_no_layer():
    class Half(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.idle = nn.Linear(3, 3), nn.Linear(3, 3)

        def forward(self, x):
            return self.used(x)

    idle = roles(Half(), X)["idle.weight"]
    assert (idle.role, idle.layer_type) == ("hidden", None)


def test_order_is_that_of_the_model():
    model = net()
    assert list(roles(model, X)) == [name for name, _ in model.named_parameters()]
