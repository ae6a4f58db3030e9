"""Batch size, duration and decay against the papers' tables, number by number."""

import itertools
import math

import pytest
import torch

from etastar import Target, Tuned, plan_transfer
from etastar.errors import LawError, PlanError
from etastar.laws import (
    Architecture,
    BatchSize,
    DecayTimescale,
    Duration,
    Factors,
    Training,
    TransferCase,
    get_laws,
)
from etastar.optimizers import optimizer_kind

BOTH = ("batch-size", "duration")
EVERY = (BatchSize(), Duration(), DecayTimescale(), BatchSize("rate"), Duration("rate"))
KINDS = ("sgd", "adam", "adamw", "muon")


def factors(laws, optimizer, base, target):
    """Product of the factors from one (batch size, steps) to another."""
    sides = (Architecture(None, (), Training(*sizes)) for sizes in (base, target))
    case = TransferCase(*sides, optimizer_kind(optimizer))
    return math.prod((law.factors(None, case) for law in get_laws(laws)), start=Factors())


def values(found):
    return found.lr, found.weight_decay, *found.betas, found.eps


@pytest.mark.parametrize(
    ("laws", "optimizer", "target", "expected"),
    [
        # Complete(d)P: batch x 8, examples x 20: m_B / m_D = 0.4
        (BOTH, "adamw", (64, 500), (0.4**0.5, 0.4**0.5, 0.4, 0.4, 0.4**-0.5)),
        (BOTH, "adam", (64, 500), (0.4**0.5, 1, 0.4, 0.4, 0.4**-0.5)),
        # more examples by the batch alone, steps kept: nothing changes
        (BOTH, "adamw", (64, 200), (1, 1, 1, 1, 1)),
        # the SDE rule: the batch alone, at equal data
        ("batch-size", "adamw", (64, 25), (8**0.5, 8**0.5, 8, 8, 8**-0.5)),
        (BOTH, "adamw", (64, 25), (8**0.5, 8**0.5, 8, 8, 8**-0.5)),
        ("duration", "adamw", (8, 1800), (1 / 3, 1 / 3, 1 / 9, 1 / 9, 3)),
        (BatchSize(scales="rate"), "adamw", (32, 200), (2, 1, 1, 1, 1)),
        (Duration(scales="rate"), "adamw", (8, 800), (0.5, 1, 1, 1, 1)),
        # linear for SGD; its momentum and what the duration does are not known
        (BOTH, "sgd", (64, 500), (8, 1, 1, 1, 1)),
        # no rule of Muon's rates: lr x decay x steps stays by the decay
        (BOTH, "muon", (64, 500), (1, 0.4, 1, 1, 1)),
        # the timescale of decay alone
        ("decay-timescale", "adamw", (64, 500), (1, 0.4, 1, 1, 1)),
        ("decay-timescale", "sgd", (8, 600), (1, 1 / 3, 1, 1, 1)),
        ("decay-timescale", "adam", (8, 600), (1, 1, 1, 1, 1)),
    ],
)
def test_factors_are_those_of_the_papers(laws, optimizer, target, expected):
    found = factors(laws, optimizer, (8, 200), target)
    assert values(found) == pytest.approx(expected, rel=1e-12)
    assert (found.init, found.multiplier) == (1, 1)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_the_timescale_of_decoupled_decay_stays_the_same_share_of_the_run(optimizer):
    for target in itertools.product((4, 64), (50, 3000)):
        for laws in (BOTH, "decay-timescale"):
            found = factors(laws, optimizer, (8, 200), target)
            assert found.lr * found.weight_decay * target[1] == pytest.approx(200)


@pytest.mark.parametrize("optimizer", KINDS)
@pytest.mark.parametrize("law", EVERY, ids=str)
def test_two_transfers_in_a_row_are_one_and_none_is_nothing(law, optimizer):
    here, middle, there = (8, 200), (32, 1000), (12, 5000)
    one = factors(law, optimizer, here, middle) * factors(law, optimizer, middle, there)
    assert values(one) == pytest.approx(values(factors(law, optimizer, here, there)))
    assert factors(law, optimizer, here, here) == Factors()


@pytest.mark.parametrize("law", EVERY, ids=str)
def test_what_is_not_given_is_not_followed(law):
    for base, target in (((8, None), (None, 9)), ((None, None), (8, 3)), ((8, 3), (None, None))):
        assert factors(law, "adamw", base, target) == Factors()


def test_a_batch_size_that_is_given_nowhere_is_the_same():
    found = factors("duration", "adamw", (None, 100), (None, 400))
    assert found == factors("duration", "adamw", (8, 100), (8, 400))
    assert factors("duration", "adamw", (8, 100), (None, 400)) == Factors()


def chain(depth, width=8):
    layers = [torch.nn.Linear(width, width) for _ in range(depth)]
    return torch.nn.Sequential(*layers), torch.zeros(1, width)


def plan(law=("constant", *BOTH), *, optimizer="adamw", target=(64, 500), deeper=4, **tuned):
    tuned = {"batch_size": 8, "num_steps": 200, **tuned}
    goal = Target(chain(deeper), **dict(zip(("batch_size", "num_steps"), target, strict=True)))
    return plan_transfer(Tuned(chain(4), 0.1, **tuned), goal, optimizer=optimizer, law=law)


def said(found, start):
    return [note for note in found.notes if note.startswith(start)]


def test_a_plan_carries_every_setting_and_its_table_says_whose_share_is_what():
    found = plan(weight_decay=0.1, betas=(0.9, 0.95), eps=1e-6)
    (group,) = found.param_groups(chain(4)[0])[:1]
    root = 0.4**0.5
    assert group["lr"] == pytest.approx(0.1 * root)
    assert max(p.weight_decay for p in found.parameters) == pytest.approx(0.1 * root)
    assert group["betas"] == pytest.approx((0.96, 0.98))
    assert group["eps"] == pytest.approx(1e-6 / root)
    table = " ".join(str(found).split())
    assert "x 2.828 (batch-size) x 0.2236 (duration)" in table
    assert "betas 0.96 and 0.98" in table
    assert table.endswith("under the same initialization and schedule")
    rate = " ".join(str(plan("batch-size")).split())
    assert rate.endswith("under the same initialization, steps and schedule")


def test_they_multiply_with_depth_and_width_and_with_the_default_choice():
    alone = plan("auto", deeper=16, target=(8, 200), num_steps=None, batch_size=None)
    both = plan(("auto", *BOTH), deeper=16)
    for ours, theirs in zip(both.parameters, alone.parameters, strict=True):
        assert ours.lr == pytest.approx(theirs.lr * 0.4**0.5)
    assert both.why == alone.why
    low, high = alone.lr_interval
    assert both.lr_interval == pytest.approx((low * 0.4**0.5, high * 0.4**0.5))


def test_a_beta_beyond_its_range_is_an_error_and_the_rate_alone_is_not():
    with pytest.raises(PlanError, match=r"beta_1 = -0.6, from 0.9 .* times 16"):
        plan("batch-size", target=(128, 200))
    with pytest.raises(PlanError, match="beta_1 = 0,"):
        plan("batch-size", target=(16, 200), betas=(0.5, 0.999))
    assert plan(BatchSize(scales="rate"), target=(128, 200)).lr == pytest.approx(0.4)


def test_a_plan_warns_where_runs_are_shorter_than_the_laws_are_for():
    short, long = plan(), plan(betas=(0.8, 0.9))
    for law in BOTH:
        (note,) = said(short, f"{law}: ")
        assert "derived for gradients that are mostly noise in long runs, at least 10" in note
        assert "= 10000 steps, and one of these has 200" in note
        (note,) = said(long, f"{law}: ")
        assert "have" not in note
        assert "one of these" not in note
    (note,) = said(plan("batch-size", target=(16, None)), "batch-size: ")
    assert "their steps are not given" in note


@pytest.mark.parametrize(
    ("arguments", "note"),
    [
        ({"target": (None, 200)}, "batch-size: batch size of target not given"),
        ({"batch_size": None}, "batch-size: batch size of base not given"),
        ({"batch_size": None}, "duration: batch size of base not given"),
        ({"num_steps": None, "target": (8, None)}, "duration: steps of base and target not given"),
        ({"optimizer": "sgd"}, "duration: no source says what SGD's rate and momentum should do"),
        ({"optimizer": "sgd"}, "batch-size: batch size 8 to 64; the linear rule of SGD"),
        ({"law": "decay-timescale", "num_steps": None}, "decay-timescale: steps of base not given"),
        ({"law": "duration"}, "batch size 8 to 64: no law of this plan corrects for it"),
        ({"law": "batch-size"}, "steps 200 to 500: no law of this plan corrects for it"),
        ({"law": BOTH, "deeper": 9}, "effective depth 4 to 9: no law of this plan corrects"),
    ],
)
def test_what_is_not_followed_is_said(arguments, note):
    assert len(said(plan(**{"law": ("constant", *BOTH), **arguments}), note)) == 1


def test_at_equal_data_the_law_of_the_batch_is_all_there_is():
    assert said(plan(("constant", "batch-size"), target=(64, 25)), "steps ") == []
    assert said(plan(("constant", "batch-size"), deeper=9), "effective depth") == []


@pytest.mark.parametrize("other", BOTH)
def test_decay_is_counted_once(other):
    with pytest.raises(LawError, match="one law for weight decay"):
        get_laws((other, "decay-timescale"))


def test_options_are_checked():
    with pytest.raises(LawError, match="scales"):
        BatchSize(scales="lr")
