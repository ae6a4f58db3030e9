"""The public names are a promise."""

import ast
import inspect
import subprocess
import sys

import pytest

import etastar

PUBLIC = [
    "DepthReport",
    "EtastarError",
    "Graph",
    "Measure",
    "ParamInfo",
    "Recipe",
    "SweepResult",
    "Target",
    "TransferPlan",
    "TuneResult",
    "Tuned",
    "UpdateReport",
    "capture_graph",
    "check_schedule",
    "check_stability",
    "cite",
    "coordinate_check",
    "effective_depth",
    "figure",
    "find_optimum",
    "fit_power_law",
    "initialize_",
    "measure_update",
    "optimizer_like",
    "plan_transfer",
    "run_sweep",
    "scan_updates",
    "schedule_arguments",
    "transfer_regret",
    "tune",
    "warmup_cosine",
    "write_report",
]

HEAVY = (
    "torch",
    "numpy",
    "rich",
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
PACKAGES = ["datasets", "fit", "graph", "init", "laws", "measure", "models", "optimizers", "sweep"]


def output_of(code):
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    return done.stdout.strip()


def test_public_names_are_pinned():
    assert sorted(etastar.__all__) == PUBLIC
    assert all(getattr(etastar, name).__doc__ for name in PUBLIC)


def test_import_brings_nothing_that_is_not_asked_for():
    assert output_of(f"import sys, etastar; print([m for m in {HEAVY!r} if m in sys.modules])") == (
        "[]"
    )


def test_names_come_when_they_are_asked_for():
    code = (
        f"import etastar; print(*(getattr(etastar, name).__name__ for name in {PACKAGES!r}), "
        "*dir(etastar)); from etastar import *; print(coordinate_check.__name__)"
    )
    first, second = output_of(code).splitlines()
    assert first.split()[: len(PACKAGES)] == [f"etastar.{name}" for name in PACKAGES]
    assert {*first.split()} >= {*PUBLIC, *PACKAGES}
    assert second == "coordinate_check"
    with pytest.raises(AttributeError, match="no attribute 'plan_transfers'"):
        _ = etastar.plan_transfers


def test_checkers_and_people_see_the_same_names():
    """Names under TYPE_CHECKING and in the table of places, whence `__all__` is, are one set."""
    (checked,) = (n for n in ast.parse(inspect.getsource(etastar)).body if isinstance(n, ast.If))
    aliases = [(node.module, alias) for node in checked.body for alias in node.names]
    assert all(alias.name == alias.asname for _, alias in aliases)  # exported, to a checker
    imported = {(module, alias.name) for module, alias in aliases}
    places = etastar._PLACES.items()
    assert imported == {(f"etastar.{place}", name) for place, names in places for name in names}
    assert {name for _, name in imported} == {*etastar.__all__}
