"""Plan files: equal after a round trip, refused when corrupt, written at once or not at all."""

import json
import math
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etastar.errors import PlanError
from etastar.laws import EffectiveDepth, Factors, get_laws
from etastar.optimizers import OptimizerKind
from etastar.transfer import BaseRecord, InitializationRecord, LawRecord, ParamPlan, TransferPlan

numbers = st.floats(1e-12, 1e12)
moderate = st.floats(1e-3, 1e3)
names = st.text(min_size=1, max_size=20)
ratios = st.tuples(moderate, moderate)
factors = st.builds(Factors, moderate, moderate, st.just(1.0), moderate, moderate, ratios)
option = st.tuples(names, st.none() | names | numbers)
kinds = st.builds(
    OptimizerKind,
    names,
    st.sampled_from(["sgd", "adam", "muon"]),
    st.booleans(),
    eps=st.none() | numbers,
    weight_decay=st.none() | numbers,
    betas=st.none() | st.tuples(st.floats(0, 0.999), st.floats(0, 0.999)),
)
bases = st.builds(
    BaseRecord,
    depth=st.integers(1, 999),
    lr=moderate,
    aux_lr=st.none() | moderate,
    weight_decay=moderate,
    eps=st.none() | numbers,
    betas=st.none() | st.tuples(st.floats(0, 0.999), st.floats(0, 0.999)),
    batch_size=st.none() | st.integers(1, 10**9),
    num_steps=st.none() | st.integers(1, 10**9),
    log_lr_sd=st.none() | moderate,
)


@st.composite
def entries(draw, name, optimizer, lr):
    by_law = draw(st.lists(st.tuples(names, factors), max_size=2).map(tuple))
    rate = lr * math.prod(f.lr for _, f in by_law)
    return ParamPlan(
        name=name,
        shape=draw(st.lists(st.integers(0, 99), max_size=4).map(tuple)),
        role=draw(st.sampled_from(["input", "hidden", "output", "norm", "bias", "embedding"])),
        optimizer=optimizer,
        lr=rate,
        weight_decay=draw(st.just(0.0) | st.floats(1e-12, 0.5)) / rate,
        eps=draw(st.none() | numbers),
        init=math.prod(f.init for _, f in by_law),
        factors=by_law,
        aliases=tuple(f"{name} also {n}" for n in range(draw(st.integers(0, 2)))),
        betas=draw(st.none() | st.tuples(st.floats(0, 0.999), st.floats(0, 0.999))),
    )


@st.composite
def plans(draw):
    base, kind = draw(bases), draw(kinds)
    every = draw(st.lists(names, min_size=1, max_size=3, unique=True))
    return TransferPlan(
        laws=draw(
            st.lists(
                st.builds(LawRecord, names, st.lists(option, max_size=2).map(tuple)), max_size=2
            ).map(tuple)
        ),
        optimizer=kind,
        base=base,
        target_depth=draw(st.integers(1, 999)),
        parameters=tuple(draw(entries(name, kind.name, base.lr)) for name in every),
        notes=draw(st.lists(names, max_size=2).map(tuple)),
        initialization=InitializationRecord(draw(st.sampled_from(["all", "last", "none", "own"]))),
        lr_interval=draw(st.none() | st.tuples(moderate, moderate).map(sorted).map(tuple)),
        why=draw(names),
    )


@settings(deadline=None, max_examples=50)
@given(plans())
def test_any_plan_is_equal_after_a_round_trip(plan):
    assert TransferPlan.from_json(plan.to_json()) == plan


@pytest.mark.parametrize("law", ["path-sum", "complete-p", EffectiveDepth(exponent=-1)])
def test_a_saved_plan_is_equal_and_makes_equal_groups(make_ready, make_plan, tmp_path, law):
    plan = make_plan(law=law, weight_decay=0.1)
    model = make_ready(plan)
    plan.save(tmp_path / "plan.json")
    loaded = TransferPlan.load(tmp_path / "plan.json")
    assert loaded == plan
    settings = [
        [{k: v for k, v in g.items() if k != "params"} for g in p.param_groups(model)]
        for p in (plan, loaded)
    ]
    assert settings[0] == settings[1]
    assert loaded.laws[0].name == get_laws(law)[0].name


def changed(plan, change):
    data = json.loads(plan.to_json())
    change(data)
    return json.dumps(data)


CHANGES = {
    "no version": lambda d: d.pop("format_version"),
    "future version": lambda d: d.update(format_version=5),
    "old version": lambda d: d.update(format_version=0),
    "version of another type": lambda d: d.update(format_version=True),
    "missing key": lambda d: d.pop("base"),
    "unknown key": lambda d: d.update(surprise=1),
    "text for a number": lambda d: d["base"].update(lr="0.1"),
    "integer beyond every float": lambda d: d["base"].update(lr=10**400),
    "flag for a number": lambda d: d["base"].update(lr=True),
    "fraction of a layer": lambda d: d["base"].update(depth=2.5),
    "nothing for a number": lambda d: d["base"].update(lr=None),
    "object for a list": lambda d: d.update(parameters={}),
    "negative rate": lambda d: d["parameters"][0].update(lr=-1.0),
    "zero rate": lambda d: d["parameters"][0].update(lr=0.0),
    "unknown role": lambda d: d["parameters"][0].update(role="king"),
    "shape of text": lambda d: d["parameters"][0].update(shape=["3"]),
    "parameter without a name": lambda d: d["parameters"][0].pop("name"),
    "law of another form": lambda d: d.update(laws=[["width"]]),
    "no base rate": lambda d: d["base"].update(lr=0),
    "another base rate": lambda d: d["base"].update(lr=1e308),
    "negative decay at the base": lambda d: d["base"].update(weight_decay=-5),
    "negative epsilon at the base": lambda d: d["base"].update(eps=-1),
    "negative epsilon": lambda d: d["parameters"][0].update(eps=-1.0),
    "negative depth": lambda d: d["base"].update(depth=-3),
    "negative depth of the target": lambda d: d.update(target_depth=-3),
    "beta of one": lambda d: d["parameters"][0].update(betas=[0.9, 1.0]),
    "no parameters": lambda d: d.update(parameters=[]),
    "unknown optimizer": lambda d: d["parameters"][0].update(optimizer="nope"),
    "absurd initialization": lambda d: d["parameters"][0].update(init=1e300),
    "absurd factors": lambda d: d["parameters"][0]["factors"][0][1].update(lr=0.0),
    "a name twice": lambda d: d["parameters"].append(d["parameters"][0]),
    "an alias that is another's name": lambda d: d["parameters"][0].update(
        aliases=[d["parameters"][1]["name"]]
    ),
    "an alias twice": lambda d: d["parameters"][0].update(aliases=["a", "a"]),
    "an interval upside down": lambda d: d.update(lr_interval=[0.2, 0.1]),
    "an interval from below zero": lambda d: d.update(lr_interval=[-0.2, 0.1]),
    "half an interval": lambda d: d.update(lr_interval=[0.1]),
    "unknown initialization": lambda d: d["initialization"].update(residual="some"),
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
    with pytest.raises(PlanError, match="format version 5"):
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


@pytest.mark.parametrize("opened", ["[", '{"a":'])
def test_a_deeply_nested_file_is_refused(opened):
    with pytest.raises(PlanError):
        TransferPlan.from_json(opened * 100_000)


@pytest.mark.parametrize("path", [None, 3, b"plan.json", "nul\0.json"])
def test_what_is_no_path_is_refused(make_plan, path):
    for call in (TransferPlan.load, make_plan().save):
        with pytest.raises(PlanError, match="plan file"):
            call(path)


def test_a_pipe_is_refused_and_not_waited_for(make_plan, tmp_path):
    os.mkfifo(tmp_path / "fifo.json")
    for call in (TransferPlan.load, make_plan().save):
        with pytest.raises(PlanError, match="neither a file nor new"):
            call(tmp_path / "fifo.json")


PLANS = Path(__file__).parent / "plans"


def test_a_plan_of_format_1_is_read(make_plan):
    loaded = TransferPlan.load(PLANS / "format_1_complete_p_adamw.json")
    settings = {"law": "complete-p", "weight_decay": 0.1, "no_decay": ()}
    made = make_plan((2, 8), (3, 16), lr=0.02, **settings)
    assert loaded.base == made.base
    assert loaded.initialization == made.initialization == InitializationRecord("none")
    assert (loaded.law, loaded.target_depth) == (made.law, made.target_depth)
    ours = {p.name: (p.lr, p.weight_decay, p.init, p.shape) for p in made.parameters}
    assert {p.name: (p.lr, p.weight_decay, p.init, p.shape) for p in loaded.parameters} == ours
    assert TransferPlan.from_json(loaded.to_json()) == loaded


def test_a_plan_of_format_1_for_muon_and_the_old_depth_law_makes_groups(make_ready):
    plan = TransferPlan.load(PLANS / "format_1_nominal_depth_muon.json")
    assert plan.law == "nominal-depth(exponent=-1.5) x width"
    assert (plan.base.aux_lr, plan.optimizer.fallback.name) == (0.003, "adamw")
    model = make_ready(plan, 3, 16)
    names = [p.optimizer for p in plan.parameters]
    for kind in ("muon", "adamw"):
        groups = plan.param_groups(model, kind=kind)
        assert sum(len(group["params"]) for group in groups) == names.count(kind)
        assert all("betas" not in group for group in groups)


@pytest.mark.parametrize("change", ["base_lr", "optimizer", "laws", "parameters"])
def test_a_wrong_file_of_format_1_is_refused(change):
    data = json.loads((PLANS / "format_1_complete_p_adamw.json").read_text())
    for wrong in ({**data, change: 3}, {k: v for k, v in data.items() if k != change}):
        with pytest.raises(PlanError):
            TransferPlan.from_json(json.dumps(wrong))


@pytest.mark.parametrize("version", [2, 3])
def test_a_format_that_no_release_wrote_is_refused(make_plan, version):
    data = {**json.loads(make_plan().to_json()), "format_version": version}
    with pytest.raises(PlanError, match=f"format version {version}"):
        TransferPlan.from_json(json.dumps(data))


def test_keys_of_later_formats_are_refused_in_format_1():
    data = json.loads((PLANS / "format_1_complete_p_adamw.json").read_text())
    with pytest.raises(PlanError, match="lr_interval"):
        TransferPlan.from_json(json.dumps({**data, "lr_interval": None}))


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


def test_a_link_stays_one_and_a_file_keeps_its_mode(make_plan, tmp_path):
    plan, real, link = make_plan(), tmp_path / "kept" / "plan.json", tmp_path / "latest.json"
    real.parent.mkdir()
    link.symlink_to(real)
    plan.save(link)  # to a file that is not there yet
    real.chmod(0o640)
    make_plan(lr=0.7).save(link)
    assert link.is_symlink()
    assert real.stat().st_mode & 0o777 == 0o640
    assert TransferPlan.load(real).base.lr == 0.7
    assert list(real.parent.iterdir()) == [real]


def test_a_new_file_has_the_mode_that_other_programs_give(make_plan, tmp_path):
    make_plan().save(tmp_path / "plan.json")
    (tmp_path / "other").touch()
    assert (tmp_path / "plan.json").stat().st_mode == (tmp_path / "other").stat().st_mode


@pytest.mark.parametrize("place", ["/dev/full", "/dev/null", "ring"])
def test_devices_and_rings_of_links_are_refused(make_plan, tmp_path, place):
    (tmp_path / "ring").symlink_to(tmp_path / "ring")
    with pytest.raises(PlanError, match="plan file"):
        make_plan().save(tmp_path / place)  # an absolute place stays as it is
