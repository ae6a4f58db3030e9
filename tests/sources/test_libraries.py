"""timm and torchvision by name, in a process that can import them (see the Makefile)."""

import json
import subprocess
import sys
import types
from pathlib import Path

import pytest

from etastar.errors import ModelSpecError
from etastar.sources import load_model

ROOT = Path(__file__).parents[2]

RUN = """
import json, sys
sys.path.insert(0, sys.argv[1])
from vision import declare_operators
declare_operators()
from etastar.errors import EtastarError
from etastar.sources.model_spec import capture_spec
found = {}
for spec, settings in json.loads(sys.argv[2]):
    try:
        graph = capture_spec(spec, settings)
        shape = graph.nodes[graph.inputs[graph.data_inputs[0]]].shape
        found[spec] = [graph.depth().effective_depth, list(shape)]
    except EtastarError as error:
        found[spec] = [type(error).__name__, error.received]
print(json.dumps(found))
"""

SPECS = [
    ["torchvision:resnet18", {"num_classes": 7}],
    ["torchvision:vgg11", {}],
    ["torchvision:nothing", {}],
    ["torchvision:resnet34", {"depth": 3}],
    ["timm:resnet18", {"in_chans": 1}],
    ["timm:vit_tiny_patch16_224", {"img_size": 32}],
    ["timm:nothing", {}],
]


DETECTORS = """
    deeplabv3_mobilenet_v3_large fcn_resnet50 lraspp_mobilenet_v3_large retinanet_resnet50_fpn
    fcos_resnet50_fpn ssdlite320_mobilenet_v3_large keypointrcnn_resnet50_fpn resnet18
""".split()
# A download fails at once, so that weights that were asked for show.
BUILD = (
    RUN.partition("from etastar.errors")[0]
    + """
import torch
def refused(*args, **kwargs):
    raise AssertionError("weights were asked for")
torch.hub.load_state_dict_from_url = refused
import torchvision
torchvision.models._api.load_state_dict_from_url = refused
from etastar.sources.libraries import SOURCES
with torch.device("meta"):
    for name in sys.argv[2:]:
        SOURCES["torchvision"].build(name, {})
try:
    torchvision.models.get_model("fcn_resnet50")
except AssertionError:
    print("the fake download is in place")
"""
)


@pytest.mark.skipif(not (ROOT / ".vision").is_dir(), reason="no torchvision and timm in .vision")
def test_models_by_name():
    command = [sys.executable, "-c", RUN, str(ROOT / "tests"), json.dumps(SPECS)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["torchvision:resnet18"] == [13, [2, 3, 224, 224]]
    assert found["torchvision:vgg11"] == [11, [2, 3, 224, 224]]
    assert found["timm:resnet18"] == [13, [2, 1, 224, 224]]
    assert found["timm:vit_tiny_patch16_224"] == [26, [2, 3, 32, 32]]
    for bad in ("torchvision:nothing", "torchvision:resnet34", "timm:nothing"):
        assert found[bad][0] == "ModelSpecError"
        assert bad in found[bad][1]


@pytest.mark.skipif(not (ROOT / ".vision").is_dir(), reason="no torchvision and timm in .vision")
def test_no_builder_of_torchvision_asks_for_weights():
    command = [sys.executable, "-c", BUILD, str(ROOT / "tests"), *DETECTORS]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "the fake download is in place\n"


@pytest.mark.parametrize("backbone", [False, True])
def test_weights_are_left_out_of_all_that_a_builder_takes(monkeypatch, backbone):
    seen = {}

    def plain(*, weights="yes", classes=1):
        return seen.update(weights=weights) or 1 / 0

    def detector(*, weights="yes", weights_backbone="yes", classes=1):
        return seen.update(weights=weights, weights_backbone=weights_backbone) or 1 / 0

    fake = types.ModuleType("torchvision")
    builder = detector if backbone else plain
    fake.models = types.SimpleNamespace(
        get_model_builder=lambda name: builder, get_model=lambda name, **kwargs: builder(**kwargs)
    )
    monkeypatch.setitem(sys.modules, "torchvision", fake)
    with pytest.raises(ModelSpecError, match="ZeroDivisionError"):
        load_model("torchvision:any", {"classes": 3})
    assert seen == ({"weights": None} | ({"weights_backbone": None} if backbone else {}))


def test_a_library_that_does_not_import_is_not_called_missing(monkeypatch, tmp_path):
    (tmp_path / "torchvision.py").write_text("raise RuntimeError('operator nms does not exist')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "torchvision", raising=False)
    with pytest.raises(ModelSpecError, match="operator nms does not exist"):
        load_model("torchvision:resnet18")


def test_settings_reach_the_library(monkeypatch):
    seen = {}
    fake = types.ModuleType("timm")
    fake.create_model = lambda name, **settings: seen.update(name=name, **settings) or 1 / 0
    monkeypatch.setitem(sys.modules, "timm", fake)
    with pytest.raises(ModelSpecError, match="ZeroDivisionError"):
        load_model("timm:resnet18", {"in_chans": 1})
    assert seen == {"name": "resnet18", "pretrained": False, "in_chans": 1}
