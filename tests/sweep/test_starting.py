"""The measured start, on networks whose criterion is known in closed form."""

from math import inf

import pytest
import torch
from torch import nn

from etastar.errors import TrialError
from etastar.graph import capture_graph
from etastar.measure import measure_update
from etastar.sweep.recipe import Recipe, measured_start, size_depth
from etastar.sweep.search import Bracket, Grid
from etastar.sweep.study import run_sweep
from etastar.transfer import Tuned, plan_transfer


def sgd(model, lr, **size):
    return torch.optim.SGD(model.parameters(), lr)


def recipe(make_model=lambda width: nn.Linear(width, 1, bias=False), **changes):
    """One weight x input 3, loss the output: a step of lr moves the output by -9 lr."""
    plain = {
        "make_model": make_model,
        "batches": lambda seed: [(torch.full((4, 1), 3.0), torch.ones(1))] * 5,
        "loss_fn": lambda output, targets: output.mean(),
        "make_optimizer": sgd,
        "num_steps": 5,
        "batch_size": 4,
    }
    return Recipe(**{**plain, **changes})


SIZE = (("width", 1),)


def test_it_is_the_criterion_in_two_digits():
    assert measured_start(recipe(), SIZE, [0, 1]) == 0.11  # 1 / 9


def test_it_is_told_in_the_rate_that_the_optimizer_s_maker_takes():
    def halved(model, lr, **size):
        return torch.optim.SGD([{"params": list(model.parameters()), "lr": lr / 2}])

    assert measured_start(recipe(make_optimizer=halved), SIZE, [0]) == 0.22


def test_groups_of_a_plan_keep_their_ratios():
    def make(width):
        return nn.Sequential(nn.Linear(8, width), nn.ReLU(), nn.Linear(width, 3))

    x, y = torch.randn(16, 8), torch.zeros(16, dtype=torch.long)
    graphs = [capture_graph(make(width), x) for width in (8, 64)]
    plan = plan_transfer(Tuned(graphs[0], 0.1), graphs[1], optimizer="adam", law="constant")

    def by_plan(model, lr, **size):
        groups = plan.param_groups(model, from_checkpoint=True)
        return torch.optim.Adam([{**group, "lr": group["lr"] * lr / 0.1} for group in groups])

    planned = recipe(
        make,
        batches=lambda seed: [(x, y)],
        loss_fn=nn.functional.cross_entropy,
        make_optimizer=by_plan,
    )
    expected = measure_update(
        lambda: make(64),
        (x, y),
        nn.functional.cross_entropy,
        optimizer=lambda model: by_plan(model, 0.1),
        seeds=1,
        pre_activations="layers",
        lr_unit=0.1,
    )
    assert len({group["lr"] for group in plan.param_groups(make(64), from_checkpoint=True)}) > 1
    assert measured_start(planned, (("width", 64),), [0]) == float(f"{expected.eta_star:.2g}")


def test_the_batch_is_that_of_the_first_run_whatever_was_drawn_before():
    def drawn(seed):
        for _ in range(5):
            yield torch.randn(4, 1), torch.ones(1)

    random = recipe(batches=drawn)
    torch.manual_seed(5)
    first = measured_start(random, SIZE, [3])
    after = torch.rand(1).item()
    torch.manual_seed(5)
    assert torch.rand(1).item() == after, "the caller's random numbers are untouched"
    assert measured_start(random, SIZE, [3]) == first
    assert measured_start(random, SIZE, [4]) != first


def raising(width):
    raise ZeroDivisionError("in the factory")


def leaving(width):
    raise SystemExit(1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"make_model": raising}, "ZeroDivisionError: in the factory"),
        ({"make_model": leaving}, "SystemExit: 1"),
        ({"loss_fn": lambda output, targets: 0 * output.sum()}, "no start for the search of width"),
        ({"loss_fn": lambda output, targets: inf * output.sum()}, "the loss is not finite"),
        ({"make_optimizer": lambda model, lr, **size: None}, "no start for the search of width=1"),
        ({"batches": lambda *_: iter(())}, "StopIteration"),
    ],
)
def test_what_cannot_be_measured_says_so_and_what_to_do(changes, message):
    with pytest.raises(TrialError, match="give the search a start") as caught:
        measured_start(recipe(**changes), SIZE, [0])
    assert message in caught.value.received


class Parabola(nn.Module):
    """One weight w, the output w sqrt(width): curvature, and with it the best rate, by width."""

    def __init__(self, width):
        super().__init__()
        self.line, self.width = nn.Linear(1, 1, bias=False), width

    def forward(self, x):
        return self.width**0.5 * self.line(x)


def test_a_sweep_measures_where_nothing_is_known_and_nowhere_else(monkeypatch):
    asked = []

    def counted(what, size, seeds):
        asked.append((size, tuple(seeds)))
        return measured_start(what, size, seeds)

    monkeypatch.setattr("etastar.sweep.study.measured_start", counted)
    real = recipe(
        Parabola,
        batches=lambda seed: [(torch.ones(4, 1), torch.ones(1))] * 5,
        loss_fn=lambda output, targets: ((output - 1) ** 2).mean(),
    )
    sizes = [{"width": 4}, {"width": 16}]
    result = run_sweep(real, sizes, search=Bracket(), seeds=(7, 8))
    assert asked == [((("width", 4),), (7, 8))]
    start = measured_start(real, (("width", 4),), (7, 8))
    assert start in {record.point.lr for record in result.sizes[0].trials}
    assert all(one.optimum is not None and not one.optimum.at_edge for one in result.sizes)

    asked.clear()
    run_sweep(real, sizes, search=Bracket(0.1), seeds=(7,))
    run_sweep(real, sizes, search=Grid((0.1, 0.2)), seeds=(7,))
    assert not asked


def stack(depth):
    return nn.Sequential(*[nn.Linear(1, 1) for _ in range(depth)])


class Masked(nn.Module):
    """Takes keywords, and gives its own loss."""

    def __init__(self, depth):
        super().__init__()
        self.layers = stack(depth)

    def forward(self, x, labels):
        logits = self.layers(x)
        return {"loss": (logits - labels).square().mean(), "logits": logits}


def test_the_depth_of_a_size_is_captured_on_the_first_batch_or_asked():
    assert size_depth(recipe(stack), (("depth", 3),)) == 3.0
    asked = recipe(stack, depth=lambda depth: depth + 0.5)
    assert size_depth(asked, (("depth", 3),)) == 3.5
    keywords = [{"x": torch.ones(2, 1), "labels": torch.ones(2, 1)}] * 5
    own = recipe(Masked, batches=lambda seed: keywords, loss_fn=None)
    assert size_depth(own, (("depth", 2),)) == 2.0


@pytest.mark.parametrize("make_model", [raising, leaving])
def test_a_model_that_cannot_be_made_is_told_before_a_run(make_model):
    with pytest.raises(TrialError, match="the network of"):
        size_depth(recipe(make_model), SIZE)


def test_a_model_that_cannot_be_captured_has_no_depth():
    assert size_depth(recipe(lambda width: nn.Bilinear(width, 1, 1)), SIZE) is None
