"""`initialize_` on thirty networks that people have: stable at two depths, or it says why."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
SOURCE = HERE / "thirty_networks.py"

spec = importlib.util.spec_from_file_location("golden_thirty_networks", SOURCE)
networks = importlib.util.module_from_spec(spec)
spec.loader.exec_module(networks)

EXPLAINED = {
    "gpt2, tied": "tied: drawn as the projection",
    "lora on gpt2": "frozen (requires_grad is False)",
    "resnet": "it ends a branch, and undoes the 1/",
    "gemma2": "it ends a branch, and undoes the 1/",
    "mamba": "set on purpose: its values are around -4",
    "mobilenetv3": "is taken to keep the second moment",
    "timm cait": "small on purpose",
}
"""What the report says of networks that are not stable by it."""

KEPT = {
    "lora on gpt2": "frozen (requires_grad is False)",
    "mamba": "no rule covers it",
    "dit": "zero on purpose",
    "rezero": "small on purpose",
    "convnext": "small on purpose",
    "vit": "zero on purpose",
    "swin": "a table added inside the network",
    "timm deit3": "small on purpose",
    "timm cait": "small on purpose",
}
"""What the report says that it left alone."""

_CHECK = """
import importlib.util, json, sys
def outcomes(networks, name, depths):
    from etastar.graph import capture_graph
    from etastar.init import check_stability, initialize_
    found = []
    for depth in depths:
        model, inputs = networks.build_network(name, depth)
        args, kwargs = (inputs, {}) if isinstance(inputs, tuple) else ((), inputs)
        graph = capture_graph(model, *args, **kwargs)
        report = initialize_(model, graph)
        batch = kwargs or dict(zip(graph.inputs, args))
        checked = check_stability(model, batch)
        found.append({
            "stable": checked.stable,
            "verdict": checked.verdict,
            "why": sorted({entry.why for entry in report.entries}),
            "kept": sorted({entry.why for entry in report.kept}),
        })
    return found
"""

_BESIDE = (
    _CHECK
    + """
sys.path[:0] = [sys.argv[1], sys.argv[2]]
from vision import declare_operators
declare_operators()
spec = importlib.util.spec_from_file_location("golden_thirty_networks", sys.argv[3])
networks = importlib.util.module_from_spec(spec)
spec.loader.exec_module(networks)
print(json.dumps({n: outcomes(networks, n, d) for n, d in json.loads(sys.argv[4]).items()}))
"""
)


def depths(name):
    return (1, 4) if name == "u-net" else (2, 6)  # of an image of 64, six levels leave one pixel


def judge(name, found):
    for outcome in found:
        if name in EXPLAINED:
            assert any(EXPLAINED[name] in why for why in outcome["why"]), (name, outcome)
        else:
            assert outcome["stable"], (name, outcome["verdict"])
        if name in KEPT:
            assert any(KEPT[name] in why for why in outcome["kept"]), (name, outcome["kept"])
        assert all(outcome["why"])


def test_there_are_thirty():
    assert len({**networks.HERE, **networks.BESIDE}) >= 30
    assert set(networks.HERE) | set(networks.BESIDE) >= set(EXPLAINED) | set(KEPT)


@pytest.mark.slow
@pytest.mark.parametrize("name", networks.HERE)
def test_a_network_is_stable_at_two_depths_or_the_report_says_why(name):
    scope = {}
    exec(_CHECK, scope)
    judge(name, scope["outcomes"](networks, name, depths(name)))


@pytest.mark.slow
@pytest.mark.skipif(
    not (ROOT / ".vision").is_dir(), reason="torchvision and timm are not in .vision (see Makefile)"
)
def test_vision_networks_likewise():
    """In a process of its own: transformers must not find a torchvision without its operators."""
    asked = json.dumps({name: depths(name) for name in networks.BESIDE})
    where = [str(ROOT / "tests"), str(ROOT / "src"), str(SOURCE)]
    command = [sys.executable, "-c", _BESIDE, *where, asked]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for name, found in json.loads(done.stdout).items():
        judge(name, found)
