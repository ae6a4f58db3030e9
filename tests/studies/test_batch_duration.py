"""Batch size and duration: the smoke scale runs, goes on, and its page says what was found."""

import statistics
from collections import defaultdict
from pathlib import Path

import pytest
import torch

from etastar import Target, Tuned, plan_transfer
from etastar.laws import BatchSize, Duration
from studies.batch_duration import CHANGES, TrainingRuns, arm_settings, arms_of, train_changes
from studies.batch_duration_page import change_page

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
    runs = TrainingRuns("cpu")
    page = change_page(CHANGES["cpu"], runs, arms_of)
    assert page == (runs.path.parent / "README.md").read_text()
    told = {row[0].split(" (")[0]: row[1:] for row in rows(GUIDE) if row[0] != "change"}
    found = defaultdict(dict)
    for change, tuned, arm, moved, _, regret, _ in rows(page.partition("## Carried over")[2])[1:]:
        found[change][arm] = tuned, moved, regret
    for change, arms in found.items():
        tuned, moved, regret = arms["laws"]
        others = [arms[arm][2] if arm in arms else "-" for arm in ("rate", "keep")]
        assert told[change] == [tuned, moved, regret, *others]
    assert len(found) == 3


def test_the_default_choice_takes_no_law_that_ended_higher_than_keeping():
    runs, mean = TrainingRuns("cpu"), statistics.fmean
    for change in CHANGES["cpu"]:
        (laws,), (kept,) = (
            runs.losses(change.target, f"{change.name}: {arm}").values() for arm in ("laws", "keep")
        )
        assert mean(laws) > mean(kept)
    x = torch.zeros(1, 4)
    small, large = (
        (torch.nn.Sequential(*(torch.nn.Linear(4, 4) for _ in range(depth))), x) for depth in (2, 4)
    )
    tuned = Tuned(small, 0.1, batch_size=8, num_steps=300)
    plan = plan_transfer(tuned, Target(large, batch_size=64, num_steps=300), optimizer="adamw")
    assert not {"batch-size", "duration"} & {law.name for law in plan.laws}
    assert any("batch size 8 to 64: no law of this plan corrects" in note for note in plan.notes)


def rows(text):
    lines = [line for line in text.splitlines() if line.startswith("| ") and "---" not in line]
    return [line.strip("| ").split(" | ") for line in lines]
