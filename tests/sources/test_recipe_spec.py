"""Recipes from names: they run, can be pickled, and say what they are."""

import pickle

import pytest
import torch

from etastar.datasets import Dataset
from etastar.errors import LawError, ModelSpecError, PlanError
from etastar.sources.recipe_spec import RecipeSpec, named_recipe
from etastar.sweep.recipe import Point
from etastar.sweep.trial import run_trial

_X = torch.randn(40, 16, generator=torch.Generator().manual_seed(0))
_Y = _X.sum(1, keepdim=True)
SUMS = Dataset("sums", "regression", 1, _X[:32], _Y[:32], _X[32:], _Y[32:])


def recipe(model="zoo:resnet", data="digits", optimizer="sgd", **changes):
    arguments = {"settings": {"width": 8}, "num_steps": 3, "batch_size": 8}
    return named_recipe(RecipeSpec(model, data, optimizer, **(arguments | changes)))


def losses(recipe, seed=0, lr=0.05, **size):
    torch.manual_seed(seed)
    model = recipe.make_model(**size)
    optimizer = recipe.make_optimizer(model, lr, **size)
    found = []
    for inputs, targets in recipe.batches(seed):
        loss = recipe.loss_fn(model(inputs), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    return found, recipe.evaluate(model)


@pytest.mark.parametrize(
    ("model", "data", "settings", "data_options"),
    [
        ("zoo:resnet", "digits", {"width": 8}, {}),
        ("zoo:gpt", "stdlib-text", {"width": 16, "context": 8}, {"context": 8, "num_bytes": 5000}),
        ("zoo:mlp", f"{__file__}:SUMS", {"width": 8, "in_features": 16, "num_classes": 1}, {}),
        ("hf:ViTForImageClassification", "digits",
         {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 16, "image_size": 8,
          "patch_size": 4, "num_channels": 1, "num_labels": 10}, {}),
    ],
)  # fmt: skip
def test_a_recipe_trains_and_is_the_same_after_pickling(model, data, settings, data_options):
    size = {"num_hidden_layers": 1} if model.startswith("hf:") else {"depth": 2}
    made = recipe(model, data, settings=settings, data_options=data_options)
    found, held_out = losses(made, **size)
    assert all(loss > 0 for loss in [*found, held_out])
    again = pickle.loads(pickle.dumps(made))
    assert losses(again, **size) == (found, held_out)


def test_the_seed_decides_the_initialization():
    made = recipe()
    first, other = losses(made, depth=2)[0], losses(made, seed=1, depth=2)[0]
    assert first == losses(made, depth=2)[0]
    assert first != other


def test_the_residual_rule_is_applied_or_left_to_the_model():
    def last_weight(init):
        torch.manual_seed(0)
        model = recipe(init=init).make_model(depth=4)
        return model.get_parameter("blocks.3.conv1.weight").std().item()

    scaled, plain = last_weight("all"), last_weight("none")
    assert plain / scaled == pytest.approx(2.0, rel=1e-4)
    assert last_weight("own") not in (scaled, plain)


def test_settings_tell_recipes_apart():
    assert recipe().settings == recipe().settings
    changed = [
        recipe(settings={"width": 16}),
        recipe(optimizer="adam"),
        recipe(weight_decay=0.1),
        recipe(init="last"),
    ]
    assert all(other.settings != recipe().settings for other in changed)
    fewer = recipe(data="teacher", data_options={"num_test": 100})
    assert fewer.settings != recipe(data="teacher").settings


def test_bad_names():
    with pytest.raises(ModelSpecError, match="sgd, adam, adamw"):
        recipe(optimizer="lamb")
    with pytest.raises(ModelSpecError, match="all, last, none, own"):
        recipe(init="some")
    with pytest.raises(ModelSpecError, match="momentum"):
        recipe(optimizer="adam", momentum=0.9)
    with pytest.raises(ModelSpecError, match="digits"):
        recipe(data="numbers")


@pytest.mark.parametrize(
    "changes",
    [
        {"momentum": float("inf")},
        {"momentum": -0.1},
        {"momentum": 1.0},
        {"weight_decay": float("nan")},
        {"weight_decay": -1.0},
    ],
)
def test_numbers_out_of_range_are_refused(changes):
    (name,) = changes
    with pytest.raises(ModelSpecError, match=f"{name}={changes[name]}"):
        recipe(**changes)


def test_muon_needs_two_optimizers_and_is_not_offered():
    with pytest.raises(ModelSpecError, match="one of: sgd, adam, adamw"):
        recipe(optimizer="muon")


def test_a_name_cannot_be_a_setting_and_a_size():
    spec = RecipeSpec("zoo:mlp", "digits", "sgd", {"depth": 2})
    with pytest.raises(ModelSpecError, match="depth as a size and with --arg"):
        spec.require_sizes([{"depth": 4}])


def planned(law="complete-p", base=(("depth", 2),), **changes):
    parts = {"settings": {"width": 16}, "plan_law": (law,), "base": dict(base)}
    return RecipeSpec("zoo:resmlp", "digits", "adamw", **{**parts, **changes})


def test_under_a_plan_every_size_gets_the_plan_s_groups():
    from etastar.sources.model_spec import capture_spec
    from etastar.transfer import Tuned, plan_transfer

    made = named_recipe(planned(weight_decay=0.1))
    base, target = (capture_spec("zoo:resmlp", {"width": 16, "depth": depth}) for depth in (2, 8))
    tuned = Tuned(base, 0.03, weight_decay=0.1)
    plan = plan_transfer(tuned, target, optimizer="adamw", law="complete-p")
    model = made.make_model(depth=8)
    wanted = plan.param_groups(model)
    found = made.make_optimizer(model, 0.03, depth=8).param_groups
    assert len({group["lr"] for group in found}) > 1
    for one, other in zip(found, wanted, strict=True):
        shared = ("lr", "weight_decay", "eps")
        assert [one[key] for key in shared] == [other.get(key, one[key]) for key in shared]
        assert [p is q for p, q in zip(one["params"], other["params"], strict=True)]
    base = made.make_optimizer(made.make_model(depth=2), 0.03, depth=2)
    assert {group["lr"] for group in base.param_groups} == {0.03}


def test_under_a_plan_the_initialization_is_the_plan_s_and_counts_depth_once():
    def std(spec, depth):
        torch.manual_seed(0)
        model = named_recipe(spec).make_model(depth=depth)
        return {name: p.std().item() for name, p in model.named_parameters() if p.ndim > 1}

    plain = RecipeSpec("zoo:resmlp", "digits", "adamw", {"width": 16}, init="none")
    unscaled, scaled = std(plain, 8), std(planned(), 8)
    ratios = {round(scaled[name] / unscaled[name], 6) for name in scaled}
    assert ratios <= {1.0, round(2 / 8, 6)}
    assert len(ratios) == 2
    assert std(planned(), 2) == std(plain, 2)
    with pytest.raises(PlanError, match="count depth twice"):
        std(planned(init="all"), 8)


def test_a_planned_recipe_trains_after_pickling_and_is_another_than_the_plain_one():
    made = named_recipe(planned(num_steps=3, batch_size=8))
    record = run_trial(made, (("depth", 4),), Point(0.01, 0))
    again = run_trial(pickle.loads(pickle.dumps(made)), (("depth", 4),), Point(0.01, 0))
    assert again == record
    assert not record.diverged
    plain = named_recipe(planned(plan_law=(), base={}, num_steps=3, batch_size=8))
    assert plain.settings != made.settings
    assert made.settings["plan law"] == "complete-p"


def test_what_makes_no_plan_is_refused():
    with pytest.raises(ModelSpecError, match="--plan-law complete-p --base depth=2"):
        planned(base={})
    with pytest.raises(LawError):
        planned(law="guess")
    with pytest.raises(ModelSpecError, match="a base of depth for sizes of depth, width"):
        planned(settings={}).require_sizes([{"depth": 2, "width": 8}])


@pytest.mark.parametrize("model", ["zoo:mlp", "zoo:resmlp"])
def test_a_model_is_made_where_pytorch_chose_a_seed_of_64_bits(model):
    with torch.random.fork_rng():
        torch.manual_seed(2**64 - 5)
        assert len(list(recipe(model).make_model(depth=2).parameters())) > 2
