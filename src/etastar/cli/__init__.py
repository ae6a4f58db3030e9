"""The command line: parse, call, print; one file for each command."""

from __future__ import annotations

import os

from etastar.cli import (
    check_command,
    demo_command,
    depth_command,
    figure_command,
    fit_command,
    measure_command,
    report_command,
    sweep_command,
    transfer_command,
    tune_command,
)
from etastar.cli.application import app, end_on_sigterm, plain_warnings

__all__ = [
    "app",
    "check_command",
    "demo_command",
    "depth_command",
    "figure_command",
    "fit_command",
    "main",
    "measure_command",
    "report_command",
    "sweep_command",
    "transfer_command",
    "tune_command",
]


def main() -> None:
    """Entry point of the command `etastar`."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    plain_warnings()
    end_on_sigterm()
    app()
