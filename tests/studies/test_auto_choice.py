"""The rule of `law="auto"`: the lowest worst regret on networks of one kind."""

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etastar.errors import LawError
from etastar.transfer.auto import CANDIDATES
from studies.auto_choice import best_rule, choose_rule

TABLE = {
    "chain, SGD": {"constant": (inf, 0.4), "effective-depth": (0.05, 0.01), "structure": (0.06,)},
    "residual, longer branches, Adam": {
        "constant": (0.4, 0.1),
        "structure": (0.03, 0.02),
        "measured": (0.01, 0.01),
        "measured-self": (0.5, 0.5),
    },
}


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


def test_the_reason_tells_the_regrets():
    choice = choose_rule(TABLE, "chain, SGD", candidates=CANDIDATES)
    assert choice.rule == "effective-depth"
    assert choice.why.startswith("auto: effective-depth for the kind 'chain, SGD': ")
    assert "median relative regret 3.0%, worst 5.0% in 2 stored cases" in choice.why


def test_a_divergence_is_told():
    choice = choose_rule(
        {"chain, SGD": {"constant": (0.5, inf)}}, "chain, SGD", candidates=CANDIDATES
    )
    assert "worst diverged" in choice.why
