"""The later passes of a measurement are replayed, unless the model takes another way."""

import math

import pytest
import torch
from torch import nn

from etastar.errors import MeasureError
from etastar.measure import measure_update
from etastar.measure.batch import read_batch
from etastar.measure.passes import Passes, moved_along
from etastar.models import build, example_inputs


class Alternating(nn.Module):
    """Squares its hidden layer by another operation on every second call of the whole process."""

    calls = 0

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(3, 4), nn.Linear(4, 1)

    def forward(self, x):
        type(self).calls += 1
        h = self.first(x)
        return self.last(h * h if type(self).calls % 2 else h.square())


def passes_of(model, x):
    return Passes(model, read_batch((x, None)), "layers", seeded=lambda: None)


def count_recordings(monkeypatch):
    from etastar.measure import passes

    recorded = []
    run = passes.run_observed
    monkeypatch.setattr(
        passes, "run_observed", lambda *args, **kwargs: recorded.append(1) or run(*args, **kwargs)
    )
    return recorded


def test_only_the_first_pass_is_recorded(monkeypatch):
    recorded = count_recordings(monkeypatch)
    model, x = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1)), torch.randn(5, 3)
    passes = passes_of(model, x)
    kept = passes.kept()
    changes, values = passes.compared(kept)
    assert recorded == [1]
    assert set(changes.values()) == {0.0}
    with torch.no_grad():
        outputs = [model[0](x), model(x)]
    moments = [values[node.index] for node in passes.nodes]
    assert moments == pytest.approx([float(output.square().mean()) for output in outputs])


def test_networks_of_other_seeds_are_not_recorded_again(monkeypatch):
    recorded = count_recordings(monkeypatch)
    batch = (torch.randn(5, 3), torch.randn(5, 1))

    def made():
        return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))

    def report(seeds):
        return measure_update(made, batch, nn.functional.mse_loss, optimizer="adamw", seeds=seeds)

    together = report((0, 1, 2))
    assert recorded == [1]
    apart = [report((seed,)).mean_square_update for seed in (0, 1, 2)]
    assert together.mean_square_update == pytest.approx(sum(apart) / 3, rel=1e-6)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("resnet", {"depth": 2, "width": 4, "batch_norm": True, "dropout": 0.2}),
        ("gpt", {"depth": 1, "width": 16, "context": 8, "vocabulary": 16, "dropout": 0.1}),
        ("vit", {"depth": 1, "width": 16}),
    ],
)
def test_a_pass_executes_the_same_with_autograd_and_without(name, options, monkeypatch):
    recorded = count_recordings(monkeypatch)
    (inputs,) = example_inputs(name, **options)
    model = build(name, **options).train()
    measure_update(
        model,
        (inputs, None),
        lambda output, _: output.square().mean(),
        optimizer="adam",
        seeds=(0, 1),
    )
    assert recorded == [1]


def test_a_model_that_takes_another_way_is_recorded_anew(monkeypatch):
    recorded = count_recordings(monkeypatch)
    torch.manual_seed(0)
    model, batch = Alternating(), (torch.randn(5, 3), torch.randn(5, 1))
    loss_fn = nn.functional.mse_loss
    found = measure_update(model, batch, loss_fn, optimizer="sgd")
    assert len(recorded) > 1
    del recorded[:]
    steady = nn.Sequential(model.first, Square(), model.last)
    same = measure_update(steady, batch, loss_fn, optimizer="sgd")
    assert recorded == [1]
    assert found.eta_star == pytest.approx(same.eta_star, rel=1e-5)


class Growing(nn.Module):
    """Has one layer more on every call of the whole process."""

    calls = 0

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, x):
        type(self).calls += 1
        for _ in range(6 - type(self).calls):
            x = self.layer(x)
        return x


def test_a_model_without_the_same_layers_on_every_pass_is_refused():
    batch = (torch.randn(5, 3), torch.randn(5, 3))
    with pytest.raises(MeasureError, match="operations differ between two passes"):
        measure_update(Growing(), batch, nn.functional.mse_loss, optimizer="sgd")


def test_outputs_are_kept_as_they_were_before_they_are_written_to():
    model = nn.Sequential(nn.Linear(3, 3), nn.ReLU(inplace=True), nn.Linear(3, 2))
    x = torch.randn(5, 3)
    passes = passes_of(model, x)
    with torch.no_grad():
        expected = [model[0](x), model(x)]
    for _ in range(2):  # recorded, and replayed
        kept = passes.kept()
        assert all(
            torch.equal(kept[node.index], output)
            for node, output in zip(passes.nodes, expected, strict=True)
        )
    assert float(expected[0].min()) < 0


def test_the_pass_of_the_gradient_gives_the_pre_activations_too():
    model = nn.Sequential(nn.Linear(3, 8), nn.ReLU(inplace=True), nn.Linear(8, 2))
    x = torch.randn(2, 3)
    passes = passes_of(model, x)
    with torch.no_grad():
        expected = [model[0](x), model(x)]
    for _ in range(2):  # recorded, and watched
        output, kept = passes.with_autograd(math.inf)
        output.sum().backward()
        with torch.no_grad():
            output.zero_()  # as a loss may do
        found = [kept[node.index] for node in passes.nodes]
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
        assert output.requires_grad
    changes, _ = passes.compared(kept)
    assert set(changes.values()) == {0.0}
    assert not kept
    assert passes.is_steady


def test_a_compiled_part_runs_as_it_was_written():
    def made():
        inner = torch.compile(nn.Linear(3, 32), backend=unwanted)
        return nn.Sequential(inner, nn.ReLU(), nn.Linear(32, 1))

    def unwanted(graph, inputs):
        raise AssertionError("compiled")

    batch = (torch.randn(2, 3), torch.randn(2, 1))
    report = measure_update(made, batch, nn.functional.mse_loss, optimizer="adam", seeds=(0, 1))
    assert len(report.by_seed) == 2
    assert len(report.layers) == 2


def test_pre_activations_that_take_too_much_memory_are_let_go_from_the_first_on():
    layers = [nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, 1)]
    model, x = nn.Sequential(*layers), torch.randn(5, 3)
    size = 4 * 5 * (4 + 4 + 1)
    for room, expected in ((size, [1, 2, 3]), (size - 1, [2, 3]), (4 * 5 * (4 + 1) - 1, [])):
        passes = passes_of(model, x)
        for _ in range(2):
            output, kept = passes.with_autograd(room)
            assert sorted(kept) == expected
            assert output.requires_grad


@pytest.mark.parametrize("is_recorded", [False, True])
def test_the_beginning_of_a_pass_gives_what_was_let_go(is_recorded, monkeypatch):
    model, x = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, 1)), torch.randn(5, 3)
    passes = passes_of(model, x)
    if is_recorded:
        passes.kept()
    with torch.no_grad():
        expected = model[0](x)
    executed = []
    forward = model[2].forward
    monkeypatch.setattr(model[2], "forward", lambda z: executed.append(1) or forward(z))
    found = passes.kept([1])
    assert list(found) == [1]
    assert torch.equal(found[1], expected)
    assert len(executed) == (not is_recorded)
    assert passes.is_steady


def test_a_model_that_takes_another_way_keeps_nothing_of_the_pass_of_the_gradient():
    torch.manual_seed(0)
    passes = passes_of(Alternating(), torch.randn(5, 3))
    assert passes.with_autograd(math.inf)[1]
    output, kept = passes.with_autograd(math.inf)
    assert not kept
    assert output.requires_grad
    assert not passes.is_steady


@pytest.mark.parametrize("beside", [{}, {"method": "forward"}, {"probe": True}, {"after": 1}])
def test_inputs_that_the_model_writes_to_stay_as_they_were(beside):
    class Adding(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 1)

        def forward(self, x):
            return self.layer(x.add_(1.0))

    x, y = torch.randn(5, 3), torch.randn(5, 1)
    before = x.clone()
    if "probe" in beside:
        beside = {"probe": (x, y)}
    elif "after" in beside:
        beside = {"after": 1, "lr": 0.1, "batches": lambda _: [(x, y), (x, y)]}
    report = measure_update(
        Adding(), (x, y), nn.functional.mse_loss, optimizer="sgd", seeds=(0, 1), **beside
    )
    assert torch.equal(x, before)
    assert report.by_seed[0] == report.by_seed[1]


class Square(nn.Module):
    def forward(self, x):
        return x.square()


def fail_while_moved(model):
    with moved_along(model, {"weight": torch.ones(2, 2)}) as move_to:
        move_to(0.5)
        move_to(-0.25)
        raise RuntimeError(float(model.weight.detach().sum()))


def test_a_moved_model_is_put_back_after_an_error_too():
    model = nn.Linear(2, 2)
    before, place = model.weight.detach().clone(), model.weight.data_ptr()
    with pytest.raises(RuntimeError) as error:
        fail_while_moved(model)
    assert error.value.args[0] == pytest.approx(float(before.sum()) - 1.0, abs=1e-6)
    assert torch.equal(model.weight, before)
    assert model.weight.data_ptr() == place
