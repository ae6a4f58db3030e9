"""Numbers and names as text."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etastar.formatting import (
    Shown,
    interval,
    name_pattern,
    number,
    percent,
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
