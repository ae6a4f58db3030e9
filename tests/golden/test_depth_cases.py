"""Every network whose paths are known on paper: depth, additions, count and moments, exactly."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from typer.testing import CliRunner

from etastar.cli import app
from etastar.depth import DepthReport, PathStep
from etastar.graph.capture import effective_depth

if TYPE_CHECKING:
    from types import ModuleType

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
GOLDEN = json.loads((HERE / "depth_cases.json").read_text())


def _load_models() -> ModuleType:
    spec = importlib.util.spec_from_file_location("golden_depth_models", HERE / "depth_models.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Polynomial:
    """Exact polynomial in x: coefficient by exponent."""

    def __init__(self, terms: dict[int, int]) -> None:
        self.terms = terms

    @staticmethod
    def _of(value: Polynomial | int) -> Polynomial:
        return value if isinstance(value, Polynomial) else Polynomial({0: value})

    def __add__(self, other: Polynomial | int) -> Polynomial:
        terms = dict(self.terms)
        for exponent, coefficient in self._of(other).terms.items():
            terms[exponent] = terms.get(exponent, 0) + coefficient
        return Polynomial(terms)

    def __mul__(self, other: Polynomial | int) -> Polynomial:
        terms: dict[int, int] = {}
        for a, m in self.terms.items():
            for b, n in self._of(other).terms.items():
                terms[a + b] = terms.get(a + b, 0) + m * n
        return Polynomial(terms)

    def __pow__(self, exponent: int) -> Polynomial:
        result, base = Polynomial({0: 1}), self
        while exponent:
            if exponent & 1:
                result = result * base
            exponent, base = exponent >> 1, base * base
        return result

    __radd__ = __add__
    __rmul__ = __mul__

    def moment(self, k: int) -> int:
        return sum(count * length**k for length, count in self.terms.items())


def polynomial(text: str) -> Polynomial:
    """Expand paper notation, such as `2x^3 + (x + x^2)^4`."""
    names = {"x": Polynomial({1: 1})}
    for name, definition in GOLDEN["terms"].items():
        names[name] = eval(_as_python(definition), {}, dict(names))
    return Polynomial._of(eval(_as_python(text), {}, names))


def _as_python(text: str) -> str:
    return re.sub(r"(?<=[\dxrB)])\s*(?=[xrB(])", "*", text.replace("^", "**"))


def check(report: DepthReport, case: dict[str, Any]) -> None:
    paths = polynomial(case["paths"])
    assert report.effective_depth == min(paths.terms) == case["shortest"]
    assert len(report.path) == report.effective_depth
    assert report.longest_path == max(paths.terms)
    assert report.residual_additions == case["additions"]
    assert report.path_count == paths.moment(0)
    assert report.path_length_moments == tuple(paths.moment(k) for k in range(4))
    if "moments" in case:
        assert list(report.path_length_moments) == case["moments"]


def depth_of(name: str) -> DepthReport:
    model, inputs = getattr(_load_models(), name)()
    if isinstance(inputs, dict):
        return effective_depth(model, **inputs)
    return effective_depth(model, *inputs)


def test_polynomials_are_expanded_as_written() -> None:
    assert polynomial("2x^3 + (1 + x)^2 x").terms == {1: 1, 2: 2, 3: 3}
    assert polynomial("r^2").terms == {2: 1, 4: 2, 6: 1}


@pytest.mark.parametrize("name", GOLDEN["cases"])
def test_hand_written_network(name: str) -> None:
    report = depth_of(name)
    check(report, GOLDEN["cases"][name])
    assert report.capture == "fake"
    assert bool(report.recurrent) == (name == "lstm")


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("name", GOLDEN["transformers"])
def test_transformers_network(name: str, device: str) -> None:
    with torch.device(device):
        report = depth_of(name)
    check(report, GOLDEN["transformers"][name])
    assert report.capture == "fake"
    assert report.recurrent == report.unused_parameters == ()


@pytest.mark.parametrize("name", GOLDEN["meta"])
def test_network_too_large_for_memory(name: str) -> None:
    check(depth_of(name), GOLDEN["meta"][name])


@pytest.mark.parametrize(("name", "where"), [("gpt2", "transformer.wte.weight")])
def test_tied_table_is_reported_and_allowed(name: str, where: str) -> None:
    report = depth_of(name)
    assert report.tied == (where,)
    assert report.recurrent == ()


def command_line(*args: str) -> DepthReport:
    result = CliRunner().invoke(app, ["depth", *args, "--json"])
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    steps = tuple(PathStep(**step) for step in report["path"])
    moments = tuple(report["path_length_moments"])
    return DepthReport(**{**report, "path": steps, "path_length_moments": moments})


@pytest.mark.parametrize("name", [*GOLDEN["cases"], *GOLDEN["meta"]])
def test_factory_on_the_command_line(name: str) -> None:
    report = command_line(f"{HERE / 'depth_models.py'}:{name}")
    check(report, {**GOLDEN["cases"], **GOLDEN["meta"]}[name])


@pytest.mark.parametrize("name", GOLDEN["command_line"])
def test_transformers_class_on_the_command_line(name: str) -> None:
    spec, *settings = GOLDEN["command_line"][name].split()
    args = [word for setting in settings for word in ("--arg", setting)]
    check(command_line(spec, *args), GOLDEN["transformers"][name])


_VISION = """
import importlib.util, json, sys
sys.path[:0] = [sys.argv[1], sys.argv[2]]
from vision import declare_operators
declare_operators()
spec = importlib.util.spec_from_file_location("golden_depth_models", sys.argv[3])
models = importlib.util.module_from_spec(spec)
spec.loader.exec_module(models)
from etastar.graph.capture import effective_depth
reports = {}
for name in sys.argv[4:]:
    model, inputs = getattr(models, name)()
    reports[name] = effective_depth(model, *inputs).as_dict()
print(json.dumps(reports))
"""


@pytest.mark.skipif(
    not (ROOT / ".vision").is_dir(), reason="torchvision and timm are not in .vision (see Makefile)"
)
def test_vision_networks() -> None:
    """In a process of its own: transformers must not find a torchvision without its operators."""
    where = [str(ROOT / "tests"), str(ROOT / "src"), str(HERE / "depth_models.py")]
    command = [sys.executable, "-c", _VISION, *where, *GOLDEN["vision"]]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    reports = json.loads(done.stdout)
    for name, case in GOLDEN["vision"].items():
        fields = {
            **reports[name],
            "path_length_moments": tuple(reports[name]["path_length_moments"]),
        }
        check(DepthReport(**fields), case)
