"""Paths derived by hand from the architecture: networks of torchvision and timm, at two depths."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = Path(__file__).with_name("vision_derivations.py")
SIZES = (2, 3)

spec = importlib.util.spec_from_file_location("vision_derivations", SOURCE)
derivations = importlib.util.module_from_spec(spec)
spec.loader.exec_module(derivations)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (ROOT / ".vision").is_dir(),
        reason="torchvision and timm are not in .vision (see Makefile)",
    ),
]


@pytest.fixture(scope="module")
def reports():
    """In a process of its own: transformers must not find a torchvision without its operators."""
    paths = os.pathsep.join([str(ROOT / ".vision"), str(ROOT / "src")])
    command = [sys.executable, str(SOURCE), *map(str, SIZES)]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": paths},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_paths_and_streams_are_those_derived_by_hand(reports, reads_as):
    assert list(reports) == list(derivations.CASES)
    for name, (_, paths, additions, streams) in derivations.CASES.items():
        for n, report in zip(SIZES, reports[name], strict=True):
            derived = reads_as(paths(n), additions=additions(n))
            expected = json.loads(json.dumps({**derived, "streams": sorted(streams(n))}))
            assert {key: report[key] for key in expected} == expected, (name, n)
