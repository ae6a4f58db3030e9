import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from etastar.errors import CaptureError, InitError
from etastar.init.stability import measure_moments
from etastar.models import build, example_inputs


class Twin(nn.Module):
    """Keeps its layer outputs where the test can reach them; activations are in place."""

    def __init__(self):
        super().__init__()
        self.conv, self.fc1, self.fc2 = nn.Conv2d(1, 4, 3), nn.Linear(64, 16), nn.Linear(16, 16)
        self.kept = None

    def forward(self, x):
        kept = self.kept if self.kept is not None else {}
        kept["conv"] = h = self.conv(x)
        if self.kept is not None:
            h = h.clone()
        kept["fc1"] = h = self.fc1(F.relu_(h).flatten(1))
        kept["sum"] = h = h + torch.tanh(h) @ self.fc2.weight
        return h.square()


def by_node(measurement, values):
    """Values in the order of execution, of weight layers and residual additions."""
    return [values[node.index] for node in measurement.nodes]


def test_moments_agree_with_autograd_on_kept_tensors():
    torch.manual_seed(0)
    model, x = Twin(), torch.randn(3, 1, 6, 6)
    measured = measure_moments(model, (x, None), lambda y, _: y.sum())
    model.kept = {}
    loss = model(x).sum()
    outputs = [model.kept[name] for name in ("conv", "fc1", "sum")]
    gradients = torch.autograd.grad(loss, outputs)
    forward, backward = (
        by_node(measured, measured.forward),
        by_node(measured, measured.gradient_norm2),
    )
    assert len(forward) == 4  # the product with fc2's weight stands before the sum
    for place, output, gradient in zip((0, 1, 3), outputs, gradients, strict=True):
        assert forward[place] == pytest.approx(float(output.detach().square().mean()), rel=1e-5)
        assert backward[place] == pytest.approx(float(gradient.square().sum()), rel=1e-5)


def test_the_gradient_is_that_of_the_layer_not_of_what_overwrote_it():
    layer = nn.Linear(1, 1, bias=False)
    layer.weight.data.fill_(-1.0)
    model = nn.Sequential(layer, nn.ReLU(inplace=True))
    measured = measure_moments(model, torch.ones(1, 1))
    assert list(measured.gradient_norm2.values()) == [0.0]
    assert list(measured.forward.values()) == [1.0]


def test_the_random_projection_of_a_linear_map_has_the_norm_of_its_probe():
    measured = measure_moments(nn.Linear(4, 2000), torch.ones(1, 4))
    assert next(iter(measured.gradient_norm2.values())) == pytest.approx(2000, rel=0.05)


def test_projections_are_the_same_at_every_call():
    model, inputs = build("mlp", depth=3), example_inputs("mlp")
    one, same = (measure_moments(model, *inputs).gradient_norm2 for _ in range(2))
    assert one == same


def test_logits_are_taken_from_a_dictionary():
    class Dictionary(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x, *, scale):
            return {"aux": self.first(x) * scale, "logits": self.second(x)}

    measured = measure_moments(Dictionary(), {"x": torch.ones(2, 4), "scale": torch.ones(())})
    assert [node.module for node in measured.graph.weight_layers()] == ["first", "second"]
    second = measured.graph.weight_layers()[1].index
    assert list(measured.gradient_norm2) == [second]


def test_the_model_is_left_as_it_was():
    model = build("resnet", depth=2, batch_norm=True, dropout=0.1)
    inputs = example_inputs("resnet")
    model(*inputs).sum().backward()
    before, random = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    gradients = [p.grad.clone() for p in model.parameters()]
    modes = [m.training for m in model.modules()]
    attributes = [sorted(vars(m)) for m in model.modules()]
    measure_moments(model, *inputs)
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), gradients, strict=True))
    assert [m.training for m in model.modules()] == modes
    assert [sorted(vars(m)) for m in model.modules()] == attributes
    assert torch.is_grad_enabled()


def test_a_run_without_gradients_switched_on_still_differentiates():
    with torch.no_grad():
        measured = measure_moments(build("mlp", depth=2), *example_inputs("mlp"))
    assert len(measured.gradient_norm2) == 3


@pytest.mark.parametrize(
    ("loss_fn", "message"),
    [
        (lambda y, _: y, "a loss of shape"),
        (lambda y, _: torch.tensor(1.0), "requires_grad=False"),
        (lambda y, _: None, "a loss of NoneType"),
        (lambda y, _: y @ y, "loss_fn: RuntimeError"),
    ],
)
def test_a_loss_that_cannot_be_differentiated_is_refused(loss_fn, message):
    with pytest.raises(InitError, match=message):
        measure_moments(build("mlp"), (*example_inputs("mlp"), None), loss_fn)


def test_a_frozen_model_is_refused():
    with pytest.raises(InitError, match="unfreeze"):
        measure_moments(build("mlp").requires_grad_(False), *example_inputs("mlp"))


def test_an_output_without_floats_is_refused():
    class Argmax(nn.Linear):
        def forward(self, x):
            return super().forward(x).argmax()

    with pytest.raises(InitError, match="no floating tensor"):
        measure_moments(Argmax(2, 2), torch.ones(1, 2))


def test_a_forward_pass_that_raises_names_the_module():
    with pytest.raises(CaptureError, match="'1'"):
        measure_moments(nn.Sequential(nn.Linear(2, 3), nn.Linear(2, 3)), torch.ones(1, 2))
