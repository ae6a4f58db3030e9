"""What is refused leaves no store behind; a slip is mended in place; waiting is said."""

import os

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from etastar.cli import app
from etastar.errors import StorageError, TrialError
from etastar.sources.stored_optima import read_store
from etastar.sweep.recipe import Point, Recipe, recipe_settings
from etastar.sweep.storage import OptunaStore
from etastar.sweep.study import run_sweep
from etastar.sweep.trial import TrialRecord

LOCATIONS = ["{}/runs.log", "sqlite:///{}/runs.db"]
SIZE = {"depth": 2}


def chain(depth):
    return nn.Sequential(*(nn.Linear(2, 2) for _ in range(depth)))


def recipe(make_model=chain, target=0.0, **settings):
    return Recipe(
        make_model=make_model,
        batches=lambda seed: [(torch.ones(4, 2), torch.full((4, 2), target))] * 3,
        loss_fn=nn.functional.mse_loss,
        make_optimizer=lambda model, lr, **size: torch.optim.SGD(model.parameters(), lr),
        num_steps=3,
        batch_size=4,
        settings=settings,
    )


def raising(depth):
    raise ZeroDivisionError("no network")


REFUSED = {
    "a network that raises": (recipe(raising), {"search": [0.1]}),
    "no start": (recipe(target=float("nan")), {}),
    "lambdas for processes": (recipe(), {"search": [0.1], "workers": 2}),
}


@pytest.mark.parametrize("location", LOCATIONS)
@pytest.mark.parametrize("case", REFUSED)
def test_it_leaves_no_store(case, location, tmp_path):
    wrong, options = REFUSED[case]
    with pytest.raises(TrialError):
        run_sweep(wrong, [SIZE], storage=location.format(tmp_path), **options)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("location", LOCATIONS)
def test_reading_a_store_that_is_not_there_makes_none(location, tmp_path):
    with pytest.raises(StorageError, match="without a run"):
        read_store(location.format(tmp_path))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("location", LOCATIONS)
def test_a_store_without_the_name_lists_those_that_it_holds(location, tmp_path):
    for name in ("wide", "narrow"):
        run_sweep(
            recipe(), [SIZE], storage=location.format(tmp_path), search=[0.1], seeds=1, name=name
        )
    with pytest.raises(StorageError, match="without a run of 'sweep'; it holds 'narrow', 'wide'"):
        read_store(location.format(tmp_path))


@pytest.mark.parametrize("location", LOCATIONS)
def test_a_slip_is_mended_in_the_same_store_and_its_depth_with_it(location, tmp_path):
    where = {"storage": location.format(tmp_path), "search": [0.1, 0.2], "seeds": 1}

    def stopping(depth):
        if torch.initial_seed() != 0 or os.listdir(tmp_path):
            raise KeyboardInterrupt
        return chain(depth + 5)

    with pytest.raises(KeyboardInterrupt):
        run_sweep(recipe(stopping, model="slip"), [SIZE], **where)
    assert os.listdir(tmp_path) != []
    found = run_sweep(recipe(model="chain"), [SIZE], **where)
    assert dict(found.settings)["model"] == "chain"
    with OptunaStore(where["storage"]) as store:
        assert store.depth((("depth", 2),)) == 2
    with pytest.raises(StorageError, match="another experiment"):
        run_sweep(recipe(model="slip"), [SIZE], **where)


def test_the_host_that_is_waited_for_is_said(tmp_path, monkeypatch):
    from etastar.sweep import study

    path, size, seen = tmp_path / "runs.log", (("depth", 2),), []
    with OptunaStore(path) as other:
        other.open(recipe_settings(recipe()))
        other._holder = "gpu3 123 elsewhere of-this-test"
        (point,) = other.begin(size, [Point(0.1, 0)])
        ended = TrialRecord(size, point, 7.0, (7.0,), False, 3, 1.0)
        monkeypatch.setattr(study.time, "sleep", lambda _: other.finish(ended))
        run_sweep(recipe(), [SIZE], search=[0.1], seeds=1, storage=path, on_progress=seen.append)
    lines = [progress.waiting for progress in seen if progress.waiting]
    assert len(lines) == 1
    assert "gpu3 (process 123)" in lines[0]


def test_the_command_says_once_whom_it_waits_for(capsys):
    from dataclasses import replace

    from etastar.cli.sweep_command import progress_lines
    from etastar.sweep.result import Progress

    progress = Progress((("depth", 2),), ())
    with progress_lines("runs.log") as show:
        for seconds in (1, 2, 3):
            show(replace(progress, waiting=f"waits for lr=0.1 on gpu3; silent for {seconds} s"))
    assert capsys.readouterr().err.count("silent for 1 s\n") == 1


def test_a_limit_for_runs_of_this_process_is_refused_with_what_to_do(tmp_path):
    words = "--sizes depth=2 --data digits --optimizer sgd --lr 0.1 --run-timeout 5".split()
    where = ["--storage", f"{tmp_path}/runs.log"]
    result = CliRunner().invoke(app, ["sweep", "zoo:mlp", *words, *where])
    assert result.exit_code == 2
    assert "--workers 1" in result.output
    assert os.listdir(tmp_path) == []


def test_a_size_with_a_run_that_was_stopped_is_flagged():
    from etastar.sweep.executors import Executor

    class Slow(Executor):
        run_timeout = 5

        def run(self, recipe, size, points):
            for point in points:
                good = TrialRecord(size, point, point.lr**2, (1.0,), False, 3, 1.0)
                yield self._over_time(size, point, "cpu") if point.lr > 0.25 else good

    found = run_sweep(recipe(), [SIZE], search=[0.1, 0.2, 0.3], seeds=1, workers=Slow())
    assert found.sizes[0].flags == ("edge", "stopped")
    assert (found.sizes[0].num_diverged, found.sizes[0].num_stopped) == (0, 1)
    shown = " ".join(f"{found} {found.sizes[0].optimum}".split())
    assert "stopped: by --run-timeout" in shown
    assert "stopped runs: 1" in shown
    assert "diverged" not in shown
    assert found.sizes[0].optimum.lr < 0.25
    assert [trial.get("failed", "") for trial in found.as_dict()["trials"]] == [
        "",
        "",
        "stopped, as it took longer than 5 s",
    ]
