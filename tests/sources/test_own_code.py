"""Data and recipes of one's own: read, refused, and sent to other processes by their names."""

import json
import pickle
import subprocess
import sys

import pytest
import torch

from etastar.errors import ModelSpecError, TrialError
from etastar.sources.own_code import own_data, own_recipe
from etastar.sources.recipe_spec import RecipeSpec, named_recipe
from etastar.sweep import run_sweep
from etastar.sweep.recipe import Point
from etastar.sweep.trial import run_trial

OWN = """
import torch
from torch import nn
from etastar import Recipe
from etastar.datasets import Dataset

def batches(seed, batch_size, num_steps, shift=0.0):
    draw = torch.Generator().manual_seed(seed)
    for _ in range(num_steps):
        inputs = torch.randn(batch_size, 6, generator=draw)
        yield inputs, inputs.sum(1, keepdim=True) + shift

def classes(seed, batch_size, num_steps):
    return [(x, (y[:, 0] > 0).long()) for x, y in batches(seed, batch_size, num_steps)]

def dicts(seed, batch_size, num_steps):
    return [{"x": x, "y": y} for x, y in batches(seed, batch_size, num_steps)]

def short(seed, batch_size, num_steps):
    return [(torch.ones(batch_size, 6), torch.ones(batch_size, 1))]

def unseeded(seed, batch_size, num_steps):
    return [(torch.randn(batch_size, 6), torch.ones(batch_size, 1))] * num_steps

def nothing(seed, batch_size, num_steps):
    return []

def number(seed, batch_size, num_steps):
    return 3

def bare(seed, batch_size, num_steps):
    return [torch.ones(batch_size, 6)]

def words(seed, batch_size, num_steps):
    return [(torch.ones(batch_size, 6), ["a", "b"])]

def raising(seed, batch_size, num_steps):
    raise RuntimeError("no disk")

def of_seed_alone(seed):
    return []

half = torch.ones(8, 6), torch.zeros(8, dtype=torch.long)
data = Dataset("mine", "classification", 2, *half, *half)
constant = 3

class Net(nn.Sequential):
    def forward(self, x, y=None):
        out = super().forward(x)
        return out if y is None else {"loss": nn.functional.mse_loss(out, y)}

def net(depth, out=1):
    return Net(*[nn.Linear(6, 6) for _ in range(depth)], nn.Linear(6, out))

def sgd(model, lr, **size):
    return torch.optim.SGD(model.parameters(), lr)

def make(steps=4):
    return Recipe(
        make_model=lambda depth: net(depth),
        batches=lambda seed: batches(seed, 8, steps),
        loss_fn=nn.functional.mse_loss,
        make_optimizer=sgd,
        num_steps=steps,
        batch_size=8,
    )

recipe = make()
"""


@pytest.fixture
def file(tmp_path):
    (tmp_path / "own.py").write_text(OWN)
    return f"{tmp_path}/own.py"


def spec(file, data, model="net", **changes):
    plain = {"num_steps": 3, "batch_size": 8, "init": "own"}
    return RecipeSpec(f"{file}:{model}", data, "sgd", **{**plain, **changes})


@pytest.mark.parametrize(
    ("name", "task"),
    [("batches", "regression"), ("classes", "classification"), ("dicts", None)],
)
def test_the_targets_say_which_loss(file, name, task):
    assert own_data(f"{file}:{name}", {}).task == task


def test_a_recipe_trains_on_the_batches_of_the_function(file):
    recipe = named_recipe(spec(file, f"{file}:batches"))
    batches = list(recipe.batches(5))
    assert [tuple(x.shape) for x, _ in batches] == [(8, 6)] * 3
    assert torch.equal(batches[0][0], next(iter(recipe.batches(5)))[0])
    assert not torch.equal(batches[0][0], next(iter(recipe.batches(6)))[0])
    record = run_trial(recipe, (("depth", 2),), Point(0.01, 0))
    model, (inputs, targets) = recipe.make_model(depth=2), batches[0]
    assert recipe.loss_fn(model(inputs), targets) == torch.nn.functional.mse_loss(
        model(inputs), targets
    )
    assert record.steps == 3
    assert recipe.settings["data"] == f"{file}:batches"


def test_data_args_are_arguments_of_the_function(file):
    shifted = named_recipe(spec(file, f"{file}:batches", data_options={"shift": 9.0}))
    plain = named_recipe(spec(file, f"{file}:batches"))
    (_, far), (_, near) = next(iter(shifted.batches(0))), next(iter(plain.batches(0)))
    assert torch.allclose(far, near + 9)


def test_a_dict_is_for_the_model_and_its_own_loss(file):
    recipe = named_recipe(spec(file, f"{file}:dicts"))
    assert recipe.loss_fn is None
    record = run_trial(recipe, (("depth", 2),), Point(0.01, 0))
    plain = named_recipe(spec(file, f"{file}:batches"))
    assert record.losses == run_trial(plain, (("depth", 2),), Point(0.01, 0)).losses


def test_a_dataset_of_ones_own_has_a_held_out_loss(file):
    given = spec(file, f"{file}:data", settings={"out": 2}, objective="validation")
    recipe = named_recipe(given)
    assert run_trial(recipe, (("depth", 2),), Point(0.01, 0)).loss > 0
    with pytest.raises(TrialError, match="'validation' without `evaluate`"):
        named_recipe(spec(file, f"{file}:batches", objective="validation"))


BAD = {
    "nothing": "whose first batch is NoneType",
    "number": "'int' object is not iterable",
    "bare": "whose first batch is Tensor",
    "words": r"whose first batch is \(Tensor, list\)",
    "raising": "no disk",
    "of_seed_alone": "takes 1 positional argument",
    "constant": "a int",
    "missing": "has no 'missing'",
}


@pytest.mark.parametrize("name", BAD)
def test_what_gives_no_batches_is_refused_at_once(file, name):
    with pytest.raises(ModelSpecError, match=BAD[name]) as raised:
        named_recipe(spec(file, f"{file}:{name}"))
    assert str(raised.value).count("\n") == 2


def test_options_are_refused_by_data_that_takes_none(file):
    with pytest.raises(ModelSpecError, match="--data-arg"):
        own_data(f"{file}:data", {"shift": 1.0})
    with pytest.raises(ModelSpecError, match="unexpected keyword argument 'shift'"):
        own_data(f"{file}:classes", {"shift": 1.0})


def test_batches_that_end_early_are_said_where_they_end(file):
    with pytest.raises(TrialError, match="1 batches for num_steps=3"):
        run_trial(named_recipe(spec(file, f"{file}:short")), (("depth", 2),), Point(0.01, 0))


def test_looking_at_data_draws_nothing_from_the_global_random_numbers(file):
    before = torch.get_rng_state()
    named_recipe(spec(file, f"{file}:unseeded"))
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("name", ["recipe", "make"])
def test_a_recipe_of_ones_own_is_named_in_its_settings(file, name):
    recipe = own_recipe(f"{file}:{name}", {})
    assert recipe.settings["recipe"] == f"{file}:{name}"
    assert recipe.num_steps == 4
    longer = own_recipe(f"{file}:make", {"steps": 7})
    assert longer.num_steps == 7
    assert json.loads(longer.settings["recipe settings"]) == {"steps": 7}


def test_a_recipe_is_sent_to_other_processes_by_its_name(file):
    recipe = own_recipe(f"{file}:make", {"steps": 2})  # made of lambdas
    sent = pickle.dumps(recipe)
    assert pickle.loads(sent).settings == recipe.settings
    code = "import pickle, sys; print(pickle.load(sys.stdin.buffer).num_steps)"
    done = subprocess.run([sys.executable, "-c", code], input=sent, capture_output=True, check=True)
    assert done.stdout.split() == [b"2"]
    alone = run_sweep(recipe, [{"depth": 2}], search=[0.01, 0.02], seeds=1)
    there = run_sweep(recipe, [{"depth": 2}], search=[0.01, 0.02], seeds=1, workers=1)
    assert [t.loss for t in there.trials] == pytest.approx([t.loss for t in alone.trials])


BAD_RECIPES = {
    "net": "takes 1 positional argument|missing 1 required positional argument",
    "sgd": "missing",
    "constant": "a int",
    "data": "a Dataset",
}


@pytest.mark.parametrize("name", BAD_RECIPES)
def test_what_is_no_recipe_is_refused(file, name):
    with pytest.raises(ModelSpecError, match=BAD_RECIPES[name]):
        own_recipe(f"{file}:{name}", {})


def test_settings_for_a_recipe_that_is_made_are_refused(file):
    with pytest.raises(ModelSpecError, match="with --arg a function that returns one"):
        own_recipe(f"{file}:recipe", {"steps": 3})
    with pytest.raises(ModelSpecError, match="without --data"):
        own_recipe("zoo:mlp:", {})
