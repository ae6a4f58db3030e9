"""Numbers and names as text."""

import math
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import etastar
from etastar import formatting
from etastar.formatting import (
    Shown,
    interval,
    name_lines,
    name_pattern,
    number,
    percent,
    short_repr,
    shorten_middle,
)


@given(st.floats(1e-300, 1e300))
def test_a_number_has_four_digits_and_at_most_ten_characters(x):
    assert float(number(x)) == pytest.approx(x, rel=5.1e-4)
    assert len(number(x)) <= 10


@given(st.text(max_size=60), st.integers(1, 70))
def test_a_shortened_text_fits_and_keeps_both_ends(text, width):
    short = shorten_middle(text, width)
    assert len(short) <= width
    if len(text) <= width:
        assert short == text
    else:
        before, _, after = short.partition("…") if "…" not in text else ("", "", "")
        assert text.startswith(before)
        assert text.endswith(after)


def test_intervals_and_percentages():
    assert interval(1e-9, 0.25) == "1e-09 to 0.25"
    assert [percent(x) for x in (0.0314, -1.0, math.inf)] == ["3.1%", "-100.0%", "diverged"]


def test_patterns_stand_in_the_order_of_their_first_name():
    names = ["b.0.w", "a.1.2.w", "b.3.w", "c"]
    assert name_pattern(names) == "b.*.w (2), a.*.*.w, c"


def test_a_notebook_gets_the_text_escaped():
    class Named(Shown):
        def __rich__(self):
            return '<script>alert("x")</script> & more'

    shown = Named()._repr_html_()
    assert "<script" not in shown
    assert "&lt;script&gt;alert(&quot;x&quot;)&lt;/script&gt; &amp; more" in shown


def test_names_of_the_same_blocks_stand_behind_these_once():
    within = ("attn.qkv.weight", "mlp.fc.weight")
    names = ["stem.weight", "head.weight", *(f"h.{i}.{w}" for i in range(24) for w in within)]
    assert list(name_lines([*names, "h.3.gain"], 80)) == [
        "stem.weight, head.weight, h.*.gain",
        "h.* (24): attn.qkv.weight, mlp.fc.weight",
    ]


def test_many_names_without_dotted_indices_are_folded_by_their_digits():
    names = [f"dense{b}.layer{i}.conv{c}.weight" for b in (1, 2) for i in range(9) for c in (1, 2)]
    assert list(name_lines(names, 80)) == ["dense*.layer*.conv*.weight (36)"]


def test_more_names_than_five_lines_hold_are_counted():
    letters = "abcdefghijklmnopqrstuvwxyz"
    *lines, last = name_lines([f"{a}{b}_projection.weight" for a in letters for b in letters], 78)
    assert last == "... 676 in all"
    assert len(lines) == 5


@given(st.lists(st.from_regex(r"[a-z0-3]{1,30}(\.[a-z0-3]{1,30}){0,4}", fullmatch=True)))
def test_lines_of_names_fit(names):
    assert all(len(line) <= 60 for line in name_lines(names, 60))


@dataclass(frozen=True)
class Record:
    value: object
    other: object = None


def test_a_record_on_one_line_counts_what_is_long_and_shows_what_is_short():
    assert short_repr(Record(0.1, "sgd")) == "Record(value=0.1, other='sgd')"
    assert short_repr(Record((0.1, 0.2), [1])) == "Record(value=(0.1, 0.2), other=[1])"
    assert short_repr(Record({"x": (1,)}, list(range(9)))) == (
        "Record(value={'x': (1,)}, other=<9 int>)"
    )
    assert short_repr(Record((Record(1), Record(2)))) == "Record(value=<2 Record>, other=None)"
    assert short_repr(Record(Record(1), 10**40)) == (
        "Record(value=Record(value=1, other=None), other=1000...<41 digits>)"
    )
    models = nn.Sequential(nn.Linear(2, 2)), torch.zeros(9, 9)
    assert short_repr(Record(models, len)) == "Record(value=(Sequential, Tensor), other=len)"
    assert len(short_repr(Record("x" * 9000, Record("y" * 9000)))) < 200


def test_an_inner_index_that_all_names_share_is_kept():
    def names(*inner):
        return [f"blocks.{k}.mlp.{i}.weight" for k in range(3) for i in inner]

    assert formatting.name_pattern(names(0)) == "blocks.*.mlp.0.weight (3)"
    assert formatting.name_pattern(names(0, 2)) == "blocks.*.mlp.*.weight (6)"
    assert list(formatting.name_lines(names(2), 80)) == ["blocks.*.mlp.2.weight (3)"]


def test_a_notebook_shows_a_graph_by_its_depth():
    chain = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 1))
    graph = etastar.capture_graph(chain, torch.zeros(1, 2))
    assert "effective depth     2" in graph._repr_html_()
    bare = etastar.capture_graph(torch.nn.ReLU(), torch.zeros(1, 2))
    assert bare._repr_html_().startswith("<pre>&lt;")
