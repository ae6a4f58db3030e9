"""Optuna's samplers behind the protocol."""

import math
import sys

import optuna
import pytest

from etastar.errors import MissingExtraError, TrialError
from etastar.sweep.record import TrialRecord
from etastar.sweep.search import Context, OptunaSearch
from etastar.sweep.search.optuna_search import SAMPLERS

SIZE = (("depth", 2),)


def drive(search, loss, seeds=(0,)):
    context, records = Context(SIZE, seeds, (), 10), []
    while points := search.propose(records, context):
        records += [TrialRecord(SIZE, p, loss(p), (1.0,), False, 10, 1.0) for p in points]
    return records


def parabola(point):
    return math.log(point.lr / 0.1) ** 2


def test_the_rates_are_those_of_an_undisturbed_study():
    sampler = optuna.samplers.TPESampler(seed=5)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=sampler)
    expected = []
    for _ in range(15):
        trial = study.ask()
        expected.append(trial.suggest_float("lr", 1e-3, 10.0, log=True))
        study.tell(trial, math.log(expected[-1] / 0.1) ** 2)
    records = drive(OptunaSearch(1e-3, 10.0, num_trials=15, seed=5), parabola)
    assert [record.point.lr for record in records] == expected


@pytest.mark.parametrize("sampler", ["tpe", "random", "qmc"])
@pytest.mark.parametrize("loss", [math.inf, math.nan, 1.0])
def test_samplers_end_on_losses_that_say_nothing(sampler, loss):
    search = OptunaSearch(1e-3, 10.0, num_trials=11, sampler=sampler)
    assert len(drive(search, lambda point: loss)) == 11


def test_a_diverged_rate_counts_as_the_worst_so_far_however_it_diverged():
    def rates(bad):
        search = OptunaSearch(1e-3, 10.0, num_trials=14, sampler_options={"n_startup_trials": 4})
        records = drive(search, lambda point: bad if point.lr > 0.5 else parabola(point))
        assert any(record.loss is bad for record in records)
        return [record.point.lr for record in records]

    assert rates(math.nan) == rates(math.inf)


def test_the_gaussian_process_finds_a_parabola():
    records = drive(OptunaSearch(1e-3, 10.0, num_trials=12, sampler="gp"), parabola)
    assert min(record.loss for record in records) < 0.05


def test_a_rate_is_run_with_all_seeds_and_batches_side_by_side():
    search = OptunaSearch(1e-3, 10.0, num_trials=5, batch_size=2)
    points = search.propose((), Context(SIZE, (4, 9), (), 10))
    assert len({point.lr for point in points}) == 2
    assert [point.seed for point in points] == [4, 9, 4, 9]
    assert len(drive(search, parabola, seeds=(4, 9))) == 10


def test_the_seed_and_the_samplers_options_matter():
    def rates(**options):
        search = OptunaSearch(1e-3, 10.0, num_trials=14, **options)
        return [record.point.lr for record in drive(search, parabola)]

    assert rates() == rates(seed=0) != rates(seed=1)
    assert rates() != rates(sampler_options={"n_startup_trials": 2})
    search = OptunaSearch(0.1, 1.0, num_trials=1, sampler_options={"n_startup_trials": 2})
    assert search.options["tpe.n_startup_trials"] == "2"


def test_optunas_verbosity_is_put_back():
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    drive(OptunaSearch(0.1, 1.0, num_trials=2), parabola)
    assert optuna.logging.get_verbosity() == optuna.logging.WARNING


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"low": 0.0}, "low=0.0"),
        ({"high": 0.01}, "high=0.01"),
        ({"num_trials": 0}, "num_trials=0"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"sampler": "oracle"}, "one of: tpe, random"),
    ],
)
def test_settings_out_of_range_are_refused(setting, message):
    with pytest.raises(TrialError, match=message):
        OptunaSearch(**{"low": 0.1, "high": 1.0, "num_trials": 3, **setting})


@pytest.mark.parametrize("options", [{"colour": 1}, {"seed": 1}])
def test_unknown_sampler_options_are_refused(options):
    with pytest.raises(TrialError, match="sampler options"):
        OptunaSearch(0.1, 1.0, num_trials=3, sampler_options=options)


def test_a_missing_package_names_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(MissingExtraError, match=r"etastar\[sweep\]"):
        OptunaSearch(0.1, 1.0, num_trials=3)


def test_a_sampler_whose_package_is_missing_names_it(monkeypatch):
    def broken(seed):
        raise ModuleNotFoundError("no scipy", name="scipy")

    monkeypatch.setattr(optuna.samplers, "QMCSampler", broken)
    with pytest.raises(MissingExtraError, match="scipy"):
        OptunaSearch(0.1, 1.0, num_trials=3, sampler="qmc")


def test_every_sampler_exists_in_optuna():
    assert all(hasattr(optuna.samplers, name) for name in SAMPLERS.values())
