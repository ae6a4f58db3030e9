"""The demo: every law at the deep network, regret against the best rate there."""

import json
import math

import pytest
from typer.testing import CliRunner

from etastar.cli import app, demo_command

LAWS = ["constant", "effective-depth", "path-sum", "structure", "depth-mup", "complete-p"]


@pytest.fixture(scope="module")
def rows():
    return list(demo_command._compare_laws((1, 6), num_steps=3, seeds=(0, 1)))


@pytest.mark.slow
def test_every_law_has_a_rate_and_a_regret(rows):
    assert [row["law"] for row in rows] == LAWS
    assert len({row["best_lr"] for row in rows}) == 1
    assert all(
        row["relative_regret"] is None or math.isfinite(row["relative_regret"]) for row in rows
    )
    json.dumps(rows, allow_nan=False)


@pytest.mark.slow
def test_rates_are_those_of_the_laws(rows):
    lrs = {row["law"]: row["lr"] for row in rows}
    assert lrs["effective-depth"] / lrs["constant"] == pytest.approx((3 / 8) ** 1.5)
    assert lrs["path-sum"] < lrs["structure"] < lrs["constant"]


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_the_command_prints_what_was_compared(monkeypatch, options):
    found = [
        {"law": "constant", "lr": 0.125, "best_lr": 0.0039, "relative_regret": None},
        {"law": "structure", "lr": 0.0115, "best_lr": 0.0039, "relative_regret": 0.252},
    ]
    monkeypatch.setattr(demo_command, "_compare_laws", lambda: iter(found))
    shown = CliRunner().invoke(app, ["demo", *options])
    assert shown.exit_code == 0, shown.output
    if options:
        assert json.loads(shown.stdout) == {"laws": found}
    else:
        assert "diverged" in shown.stdout
        assert "25.2%" in shown.stdout
