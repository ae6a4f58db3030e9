"""Plan files: equal after a round trip, refused when corrupt, written at once or not at all."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etastar.errors import PlanError
from etastar.laws import EffectiveDepth, Factors, get_law
from etastar.optimizers import OptimizerKind
from etastar.transfer import LawRecord, ParamPlan, TransferPlan

numbers = st.floats(1e-12, 1e12)
names = st.text(min_size=1, max_size=20)
factors = st.builds(Factors, numbers, numbers, numbers, numbers, numbers)
entries = st.builds(
    ParamPlan,
    name=names,
    shape=st.lists(st.integers(0, 99), max_size=4).map(tuple),
    role=st.sampled_from(["input", "hidden", "output", "norm", "bias", "embedding"]),
    optimizer=names,
    lr=numbers,
    weight_decay=st.just(0.0) | numbers,
    eps=st.none() | numbers,
    init=numbers,
    factors=st.lists(st.tuples(names, factors), max_size=2).map(tuple),
    aliases=st.lists(names, max_size=2).map(tuple),
)
option = st.tuples(names, st.none() | names | numbers)
plans = st.builds(
    TransferPlan,
    laws=st.lists(
        st.builds(LawRecord, names, st.lists(option, max_size=2).map(tuple)), max_size=2
    ).map(tuple),
    optimizer=st.builds(
        OptimizerKind,
        names,
        st.sampled_from(["sgd", "adam", "muon"]),
        st.booleans(),
        eps=st.none() | numbers,
        weight_decay=st.none() | numbers,
    ),
    base_lr=numbers,
    aux_lr=st.none() | numbers,
    weight_decay=numbers,
    eps=st.none() | numbers,
    base_depth=st.integers(1, 999),
    target_depth=st.integers(1, 999),
    parameters=st.lists(entries, max_size=3).map(tuple),
    notes=st.lists(names, max_size=2).map(tuple),
)


@settings(deadline=None, max_examples=50)
@given(plans)
def test_any_plan_is_equal_after_a_round_trip(plan):
    assert TransferPlan.from_json(plan.to_json()) == plan


@pytest.mark.parametrize("law", ["path-sum", "complete-p", EffectiveDepth(exponent=-1)])
def test_a_saved_plan_is_equal_and_makes_equal_groups(make_net, make_plan, tmp_path, law):
    plan, model = make_plan(law=law, weight_decay=0.1), make_net(5, 32)
    plan.save(tmp_path / "plan.json")
    loaded = TransferPlan.load(tmp_path / "plan.json")
    assert loaded == plan
    settings = [
        [{k: v for k, v in g.items() if k != "params"} for g in p.param_groups(model)]
        for p in (plan, loaded)
    ]
    assert settings[0] == settings[1]
    assert loaded.laws[0].name == get_law(law).name


def changed(plan, change):
    data = json.loads(plan.to_json())
    change(data)
    return json.dumps(data)


CHANGES = {
    "no version": lambda d: d.pop("format_version"),
    "future version": lambda d: d.update(format_version=2),
    "old version": lambda d: d.update(format_version=0),
    "version of another type": lambda d: d.update(format_version=True),
    "missing key": lambda d: d.pop("base_lr"),
    "unknown key": lambda d: d.update(surprise=1),
    "text for a number": lambda d: d.update(base_lr="0.1"),
    "flag for a number": lambda d: d.update(base_lr=True),
    "fraction of a layer": lambda d: d.update(base_depth=2.5),
    "nothing for a number": lambda d: d.update(base_lr=None),
    "object for a list": lambda d: d.update(parameters={}),
    "negative rate": lambda d: d["parameters"][0].update(lr=-1.0),
    "zero rate": lambda d: d["parameters"][0].update(lr=0.0),
    "unknown role": lambda d: d["parameters"][0].update(role="king"),
    "shape of text": lambda d: d["parameters"][0].update(shape=["3"]),
    "parameter without a name": lambda d: d["parameters"][0].pop("name"),
    "law of another form": lambda d: d.update(laws=[["width"]]),
    "factor of another form": lambda d: d["parameters"][0].update(factors=[["width"]]),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_wrong_file_is_refused(make_plan, tmp_path, change):
    path = tmp_path / "plan.json"
    path.write_text(changed(make_plan(), change))
    with pytest.raises(PlanError):
        TransferPlan.load(path)


def test_a_future_version_says_which(make_plan):
    text = changed(make_plan(), CHANGES["future version"])
    with pytest.raises(PlanError, match="format version 2"):
        TransferPlan.from_json(text)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"3", b"NaN", b'"plan"', b"\xff\xfe\x00", b'{"lr": 1}']
)
def test_no_plan_at_all_is_refused(tmp_path, content):
    path = tmp_path / "plan.json"
    path.write_bytes(content)
    with pytest.raises(PlanError, match=r"plan\.json"):
        TransferPlan.load(path)


def test_a_cut_file_is_refused_wherever_it_is_cut(make_plan):
    text = make_plan().to_json()
    for end in range(0, len(text) - 2, 97):
        with pytest.raises(PlanError):
            TransferPlan.from_json(text[:end])


@pytest.mark.parametrize("name", ["", "missing/plan.json"])
def test_an_unusable_path_is_refused(make_plan, tmp_path, name):
    with pytest.raises(PlanError, match="plan file"):
        TransferPlan.load(tmp_path / name)
    with pytest.raises(PlanError, match="plan file"):
        make_plan().save(tmp_path / name)


def test_a_failed_write_leaves_the_old_file(make_plan, tmp_path, monkeypatch):
    path = tmp_path / "plan.json"
    plan = make_plan()
    plan.save(path)
    before = path.read_bytes()

    def fail(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(PlanError, match="No space left"):
        make_plan(lr=0.7).save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
