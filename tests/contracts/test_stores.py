"""What every store promises."""

import cProfile
import json
from dataclasses import replace
from math import inf, isnan, nan
from uuid import uuid4

import pytest

from etastar.errors import StorageError
from etastar.sweep.recipe import Point
from etastar.sweep.storage import MemoryStore, OptunaStore, as_store
from etastar.sweep.trial import TrialRecord

SIZE = (("depth", 6), ("width", 64))
SMALL = (("depth", 3), ("width", 64))
SETTINGS = {"model": "mlp", "budget.num_steps": "3"}
POINTS = [Point(0.1, 0), Point(1e-3, 1), Point(0.1, 1)]


def record(point=POINTS[0], size=SIZE, **changes):
    plain = TrialRecord(
        size=size,
        point=point,
        loss=0.1 + 0.2,
        losses=(1 / 3, 0.1),
        diverged=False,
        steps=2,
        initial_loss=1 / 3,
        device="cpu",
        versions=(("numpy", "2.0"), ("torch", "2.13.0+cpu")),
    )
    return replace(plain, **changes)


@pytest.fixture(
    params=["memory", "journal", "sqlite", pytest.param("postgres", marks=pytest.mark.slow)]
)
def make_store(request, tmp_path):
    """Makes a store; called again, another one of the same data, as after a restart."""
    made, name = [], f"contract-{uuid4().hex}"

    def make():
        if request.param == "memory":
            made.append(made[0] if made else MemoryStore())
        else:
            location = {
                "journal": lambda: tmp_path / "runs.log",
                "sqlite": lambda: f"sqlite:///{tmp_path}/runs.db",
                "postgres": lambda: request.getfixturevalue("postgres_url"),
            }[request.param]()
            made.append(OptunaStore(location, name=name))
        return made[-1]

    yield make
    for store in made:
        store.close()


@pytest.fixture
def store(make_store):
    store = make_store()
    store.open(SETTINGS)
    return store


def test_a_new_store_holds_nothing(make_store):
    store = make_store()
    assert (store.settings(), store.sizes(), store.records(SIZE)) == ({}, (), ())


def test_records_are_there_after_a_restart_sorted_and_equal(store, make_store):
    written = [record(point) for point in POINTS]
    assert store.begin(SIZE, POINTS) == tuple(POINTS)
    for one in written:
        store.finish(one)
    store.close()
    again = make_store()
    assert again.records(SIZE) == tuple(sorted(written, key=lambda one: one.point))
    assert again.settings() == SETTINGS


def test_numbers_come_back_exactly(store, make_store):
    values = [inf, nan, -inf, 5e-324, 1.7e308, 0.1 + 0.2]
    written = [
        record(Point(0.1 / 3, seed), loss=x, losses=(1 / 3,) * length + (x,), initial_loss=x)
        for seed, (x, length) in enumerate((x, length) for x in values for length in (1, 500))
    ]
    for one in written:
        store.finish(one)
    store.close()
    assert repr(make_store().records(SIZE)) == repr(tuple(written))


@pytest.mark.parametrize("location", [None, "runs.log"])
def test_a_run_among_many_costs_no_more_calls_than_among_few(location, tmp_path):
    calls = []
    with as_store(location and tmp_path / location) as store:
        store.open(SETTINGS)
        for seed in range(61):
            profile = cProfile.Profile()
            profile.runcall(store.records, SIZE)
            profile.runcall(store.finish, record(Point(0.1, seed)))
            calls.append(sum(entry.callcount for entry in profile.getstats()))
    assert calls[60] <= 1.25 * calls[10]


def test_a_diverged_run_is_a_record(store, make_store):
    store.finish(record(loss=inf, losses=(1.0, nan), diverged=True))
    store.close()
    (back,) = make_store().records(SIZE)
    assert (back.diverged, back.loss) == (True, inf)
    assert isnan(back.losses[1])


def test_a_stopped_run_is_a_record_that_says_so(store, make_store):
    stopped = record(loss=inf, losses=(), steps=0, failed="stopped, as it took longer than 5 s")
    store.begin(SIZE, POINTS)
    store.finish(stopped)
    store.finish(record(POINTS[1]))
    store.finish(replace(stopped, point=Point(7.0, 3)))  # which nobody claimed
    store.close()
    again = make_store()
    again.open(SETTINGS)
    assert again.begin(SIZE, POINTS) == (POINTS[2],)
    failed = {one.point: one.failed for one in again.records(SIZE)}
    assert failed == {POINTS[1]: "", POINTS[0]: stopped.failed, Point(7.0, 3): stopped.failed}
    with pytest.raises(StorageError, match="another experiment"):
        make_store().open({**SETTINGS, "model": "gpt"})


def test_a_store_without_a_run_becomes_that_of_a_corrected_recipe(store, make_store):
    store.begin(SIZE, POINTS)
    store.keep_depth(SIZE, 99.0)
    other = make_store()
    if other is not store:
        with pytest.raises(StorageError, match="another experiment"):  # a run is under way
            other.open({**SETTINGS, "model": "gpt"})
        other.close()
    store.close()
    again = make_store()
    again.open({"model": "gpt"})
    assert again.settings() == {"model": "gpt"}
    assert again.depth(SIZE) is None
    assert again.begin(SIZE, POINTS) == tuple(POINTS)
    again.finish(record())
    again.close()
    with pytest.raises(StorageError, match="another experiment"):
        make_store().open(SETTINGS)


def test_what_was_begun_and_not_finished_can_be_begun_again(store, make_store):
    store.begin(SIZE, POINTS)
    store.close()
    again = make_store()
    again.open(SETTINGS)
    assert again.records(SIZE) == ()
    assert again.begin(SIZE, POINTS) == tuple(POINTS)


def test_begin_returns_own_points_again_and_each_once(store):
    store.begin(SIZE, POINTS[:1])
    assert store.begin(SIZE, [*POINTS, *POINTS]) == tuple(POINTS)


def test_a_finished_point_is_not_begun(store):
    store.finish(record(POINTS[0]))
    assert store.begin(SIZE, POINTS) == tuple(POINTS[1:])
    assert store.begin(SMALL, POINTS[:1]) == tuple(POINTS[:1])


def test_of_two_finished_runs_of_a_point_the_first_stays(store):
    store.finish(record(loss=1.0))
    store.finish(record(loss=2.0))
    assert [one.loss for one in store.records(SIZE)] == [1.0]


def test_sizes_stand_in_the_order_in_which_they_were_begun(store):
    store.begin(SIZE, POINTS[:1])
    store.begin((("depth", 99),), POINTS[:1])
    store.finish(record(size=SMALL))
    store.finish(record(size=SIZE))
    assert store.sizes() == (SIZE, SMALL)


def test_another_experiment_is_refused_and_told_apart(store, make_store):
    store.finish(record())
    store.close()
    other = make_store()
    with pytest.raises(StorageError, match="model is 'mlp' there and 'gpt' here") as caught:
        other.open({**SETTINGS, "model": "gpt"})
    assert "budget" not in str(caught.value)
    other.close()
    same = make_store()
    same.open(dict(reversed(SETTINGS.items())))
    assert same.records(SIZE) == (record(),)


def test_settings_are_plain_text(store):
    assert json.loads(json.dumps(store.settings())) == SETTINGS


def test_two_live_stores_never_have_one_point(store, make_store):
    other = make_store()
    if other is store:
        pytest.skip("a store in memory is not shared")
    other.open(SETTINGS)
    assert store.begin(SIZE, POINTS[:2]) == tuple(POINTS[:2])
    assert other.begin(SIZE, POINTS) == tuple(POINTS[2:])
    store.finish(record(POINTS[0]))
    store.close()  # lets go of the second point
    assert other.begin(SIZE, POINTS) == tuple(POINTS[1:])


def test_depths_are_kept(store, make_store):
    store.finish(record())
    assert store.depth(SIZE) is None
    store.keep_depth(SIZE, 1 / 3)
    store.close()
    again = make_store()
    assert (again.depth(SIZE), again.depth(SMALL)) == (1 / 3, None)


def test_a_run_whose_claim_was_taken_over_counts_if_it_is_finished_first(store, make_store):
    other = make_store()
    if other is store:
        pytest.skip("a store in memory is not shared")
    other.open(SETTINGS)
    (point,) = store.begin(SIZE, POINTS[:1])
    other.finish(record(point, loss=1.0))  # as if it had been taken over
    store.finish(record(point, loss=2.0))
    assert [one.loss for one in store.records(SIZE)] == [1.0]
    (late,) = store.begin(SIZE, POINTS[1:2])
    store._claims(SIZE).fail(store._claims(SIZE).mine[late])
    assert other.begin(SIZE, [late]) == (late,)
    store.finish(record(late, loss=3.0))
    other.finish(record(late, loss=4.0))
    assert [one.loss for one in other.records(SIZE) if one.point == late] == [3.0]


@pytest.mark.parametrize("before", [[], POINTS[1:]])
def test_a_run_that_another_process_begins_and_finishes_meanwhile_is_not_begun_again(
    before, store, make_store, monkeypatch
):
    other = make_store()
    if other is store:
        pytest.skip("a store in memory is not shared")
    other.open(SETTINGS)
    point, unfinished = POINTS[0], []
    for one in before:
        store.finish(record(one))
    claims = store._claims(SIZE)
    made, looked = store._storage.create_new_trial, claims._look

    def begun_before(*args, **kwargs):
        unfinished.extend(other.begin(SIZE, [point]))
        return made(*args, **kwargs)

    def finished_after():
        found = looked()
        while unfinished:
            other.finish(record(unfinished.pop()))
        return found

    monkeypatch.setattr(store._storage, "create_new_trial", begun_before)
    monkeypatch.setattr(claims, "_look", finished_after)
    assert store.begin(SIZE, [point]) == ()
    assert [one.point for one in store.records(SIZE)] == sorted([point, *before])
