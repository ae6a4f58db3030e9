"""The public names are a promise."""

import subprocess
import sys

import etastar

PUBLIC = [
    "Budget",
    "DepthReport",
    "EtastarError",
    "Experiment",
    "Graph",
    "Measure",
    "ParamInfo",
    "SweepResult",
    "Target",
    "TransferPlan",
    "Tuned",
    "UpdateReport",
    "capture_graph",
    "check_schedule",
    "check_stability",
    "coordinate_check",
    "depth_scan",
    "effective_depth",
    "find_optimum",
    "fit_power_law",
    "initialize_",
    "measure_update",
    "optimizer_like",
    "parameter_roles",
    "plan_transfer",
    "run_sweep",
    "schedule_arguments",
    "transfer_regret",
    "width_scan",
]

HEAVY = (
    "matplotlib",
    "plotly",
    "ray",
    "optuna",
    "transformers",
    "sklearn",
    "datasets",
    "typer",
    "pandas",
)


def test_public_names_are_pinned():
    assert sorted(etastar.__all__) == PUBLIC
    assert all(getattr(etastar, name).__doc__ for name in PUBLIC)


def test_import_stays_light():
    code = f"import sys, etastar; print([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.strip() == "[]"


def test_errors_have_three_parts():
    error = etastar.EtastarError("this", "that", "do")
    assert str(error).splitlines() == ["received: this", "expected: that", "what to do: do"]
