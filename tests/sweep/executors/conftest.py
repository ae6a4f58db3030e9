"""Recipes of importable functions, shared with the contract of executors."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="package")
def cases():
    """The module of recipes, importable by other processes too."""
    with pytest.MonkeyPatch.context() as patch:
        here = str(Path(__file__).parents[2] / "contracts")
        patch.syspath_prepend(here)
        before = os.environ.get("PYTHONPATH")
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (here, before))))
        import executor_cases

        yield executor_cases
