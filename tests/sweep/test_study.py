"""Sweeps: continued where they stopped, shared, and told apart."""

import json
from math import inf, log, nan

import numpy as np
import pytest
import torch
from torch import nn

from etastar.errors import StorageError, TrialError
from etastar.fit import find_optimum
from etastar.sweep.executors import Executor, Sequential
from etastar.sweep.recipe import Point, Recipe, recipe_settings
from etastar.sweep.result import loss_table, size_optimum
from etastar.sweep.search.base import Grid
from etastar.sweep.search.bracket import Bracket
from etastar.sweep.storage import MemoryStore, OptunaStore
from etastar.sweep.study import run_sweep
from etastar.sweep.trial import TrialRecord, run_trial

SIZES = [{"depth": 2}, {"depth": 4}]
LRS = [0.1, 0.2, 0.4, 0.8]


class Landscape(Executor):
    """Runs nothing: the loss is a parabola in log lr around 0.3 / depth; counts its points."""

    max_points = 2

    def __init__(self, stop_after=inf, diverge_above=inf):
        self.ran, self.stop_after, self.diverge_above = [], stop_after, diverge_above

    def run(self, recipe, size, points):
        for point in points:
            if len(self.ran) >= self.stop_after:
                raise KeyboardInterrupt
            self.ran.append((size, point))
            depth, diverged = dict(size)["depth"], point.lr > self.diverge_above
            loss = inf if diverged else log(point.lr * depth / 0.3) ** 2 + 0.01 * point.seed
            yield TrialRecord(size, point, loss, (1.0, loss), diverged, 5, 1.0)


def recipe(
    num_steps=5, settings=(("model", "none"),), make_model=nn.Linear, **changes
):  # a fake run makes none
    plain = {
        "make_model": make_model,
        "batches": lambda seed: [(torch.ones(4, 2), torch.zeros(4, 1))] * num_steps,
        "loss_fn": nn.functional.mse_loss,
        "make_optimizer": lambda model, lr, **size: torch.optim.SGD(model.parameters(), lr),
        "num_steps": num_steps,
        "batch_size": 4,
        "settings": dict(settings),
        "depth": lambda depth, **others: depth,
    }
    return Recipe(**{**plain, **changes})


def linear(depth):
    return nn.Linear(2, 1)


def test_a_grid_runs_every_point_once_and_finds_each_size_s_optimum():
    executor = Landscape()
    result = run_sweep(recipe(), SIZES, search=LRS, seeds=(0, 1), workers=executor)
    wanted = {((("depth", d),), Point(lr, s)) for d in (2, 4) for lr in LRS for s in (0, 1)}
    assert set(executor.ran) == wanted
    assert len(executor.ran) == len(wanted)
    assert result.steps == 5 * len(wanted)
    assert [optimum.lr for optimum in result.optima.values()] == pytest.approx([0.15, 0.1], 0.05)
    assert [size.flags for size in result.sizes] == [(), ("edge",)]


@pytest.mark.parametrize("search", [Grid(tuple(LRS)), Bracket(start=0.02)])
@pytest.mark.parametrize("stop_after", [0, 1, 5, 11])
def test_an_interrupted_sweep_continues_and_runs_nothing_twice(tmp_path, search, stop_after):
    given = {"search": search, "seeds": (0, 1)}
    alone = run_sweep(recipe(), SIZES, workers=Landscape(), **given)
    first, second, third = Landscape(stop_after), Landscape(), Landscape()
    path = tmp_path / "runs.log"
    with pytest.raises(KeyboardInterrupt):
        run_sweep(recipe(), SIZES, workers=first, storage=path, **given)
    resumed = run_sweep(recipe(), SIZES, workers=second, storage=path, **given)
    assert resumed == alone
    assert len(first.ran) == stop_after
    assert sorted(first.ran + second.ran) == sorted((t.size, t.point) for t in alone.trials)
    assert run_sweep(recipe(), SIZES, workers=third, storage=path, **given) == alone
    assert third.ran == []


def test_the_runs_of_a_narrower_grid_are_used_and_count():
    store, executor = MemoryStore(), Landscape()
    run_sweep(recipe(), SIZES, search=[0.05, *LRS], seeds=[0], workers=executor, storage=store)
    wider = run_sweep(recipe(), SIZES, search=[*LRS[:2], 1.6], workers=executor, storage=store)
    assert len(set(executor.ran)) == len(executor.ran)
    assert {trial.point.lr for trial in wider.trials} == {0.05, *LRS, 1.6}
    assert wider.sizes[1].flags == ()


def test_a_search_knows_the_sizes_before_and_the_depths():
    seen = []

    class Watching(Grid):
        def propose(self, finished, context):
            seen.append(context)
            return super().propose(finished, context)

    depths = {(("depth", 2),): 9.0, (("depth", 4),): 11.0}
    asked = recipe(depth=lambda depth: depth + 7.0)
    store = MemoryStore()
    result = run_sweep(asked, SIZES, search=Watching(LRS), workers=Landscape(), storage=store)
    assert {size: store.depth(size) for size in depths} == depths
    assert seen[0].optima == ()
    assert seen[-1].optima == (((("depth", 2),), result.sizes[0].optimum),)
    assert dict(seen[-1].depths) == depths


def test_points_of_another_process_are_waited_for_and_not_run(tmp_path, monkeypatch):
    from etastar.sweep import study

    path, size, waits = tmp_path / "runs.log", (("depth", 2),), []
    other, executor = OptunaStore(path), Landscape()
    other.open(recipe_settings(recipe()))
    theirs = other.begin(size, [Point(0.1, 0), Point(0.4, 0)])

    def finish_one(seconds):
        waits.append(seconds)
        point = theirs[len(waits) - 1]
        other.finish(TrialRecord(size, point, 7.0, (7.0,), False, 5, 1.0))

    monkeypatch.setattr(study.time, "sleep", finish_one)
    result = run_sweep(recipe(), SIZES[:1], search=LRS, seeds=[0], workers=executor, storage=path)
    assert [point.lr for _, point in executor.ran] == [0.2, 0.8]
    assert waits == sorted(waits)
    assert len(waits) == 2
    assert [trial.loss == 7.0 for trial in result.trials] == [True, False, True, False]
    other.close()


def test_another_budget_is_another_recipe(tmp_path):
    path = tmp_path / "runs.log"
    run_sweep(recipe(), SIZES, search=LRS, workers=Landscape(), storage=path)
    with pytest.raises(StorageError, match=r"budget.num_steps is '5' there and '6' here"):
        run_sweep(recipe(6), SIZES, search=LRS, workers=Landscape(), storage=path)


def test_progress_counts_steps_and_shows_the_bracket():
    shown = []
    run_sweep(
        recipe(), SIZES[:1], search=LRS, seeds=[0], workers=Landscape(), on_progress=shown.append
    )
    last = shown[-1]
    assert (len(last.records), last.steps, last.done) == (4, 20, True)
    assert str(last).startswith("depth=2  0.1 to 0.4  lowest ")
    assert str(last).endswith(" at 0.2")
    assert [p.steps for p in shown] == sorted(p.steps for p in shown)
    assert {p.steps for p in shown} == {0, 5, 10, 15, 20}
    assert (str(shown[0]), shown[0].records) == ("depth=2  ? to ?", ())


def test_a_sweep_of_which_every_rate_diverges_says_so():
    result = run_sweep(recipe(), SIZES, search=LRS, workers=Landscape(diverge_above=0.0))
    assert [size.flags for size in result.sizes] == [("diverged", "no optimum")] * 2
    shown = json.loads(json.dumps(result.as_dict(), allow_nan=False))
    assert shown["optima"][0]["lr"] is None
    assert (shown["trials"][0]["loss"], shown["trials"][0]["finite"]) == (None, False)
    assert shown["trials"][0]["losses"] == [1.0, None]


def test_the_data_has_an_entry_per_run_and_says_the_same_as_the_sizes():
    result = run_sweep(recipe(), SIZES, search=LRS, workers=Landscape(diverge_above=0.5))
    runs = result.as_dict()["trials"]
    assert len(runs) == 16
    assert [run["size"]["depth"] for run in runs if run["diverged"]] == [2, 2, 4, 4]
    assert sum(run["steps"] for run in runs) == result.steps == result.as_dict()["steps"]
    assert [one["flags"] for one in result.as_dict()["optima"]] == [
        ["diverged"],
        ["edge", "diverged"],
    ]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"search": None}, "search"),
        ({"search": "guess"}, "search"),
        ({"search": 3}, "search"),
        ({"search": []}, "rates"),
        ({"seeds": ()}, "seeds"),
        ({"seeds": (1, 1)}, "seeds"),
        ({"seeds": 0}, "seeds"),
        ({"seeds": "ab"}, "seeds"),
        ({"seeds": None}, "seeds"),
        ({"sizes": []}, "sizes"),
        ({"sizes": None}, "sizes"),
        ({"sizes": 3}, "sizes"),
        ({"sizes": [None]}, "the size None"),
        ({"sizes": [{1: 2, "a": 3}]}, "the size"),
        ({"sizes": [{"depth": 2.5}]}, "the size"),
        ({"sizes": {"depth": 2}}, "sizes"),
        ({"sizes": [{"depth": 2}, (("depth", 2),)]}, "sizes"),
        ({"workers": -1}, "workers"),
        ({"workers": "two"}, "workers"),
        ({"on_progress": 3}, "on_progress"),
    ],
)
def test_what_makes_no_sweep_is_refused(changes, message):
    given = {"sizes": SIZES, "search": LRS, "workers": Landscape(), **changes}
    with pytest.raises(TrialError, match=message):
        run_sweep(recipe(), given.pop("sizes"), **given)


def test_what_is_no_recipe_or_no_storage_is_refused():
    with pytest.raises(TrialError, match="a Recipe"):
        run_sweep({"make_model": linear}, SIZES)
    with pytest.raises(StorageError, match="storage=3"):
        run_sweep(recipe(), SIZES, storage=3, workers=Landscape())


def test_a_make_optimizer_that_cannot_be_told_the_size_is_refused_before_anything_runs():
    executor = Landscape()
    old = recipe(make_optimizer=lambda model, lr: None)
    with pytest.raises(TrialError, match=r"add \*\*size"):
        run_sweep(old, SIZES, workers=executor)
    assert executor.ran == []


def test_a_number_of_seeds_is_that_of_the_first_ones():
    given = {"search": LRS, "workers": Landscape()}
    assert run_sweep(recipe(), SIZES, seeds=2, **given) == run_sweep(
        recipe(), SIZES, seeds=[0, 1], **given
    )


def test_the_result_shows_itself_in_80_columns_and_cuts_no_number():
    sizes = [{"a_long_name_of_a_setting": 12345, "depth": d, "width": 16384} for d in (2, 4)]
    shown = str(run_sweep(recipe(), sizes, search=LRS, workers=Landscape(diverge_above=0.5)))
    assert max(map(len, shown.splitlines())) <= 80
    assert "\N{HORIZONTAL ELLIPSIS}" not in shown
    assert "80 steps in all" in shown
    assert "diverged" in shown
    one_seed = run_sweep(recipe(), SIZES, search=LRS, seeds=1, workers=Landscape())
    assert "one seed" in str(one_seed)
    assert "no optimum" in str(
        run_sweep(recipe(), SIZES, search=[0.1], workers=Landscape(diverge_above=0.0))
    )


def test_a_factory_that_raises_is_named_before_a_run_and_finished_ones_stay(tmp_path):
    def make_model(depth):
        if depth > 2:
            raise RuntimeError("too deep")
        return linear(depth)

    path = tmp_path / "runs.log"
    tried = recipe(make_model=make_model, depth=None)
    with pytest.raises(TrialError, match="the network of depth=4: RuntimeError: too deep"):
        run_sweep(tried, SIZES, search=LRS, storage=path)
    assert not path.exists()
    run_sweep(tried, SIZES[:1], search=LRS, storage=path)
    with pytest.raises(TrialError, match="the network of depth=4: RuntimeError: too deep"):
        run_sweep(tried, SIZES, search=LRS, storage=path)
    assert len(OptunaStore(path).records((("depth", 2),))) == 8


def test_sequential_runs_agree_with_run_trial_and_leave_random_numbers_alone():
    before = torch.random.get_rng_state()
    points = [Point(0.1, 3), Point(0.2, 0)]
    tried, size = recipe(make_model=linear), (("depth", 1),)
    records = list(Sequential().run(tried, size, points))
    assert records == [run_trial(tried, size, point) for point in points]
    assert [record.point for record in records] == points
    assert torch.equal(torch.random.get_rng_state(), before)
    assert dict(records[0].versions)["torch"] == torch.__version__


@pytest.mark.parametrize("objective", ["mean", "final", "validation"])
def test_the_loss_is_that_of_the_objective(objective):
    changes = {"objective": objective, "evaluate": lambda model: 42.0}
    tried = recipe(10, make_model=linear, **changes)
    record = run_trial(tried, (("depth", 1),), Point(0.05, 0))
    wanted = {
        "mean": np.mean(record.losses),
        "final": record.losses[-1],
        "validation": 42.0,
    }
    assert record.loss == pytest.approx(wanted[objective], rel=1e-12)
    assert run_trial(tried, (("depth", 1),), Point(1e6, 0)).loss == inf


def test_batches_draw_from_the_run_s_own_random_numbers():
    def batches(seed):
        return [(torch.randn(4, 2), torch.randn(4, 1)) for _ in range(5)]

    tried, size = recipe(make_model=linear, batches=batches), (("depth", 1),)
    first = run_trial(tried, size, Point(0.1, 0))
    torch.rand(3)
    assert run_trial(tried, size, Point(0.1, 0)) == first
    assert run_trial(tried, size, Point(0.1, 1)).losses != first.losses


def runs(cells):
    return [
        TrialRecord((("depth", 1),), Point(lr, seed), loss, (loss,), loss == inf, 1, 1.0)
        for (lr, seed), loss in cells.items()
    ]


def test_complete_tables_give_find_optimum_s_answer():
    losses = np.random.default_rng(0).random((5, 3))
    lrs = 0.1 * 2.0 ** np.arange(5)
    cells = {(lr, s): losses[i, s] for i, lr in enumerate(lrs.tolist()) for s in range(3)}
    assert size_optimum(runs(cells)) == find_optimum(lrs, losses)


def test_seeds_that_differ_by_a_constant_do_not_bend_a_curve_with_gaps():
    curve = {0.1: 4.0, 0.2: 1.0, 0.4: 0.5, 0.8: 1.5, 1.6: 6.0}
    offsets = (0.0, -3.0, 2.0)
    full = {(lr, s): loss + offsets[s] for lr, loss in curve.items() for s in range(3)}
    gaps = {cell: loss for cell, loss in full.items() if cell[1] == 0 or cell[0] in (0.2, 0.4, 0.8)}
    assert np.allclose(loss_table(runs(gaps))[1], loss_table(runs(full))[1], atol=1e-12)
    assert size_optimum(runs(gaps)).lr == pytest.approx(size_optimum(runs(full)).lr, rel=1e-9)


def test_a_rate_with_a_diverged_or_nan_run_stays_infinite():
    cells = {(0.1, 0): 1.0, (0.1, 1): 1.5, (0.2, 0): inf, (0.4, 0): nan, (0.4, 1): 1.0}
    _, losses = loss_table(runs(cells))
    assert np.isinf(losses.mean(1)).tolist() == [False, True, True]


def test_seeds_without_a_common_rate_are_left_out_and_no_runs_have_no_optimum():
    cells = {(0.1, 0): 1.0, (0.2, 0): 0.5, (0.4, 0): 1.0, (0.8, 1): -9.0}
    lrs, losses = loss_table(runs(cells))
    assert (lrs.tolist(), losses.shape) == ([0.1, 0.2, 0.4], (3, 1))
    assert size_optimum([]) is None
    assert size_optimum(runs({(0.1, 0): inf})) is None
