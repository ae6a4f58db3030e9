import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from etastar.graph.capture import capture_graph
from etastar.init import initialize_
from etastar.init.edge_of_chaos import critical_point
from etastar.init.gains import second_moment
from etastar.models import build, example_inputs
from tests.init.drawing import Net, initialized


def mean_square(tensor):
    return float(tensor.detach().double().square().mean())


CONVOLUTIONS = [
    (nn.Conv1d(32, 64, 5), (2, 32, 16), 32 * 5),
    (nn.Conv2d(32, 64, 3, groups=4), (2, 32, 8, 8), 8 * 9),
    (nn.Conv2d(64, 64, 7, groups=64), (2, 64, 8, 8), 49),
    (nn.Conv3d(16, 16, 3), (2, 16, 4, 4, 4), 16 * 27),
    (nn.ConvTranspose2d(32, 64, 3), (2, 32, 4, 4), 32 * 9),
    (nn.ConvTranspose1d(64, 32, 5, groups=2), (2, 64, 8), 32 * 5),
    (nn.Linear(512, 32), (2, 512), 512),
]


@pytest.mark.parametrize(("layer", "shape", "fan_in"), CONVOLUTIONS)
def test_every_kind_of_layer_has_variance_gain_over_fan_in(layer, shape, fan_in):
    model = Net(lambda m, x: m.layer(torch.relu(x)), layer=copy.deepcopy(layer))
    report = initialized(model, torch.zeros(shape))
    expected = 2 / fan_in
    assert report["layer.weight"].std == pytest.approx(math.sqrt(expected))
    assert mean_square(model.layer.weight) == pytest.approx(expected, rel=0.15)
    assert not model.layer.bias.any()


def test_a_bilinear_layer_sums_over_both_inputs():
    model = Net(lambda m, x: m.layer(x, torch.ones_like(x)), layer=nn.Bilinear(16, 16, 32))
    assert initialized(model, torch.zeros(2, 16))["layer.weight"].fan_in == 256


def test_the_gain_is_that_of_the_activation_before_each_layer():
    model = nn.Sequential(
        nn.Linear(256, 256), nn.GELU(), nn.Linear(256, 256), nn.Tanh(), nn.Linear(256, 256)
    )
    initialized(model, torch.zeros(2, 256))
    gains = [mean_square(model[i].weight) * 256 for i in (0, 2, 4)]
    assert gains == pytest.approx(
        [1, 1 / second_moment(F.gelu), 1 / second_moment(torch.tanh)], rel=0.03
    )


def test_biases_shifts_and_gains():
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.GroupNorm(2, 8), nn.Flatten(), nn.Linear(128, 4)
    )
    x = torch.zeros(2, 3, 6, 6)
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=7.0, generator=generator)
    initialized(model, x)
    for module in model[:3]:
        assert not module.bias.any()
    assert bool((model[1].weight == 1).all())
    assert bool((model[2].weight == 1).all())


class RMSNorm(nn.Module):
    def __init__(self, offset):
        super().__init__()
        self.offset = offset
        self.weight = nn.Parameter(torch.full((16,), 1.1 - offset))

    def forward(self, x):
        scale = torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)
        return x * scale * (self.weight + self.offset if self.offset else self.weight)


@pytest.mark.parametrize("offset", [0.0, 1.0])
def test_a_norm_written_by_hand_gets_the_gain_that_makes_it_one(offset):
    model = nn.Sequential(nn.Linear(8, 16), RMSNorm(offset), nn.Tanh(), nn.Linear(16, 4))
    report = initialized(model, torch.zeros(2, 8))
    assert bool((model[1].weight == 1 - offset).all())
    assert report["3.weight"].gain == pytest.approx(1 / second_moment(torch.tanh))


def test_what_no_rule_covers_is_kept_and_reported():
    model = Net(
        lambda m, x: m.out(m.prelu(m.first(x)) * m.scale) * m.temperature,
        first=nn.Linear(4, 4),
        prelu=nn.PReLU(),
        scale=nn.Parameter(torch.full((4,), 1e-3)),
        temperature=nn.Parameter(torch.tensor(3.0)),
        out=nn.Linear(4, 4),
        unused=nn.Linear(4, 4),
    )
    model.first.weight.requires_grad_(False)
    before = copy.deepcopy(model.state_dict())
    report = initialized(model, torch.zeros(2, 4))
    kept = {entry.name: entry.why for entry in report.kept}
    assert set(kept) == {
        "prelu.weight", "scale", "temperature", "unused.weight", "unused.bias", "first.weight"
    }  # fmt: skip
    assert "frozen" in kept["first.weight"]
    assert "no operation" in kept["unused.weight"]
    for name in kept:
        assert torch.equal(model.state_dict()[name], before[name])
    assert not torch.equal(model.out.weight, before["out.weight"])


def test_recurrent_layers_are_kept_and_reported():
    model = Net(lambda m, x: m.head(m.lstm(x)[0]), lstm=nn.LSTM(4, 8), head=nn.Linear(8, 2))
    before = copy.deepcopy(model.lstm.state_dict())
    report = initialized(model, torch.zeros(5, 2, 4))
    assert {e.name for e in report.kept} == {f"lstm.{name}" for name in before}
    assert all("recurrent" in entry.why for entry in report.kept)
    assert all(torch.equal(v, before[k]) for k, v in model.lstm.state_dict().items())


@pytest.mark.parametrize("depth", [2, 6])
@pytest.mark.parametrize(
    ("residual", "scaled"), [("all", ("fc1", "fc2")), ("last", ("fc2",)), ("none", ())]
)
def test_branch_weights_carry_one_over_k(depth, residual, scaled):
    model = build("resmlp", depth=depth, width=128, branch_layers=2, activation="relu")
    initialized(model, *example_inputs("resmlp"), residual=residual)
    for name, parameter in model.named_parameters():
        layer = name.split(".")[-2]
        if name.endswith("weight") and layer in ("fc1", "fc2"):
            expected = 2 / 128 / (depth if layer in scaled else 1)
            assert mean_square(parameter) == pytest.approx(expected, rel=0.1)


def test_in_degree_divides_the_last_weights_of_summed_branches():
    model = Net(
        lambda m, x: m.a(x) + m.b(x) + m.d(torch.relu(m.c(x))),
        **{name: nn.Linear(64, 64) for name in "abcd"},
    )
    report = initialized(model, torch.zeros(2, 64), scheme="in-degree", residual="none")
    factors = {name: report[f"{name}.weight"].factor for name in "abcd"}
    assert factors == pytest.approx({"a": 1 / 3, "b": 1 / 3, "c": 1.0, "d": 1 / 3})
    x = torch.randn(256, 64, generator=torch.Generator().manual_seed(0))
    assert mean_square(model(x)) == pytest.approx(1, rel=0.15)


def test_the_identity_of_a_residual_addition_is_no_branch():
    model = build("resmlp", depth=3, width=32)
    report = initialized(model, *example_inputs("resmlp"), scheme="in-degree", residual="none")
    assert {entry.factor for entry in report.entries} == {1.0}


@pytest.mark.parametrize(("readout", "variance"), [("mup", 128.0**-2), ("zero", 0.0)])
def test_readout(readout, variance):
    model = build("mlp", depth=2, width=128)
    initialized(model, *example_inputs("mlp"), readout=readout)
    assert mean_square(model.head.weight) == pytest.approx(variance, rel=0.15)


def test_tables_have_unit_variance_and_a_tied_one_that_of_the_projection():
    tokens = example_inputs("gpt", vocabulary=64)
    free = build("gpt", depth=1, width=64, vocabulary=64)
    initialized(free, *tokens)
    assert mean_square(free.embedding.weight) == pytest.approx(1, rel=0.1)
    assert mean_square(free.position.weight) == pytest.approx(1, rel=0.1)
    tied = build("gpt", depth=1, width=64, vocabulary=64, tied=True)
    report = initialized(tied, *tokens)
    assert [e.name for e in report.entries].count("head.weight") == 0
    assert tied.head.weight is tied.embedding.weight
    assert mean_square(tied.head.weight) == pytest.approx(1 / 64, rel=0.1)
    assert mean_square(tied.position.weight) == pytest.approx(1 / 64, rel=0.1)


def test_a_class_token_stands_for_data_and_a_bias_table_inside_is_kept():
    def forward(m, x):
        h = torch.cat([m.token.expand(len(x), -1, -1), m.first(x)], 1) + m.position
        return m.out(torch.relu(h) @ torch.relu(h).mT + m.table)

    model = Net(
        forward,
        first=nn.Linear(8, 512),
        token=nn.Parameter(torch.zeros(1, 1, 512)),
        position=nn.Parameter(torch.zeros(1, 6, 512)),
        table=nn.Parameter(torch.zeros(6, 6)),
        out=nn.Linear(6, 2),
    )
    report = initialized(model, torch.zeros(2, 5, 8))
    assert mean_square(model.token) == pytest.approx(1, rel=0.2)
    assert mean_square(model.position) == pytest.approx(1, rel=0.2)
    assert report.kept == (report["table"],)


def test_tables_added_one_after_another_all_stand_for_data():
    model = Net(
        lambda m, x: m.out(m.first(x) + m.row + m.column),
        first=nn.Linear(8, 512),
        row=nn.Parameter(torch.zeros(4, 1, 512)),
        column=nn.Parameter(torch.zeros(4, 5, 512)),
        out=nn.Linear(512, 2),
    )
    assert not initialized(model, torch.zeros(2, 4, 5, 8)).kept
    assert mean_square(model.row) == pytest.approx(1, rel=0.1)
    assert mean_square(model.column) == pytest.approx(1, rel=0.1)


def test_weight_norm_gives_the_effective_weight_its_variance():
    layer = nn.utils.parametrizations.weight_norm(nn.Linear(256, 64))
    model = nn.Sequential(nn.ReLU(), layer)
    report = initialized(model, torch.zeros(2, 256))
    assert mean_square(layer.weight) == pytest.approx(2 / 256, rel=0.05)
    actions = [report[f"1.parametrizations.weight.original{i}"].action for i in (0, 1)]
    assert actions == ["follows", "normal"]


def test_a_parametrized_readout_takes_the_mup_variance():
    layer = nn.utils.parametrizations.weight_norm(nn.Linear(64, 256))
    model = nn.Sequential(nn.Linear(8, 64), layer)
    initialized(model, torch.zeros(2, 8), readout="mup")
    assert mean_square(layer.weight) == pytest.approx(64.0**-2, rel=0.1)


@pytest.mark.parametrize("name", ["spectral_norm", "orthogonal"])
def test_a_weight_that_can_hold_no_variance_is_put_back_and_reported(name):
    parametrization = getattr(nn.utils.parametrizations, name)
    model = nn.Sequential(nn.Linear(8, 8), parametrization(nn.Linear(8, 8)))
    before = copy.deepcopy(model[1].state_dict())
    before.pop("bias")
    report = initialized(model, torch.zeros(2, 8))
    assert [e.name for e in report.kept] == ["1.parametrizations.weight.original"]
    assert "cannot be given a variance" in report.kept[0].why
    after = model[1].state_dict()
    assert all(torch.equal(after[key], value) for key, value in before.items())
    assert model[1].training


def test_a_weight_computed_from_several_parameters_is_kept():
    model = Net(
        lambda m, x: F.linear(x, m.base + m.up @ m.down),
        base=nn.Parameter(torch.ones(8, 8)),
        up=nn.Parameter(torch.ones(8, 2)),
        down=nn.Parameter(torch.ones(2, 8)),
    )
    report = initialized(model, torch.zeros(2, 8))
    assert len(report.kept) == 3
    assert "base, up, down" in report["base"].why


def test_the_same_seed_gives_the_same_bits_and_another_seed_others():
    models = [build("resnet", depth=2) for _ in range(3)]
    for model, seed in zip(models, (1, 1, 2), strict=True):
        initialized(model, *example_inputs("resnet"), seed=seed)
    first, same, other = (model.state_dict() for model in models)
    assert all(torch.equal(first[key], same[key]) for key in first)
    assert not torch.equal(first["stem.weight"], other["stem.weight"])


def test_a_draw_depends_on_no_other_parameter():
    deep, shallow = (build("mlp", depth=depth, width=32) for depth in (5, 3))
    for model in (deep, shallow):
        initialized(model, *example_inputs("mlp"), seed=3)
    assert torch.equal(deep.layers[1].weight, shallow.layers[1].weight)
    assert not torch.equal(deep.layers[1].weight, deep.layers[2].weight)


def test_nothing_else_is_touched():
    model = build("resnet", depth=2, batch_norm=True)
    model(*example_inputs("resnet")).sum().backward()
    graph = capture_graph(model, *example_inputs("resnet"))
    random = torch.get_rng_state()
    parameters = dict(model.named_parameters())
    gradients = {name: p.grad.clone() for name, p in parameters.items()}
    buffers = {name: b.clone() for name, b in model.named_buffers()}
    model.eval()
    initialize_(model, graph)
    assert torch.equal(torch.get_rng_state(), random)
    assert not model.training
    assert all(p is parameters[name] for name, p in model.named_parameters())
    assert all(torch.equal(parameters[name].grad, g) for name, g in gradients.items())
    assert all(torch.equal(b, buffers[name]) for name, b in model.named_buffers())


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_dtypes_are_kept(dtype):
    model = build("mlp", depth=2, width=128)
    graph = capture_graph(model, *example_inputs("mlp"))
    model.to(dtype)
    initialize_(model, graph)
    assert {p.dtype for p in model.parameters()} == {dtype}
    assert mean_square(model.layers[1].weight) == pytest.approx(2 / 128, rel=0.1)


def test_a_wrapped_model_is_filled_by_canonical_name():
    plain = build("mlp", depth=2, width=32)
    graph = capture_graph(plain, *example_inputs("mlp"))
    wrapped = nn.DataParallel(copy.deepcopy(plain))
    initialize_(plain, graph)
    initialize_(wrapped, graph)
    for one, other in zip(plain.parameters(), wrapped.parameters(), strict=True):
        assert torch.equal(one, other)


def test_biases_of_the_edge_of_chaos_have_their_variance():
    model = nn.Sequential(
        nn.Linear(8, 4096), nn.GELU(), nn.Linear(4096, 4096), nn.LayerNorm(4096), nn.Linear(4096, 2)
    )
    initialized(model, torch.zeros(2, 8), scheme="edge-of-chaos")
    point = critical_point(F.gelu, bias_variance=0.2)
    assert mean_square(model[0].bias) == pytest.approx(0.2, rel=0.1)
    assert mean_square(model[0].weight) * 8 + 0.2 == pytest.approx(point.fixed_point, rel=0.1)
    assert mean_square(model[2].bias) == pytest.approx(0.2, rel=0.1)
    assert mean_square(model[2].weight) * 4096 == pytest.approx(point.weight_variance, rel=0.1)
    assert not model[3].bias.any()


def test_a_shift_written_by_hand_is_no_bias_of_a_layer():
    model = Net(
        lambda m, x: m.out(m.norm(m.inner(m.first(x).tanh())) + m.shift),
        first=nn.Linear(8, 16),
        inner=nn.Linear(16, 16),
        norm=nn.LayerNorm(16, elementwise_affine=False),
        shift=nn.Parameter(torch.randn(16, generator=torch.Generator().manual_seed(0))),
        out=nn.Linear(16, 2),
    )
    initialized(model, torch.zeros(2, 8), scheme="edge-of-chaos")
    assert not model.shift.any()
    assert bool(model.first.bias.any())
