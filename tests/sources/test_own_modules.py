"""Files that a person names find each other, and nothing else in the process finds them."""

import subprocess
import sys

import pytest

from etastar.sources.model_spec import named_object

MODEL = """
from dataclasses import dataclass

import numpy
import torch
from torch import nn

@dataclass
class Shape:
    width: "int" = 4

def where():
    import sibling
    from parts.blocks import block
    return sibling.PLACE, block(), numpy.__file__, torch.__file__

def net(depth=2):
    from sibling import layer
    return nn.Sequential(*(layer() for _ in range(depth))), torch.zeros(1, 4)
"""
SIBLING = """
import torch
from parts import blocks
PLACE = {place!r}
def layer():
    import parts.deep.end
    return torch.nn.Linear(4, parts.deep.end.WIDTH)
"""


def write(folder, place):
    for path, text in {
        "model.py": MODEL,
        "sibling.py": SIBLING.format(place=place),
        "parts/__init__.py": "",
        "parts/blocks.py": f"from . import deep\ndef block():\n    import sibling\n"
        f"    return sibling.PLACE + {place!r}\n",
        "parts/deep/__init__.py": "",
        "parts/deep/end.py": "WIDTH = 4",
        **{f"{name}.py": "raise RuntimeError('this is not the library')" for name in SHADOWS},
    }.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    return folder


SHADOWS = ("optuna", "torch", "numpy", "plotly", "json")


@pytest.fixture
def folders(tmp_path, monkeypatch):
    for name in ("optuna", "plotly"):  # as in a process that has not come to them yet
        for module in [one for one in sys.modules if one.partition(".")[0] == name]:
            monkeypatch.delitem(sys.modules, module)
    return [write(tmp_path / place, place) for place in ("first", "second")]


def test_siblings_are_found_late_and_two_folders_are_two(folders):
    before = list(sys.path)
    first, second = (named_object(f"{folder}/model.py", "where") for folder in folders)
    for function, place in ((first, "first"), (second, "second"), (first, "first")):
        assert function()[:2] == (place, place * 2)
        assert not [file for file in function()[2:] if place in file]
    model, inputs = named_object(f"{folders[0]}/model.py", "net")(depth=3)
    assert model(inputs).shape == (1, 4)
    assert sys.path == before
    assert not {"sibling", "parts", "model"} & set(sys.modules)
    shape = named_object(f"{folders[1]}/model.py", "Shape")()
    assert sys.modules[type(shape).__module__].Shape is type(shape)


def test_a_module_of_the_working_directory_shadows_no_library(folders, monkeypatch):
    monkeypatch.chdir(folders[1])
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place])
    before = list(sys.path)
    assert named_object("parts.blocks", "block")() == "secondsecond"
    assert named_object("model", "where")()[0] == "second"
    import optuna

    assert "second" not in optuna.__file__
    assert sys.path == before


def test_what_is_imported_in_the_usual_way_stays_one_module(tmp_path, monkeypatch):
    (tmp_path / "known_here.py").write_text("SEEN = []")
    (tmp_path / "user.py").write_text("import known_here\ndef seen():\n    return known_here.SEEN")
    monkeypatch.syspath_prepend(tmp_path)
    import known_here

    assert named_object(f"{tmp_path}/user.py", "seen")() is known_here.SEEN
    monkeypatch.delitem(sys.modules, "known_here")


def test_the_command_as_a_module_finds_libraries_before_files_of_the_folder(tmp_path):
    for name in ("typer", "rich", "torch", "numpy"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('this is not the library')")
    command = [sys.executable, "-m", "etastar", "--version"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
