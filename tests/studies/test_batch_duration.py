"""Batch size and duration: the smoke scale runs, goes on, and its page says what was found."""

from collections import defaultdict
from pathlib import Path

import pytest

from etastar.fit import find_optimum
from etastar.laws import BatchSize, Duration
from studies.batch_duration import CHANGES, TrainingRuns, arm_settings, arms_of, train_changes

GUIDE = (Path(__file__).parents[2] / "docs/guides/batch_and_duration.md").read_text()


def test_what_is_declared_keeps_the_data_or_the_batch():
    steps, batch, images = CHANGES["cpu"]
    assert steps.base.batch_size == steps.target.batch_size
    for change in (batch, images):
        ends = change.base, change.target
        assert len({cell.batch_size * cell.num_steps for cell in ends}) == 1
    assert arms_of(batch) == ("laws", "keep", "rate")
    assert arms_of(images) == ("laws", "keep")


@pytest.mark.parametrize(
    ("place", "arm", "expected"),
    [
        (0, "laws", (8**-0.5, 0.1 * 8**-0.5, (1 - 0.1 / 8, 1 - 0.001 / 8), 8**0.5 * 1e-8)),
        (1, "laws", (8**0.5, 0.1 * 8**0.5, (1 - 0.1 * 8, 1 - 0.001 * 8), 8**-0.5 * 1e-8)),
        (1, "keep", (1.0, 0.1, (0.9, 0.999), 1e-8)),
        (1, "rate", (8**0.5, 0.1, (0.9, 0.999), 1e-8)),
    ],
)
def test_an_arm_changes_what_it_says(place, arm, expected):
    found = arm_settings(CHANGES["cpu"][place], arm, "smoke")
    lr, decay, betas, eps = expected
    assert found["lr"] == pytest.approx(lr)
    assert found["weight_decay"] == pytest.approx(decay)
    assert found["betas"] == pytest.approx(betas)
    assert found["eps"] == pytest.approx(eps)
    assert BatchSize().options == Duration().options == {}


def test_a_study_that_was_cut_goes_on_and_writes_its_page(tmp_path):
    done = list(train_changes("smoke", folder=tmp_path))
    runs = TrainingRuns("smoke", tmp_path)
    lines = runs.path.read_text().splitlines(keepends=True)
    assert len(set(lines)) == len(lines) == len(runs.read())
    arms = {run.arm for run in runs.read()}
    assert arms == {"grid", *(f"gpt {w}: {a}" for w in ("steps", "batch") for a in _ARMS)}
    page = (tmp_path / "smoke" / "README.md").read_text()
    assert all(f"| gpt {what} |" in page for what in ("steps", "batch"))

    trained = set(map(_key, runs.read()))
    runs.path.write_text("".join(lines[:5]) + lines[5][:20])  # killed while writing
    assert list(train_changes("smoke", folder=tmp_path)) == done
    assert set(map(_key, runs.read())) == trained
    assert (tmp_path / "smoke" / "README.md").read_text() == page


_ARMS = ("laws", "keep", "rate")


def _key(run):
    return run.cell, run.arm, run.lr, run.seed


def test_the_guide_says_what_the_stored_runs_say():
    losses = defaultdict(lambda: defaultdict(list))
    for run in TrainingRuns("cpu").read():
        if (run.cell.family, run.arm) == ("gpt", "grid"):
            losses[run.cell.batch_size, run.cell.num_steps][run.lr].append(run.loss)
    best = {
        cell: find_optimum(sorted(curve), [curve[lr] for lr in sorted(curve)]).lr
        for cell, curve in losses.items()
    }
    base = best[8, 300]
    laws = {(8, 300): None, (8, 2400): base * 8**-0.5, (64, 300): base}
    for (batch, steps), rate in laws.items():
        told = "" if rate is None else f" {rate:.4f}"
        assert f"| {batch} x {steps:,} | {best[batch, steps]:.4f} |{told} |" in GUIDE
    curve = {lr: sum(each) / len(each) for lr, each in losses[8, 2400].items()}
    ends = curve[2.0**-10], curve[2.0**-8], curve[2.0**-9], min(curve.values())
    told = (
        "the laws' rate ends at {:.2f} nats, the first row's between {:.2f} and {:.2f}, "
        "the best one at {:.2f}"
    )
    assert told.format(*ends) in GUIDE.replace("\n", " ")
