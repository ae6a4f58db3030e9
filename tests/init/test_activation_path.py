import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from etastar.graph.capture import capture_graph
from etastar.init.gains import gaussian_rule, input_activation, second_moment
from etastar.naming import canonical_parameters


class Through(nn.Module):
    """Layers `a` and `c`, then a function of both, then layer `last`."""

    def __init__(self, function, *, width=16, modules=None):
        super().__init__()
        self.a, self.c, self.last = nn.Linear(8, 16), nn.Linear(8, 16), nn.Linear(width, 4)
        self.function = function
        self.parts = nn.ModuleDict(modules or {})

    def forward(self, x):
        return self.last(self.function(self, x))


def measured(function, *, train=True, inputs=None, **kwargs):
    model = Through(function, **kwargs).train(train)
    graph = capture_graph(model, torch.zeros(3, 8) if inputs is None else inputs)
    layer = graph.weight_layers()[-1]
    return input_activation(graph, layer, parameters=canonical_parameters(model))


def product_gain(function):
    """Gain of a function of two independent normal variables, on a grid of its own."""
    z = torch.linspace(-9, 9, 1801, dtype=torch.float64)
    weights = torch.exp(-z * z / 2) / math.sqrt(2 * math.pi) * (z[1] - z[0])
    square = function(z[:, None], z[None, :]) ** 2
    return 1 / float(weights @ square @ weights)


def gelu_by_hand(h):
    return 0.5 * h * (1 + torch.tanh(math.sqrt(2 / math.pi) * (h + 0.044715 * h**3)))


@pytest.mark.parametrize(
    "activation",
    [
        torch.relu,
        F.gelu,
        F.silu,
        torch.tanh,
        F.mish,
        F.hardswish,
        F.logsigmoid,
        F.softplus,
        gelu_by_hand,
        lambda h: h * torch.sigmoid(1.702 * h),
        lambda h: F.relu(h).square(),
        lambda h: h.clamp(-1, 1),
        lambda h: h,
        lambda h: F.relu_(h.clone()),
        lambda h: (3 - 2 * torch.exp(-h)).to(torch.float64).float(),
    ],
)
def test_an_activation_found_in_a_graph_has_the_gain_of_the_function(activation):
    found = measured(lambda model, x: activation(model.a(x)))
    assert found.problem is None
    assert found.phi is not None
    assert found.gain == pytest.approx(1 / second_moment(lambda z: activation(z)), rel=1e-6)
    assert second_moment(found.phi) == pytest.approx(found.second_moment, rel=1e-9)


def test_an_in_place_activation_is_measured():
    assert measured(lambda model, x: F.relu_(model.a(x))).gain == pytest.approx(2)


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("p", [0.3, 0.0])
def test_dropout_is_the_identity(train, p):
    function = lambda model, x: F.dropout(F.relu(model.a(x)), p, model.training)  # noqa: E731
    assert measured(function, train=train).gain == pytest.approx(2)


@pytest.mark.parametrize(
    "view",
    [
        lambda h: h.reshape(3, 4, 4).transpose(1, 2).flatten(1),
        lambda h: h[None].expand(2, 3, 16).reshape(6, 16),
    ],
)
def test_views_are_seen_through(view):
    assert measured(lambda model, x: view(F.relu(model.a(x)))).gain == pytest.approx(2)


def test_gated_units_take_both_factors_as_independent():
    swiglu = product_gain(lambda a, b: F.silu(a) * b)
    found = measured(lambda model, x: F.silu(model.a(x)) * model.c(x))
    assert found.phi is None
    assert found.gain == pytest.approx(swiglu, rel=1e-6)


def fused(model, x):
    gate, value = model.a(x).chunk(2, dim=-1)
    return F.silu(gate) * value


def sliced(model, x):
    h = model.a(x)
    return F.silu(h[:, :8]) * h[:, 8:]


def sliced_by_hand(model, x):
    h = model.a(x)
    gate = h[:, :8]
    return gate * torch.sigmoid(gate) * h[:, 8:]


@pytest.mark.parametrize("function", [fused, sliced, sliced_by_hand])
def test_halves_of_one_layer_are_different_variables(function):
    swiglu = product_gain(lambda a, b: F.silu(a) * b)
    assert measured(function, width=8).gain == pytest.approx(swiglu, rel=1e-6)


def test_glu_gates_with_the_other_half():
    expected = product_gain(lambda a, b: a * torch.sigmoid(b))
    found = measured(lambda model, x: F.glu(model.a(x)), width=8)
    assert found.gain == pytest.approx(expected, rel=1e-6)


def test_one_half_used_twice_is_one_variable():
    def function(model, x):
        half = model.a(x)[:, :8]
        return half * half

    assert measured(function, width=8).second_moment == pytest.approx(3)


def test_a_concatenation_is_the_mean_of_its_parts_by_size():
    def function(model, x):
        return torch.cat([F.relu(model.a(x))[:, :4], model.c(x)[:, :12]], dim=1)

    assert measured(function).second_moment == pytest.approx(0.25 * 0.5 + 0.75)


@pytest.mark.parametrize("slopes", [torch.tensor([0.25]), torch.linspace(-1, 1, 16)])
def test_learned_slopes_count_with_their_current_values(slopes):
    prelu = nn.PReLU(len(slopes))
    prelu.weight.data = slopes
    found = measured(lambda model, x: model.parts["p"](model.a(x)), modules={"p": prelu})
    assert found.second_moment == pytest.approx(float((1 + slopes**2).mean() / 2), rel=1e-6)
    assert found.notes == ("with the value of parts.p.weight",)
    assert (found.phi is None) == (len(slopes) > 1)


def test_norms_and_additions_are_where_the_walk_ends():
    norm = nn.LayerNorm(16)
    after_norm = lambda model, x: F.relu(model.parts["n"](F.gelu(model.a(x))))  # noqa: E731
    assert measured(after_norm, modules={"n": norm}).gain == pytest.approx(2)
    after_sum = lambda model, x: torch.tanh(F.relu(model.a(x)) + model.c(x))  # noqa: E731
    assert measured(after_sum).gain == pytest.approx(1 / second_moment(torch.tanh), rel=1e-6)


def by_copies(h):
    """Circular padding as PyTorch does it: a new tensor, filled in pieces."""
    return F.pad(h.reshape(3, 2, 8), (2, 2), mode="circular").flatten(1)[:, :16]


MOVES = {
    "zero padding": lambda h: F.pad(h, (2, 2)),
    "reflection": lambda h: F.pad(h.reshape(3, 2, 8), (1, 1), mode="reflect").flatten(1),
    "circular padding": lambda h: F.pad(h.reshape(3, 2, 8), (1, 1), mode="circular").flatten(1),
    "circular padding, cropped": by_copies,
    "nearest": lambda h: F.interpolate(h.reshape(3, 4, 4), scale_factor=2).flatten(1),
    "pixel shuffle": lambda h: F.pixel_shuffle(h.reshape(3, 4, 2, 2), 2).flatten(1),
    "channel shuffle": lambda h: F.channel_shuffle(h.reshape(3, 4, 4), 2).flatten(1),
    "roll": lambda h: h.roll(3, 1),
    "flip": lambda h: h.flip(1),
    "index": lambda h: h[:, torch.arange(15, -1, -1)],
    "gather": lambda h: h.gather(1, torch.zeros(3, 16, dtype=torch.long)),
    "repeat": lambda h: h.repeat(1, 2),
    "cat with zeros": lambda h: torch.cat([h, h.new_zeros(3, 4)], 1),
    "scatter": lambda h: h.slice_scatter(h[:, :4], 1, 0, 4),
}
POOLS = {
    "max_pool2d_with_indices": lambda h: F.max_pool2d(h.reshape(3, 1, 4, 4), 2).flatten(1),
    "avg_pool2d": lambda h: F.avg_pool2d(h.reshape(3, 1, 4, 4), 2).flatten(1),
    "_adaptive_avg_pool2d": lambda h: F.adaptive_avg_pool2d(h.reshape(3, 4, 2, 2), (1, 2)).flatten(
        1
    ),
    "mean": lambda h: h.reshape(3, 4, 4).mean(-1),
    "upsample_bilinear2d": lambda h: F.interpolate(
        h.reshape(3, 1, 4, 4), scale_factor=2, mode="bilinear"
    ).flatten(1),
}


@pytest.mark.parametrize("name", MOVES)
@pytest.mark.parametrize("activation", [F.relu, F.gelu])
def test_the_activation_behind_what_moves_values_is_measured(name, activation):
    function = lambda m, x: MOVES[name](activation(m.a(x)))  # noqa: E731
    width = MOVES[name](torch.zeros(3, 16)).shape[1]
    found = measured(function, width=width)
    assert found.problem is None
    assert found.gain == pytest.approx(1 / second_moment(activation), rel=1e-9)
    assert second_moment(found.phi) == pytest.approx(found.second_moment)


@pytest.mark.parametrize("name", POOLS)
def test_the_activation_behind_pooling_counts_and_the_assumption_is_said(name):
    width = POOLS[name](torch.zeros(3, 16)).shape[1]
    found = measured(lambda m, x: POOLS[name](F.relu(m.a(x))), width=width)
    assert found.gain == pytest.approx(2)
    assert found.notes == (f"{name} is taken to keep the second moment",)


def test_what_was_moved_is_another_variable():
    def function(model, x):
        h = F.relu(model.a(x))
        return h - h.roll(1, 1)

    found = measured(function)
    assert found.second_moment == pytest.approx(1 - 1 / math.pi)  # 2 var relu(z), not 0


def test_an_activation_before_a_concatenation_counts_behind_another_one():
    def function(model, x):
        return F.relu(torch.cat([torch.tanh(model.a(x)), model.c(x)], dim=1))

    expected = (second_moment(lambda z: torch.tanh(z).relu()) + 0.5) / 2
    assert measured(function, width=32).second_moment == pytest.approx(expected)


def test_what_no_rule_replays_is_said():
    found = measured(lambda m, x: F.relu(m.a(x)).cumsum(1))
    assert found.gain == 1
    assert found.notes == ("what cumsum makes is taken for a standard normal variable",)


def test_concatenations_of_concatenations_are_measured_to_the_end():
    def function(model, x):
        h = model.a(x)
        for _ in range(40):
            h = torch.cat([h, F.relu(model.c(x))], dim=1)
        return h

    found = measured(function, width=16 * 41)
    assert found.second_moment == pytest.approx((1 + 40 / 2) / 41)


@pytest.mark.parametrize("offset", [0.0, 1.0])
def test_a_norm_written_by_hand_is_a_norm(offset):
    def function(model, x):
        h = model.a(x)
        return torch.tanh(h * torch.rsqrt(h.pow(2).mean(-1, keepdim=True) + 1e-6 + offset))

    assert measured(function).gain == pytest.approx(1 / second_moment(torch.tanh), rel=1e-6)


def test_the_first_layer_and_an_embedding_have_gain_one():
    model = nn.Sequential(nn.Embedding(5, 8), nn.Linear(8, 3))
    graph = capture_graph(model, torch.zeros(2, 4, dtype=torch.long))
    found = [input_activation(graph, layer) for layer in graph.weight_layers()]
    assert [f.gain for f in found] == [1.0, pytest.approx(1.0)]


def test_a_buffer_filled_in_parts_is_the_mean_of_its_parts():
    def function(model, x):
        buffer = x.new_zeros(3, 16)
        buffer[:, :8], buffer[:, 8:] = F.relu(model.a(x))[:, :8], model.c(x)[:, 8:]
        return torch.tanh(buffer)

    moments = second_moment(torch.tanh), second_moment(lambda z: torch.tanh(z.relu()))
    assert measured(function).second_moment == pytest.approx(sum(moments) / 2)


def test_a_gain_stored_as_one_plus_w_counts_as_the_network_reads_it():
    scale = nn.LayerNorm(16)
    scale.weight.data.fill_(0.5)
    found = measured(lambda m, x: m.a(x) * (1 + m.parts["s"].weight), modules={"s": scale})
    assert found.second_moment == pytest.approx(2.25)


def test_a_layer_scale_before_a_layer_counts():
    def function(model, x):
        return model.a(x) * model.parts["s"].weight

    scale = nn.LayerNorm(16)
    scale.weight.data.fill_(3.0)
    assert measured(function, modules={"s": scale}).second_moment == pytest.approx(9)


@pytest.mark.parametrize(
    ("function", "problem"),
    [
        (lambda m, x: m.a(x) * m.c(x) * m.a(x), "joins 3 independent tensors"),
        (lambda m, x: torch.where(m.a(x) > 0, m.a(x), 0.1 * m.a(x)), "constant tensor"),
        (lambda m, x: m.a(x) * 0, "second moment is 0"),
        (lambda m, x: torch.exp(m.a(x) ** 4), "second moment is inf"),
        (lambda m, x: m.a(x) * m.parts["p"].weight.sum(), "parameter parts.p.weight is not known"),
    ],
)
def test_what_cannot_be_measured_has_gain_one_and_says_why(function, problem):
    found = measured(function, modules={"p": nn.Linear(2, 2)})
    assert found.gain == 1
    assert found.phi is None
    assert problem in found.problem


def test_hundreds_of_slopes_are_refused_rather_than_averaged_in_part():
    prelu = nn.PReLU(300)
    prelu.weight.data = torch.linspace(0, 1, 300)
    model = nn.Sequential(nn.Linear(4, 300), prelu, nn.Linear(300, 2))
    graph = capture_graph(model, torch.zeros(2, 4))
    layer = graph.weight_layers()[-1]
    found = input_activation(graph, layer, parameters=canonical_parameters(model))
    assert "too many different values" in found.problem


def test_replaying_leaves_the_quadrature_points_alone():
    before = gaussian_rule()[0].clone()
    measured(lambda model, x: F.relu_(model.a(x)).mul_(2).add_(1))
    assert torch.equal(gaussian_rule()[0], before)


def test_many_layers_are_measured_in_linear_time_of_the_graph():
    model = nn.Sequential(*(m for _ in range(300) for m in (nn.Linear(4, 4), nn.GELU())))
    graph = capture_graph(model, torch.zeros(2, 4))
    found = [input_activation(graph, layer) for layer in graph.weight_layers()]
    assert {round(f.gain, 6) for f in found[1:]} == {round(1 / second_moment(F.gelu), 6)}
