"""The width rule against [TP5]'s table, role by role and kind by kind."""

import math

import pytest

from etastar.laws import Architecture, Factors, ParamPair, TransferCase, Width, fold_multiplier
from etastar.optimizers import optimizer_kind
from etastar.parameter import ParamInfo

SGD, ADAM, ADAMW, MUON = (optimizer_kind(n) for n in ("sgd", "adam", "adamw", "muon"))
RELATIVE = optimizer_kind("adafactor")


def linear(fan_out, fan_in, role="hidden"):
    return ParamInfo("w", (fan_out, fan_in), role, fan_in, fan_out, layer_type="linear")


def vector(size, role="bias"):
    return ParamInfo("b", (size,), role, 1, size)


def folded(pair, optimizer):
    nothing = Architecture(None, ())
    found = Width().factors(pair, TransferCase(nothing, nothing, optimizer))
    return fold_multiplier(found, optimizer=optimizer)


INPUT = ParamPair(linear(8, 3, "input"), linear(32, 3, "input"))
GROWING = ParamPair(linear(8, 8, "input"), linear(32, 32, "input"))  # features of time
HIDDEN = ParamPair(linear(8, 8), linear(32, 32))
OUTPUT = ParamPair(linear(10, 8, "output"), linear(10, 32, "output"))
BIAS = ParamPair(vector(8), vector(32))
NORM = ParamPair(vector(8, "norm"), vector(32, "norm"))
TABLE = ParamPair(
    ParamInfo("t", (50, 8), "embedding", 1, 8), ParamInfo("t", (50, 32), "embedding", 1, 32)
)


@pytest.mark.parametrize(
    ("pair", "sgd", "adam"),
    [
        (INPUT, 4.0, 1.0),
        (TABLE, 4.0, 1.0),
        (BIAS, 4.0, 1.0),
        (NORM, 4.0, 1.0),
        (HIDDEN, 1.0, 0.25),
        (GROWING, 1.0, 0.25),
        (OUTPUT, 0.25, 0.25),
    ],
    ids=["input", "embedding", "bias", "norm", "hidden", "growing input", "output"],
)
def test_learning_rates_follow_the_table(pair, sgd, adam):
    assert folded(pair, SGD).lr == pytest.approx(sgd)
    assert folded(pair, ADAM).lr == pytest.approx(adam)
    assert folded(pair, ADAMW).lr == pytest.approx(adam)


def test_a_relative_step_times_the_weights_own_size_is_that_of_adam():
    for pair in (INPUT, TABLE, BIAS, NORM, HIDDEN, OUTPUT):
        relative, adam = folded(pair, RELATIVE), folded(pair, ADAMW)
        by_fans = pair.fan_in_ratio**-0.5 if pair.target.role in ("hidden", "output") else 1.0
        size = relative.init * by_fans  # of the weights, beside a fan-in that the base has too
        assert relative.lr * size == pytest.approx(adam.lr), pair.target.role
        assert relative.lr * relative.weight_decay == pytest.approx(1), pair.target.role
        assert relative.init == adam.init


def test_readout_keeps_variance_one_over_fan_in_squared():
    for optimizer in (SGD, ADAM, ADAMW):
        assert folded(OUTPUT, optimizer).init == pytest.approx(4.0**-0.5)
        assert folded(HIDDEN, optimizer).init == 1.0


def test_unequal_ratios_of_a_hidden_weight():
    pair = ParamPair(linear(8, 8), linear(16, 64))
    assert folded(pair, SGD).lr == pytest.approx(2 / 8)
    assert folded(pair, ADAM).lr == pytest.approx(1 / 8)


def convolution(channels_out, channels_in, kernel, groups=1):
    shape = (channels_out, channels_in // groups, *kernel)
    taps = math.prod(kernel)
    return ParamInfo(
        "c",
        shape,
        "hidden",
        channels_in // groups * taps,
        channels_out // groups * taps,
        layer_type="convolution",
        kernel_size=kernel,
    )


def test_the_kernel_is_not_width():
    pair = ParamPair(convolution(8, 8, (3, 3)), convolution(8, 8, (5, 5)))
    assert folded(pair, ADAM) == Factors()
    assert folded(pair, SGD).lr == pytest.approx(1.0)


def test_a_depthwise_convolution_is_a_vector():
    pair = ParamPair(convolution(8, 8, (3,), 8), convolution(32, 32, (3,), 32))
    assert folded(pair, ADAM).lr == 1.0
    assert folded(pair, SGD).lr == pytest.approx(4.0)


@pytest.mark.parametrize("optimizer", [SGD, ADAM, ADAMW])
@pytest.mark.parametrize("pair", [INPUT, BIAS, HIDDEN])
def test_rate_times_decay_stays(pair, optimizer):
    found = folded(pair, optimizer)
    assert found.lr * found.weight_decay == pytest.approx(1.0)


@pytest.mark.parametrize("rule", ["original", "match_rms_adamw"])
@pytest.mark.parametrize(
    ("base", "target"), [((8, 8), (32, 32)), ((32, 8), (128, 32)), ((8, 32), (64, 64))]
)
def test_muons_update_has_the_spectral_norm_of_the_condition(rule, base, target):
    optimizer = type(MUON)(**{**MUON.__dict__, "shape_rule": rule})
    found = folded(ParamPair(linear(*base), linear(*target)), optimizer).lr

    def spectral_norm(shape):  # of one step of torch.optim.Muon at learning rate 1
        if rule == "original":
            return math.sqrt(max(1, shape[0] / shape[1]))
        return 0.2 * math.sqrt(max(shape))

    def wanted(shape):
        return math.sqrt(shape[0] / shape[1])

    ratio = found * spectral_norm(target) / spectral_norm(base)
    assert ratio == pytest.approx(wanted(target) / wanted(base))


@pytest.mark.parametrize("optimizer", [ADAM, ADAMW], ids=lambda o: o.name)
@pytest.mark.parametrize(
    ("pair", "eps"),
    [(INPUT, 0.25), (TABLE, 0.25), (BIAS, 0.25), (NORM, 0.25), (HIDDEN, 0.25), (OUTPUT, 1.0)],
    ids=["input", "embedding", "bias", "norm", "hidden", "output"],
)
def test_epsilon_follows_the_gradient_and_the_folded_readouts_stays(pair, eps, optimizer):
    assert folded(pair, optimizer).eps == pytest.approx(eps)


def test_a_norm_over_heads_of_one_size_keeps_epsilon():
    gain = ParamPair(vector(16, "norm"), vector(16, "norm"))
    assert folded(gain, ADAM).eps == 1.0


@pytest.mark.parametrize("optimizer", [SGD, MUON], ids=lambda o: o.name)
def test_what_has_no_epsilon_of_elements_keeps_it(optimizer):
    assert folded(HIDDEN, optimizer).eps == 1.0


@pytest.mark.parametrize(
    ("pair", "shampoo", "scion", "soap", "eps"),
    [
        (INPUT, 2.0, 1.0, 2.0, 0.5),
        (TABLE, 2.0, 4.0, 2.0, 0.5),  # Scion's own factor of a (rows, width) table is width^(-1/2)
        (BIAS, 2.0, 1.0, 1.0, 0.25),  # SOAP steps vectors as Adam
        (NORM, 2.0, 1.0, 1.0, 0.25),
        (HIDDEN, 1.0, 1.0, 1.0, 1.0),
        (ParamPair(linear(8, 8), linear(128, 32)), 2.0, 1.0, 2.0, 0.5),
        (OUTPUT, 0.5, 1.0, 0.5, 2.0),
    ],
    ids=["input", "embedding", "bias", "norm", "hidden", "expanding", "output"],
)
def test_a_spectral_step_is_in_proportion_to_the_root_of_the_fans(pair, shampoo, scion, soap, eps):
    for name, rate in (("shampoo", shampoo), ("scion", scion), ("soap", soap)):
        kind = optimizer_kind(name).for_parameter(pair.target)
        found = folded(pair, kind)
        assert found.lr == pytest.approx(rate), name
        assert found.eps == pytest.approx(eps if name == "soap" else found.eps), name
        if kind.decoupled_weight_decay:
            assert found.lr * found.weight_decay == pytest.approx(1.0)


@pytest.mark.parametrize("side", [1, 3])
def test_muon_of_convolutions_flattens_their_kernels(side):
    kernels = [
        ParamInfo("w", (n_out, n_in, side, side), "hidden", n_in * side**2, n_out,
                  layer_type="convolution", kernel_size=(side, side))
        for n_out, n_in in ((32, 8), (128, 16))
    ]  # fmt: skip
    kind = optimizer_kind("muon-conv")
    assert kind.for_parameter(kernels[1]) is kind
    assert optimizer_kind("muon").for_parameter(kernels[1]).name == "adamw"
    own = [math.sqrt(max(1, n_out / (n_in * side**2))) for n_out, n_in in ((32, 8), (128, 16))]
    found = folded(ParamPair(*kernels), kind).lr
    assert found * own[1] / own[0] == pytest.approx(math.sqrt(4 / 2))
