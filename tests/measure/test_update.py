"""The criterion: closed forms, what it leaves untouched, and its settings."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from etastar.errors import CaptureError, MeasureError
from etastar.measure import measure_update, update

METHODS = ["forward", "differences", "exact"]


def total(output, _):
    return output.sum()


def chain(depth=3, width=16, act=nn.ReLU):
    layers = [m for _ in range(depth) for m in (nn.Linear(width, width), act())]
    return nn.Sequential(*layers, nn.Linear(width, 4))


def make_chain():
    return chain()


def batch(width=16, examples=5):
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(examples, width, generator=generator)
    return inputs, torch.randint(4, (examples,), generator=generator)


def state_of(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("x", [0.5, 2.0, 3.0])
def test_one_weight_has_a_closed_form(method, x):
    """z = w x, loss = z: the step is -eta x, and z changes by -eta x^2."""
    model = nn.Linear(1, 1, bias=False)
    report = measure_update(
        model, (torch.full((1, 1), x), None), total, optimizer="sgd", method=method
    )
    assert report.method == method
    assert report.mean_square_update == pytest.approx(x**4, rel=0.02)
    assert report.eta_star == pytest.approx(x**-2, rel=0.01)
    assert report.predicted(report.eta_star) == pytest.approx(1.0)


def test_two_layers_have_a_closed_form():
    """z1 = a x, z2 = b z1, loss = z2: dz1 = -b x^2, dz2 = -(b^2 + a^2) x^2 ... for x = 1."""
    model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False))
    a, b, x = 0.7, -1.3, 1.5
    with torch.no_grad():
        model[0].weight.fill_(a)
        model[1].weight.fill_(b)
    inputs = (torch.full((1, 1), x), None)
    report = measure_update(model, inputs, total, optimizer="sgd", method="forward")
    first, second = (layer.mean_square_update for layer in report.layers)
    assert first == pytest.approx((b * x**2) ** 2, rel=1e-5)
    assert second == pytest.approx(((b**2 + a**2) * x**2) ** 2, rel=1e-5)
    assert report.mean_square_update == pytest.approx((first + second) / 2)
    assert [layer.module for layer in report.layers] == ["0", "1"]
    hidden = measure_update(model, inputs, total, optimizer="sgd", pre_activations="hidden")
    assert [layer.name for layer in hidden.layers] == ["0.weight"]


def test_the_first_step_of_adam_has_unit_size():
    model = nn.Linear(3, 1, bias=False)
    inputs = torch.tensor([[1.0, -2.0, 4.0]])
    report = measure_update(model, (inputs, None), total, optimizer="adam", method="forward")
    assert report.mean_square_update == pytest.approx(7.0**2, rel=1e-4)


def test_constant_c_scales_the_rate():
    one = measure_update(chain(), batch(), F.cross_entropy, optimizer="sgd")
    four = measure_update(chain(), batch(), F.cross_entropy, optimizer="sgd", c=4.0)
    assert one.c == 1.0
    assert four.eta_star == pytest.approx(2 * math.sqrt(1 / four.mean_square_update))


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


@pytest.mark.parametrize("method", ["forward", "differences"])
def test_the_stream_is_measured_after_every_addition(method):
    torch.manual_seed(0)
    model = Residual()
    inputs = torch.randn(2, 8)
    found = measure_update(
        model, (inputs, None), total, optimizer="sgd", pre_activations="stream", method=method
    )
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
    measure_update(model, (inputs, targets), F.cross_entropy, optimizer=optimizer)
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
    report = measure_update(model, (inputs, None), total, optimizer=optimizer)
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

    found = measure_update(model, inputs, total, optimizer=grouped)
    alone = measure_update(model, inputs, total, optimizer=only_first)
    moved = measure_update(model, inputs, total, optimizer="sgd", moves=["0.weight"])
    assert found.eta_star == pytest.approx(alone.eta_star)
    assert found.eta_star == pytest.approx(moved.eta_star)
    told = measure_update(model, inputs, total, optimizer=grouped, lr_unit=0.6)
    assert told.eta_star == pytest.approx(2 * found.eta_star)


def test_several_optimizers_step_together():
    torch.manual_seed(0)
    model = chain(width=16)

    def muon(model):
        matrices = [p for p in model.parameters() if p.ndim == 2]
        others = [p for p in model.parameters() if p.ndim != 2]
        return torch.optim.Muon(matrices, lr=0.02), torch.optim.AdamW(others, lr=0.01)

    found = measure_update(model, batch(), F.cross_entropy, optimizer=muon)
    differences = measure_update(
        model, batch(), F.cross_entropy, optimizer=muon, method="differences"
    )
    assert found.mean_square_update > 0
    assert differences.mean_square_update == pytest.approx(found.mean_square_update, rel=0.02)


def test_a_rate_too_small_for_float32_is_measured_all_the_same():
    torch.manual_seed(0)
    model = chain()

    def tiny(model):
        return torch.optim.SGD(model.parameters(), lr=1e-9, momentum=0.9)

    found = measure_update(model, batch(), F.cross_entropy, optimizer=tiny)
    plain = measure_update(model, batch(), F.cross_entropy, optimizer="sgd")
    assert found.eta_star == pytest.approx(plain.eta_star, rel=1e-3)


def test_bfloat16_weights_are_measured_in_float32():
    torch.manual_seed(0)
    model = chain().to(torch.bfloat16)
    inputs, targets = batch()
    low = measure_update(
        model, (inputs.to(torch.bfloat16), targets), F.cross_entropy, optimizer="sgd"
    )
    same = copy.deepcopy(model).float()
    high = measure_update(
        same, (inputs.to(torch.bfloat16).float(), targets), F.cross_entropy, optimizer="sgd"
    )
    assert low.eta_star == pytest.approx(high.eta_star)
    assert next(model.parameters()).dtype == torch.bfloat16


def test_a_tied_weight_moves_once():
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

    forward = measure_update(model, (ids, ids), loss, optimizer="sgd", method="forward")
    by_steps = measure_update(model, (ids, ids), loss, optimizer="sgd", method="differences")
    assert len(forward.layers) == 2
    assert forward.eta_star == pytest.approx(by_steps.eta_star, rel=0.01)


def test_what_has_no_forward_mode_is_measured_by_differences():
    class Cut(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return 2 * x

        @staticmethod
        def backward(ctx, gradient):
            return 2 * gradient

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 1)

        def forward(self, x):
            return self.second(Cut.apply(self.first(x)))

    torch.manual_seed(0)
    model, inputs = Model(), (torch.ones(1, 4), None)
    report = measure_update(model, inputs, total, optimizer="sgd", method="forward")
    assert report.method == "differences"
    assert "forward mode" in report.note
    asked = measure_update(model, inputs, total, optimizer="sgd")
    assert asked.note == ""
    assert asked.eta_star == pytest.approx(report.eta_star, rel=1e-3)  # one-sided


def test_what_pytorch_itself_fails_at_in_forward_mode_is_measured_by_differences(monkeypatch):
    def failing(*args, **kwargs):
        raise RuntimeError("0 INTERNAL ASSERT FAILED at PythonFallbackKernel.cpp")

    monkeypatch.setattr(update, "by_forward_mode", failing)
    report = measure_update(chain(), batch(), F.cross_entropy, optimizer="sgd", method="forward")
    assert report.method == "differences"
    assert "INTERNAL ASSERT" in report.note


def test_a_forward_pass_that_raises_is_not_taken_for_one_without_forward_mode():
    model = chain()
    calls = []

    def later(*_):
        calls.append(1)
        if len(calls) > 1:
            raise ValueError("broken")

    model[0].register_forward_pre_hook(later)
    with pytest.raises(CaptureError, match="broken"):
        measure_update(model, batch(), F.cross_entropy, optimizer="sgd", method="forward")


def test_seeds_give_intervals_that_hold_the_mean():
    report = measure_update(make_chain, batch(), F.cross_entropy, optimizer="sgd", seeds=range(5))
    low, high = report.eta_star_interval
    assert low < report.eta_star < high
    assert report.mean_square_update == pytest.approx(sum(report.by_seed) / 5)
    assert len(set(report.by_seed)) == 5
    again = measure_update(make_chain, batch(), F.cross_entropy, optimizer="sgd", seeds=range(5))
    assert again == report
    one = measure_update(make_chain, batch(), F.cross_entropy, optimizer="sgd", seeds=[3])
    assert one.by_seed == report.by_seed[3:4]
    assert one.eta_star_interval is None


def test_the_finite_step_makes_exactly_the_change_that_is_allowed():
    torch.manual_seed(0)
    model, (inputs, targets) = chain(act=nn.Tanh), batch()
    report = measure_update(
        model, (inputs, targets), F.cross_entropy, optimizer="sgd", method="exact", c=0.25
    )
    before = outputs(model, inputs)
    F.cross_entropy(model(inputs), targets).backward()
    torch.optim.SGD(model.parameters(), lr=report.eta_star).step()
    changes = [(a - b).square().mean() for a, b in zip(outputs(model, inputs), before, strict=True)]
    assert float(sum(changes) / len(changes)) == pytest.approx(0.25, rel=0.02)


def outputs(model, inputs):
    found = []
    with torch.no_grad():
        for layer in model:
            inputs = layer(inputs)
            if isinstance(layer, nn.Linear):
                found.append(inputs)
    return found


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"optimizer": "lion"}, "lion"),
        ({"optimizer": 3}, "int"),
        ({"pre_activations": "all"}, "layers, hidden, stream"),
        ({"method": "magic"}, "differences, forward"),
        ({"c": 0.0}, "c=0.0"),
        ({"seeds": ()}, "seeds"),
        ({"after": 3}, "batches"),
        ({"lr": 0.1}, "after"),
        ({"moves": ["nothing"]}, "changes no parameter"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    arguments = {"optimizer": "sgd", **settings}
    with pytest.raises(MeasureError, match=message):
        measure_update(chain(), batch(), F.cross_entropy, **arguments)


def test_bad_batches_losses_and_models_are_refused():
    with pytest.raises(MeasureError, match="batch given as"):
        measure_update(chain(), torch.ones(2, 16), total, optimizer="sgd")
    with pytest.raises(MeasureError, match="one number"):
        measure_update(chain(), batch(), lambda out, _: out, optimizer="sgd")
    with pytest.raises(MeasureError, match="without a loss"):
        measure_update(chain(), batch(), optimizer="sgd")
    with pytest.raises(MeasureError, match="requires_grad"):
        measure_update(
            chain().requires_grad_(False), batch(), F.cross_entropy, optimizer=frozen_sgd
        )
    other = chain()
    with pytest.raises(MeasureError, match="another model"):
        measure_update(chain(), batch(), F.cross_entropy, optimizer=lambda _: frozen_sgd(other))
    with pytest.raises(MeasureError, match="no closure"):
        measure_update(
            chain(), batch(), F.cross_entropy, optimizer=lambda m: torch.optim.LBFGS(m.parameters())
        )
    optimizer = frozen_sgd(other)
    with pytest.raises(MeasureError, match="exists already"):
        measure_update(make_chain, batch(), F.cross_entropy, optimizer=optimizer)


def frozen_sgd(model):
    return torch.optim.SGD(model.parameters(), lr=1.0)


def test_seeds_that_change_the_architecture_are_refused():
    def fickle():
        return chain(depth=int(torch.randint(1, 9, ())))

    with pytest.raises(MeasureError, match="same network for every seed"):
        measure_update(fickle, batch(), F.cross_entropy, optimizer="sgd", seeds=range(6))


def test_a_gradient_that_is_not_finite_allows_no_rate():
    model, x = nn.Linear(2, 2), torch.full((3, 2), 1e30)
    report = measure_update(model, (x, None), lambda out, _: (out**2).sum(), optimizer="sgd")
    assert report.eta_star == 0.0
    assert "not finite" in report.note
