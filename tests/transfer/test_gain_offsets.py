"""A factor on a gain that the network reads as 1 + w, or as another function of the parameter."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from etastar.errors import LawError, PlanError
from etastar.graph import capture_graph
from etastar.init import initialize_
from etastar.transfer import TransferPlan, Tuned, plan_transfer

X = torch.randn(6, 8, dtype=torch.float64)
FORMS = {
    "w": (lambda w: w, 1.0),
    "1 + w": (lambda w: 1 + w, 0.0),
    "1 - w": (lambda w: 1 - w, 0.0),
    "2 w + 3": (lambda w: 2 * w + 3, -1.0),
}


class Gain(nn.Module):
    """A gain, behind a norm of its own if `norm`; w starts at `start`."""

    def __init__(self, width, read, start, norm):
        super().__init__()
        self.w, self.read, self.norm = nn.Parameter(torch.full((width,), start)), read, norm

    def forward(self, x):
        return (F.layer_norm(x, x.shape[-1:]) if self.norm else x) * self.read(self.w)


class Stream(nn.Module):
    def __init__(self, depth, read, start, *, norm=True, width=16, multiplier=1.0):
        super().__init__()
        self.multiplier = multiplier
        self.first, self.last = nn.Linear(8, width), nn.Linear(width, 3)
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.gains = nn.ModuleList(Gain(width, read, start, norm) for _ in range(depth))
        self.double()

    def branch(self, k, x):
        return self.multiplier * self.gains[k](self.layers[k](torch.tanh(x)))

    def forward(self, x):
        x = self.first(x)
        for k in range(len(self.layers)):
            x = x + self.branch(k, x)
        return self.last(x)


def stream(depth, form, seed=0, **settings):
    torch.manual_seed(seed)
    return Stream(depth, *FORMS[form], **settings)


def plan_of(form, law="complete-p", optimizer="adamw", lr=0.01, **settings):
    base, target = (stream(depth, form, **settings) for depth in (2, 8))
    return plan_transfer(Tuned((base, X), lr), (target, X), optimizer=optimizer, law=law)


def size(model, k=0):
    return model.branch(k, model.first(X)).square().mean().sqrt().item()


@pytest.mark.parametrize("norm", [True, False])
@pytest.mark.parametrize("form", FORMS)
def test_the_branch_gets_the_factor(form, norm):
    plan, model = plan_of(form, norm=norm), stream(8, form, norm=norm)
    before = [size(model, k) for k in range(8)]
    plan.rescale_(model)
    assert [size(model, k) for k in range(8)] == pytest.approx([b / 4 for b in before])


@pytest.mark.parametrize("form", FORMS)
def test_a_plan_that_was_read_from_a_file_does_the_same(form, tmp_path):
    plan, model = plan_of(form), stream(8, form)
    plan.save(tmp_path / "plan.json")
    loaded = TransferPlan.load(tmp_path / "plan.json")
    assert loaded == plan
    other = copy.deepcopy(model)
    plan.rescale_(model)
    loaded.rescale_(other)
    assert all(map(torch.equal, model.parameters(), other.parameters()))
    assert loaded.param_groups(other)


def test_the_plans_initialization_ends_there_too():
    plan, model, reference = plan_of("1 + w"), stream(8, "1 + w"), stream(8, "1 + w")
    plan.initialize_(model, seed=1)
    initialize_(reference, capture_graph(reference, X), residual="none", seed=1)
    assert model.gains[3].w.tolist() == [-0.75] * 16
    assert size(model) == pytest.approx(size(reference) / 4)


def losses(model, optimizer):
    y, found = X[:, :3].roll(1, 0), []
    for _ in range(6):
        optimizer.zero_grad()
        loss = (model(X) - y).square().mean()
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    return torch.tensor(found, dtype=torch.float64)


@pytest.mark.parametrize(
    ("optimizer", "cls", "rate", "settings"),
    [
        ("sgd", torch.optim.SGD, 4.0, {"momentum": 0.9}),
        ("adam", torch.optim.Adam, 1.0, {}),
        ("adamw", torch.optim.AdamW, 1.0, {"weight_decay": 0.0}),
    ],
)
@pytest.mark.parametrize("form", ["1 + w", "2 w + 3"])
def test_training_is_that_of_an_explicit_multiplier(form, optimizer, cls, rate, settings):
    plain, explicit = stream(8, form), stream(8, form, multiplier=0.25)
    plan = plan_of(form, optimizer=optimizer)
    plan.rescale_(plain)
    inside = [*explicit.layers.parameters(), *explicit.gains.parameters()]
    outside = [*explicit.first.parameters(), *explicit.last.parameters()]
    eps = {} if optimizer == "sgd" else {"eps": 1e-8 / 4}
    groups = [{"params": inside, "lr": 0.01 * rate, **eps}, {"params": outside, "lr": 0.01}]
    expected = losses(explicit, cls(groups, lr=0.01, **settings))
    actual = losses(plain, cls(plan.param_groups(plain), **settings))
    assert expected.std() > 1e-3
    torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-9)


def test_a_model_that_lacks_the_factor_is_refused():
    plan, model = plan_of("1 + w", width=16), stream(8, "1 + w")
    with torch.no_grad():
        for gain in model.gains:
            gain.w.zero_()  # a gain of one, not an absent branch
    with pytest.raises(PlanError, match="never rescaled"):
        plan.param_groups(model)
    with torch.no_grad():
        for gain in model.gains:
            gain.w.fill_(-1.0)
    assert plan.param_groups(model)


def test_gains_near_minus_one_are_closed_branches():
    words = "branches start (nearly) closed"
    for start, number in ((0.0, 0), (-0.99, 1)):
        networks = [(Stream(depth, lambda w: 1 + w, start), X) for depth in (2, 8)]
        plan = plan_transfer(Tuned(networks[0], 0.1), networks[1], optimizer="sgd", law="constant")
        assert sum(words in note for note in plan.notes) == number


@pytest.mark.parametrize("read", [torch.exp, F.softplus, torch.tanh])
def test_another_function_of_the_parameter_leaves_the_factor_to_the_layer(read):
    networks = [Stream(depth, read, 0.5, norm=False) for depth in (2, 8)]
    plan = plan_transfer(
        Tuned((networks[0], X), 0.1), (networks[1], X), optimizer="adam", law="complete-p"
    )
    entries = {entry.name: entry.init for entry in plan.parameters}
    assert (entries["layers.3.weight"], entries["layers.3.bias"]) == (0.25, 0.25)
    assert entries["gains.3.w"] == 1.0
    before = size(networks[1])
    plan.rescale_(networks[1])
    assert size(networks[1]) == pytest.approx(before / 4)


@pytest.mark.parametrize("read", [torch.exp, F.softplus, torch.tanh])
def test_behind_a_norm_it_is_refused_with_the_reason(read):
    base, target = ((Stream(depth, read, 0.5), X) for depth in (2, 8))
    with pytest.raises(LawError, match=r"no exp\(w\), softplus\(w\)"):
        plan_transfer(Tuned(base, 0.1), target, optimizer="adam", law="complete-p")


@pytest.mark.parametrize(
    ("cls", "config"),
    [("Gemma2ForCausalLM", "Gemma2Config"), ("Gemma3ForCausalLM", "Gemma3TextConfig")],
)
def test_gemmas_branches(cls, config):
    import transformers

    def gemma(layers):
        torch.manual_seed(0)
        settings = {
            "hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2, "head_dim": 8,
            "num_key_value_heads": 1, "vocab_size": 32, "pad_token_id": 0,
            "num_hidden_layers": layers,
        }  # fmt: skip
        return getattr(transformers, cls)(getattr(transformers, config)(**settings))

    ids = torch.randint(1, 32, (2, 6))
    model = gemma(8)
    plan = plan_transfer(
        Tuned((gemma(2), ids), 0.01), (model, ids), optimizer="adamw", law="complete-p"
    )
    norm = model.model.layers[3].post_feedforward_layernorm
    x = torch.randn(2, 6, 16)
    before = norm(x)
    plan.rescale_(model)
    torch.testing.assert_close(norm(x), before / 4)
