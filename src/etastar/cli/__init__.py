"""The command line: parse, call, print; one file for each command."""

from __future__ import annotations

from etastar.cli import (
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

__all__ = [
    "app",
    "check_command",
    "demo_command",
    "depth_command",
    "fit_command",
    "main",
    "measure_command",
    "report_command",
    "sweep_command",
    "transfer_command",
    "tune_command",
]
