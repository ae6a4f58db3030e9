"""`law="auto"`: kinds of networks, the choice from a table, and the plan that tells of it."""

import json
from math import inf
from pathlib import Path

import pytest
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from etastar.errors import LawError
from etastar.models import build, example_inputs
from etastar.optimizers import optimizer_kind
from etastar.transfer import Measure, Tuned, auto, plan_transfer, read_architecture
from etastar.transfer.auto import CANDIDATES, best_rule, choose_rule, network_kind, read_table

TABLE = {
    "chain, SGD": {"constant": (inf, 0.4), "effective-depth": (0.05, 0.01), "structure": (0.06,)},
    "residual, longer branches, Adam": {
        "constant": (0.4, 0.1),
        "structure": (0.03, 0.02),
        "measured": (0.01, 0.01),
        "measured-self": (0.5, 0.5),
    },
}


def network(name, depth=2, **settings):
    settings = {"depth": depth, "width": 16} | settings
    return build(name, **settings), example_inputs(name, **settings)


@pytest.fixture
def _table(monkeypatch):
    monkeypatch.setattr(auto, "read_table", lambda: TABLE)


@pytest.mark.parametrize(
    ("name", "settings", "optimizer", "kind"),
    [
        ("mlp", {}, "sgd", "chain, SGD"),
        ("cnn2d", {}, "adamw", "chain, Adam"),
        ("resnet", {}, "sgd", "residual, one-layer branches, SGD"),
        ("resmlp", {"branch_layers": 2}, "sgd", "residual, longer branches, SGD"),
        ("gpt", {}, "muon", "residual, longer branches, Adam"),
    ],
)
def test_the_kind_is_read_off_the_graph(name, settings, optimizer, kind):
    for depth in (1, 4):
        found = read_architecture(network(name, depth, **settings))
        assert network_kind(found, optimizer_kind(optimizer)) == kind


def test_the_lowest_worst_regret_wins_and_divergence_is_worst():
    assert best_rule({"a": (0.0, inf), "b": (0.9, 0.9), "c": (1.0, 0.0)}) == "b"
    assert best_rule({"a": (inf, 0.5), "b": (inf, inf), "c": (inf, 0.6)}) == "a"
    assert best_rule({"a": (0.2, 0.1), "b": (0.2, 0.0)}) == "b"
    assert best_rule({"a": (0.5, 0.5), "b": (0.0,)}) == "a"
    assert best_rule({}) is None
    assert best_rule({"a": ()}) is None


@given(
    st.dictionaries(
        st.sampled_from(list(CANDIDATES)),
        st.lists(st.floats(-0.1, 2) | st.just(inf), min_size=3, max_size=3),
        min_size=1,
    )
)
def test_no_rule_is_better_at_its_worst_than_the_one_taken(regrets):
    taken = best_rule(regrets)
    assert max(regrets[taken]) == min(max(cases) for cases in regrets.values())


def test_a_kind_without_cases_takes_what_did_best_on_all():
    choice = choose_rule(TABLE, "chain, Adam", candidates=("constant", "structure"))
    assert choice.rule == "constant"
    assert "no stored case of the kind 'chain, Adam'" in choice.why
    pooled = {"x": {"constant": (0.3,)}, "y": {"constant": (0.1,), "path-sum": (0.0,)}}
    assert choose_rule(pooled, "z", candidates=CANDIDATES).rule == "constant"


def test_an_empty_table_says_what_to_do():
    with pytest.raises(LawError, match="name a law"):
        choose_rule({}, "chain, SGD", candidates=CANDIDATES)


@pytest.mark.usefixtures("_table")
@pytest.mark.parametrize("law", ["auto", ["auto"], ("auto",)])
def test_the_plan_follows_the_choice_and_says_why(law):
    nets = network("mlp", 3), network("mlp", 15)
    plan = plan_transfer(Tuned(nets[0], 0.8), nets[1], optimizer="sgd", law=law)
    same = plan_transfer(Tuned(nets[0], 0.8), nets[1], optimizer="sgd", law="effective-depth")
    assert plan.parameters == same.parameters
    assert plan.laws == same.laws
    assert "auto: effective-depth for the kind 'chain, SGD'" in str(plan)
    shown = " ".join(str(plan).split())
    assert "median relative regret 3.0%, worst 5.0% in 2 stored cases" in shown


@pytest.mark.usefixtures("_table")
def test_a_batch_to_measure_on_makes_measured_a_candidate():
    nets = network("gpt", 1), network("gpt", 2)
    without = plan_transfer(Tuned(nets[0], 0.01), nets[1], optimizer="adamw", law="auto")
    assert without.laws[0].name == "structure"
    tokens = nets[0][1][0]

    def loss(scores, targets):
        return F.cross_entropy(scores.flatten(0, 1), targets.flatten())

    measure = Measure((tokens, tokens.roll(-1, 1)), loss)
    plan = plan_transfer(
        Tuned(nets[0], 0.01), nets[1], optimizer="adamw", law="auto", measure=measure
    )
    assert "measured" in [record.name for record in plan.laws]
    assert "auto: measured for the kind" in plan.notes[0]
    assert plan.notes[1].startswith("measured: eta*")


@pytest.mark.usefixtures("_table")
def test_bases_are_evidence_of_their_own():
    tuned = [Tuned(network("mlp", depth), lr) for depth, lr in ((2, 0.4), (4, 0.1))]
    plan = plan_transfer(tuned, network("mlp", 8), optimizer="sgd", law="auto")
    assert plan.laws[0].name == "fitted"
    assert plan.notes[0].startswith("auto: several tuned networks")


def test_auto_goes_with_no_other_law():
    nets = network("mlp", 2), network("mlp", 4)
    with pytest.raises(LawError, match="law 'auto' together with 'constant'"):
        plan_transfer(Tuned(nets[0], 0.1), nets[1], optimizer="sgd", law=["auto", "constant"])


def test_the_table_of_the_package_has_its_format_and_nothing_else():
    stored = json.loads((Path(auto.__file__).parent / auto.TABLE).read_text())
    assert stored.keys() == {"format", "kinds"}
    assert stored["format"] == auto.TABLE_FORMAT
    structures = ("chain", "residual, one-layer branches", "residual, longer branches")
    assert set(stored["kinds"]) == {f"{s}, {o}" for s in structures for o in ("SGD", "Adam")}
    for rules in stored["kinds"].values():
        assert set(rules) == {*CANDIDATES, "measured"}
        cases = {len(rules[rule]) for rule in CANDIDATES}
        assert len(cases) == 1
        assert cases.pop() > 0


def test_every_number_of_the_table_is_a_regret():
    for rules in read_table().values():
        for case in (case for cases in rules.values() for case in cases):
            assert isinstance(case, float)
            assert case > -1  # nothing beats the target's own optimum by all that it gained


def test_a_null_is_a_divergence(monkeypatch, tmp_path):
    (tmp_path / auto.TABLE).write_text(
        '{"format": 1, "kinds": {"chain, SGD": {"constant": [0.5, null]}}}'
    )
    monkeypatch.setattr(auto.resources, "files", lambda name: tmp_path)
    assert read_table.__wrapped__() == {"chain, SGD": {"constant": (0.5, inf)}}


@pytest.mark.parametrize("head", ["", '"format": 2, '])
def test_a_table_of_another_format_is_refused(monkeypatch, tmp_path, head):
    (tmp_path / auto.TABLE).write_text(f'{{{head}"kinds": {{}}}}')
    monkeypatch.setattr(auto.resources, "files", lambda name: tmp_path)
    with pytest.raises(LawError, match="format 1"):
        read_table.__wrapped__()
