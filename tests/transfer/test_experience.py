"""What the default choice knows: kinds, priors and families left out."""

from dataclasses import replace

import pytest

from etastar.errors import LawError
from etastar.fit.random_effects import random_effects
from etastar.transfer.experience import (
    NO_FAMILY_SD,
    CriterionRecord,
    Experience,
    ExperienceRecord,
    stored_experience,
)
from etastar.transfer.network_kind import NetworkKind

PRE = NetworkKind("residual", "pre", False, False, 2, "adam")
CHAIN = NetworkKind("chain", "none", False, False, 0, "sgd")


def record(family, exponent, *, kind=PRE, which="own", sd=0.05, well_posed=True):
    return ExperienceRecord(family, kind, "adamw", which, exponent, sd, (4, 32), well_posed)


def test_a_prior_is_the_predictive_of_random_effects():
    rows = {"a": -0.4, "b": -0.6, "c": -0.5, "d": -0.7}
    known = Experience(tuple(record(*row) for row in rows.items()))
    prior = known.prior(PRE, "own")
    mean, sd = random_effects({0: [(e, 0.05) for e in rows.values()]})[0]
    assert (prior.mean, prior.sd) == (pytest.approx(mean), pytest.approx(sd))
    assert prior.exponents == pytest.approx(tuple(rows.values()))
    assert known.prior(PRE, "complete-p") is None
    assert known.prior(CHAIN, "own") is None
    assert known.prior(None, "own") is None


def test_one_family_says_nothing_of_another_however_often_it_was_run():
    twice = (record("a", -0.4), record("a", -0.6), record("b", -0.5, well_posed=False))
    assert Experience(twice).prior(PRE, "own") is None
    prior = Experience((*twice, record("c", -0.5))).prior(PRE, "own")
    assert prior.exponents == pytest.approx((-0.5, -0.5))


def test_advantages_are_those_of_every_family_of_the_kind_that_was_compared():
    rows = [
        (record("a", 0.0, which="complete-p"), 0.08),
        (record("b", 0.0, which="complete-p"), 0.02),
    ]
    rows += [(record("c", 0.0, which="complete-p", well_posed=False), 0.05)]
    compared = [replace(one, advantage=each) for one, each in rows]
    assert Experience(tuple(compared)).advantages(PRE, "complete-p") == (0.02, 0.05, 0.08)
    assert Experience(tuple(compared)).advantages(CHAIN, "complete-p") == ()
    assert Experience(tuple(compared)).advantages(PRE, "own") == ()
    assert Experience(tuple(compared[:1])).advantages(PRE, "complete-p") == ()  # one says nothing
    assert Experience((*compared[:1], rows[1][0])).advantages(PRE, "complete-p") == ()


def test_the_spread_is_that_of_the_families_that_are_most_alike():
    """Chains under SGD, all over the place, do not widen what Adam's families say."""
    ours = [record(name, e) for name, e in zip("abcd", (-0.5, -0.52, -0.48, -0.5), strict=True)]
    wild = [record(f"w{e}", e, kind=CHAIN) for e in (-0.5, -1.5, -2.5, -1.0)]
    alone = Experience(tuple(ours)).prior(PRE, "own")
    assert Experience((*ours, *wild)).prior(PRE, "own") == alone
    # two families have no spread of their own to speak of: then all tell it
    few = Experience((*ours[:2], *wild)).prior(PRE, "own")
    assert few.sd > 4 * alone.sd


def test_few_families_that_agree_by_chance_have_at_least_the_spread_of_all():
    """Chains of linear layers under Adam, -0.96 and -0.99, promised 0.12; one had -2.02."""
    kind = replace(PRE, norm="post")
    pair = [record(name, -0.97, kind=kind) for name in "xy"]
    alike = [record(name, -0.5) for name in "abcde"]
    wild = [record(f"w{e}", e, kind=CHAIN) for e in (-0.7, -1.3, -1.0)]
    known = Experience((*alike, *pair, *wild))
    third = Experience((*known.records, replace(pair[0], family="z")))
    fourth = Experience((*third.records, replace(pair[0], family="u")))
    few = [each.prior(kind, "own") for each in (known, third)]
    assert [prior.mean for prior in few] == pytest.approx([-0.97, -0.97])
    assert min(prior.sd for prior in few) > 1.5 * fourth.prior(kind, "own").sd


def test_nothing_is_known_worse_than_what_nobody_speaks_of():
    wild = tuple(record(f"w{e}", e, kind=CHAIN) for e in (0.5, -1.5, -3.5))
    assert Experience(wild).prior(CHAIN, "own").sd == NO_FAMILY_SD


def test_a_family_is_left_out_with_all_its_records():
    errors = (CriterionRecord("a", PRE, 0.1, (4, 32)), CriterionRecord("b", PRE, 0.1, (4, 32)))
    known = Experience(
        (record("a", -0.4), record("a", 0, which="complete-p"), record("b", 1)), errors
    )
    rest = known.without("a")
    assert {one.family for one in (*rest.records, *rest.criterion)} == {"b"}
    with pytest.raises(LawError, match="family 'c'"):
        known.without("c")


def test_the_error_of_the_criterion_is_that_of_the_kind_else_of_all():
    def error(family, log_error, kind=PRE):
        return CriterionRecord(family, kind, log_error, (4, 32))

    known = Experience(criterion=(error("a", 0.3), error("b", -0.4), error("c", 3.0, CHAIN)))
    log_depth = 2.0794415
    assert known.criterion_sd(PRE) == pytest.approx(((0.09 + 0.16) / 2) ** 0.5 / log_depth)
    assert known.criterion_sd(CHAIN) == pytest.approx(((0.09 + 0.16 + 9) / 3) ** 0.5 / log_depth)
    assert Experience(criterion=(error("a", 0.0),)).criterion_sd(PRE) == NO_FAMILY_SD


def test_the_table_of_the_package_is_read_once():
    assert stored_experience() is stored_experience()
    assert stored_experience().records
