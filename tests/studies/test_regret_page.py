"""The documents on regret: what they say, and what they own up to."""

from math import inf

from studies.regret_page import RegretEvidence, first_evidence_document
from studies.regret_table import StoredRegret

CLAIM = ("resnet", "-3/2", "[AM]", "-1.5", "-0.98", "-1.10 to -0.90", "**contradicts**")

FIT = ("graphs", "random cells, SGD", "path-sum", "-0.51", "-0.80 to -0.22", "0.713", "edge")


def row(rule, relative, *, family="net", ratio=8.0, interval=None, experiment="resnet"):
    return StoredRegret(
        experiment, family, family, "sgd", rule, f"depth {ratio}", ratio, relative, interval, 700
    )


def evidence(*rows, **changes):
    settings = {
        "scale": "cpu",
        "rows": rows,
        "missing": (),
        "claims": (CLAIM,),
        "exponents": (FIT,),
    }
    return RegretEvidence(**(settings | changes))


def lines(text, start):
    return [line for line in text.splitlines() if line.startswith(start)]


def test_a_case_shows_its_interval_divergence_and_what_is_not_there():
    page = first_evidence_document(
        evidence(
            row("constant", inf),
            row("structure", 0.123, interval=(0.05, 0.25)),
            row("structure", None, ratio=4.0),
        )
    )
    assert lines(page, "| net | depth 8.0") == [
        "| net | depth 8.0 | diverged | 12.3% [5.0, 25.0] |"
    ]
    assert lines(page, "| net | depth 4.0") == ["| net | depth 4.0 | - | target did not learn |"]
    for told in (CLAIM, FIT):
        assert "| " + " | ".join(told) + " |" in page


def test_missing_families_are_named():
    gap = evidence(row("constant", 0.1), missing=("width: MLP", "joint: GPT"))
    assert "not in the stored results: width: MLP; joint: GPT." in first_evidence_document(gap)
    assert "Every declared family is in" in first_evidence_document(evidence())


def test_far_targets_have_a_table_of_their_own():
    page = first_evidence_document(evidence(row("constant", 0.1), row("constant", 0.9, ratio=4.0)))
    far, all_own, everything = lines(page, "| `constant`")
    assert far == all_own == "| `constant` | 1 | 0 | 10.0% | 10.0% | 0% | 100% | 700 |"
    assert everything.startswith("| `constant` | 2 | 0 | 50.0% | 90.0% |")
