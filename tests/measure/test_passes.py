"""The later passes of a measurement are replayed, unless the model takes another way."""

import pytest
import torch
from torch import nn

from etastar.errors import MeasureError
from etastar.measure import measure_update
from etastar.measure.batch import read_batch
from etastar.measure.passes import Passes, moved_along


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


def test_a_model_that_takes_another_way_is_recorded_anew(monkeypatch):
    recorded = count_recordings(monkeypatch)
    torch.manual_seed(0)
    model, batch = Alternating(), (torch.randn(5, 3), torch.randn(5, 1))
    loss_fn = nn.functional.mse_loss
    found = measure_update(model, batch, loss_fn, optimizer="sgd")
    assert len(recorded) == 2
    steady = nn.Sequential(model.first, Square(), model.last)
    same = measure_update(steady, batch, loss_fn, optimizer="sgd")
    assert len(recorded) == 3
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
