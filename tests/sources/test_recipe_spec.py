"""Experiments from names: they run, can be pickled, and say what they are."""

import pickle

import pytest
import torch

from etastar.errors import ModelSpecError
from etastar.sources.experiment import named_experiment
from etastar.sweep.space import Budget

BUDGET = Budget(num_steps=3, batch_size=8)


def experiment(model="zoo:resnet", data="digits", **changes):
    arguments = {
        "settings": {"width": 8},
        "data_options": {},
        "optimizer": "sgd",
        "budget": BUDGET,
    }
    return named_experiment(model, data=data, **(arguments | changes))


def losses(experiment, seed=0, lr=0.05, **size):
    torch.manual_seed(seed)
    model = experiment.factory(**size)
    optimizer = experiment.make_optimizer(model, lr)
    found = []
    for inputs, targets in experiment.batches(seed, BUDGET.batch_size, BUDGET.num_steps):
        loss = experiment.loss_fn(model(inputs), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    return found, experiment.evaluate(model)


@pytest.mark.parametrize(
    ("model", "data", "settings", "data_options"),
    [
        ("zoo:resnet", "digits", {"width": 8}, {}),
        ("zoo:gpt", "stdlib-text", {"width": 16, "context": 8}, {"context": 8, "num_bytes": 5000}),
        ("zoo:mlp", "teacher", {"width": 8, "in_features": 16, "num_classes": 1},
         {"task": "regression", "in_features": 16, "num_classes": 1}),
        ("hf:ViTForImageClassification", "digits",
         {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 16, "image_size": 8,
          "patch_size": 4, "num_channels": 1, "num_labels": 10}, {}),
    ],
)  # fmt: skip
def test_an_experiment_trains_and_is_the_same_after_pickling(model, data, settings, data_options):
    size = {"num_hidden_layers": 1} if model.startswith("hf:") else {"depth": 2}
    made = experiment(model, data, settings=settings, data_options=data_options)
    found, held_out = losses(made, **size)
    assert all(loss > 0 for loss in [*found, held_out])
    again = pickle.loads(pickle.dumps(made))
    assert losses(again, **size) == (found, held_out)


def test_the_seed_decides_the_initialization():
    made = experiment()
    first, other = losses(made, depth=2)[0], losses(made, seed=1, depth=2)[0]
    assert first == losses(made, depth=2)[0]
    assert first != other


def test_the_residual_rule_is_applied_or_left_to_the_model():
    def last_weight(init):
        torch.manual_seed(0)
        model = experiment(init=init).factory(depth=4)
        return model.get_parameter("blocks.3.conv1.weight").std().item()

    scaled, plain = last_weight("all"), last_weight("none")
    assert plain / scaled == pytest.approx(2.0, rel=1e-4)
    assert last_weight("own") not in (scaled, plain)


def test_settings_tell_experiments_apart():
    assert experiment().settings == experiment().settings
    changed = [
        experiment(settings={"width": 16}),
        experiment(optimizer="adam"),
        experiment(weight_decay=0.1),
        experiment(init="last"),
        experiment(data_options={"num_test": 100}),
    ]
    assert all(other.settings != experiment().settings for other in changed)


def test_bad_names():
    with pytest.raises(ModelSpecError, match="sgd, adam, adamw"):
        experiment(optimizer="lion")
    with pytest.raises(ModelSpecError, match="all, last, none, own"):
        experiment(init="some")
    with pytest.raises(ModelSpecError, match="momentum"):
        experiment(optimizer="adam", momentum=0.9)
    with pytest.raises(ModelSpecError, match="digits"):
        experiment(data="numbers")
