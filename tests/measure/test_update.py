"""The criterion: closed forms, what it leaves untouched, and its settings."""

import copy
import json
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from etastar.errors import CaptureError, MeasureError
from etastar.measure import UntilPrecise, measure_update
from tests.measure.small_chains import batch, chain, make_chain, measured


def total(output, _):
    return output.sum()


def state_of(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize("x", [0.5, 2.0, 3.0])
def test_one_weight_has_a_closed_form(x):
    """z = w x, loss = z: the step is -eta x, and z changes by -eta x^2."""
    model = nn.Linear(1, 1, bias=False)
    report = measured(model, (torch.full((1, 1), x), None), total, optimizer="sgd")
    assert report.mean_square_update == pytest.approx(x**4, rel=1e-3)
    assert report.eta_star == pytest.approx(x**-2, rel=1e-3)


def test_two_layers_have_a_closed_form():
    """z1 = a x, z2 = b z1, loss = z2: dz1 = -b x^2, dz2 = -(b^2 + a^2) x^2 ... for x = 1."""
    model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False))
    a, b, x = 0.7, -1.3, 1.5
    with torch.no_grad():
        model[0].weight.fill_(a)
        model[1].weight.fill_(b)
    inputs = (torch.full((1, 1), x), None)
    report = measured(model, inputs, total, optimizer="sgd")
    first, second = (layer.mean_square_update for layer in report.layers)
    assert first == pytest.approx((b * x**2) ** 2, rel=1e-3)
    assert second == pytest.approx(((b**2 + a**2) * x**2) ** 2, rel=1e-3)
    assert report.mean_square_update == pytest.approx((first + second) / 2)
    assert [layer.module for layer in report.layers] == ["0", "1"]
    hidden = measured(model, inputs, total, optimizer="sgd", pre_activations="hidden")
    assert [layer.name for layer in hidden.layers] == ["0.weight"]


def test_the_first_step_of_adam_has_unit_size():
    model = nn.Linear(3, 1, bias=False)
    inputs = torch.tensor([[1.0, -2.0, 4.0]])
    report = measured(model, (inputs, None), total, optimizer="adam")
    assert report.mean_square_update == pytest.approx(7.0**2, rel=1e-3)


def test_the_change_at_eta_star_is_one_in_the_mean_square():
    report = measured(chain(), batch(), F.cross_entropy, optimizer="sgd")
    assert report.eta_star**2 * report.mean_square_update == pytest.approx(1.0)
    assert report.eta_star == pytest.approx(math.sqrt(1 / report.mean_square_update))


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Linear(8, 8)
        self.branches = nn.ModuleList(nn.Linear(8, 8) for _ in range(3))
        self.head = nn.Linear(8, 2)

    def forward(self, x):
        x = self.stem(x)
        for branch in self.branches:
            x = x + branch(torch.relu(x))
        return self.head(x)


def test_the_stream_is_measured_after_every_addition():
    torch.manual_seed(0)
    model = Residual()
    inputs = torch.randn(2, 8)
    found = measure_update(model, (inputs, None), total, optimizer="sgd")
    assert found.pre_activations == "stream"
    assert [(layer.module, layer.name) for layer in found.layers] == [("", "addition")] * 3
    step = torch.optim.SGD(model.parameters(), lr=1e-3)
    streams = []

    def keep(module, args):
        if module in (*model.branches[1:], model.head):
            streams.append(args[0].detach().clone())

    model.head.register_forward_pre_hook(keep)
    before, _ = streams, model(inputs)
    total(model(inputs), None).backward()
    last = before[0]
    streams.clear()
    step.step()
    model(inputs)
    change = float(((streams[0] - last) / 1e-3).square().mean())
    assert found.layers[-1].mean_square_update == pytest.approx(change, rel=0.05)


def test_the_model_its_gradients_optimizer_and_generators_are_untouched():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(16, 16), nn.BatchNorm1d(16), nn.Dropout(0.5), nn.ReLU(), nn.Linear(16, 4)
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    inputs, targets = batch()
    F.cross_entropy(model(inputs), targets).backward()
    optimizer.step()
    before = state_of(model), copy.deepcopy(optimizer.state_dict())
    gradients = [p.grad.clone() for p in model.parameters()]
    random = torch.get_rng_state()
    measured(model, (inputs, targets), F.cross_entropy, optimizer=optimizer)
    assert torch.equal(torch.get_rng_state(), random)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[0][name])
    assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), gradients, strict=True))
    after = optimizer.state_dict()
    for key, state in after["state"].items():
        assert all(torch.equal(v, before[1]["state"][key][k]) for k, v in state.items())
    assert after["param_groups"] == before[1]["param_groups"]
    assert model.training


def test_an_optimizer_of_the_model_is_measured_at_its_next_step():
    """Momentum: after a step, the next one is that of gradient plus buffer."""
    torch.manual_seed(0)
    model = nn.Linear(3, 1, bias=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    inputs = torch.tensor([[1.0, 2.0, 2.0]])
    total(model(inputs), None).backward()
    optimizer.step()
    report = measured(model, (inputs, None), total, optimizer=optimizer)
    assert report.mean_square_update == pytest.approx((1.9 * 9) ** 2, rel=1e-3)


def test_ratios_of_the_groups_rates_are_kept():
    model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 1, bias=False))
    inputs = (torch.ones(1, 4), None)

    def grouped(model):
        groups = [
            {"params": model[0].parameters(), "lr": 0.3},
            {"params": model[1].parameters(), "lr": 0.0},
        ]
        return torch.optim.SGD(groups)

    def only_first(model):
        return torch.optim.SGD(model[0].parameters(), lr=7.0)

    found = measured(model, inputs, total, optimizer=grouped)
    alone = measured(model, inputs, total, optimizer=only_first)
    assert found.eta_star == pytest.approx(alone.eta_star)
    told = measured(model, inputs, total, optimizer=grouped, lr_unit=0.6)
    assert told.eta_star == pytest.approx(2 * found.eta_star)


def test_several_optimizers_step_together():
    torch.manual_seed(0)
    model = chain(width=16)

    def muon(model):
        matrices = [p for p in model.parameters() if p.ndim == 2]
        others = [p for p in model.parameters() if p.ndim != 2]
        return torch.optim.Muon(matrices, lr=0.02), torch.optim.AdamW(others, lr=0.01)

    found = measured(model, batch(), F.cross_entropy, optimizer=muon)
    alone = [
        measured(model, batch(), F.cross_entropy, optimizer=lambda m: muon(m)[n], lr_unit=0.02)  # noqa: B023
        for n in range(2)
    ]
    assert all(0 < one.mean_square_update < found.mean_square_update for one in alone)


@pytest.mark.parametrize("is_zero", [False, True])
def test_a_rate_too_small_for_float32_is_measured_all_the_same(is_zero):
    torch.manual_seed(0)
    model = chain()
    if is_zero:  # a bias of zeros keeps all its digits, the weights beside it do not
        for layer in model[::2]:
            nn.init.zeros_(layer.bias)

    def tiny(model):
        return torch.optim.SGD(model.parameters(), lr=1e-9, momentum=0.9)

    found = measured(model, batch(), F.cross_entropy, optimizer=tiny)
    plain = measured(model, batch(), F.cross_entropy, optimizer="sgd")
    assert found.eta_star == pytest.approx(plain.eta_star, rel=1e-3)


def test_bfloat16_weights_are_measured_in_float32():
    torch.manual_seed(0)
    model = chain().to(torch.bfloat16)
    inputs, targets = batch()
    low = measured(model, (inputs.to(torch.bfloat16), targets), F.cross_entropy, optimizer="sgd")
    same = copy.deepcopy(model).float()
    high = measured(
        same, (inputs.to(torch.bfloat16).float(), targets), F.cross_entropy, optimizer="sgd"
    )
    assert low.eta_star == pytest.approx(high.eta_star)
    assert next(model.parameters()).dtype == torch.bfloat16


def test_a_tied_weight_moves_once(forward_mode):
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(11, 6)
            self.head = nn.Linear(6, 11, bias=False)
            self.head.weight = self.embedding.weight

        def forward(self, ids):
            return self.head(torch.tanh(self.embedding(ids)))

    torch.manual_seed(0)
    model, ids = Tied(), torch.arange(8).reshape(2, 4)

    def loss(logits, targets):
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten())

    report = measured(model, (ids, ids), loss, optimizer="sgd")

    def run(model):
        return model(ids)

    expected = forward_mode(
        model, run, lambda out: loss(out, ids), lambda m: torch.optim.SGD(m.parameters(), lr=1.0)
    )
    assert len(report.layers) == 2
    found = [layer.mean_square_update for layer in report.layers]
    assert found == pytest.approx(expected, rel=0.01)


def test_what_has_no_forward_mode_is_measured():
    class Cut(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return 2 * x

        @staticmethod
        def backward(ctx, gradient):
            return 2 * gradient

    class Doubled(nn.Module):
        def __init__(self, double):
            super().__init__()
            self.first, self.second, self.double = nn.Linear(4, 4), nn.Linear(4, 1), double

        def forward(self, x):
            return self.second(self.double(self.first(x)))

    def report(double):
        torch.manual_seed(0)
        return measured(Doubled(double), (torch.ones(1, 4), None), total, optimizer="sgd")

    assert report(Cut.apply).eta_star == pytest.approx(report(lambda x: 2 * x).eta_star, rel=1e-4)


@pytest.mark.parametrize("raising_call", [1, 2, 3])
def test_a_forward_pass_that_raises_at_any_time_is_an_error_of_ours(raising_call):
    model = chain()
    calls = []

    def later(*_):
        calls.append(1)
        if len(calls) == raising_call:
            raise ValueError("broken")

    model[0].register_forward_pre_hook(later)
    with pytest.raises(CaptureError, match="broken"):
        measured(model, batch(), F.cross_entropy, optimizer="sgd")


def test_seeds_give_intervals_that_hold_the_typical_rate_beside_that_of_the_mean():
    report = measured(make_chain, batch(), F.cross_entropy, optimizer="sgd", seeds=range(5))
    low, high = report.eta_star_interval
    assert low < report.eta_star < high
    assert report.mean_square_update == pytest.approx(sum(report.by_seed) / 5)
    assert report.typical_mean_square == pytest.approx(math.prod(report.by_seed) ** 0.2)
    assert report.eta_star == pytest.approx(report.typical_mean_square**-0.5)
    assert report.eta_star_of_mean == pytest.approx(report.mean_square_update**-0.5)
    assert report.eta_star_of_mean < report.eta_star
    assert report.as_dict()["eta_star_of_mean"] == report.eta_star_of_mean
    assert len(set(report.by_seed)) == 5
    again = measured(make_chain, batch(), F.cross_entropy, optimizer="sgd", seeds=range(5))
    assert again == report
    one = measured(make_chain, batch(), F.cross_entropy, optimizer="sgd", seeds=[3])
    assert one.by_seed == report.by_seed[3:4]
    assert one.eta_star_interval is None


def test_one_seed_of_a_model_and_as_many_as_it_takes_of_a_function_are_used():
    assert measured(chain(), batch(), F.cross_entropy, optimizer="sgd").seeds == (0,)
    loose = measured(make_chain, batch(), F.cross_entropy, optimizer="sgd", seeds=UntilPrecise(9.0))
    assert loose.seeds == (0, 1, 2)
    found = measured(make_chain, batch(), F.cross_entropy, optimizer="sgd")
    low, high = found.eta_star_interval
    assert len(found.seeds) > 3
    assert math.log(high / low) / 2 <= UntilPrecise.precision
    assert found.shortfall == ""
    assert measured(make_chain, batch(), F.cross_entropy, optimizer="sgd", seeds=2).seeds == (0, 1)


def test_inputs_that_the_model_writes_to_stay_as_they_were():
    class Adding(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 1)

        def forward(self, x):
            return self.layer(x.add_(1.0))

    x, y = torch.randn(5, 3), torch.randn(5, 1)
    before = x.clone()
    report = measured(Adding(), (x, y), F.mse_loss, optimizer="sgd", seeds=(0, 1))
    assert torch.equal(x, before)
    assert report.by_seed[0] == report.by_seed[1]


def test_a_compiled_part_runs_as_it_was_written():
    def made():
        inner = torch.compile(nn.Linear(3, 32), backend=unwanted)
        return nn.Sequential(inner, nn.ReLU(), nn.Linear(32, 1))

    def unwanted(graph, inputs):
        raise AssertionError("compiled")

    inputs = (torch.randn(2, 3), torch.randn(2, 1))
    report = measured(made, inputs, F.mse_loss, optimizer="adam", seeds=(0, 1))
    assert len(report.by_seed) == 2
    assert len(report.layers) == 2


def test_a_report_says_what_it_cost_and_where_it_fell_short():
    asked = UntilPrecise(1e-3, at_most=4, first=50)
    report = measured(make_chain, batch(), F.cross_entropy, optimizer="sgd", seeds=asked)
    assert report.seeds == (50, 51, 52, 53)
    assert report.num_passes == 4 * (
        3 + 2
    )  # a gradient, as three, and the two ends of a difference
    assert "4 seeds (50 to 53), 20 forward passes" in str(report)
    assert "asked for +-0.001" in str(report)
    assert "4 seeds, the most allowed" in report.as_dict()["shortfall"]


def test_a_report_shows_itself_within_80_columns():
    torch.manual_seed(0)
    model = nn.ModuleDict({"a_module_with_a_very_long_name_indeed_it_has": chain()})
    model.forward = model["a_module_with_a_very_long_name_indeed_it_has"].forward
    report = measured(model, batch(), F.cross_entropy, optimizer="sgd", seeds=2)
    text = str(report)
    assert max(map(len, text.splitlines())) <= 80
    assert text.startswith(f"eta* = {report.eta_star:.4g}")
    rows = [line.split()[1:] for line in text.splitlines() if "…" in line.partition(" ")[0]]
    numbers = [(one.mean_square_update, *one.interval, one.second_moment) for one in report.layers]
    assert [[float(cell) for cell in row if cell != "to"] for row in rows] == [
        [float(f"{number:.4g}") for number in layer] for layer in numbers
    ]
    assert json.loads(json.dumps(report.as_dict()))["eta_star"] == report.eta_star


class FlatParameter(nn.Parameter):
    """As FullyShardedDataParallel's, by name."""


def sharded_chain(width=16):
    model = chain(width)
    model[0].weight = FlatParameter(model[0].weight.detach())
    return model


def test_a_sharded_model_is_refused_as_capture_refuses_it():
    for given in (sharded_chain(), sharded_chain):
        with pytest.raises(MeasureError, match=r"sharded model.*FlatParameter") as refused:
            measured(given, batch(), F.cross_entropy, optimizer="sgd")
        assert "before fully_shard" in str(refused.value)
