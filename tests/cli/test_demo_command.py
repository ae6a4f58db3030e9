"""`etastar demo` prints what was compared."""

import json

import pytest
from typer.testing import CliRunner

from etastar import demo
from etastar.cli import app

ROWS = (
    {"rule": "-3/2", "lr": 0.00125, "interval": None, "loss": 2.75, "relative_regret": 0.0781},
    {
        "rule": "default choice",
        "lr": 0.0166,
        "interval": [0.01, 0.027],
        "loss": 2.5,
        "relative_regret": 0.0,
    },
)


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_the_command_prints_what_was_compared(monkeypatch, options):
    monkeypatch.setattr(demo, "compare_rules", lambda: ROWS)
    shown = CliRunner().invoke(app, ["demo", *options])
    assert shown.exit_code == 0, shown.output
    if options:
        assert json.loads(shown.stdout) == {"rules": list(ROWS)}
    else:
        assert "7.8%" in shown.stdout
        assert "0.0166" in shown.stdout
