"""MODEL in every form, and what is wrong with it."""

import random
import sys
from math import prod

import pytest
import torch
from torch import nn

from etastar.errors import EtastarWarning, MissingExtraError, ModelSpecError
from etastar.sources import load_model
from etastar.sources.libraries import SOURCES, ModelSource
from etastar.sources.model_spec import capture_spec

FACTORY = """
import torch
from torch import nn

def plain(depth=3, width=8):
    return nn.Sequential(*(nn.Linear(width, width) for _ in range(depth)))

def with_args(depth=2):
    return plain(depth), (torch.zeros(1, 8),)

def with_kwargs(depth=2):
    return plain(depth), {"input": torch.zeros(1, 8)}

def raising():
    raise RuntimeError("boom")

def number():
    return 3

nothing = None
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "my_models.py"
    path.write_text(FACTORY)
    return path


@pytest.mark.parametrize("factory", ["with_args", "with_kwargs"])
def test_factory_in_a_file(file, factory):
    graph = capture_spec(f"{file}:{factory}", {"depth": 5})
    assert graph.depth().effective_depth == 5


def test_factory_in_a_module(file, monkeypatch):
    monkeypatch.syspath_prepend(file.parent)
    assert len(load_model("my_models:with_args")[0]) == 2
    sys.modules.pop("my_models")


def test_inputs_of_the_caller_go_first(file):
    given = ((torch.zeros(7, 8),), {})
    assert load_model(f"{file}:with_args", inputs=given)[1][0][0].shape == (7, 8)
    assert load_model(f"{file}:plain", inputs=given)[1][0][0].shape == (7, 8)


@pytest.mark.parametrize(
    ("factory", "settings", "message"),
    [
        ("plain", {}, "--input"),
        ("raising", {}, "RuntimeError: boom"),
        ("plain", {"dept": 3}, "TypeError"),
        ("number", {}, "returned int"),
        ("nothing", {}, "no callable 'nothing'"),
        ("absent", {}, "has no 'absent'"),
    ],
)
def test_bad_factories(file, factory, settings, message):
    with pytest.raises(ModelSpecError, match=message):
        load_model(f"{file}:{factory}", settings)


@pytest.mark.parametrize("spec", ["gpt", ":gpt", "zoo:", ""])
def test_unknown_form(spec):
    with pytest.raises(ModelSpecError, match=r"package\.module:factory"):
        load_model(spec)


def test_files_that_do_not_import(tmp_path):
    broken = tmp_path / "broken.py"
    broken.write_text("import nothing_of_that_name")
    with pytest.raises(ModelSpecError, match="nothing_of_that_name"):
        load_model(f"{broken}:f")
    with pytest.raises(ModelSpecError, match="exists"):
        load_model(f"{tmp_path / 'absent.py'}:f")
    with pytest.raises(ModelSpecError, match="could not be imported"):
        load_model("nothing_of_that_name.inner:f")


@pytest.mark.parametrize("name", ["mlp", "cnn1d", "cnn2d", "resmlp", "resnet", "vit", "gpt"])
def test_every_zoo_model_is_captured_on_meta(name):
    graph = capture_spec(f"zoo:{name}", {"depth": 2, "width": 16})
    assert graph.capture == "fake"
    assert graph.depth().effective_depth >= 3


def test_zoo_names_and_arguments_are_checked():
    with pytest.raises(ModelSpecError, match="resmlp"):
        load_model("zoo:transformer")
    with pytest.raises(ModelSpecError, match="depht"):
        load_model("zoo:mlp", {"depht": 3})


@pytest.mark.parametrize(
    ("name", "settings", "depth"),
    [
        ("GPT2LMHeadModel", {"n_layer": 2}, 6),
        ("T5ForConditionalGeneration", {"num_layers": 1, "num_decoder_layers": 1}, 5),
        ("ViTForImageClassification", {"num_hidden_layers": 2}, 6),
        ("Wav2Vec2ForCTC", {"num_hidden_layers": 1}, 12),
        ("WhisperForConditionalGeneration", {"encoder_layers": 1, "decoder_layers": 1}, 5),
    ],
)
def test_transformers_classes_with_their_inputs(name, settings, depth):
    assert capture_spec(f"hf:{name}", settings).depth().effective_depth == depth


class Routed(nn.Linear):
    """Reads a value in Python, which neither meta nor fake tensors can give."""

    def forward(self, x):
        return super().forward(x) if x.sum().item() < 1e9 else x


def test_values_are_built_where_meta_does_not_do(monkeypatch):
    routed = ModelSource("routed", lambda *_: Routed(4, 4), lambda *_: ((torch.zeros(1, 4),), {}))
    monkeypatch.setitem(SOURCES, "routed", routed)
    graph = capture_spec("routed:any")
    assert graph.capture == "real"
    assert graph.depth().effective_depth == 1


def test_transformers_names_and_fields_are_checked():
    with pytest.raises(ModelSpecError, match="hf:GPT2LMHeadModel"):
        load_model("hf:GPT2LMHeadMode")
    with pytest.raises(ModelSpecError, match="n_layer"):
        load_model("hf:GPT2LMHeadModel", {"n_layers": 2})


@pytest.mark.parametrize(
    ("spec", "package", "extra"),
    [("hf:GPT2Model", "transformers", "hf"), ("timm:resnet18", "timm", "timm")],
)
def test_missing_libraries_name_their_extra(monkeypatch, spec, package, extra):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=rf"pip install .*\[{extra}\]") as caught:
        load_model(spec)
    assert caught.value.package == package


LARGE = """
import random
import torch
from torch import nn

class Tied(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.table, self.head = nn.Embedding(50_000, width), nn.Linear(width, 50_000, bias=False)
        self.head.weight = self.table.weight
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(8))
    def forward(self, tokens):
        x = self.table(tokens)
        for layer in self.layers:
            x = x + layer(x).relu()
        return self.head(x)

def require_shapes_alone(model):
    assert all(parameter.is_meta for parameter in model.parameters())
    return model

def chain(width=20_000):
    model = nn.Sequential(*(nn.Linear(width, width) for _ in range(3)))
    return require_shapes_alone(model), torch.randn(2, width)

def tied(width=10_000):
    return require_shapes_alone(Tied(width)), {"tokens": torch.randint(50_000, (2, 8))}

def loaded(width=8):
    model = nn.Linear(width, width)
    model.load_state_dict({"weight": torch.zeros(8, 8, device="cpu"), "bias": torch.zeros(8)})
    return require_shapes_alone(model), torch.zeros(1, width)

def at_random(width=8):
    random.random()
    return require_shapes_alone(nn.Linear(width, width)), torch.rand(1, width)
"""


@pytest.mark.parametrize(
    ("factory", "depth", "parameters"),
    [("chain", 3, 1_200_060_000), ("tied", 10, 1_300_080_000), ("loaded", 1, 72)],
)
def test_own_factories_are_built_without_memory(tmp_path, factory, depth, parameters):
    path = tmp_path / "large.py"
    path.write_text(LARGE)
    graph = capture_spec(f"{path}:{factory}")
    assert graph.capture == "fake"
    assert graph.depth().effective_depth == depth
    assert sum(prod(record.shape) for record in graph.parameter_records.values()) == parameters


def test_building_without_memory_draws_no_random_numbers(tmp_path):
    path = tmp_path / "large.py"
    path.write_text(LARGE)
    random.seed(3)
    torch.manual_seed(3)
    capture_spec(f"{path}:at_random")
    drawn = random.random(), torch.rand(1)
    random.seed(3)
    torch.manual_seed(3)
    assert drawn == (random.random(), torch.rand(1))


VALUES = """
import torch
from torch import nn

def layers(rates):
    return nn.Sequential(*(nn.Linear(8, 8) for _ in rates)), torch.zeros(1, 8)

def drop_rates(depth=3):
    return layers([rate.item() for rate in torch.linspace(0, 0.1, depth)])

def as_numbers(depth=3):
    return layers(nn.Linear(depth, 1).weight.detach().numpy()[0])

def moved(depth=3):
    model, x = layers(range(depth))
    return model.to("cpu"), x

def looked_at(depth=3):
    model, x = layers(range(depth))
    assert model[0].weight.device.type == "cpu"
    return model, x
"""


@pytest.mark.parametrize("factory", ["drop_rates", "as_numbers", "moved", "looked_at"])
def test_factories_that_need_values_get_memory_and_a_line_says_so(tmp_path, factory):
    path = tmp_path / "values.py"
    path.write_text(VALUES)
    with pytest.warns(EtastarWarning, match="it takes that memory: its code does not run"):
        graph = capture_spec(f"{path}:{factory}", {"depth": 4})
    assert graph.depth().effective_depth == 4


@pytest.mark.parametrize(("factory", "message"), [("raising", "boom"), ("plain", "--input")])
def test_what_is_wrong_anyhow_is_said_once(file, factory, message):
    with pytest.raises(ModelSpecError, match=message):  # warnings would be errors of another kind
        capture_spec(f"{file}:{factory}")
