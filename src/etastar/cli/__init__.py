"""The command line: parse, call, print; one file for each command, which joins when imported."""

from __future__ import annotations

from etastar.cli import (  # noqa: F401
    check_command,
    demo_command,
    depth_command,
    fit_command,
    measure_command,
    report_command,
    sweep_command,
    transfer_command,
    tune_command,
)
from etastar.cli.application import app, main

__all__ = ["app", "main"]
