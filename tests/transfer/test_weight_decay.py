"""Which parameters a plan gives weight decay: by role, by name, by the model's own marks."""

import pytest
import torch
from torch import nn

from etastar.errors import PlanError
from etastar.laws import ParamPair
from etastar.naming import name_template
from etastar.parameter import ParamInfo
from etastar.transfer import TransferPlan, Tuned, plan_transfer, tuned


class Attention(nn.Module):
    """Tokens and positions, one attention with normalized queries, head."""

    def __init__(self, width):
        super().__init__()
        self.tokens = nn.Embedding(11, width)
        self.positions = nn.Parameter(torch.randn(5, width))
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.query_norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 11, bias=False)

    def forward(self, tokens):
        x = self.tokens(tokens) + self.positions
        scores = self.query_norm(self.query(x)) @ self.key(x).mT
        return self.head(x + scores.softmax(-1) @ self.value(x))


class Recurrence(nn.Module):
    """A diagonal state space, whose parameters carry the marks of their authors."""

    def __init__(self, width):
        super().__init__()
        self.inner = nn.Linear(4, width)
        self.log_decay = nn.Parameter(torch.rand(width, 3))
        self.skip = nn.Parameter(torch.ones(width, 1))
        self.log_decay._no_weight_decay = True
        self.skip._optim = {"weight_decay": 0.0}
        self.outer = nn.Linear(width, 2)

    def forward(self, x):
        u = self.inner(x)
        kept = torch.exp(-torch.exp(self.log_decay)).sum(-1)
        return self.outer(u * kept + (u[..., None] * self.skip).squeeze(-1))


class Listed(nn.Module):
    """As timm's models: names listed by the model, and parts of names."""

    def __init__(self, width):
        super().__init__()
        self.patch = nn.Linear(4, width)
        self.pos_embed = nn.Parameter(torch.zeros(1, 3, width))
        self.bias_table = nn.Parameter(torch.randn(3, 3))
        self.head = nn.Linear(width, 2)

    def no_weight_decay(self):
        return {"pos_embed"}

    def no_weight_decay_keywords(self):
        return {"_table"}

    def forward(self, x):
        x = self.patch(x) + self.pos_embed
        return self.head(self.bias_table.softmax(-1) @ x)


class Wrapped(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.net = Listed(width)

    def forward(self, x):
        return self.net(x)


TOKENS, X = torch.zeros(2, 5, dtype=torch.long), torch.zeros(2, 3, 4)


def decays(cls, x, optimizer="adamw", lr=0.01, **settings):
    settings = {"weight_decay": 0.1} | settings
    plan = plan_transfer(
        Tuned((cls(8), x), lr, **settings), (cls(32), x), optimizer=optimizer, law="constant"
    )
    return plan, {entry.name: entry.weight_decay for entry in plan.parameters}


def without(found):
    return {name for name, decay in found.items() if decay == 0}


@pytest.mark.parametrize("optimizer", ["adamw", "adam", "sgd"])
def test_biases_and_norms_have_no_decay(optimizer):
    plan, found = decays(Attention, TOKENS, optimizer)
    assert without(found) == {
        *(f"{name}.bias" for name in ("query", "key", "value", "query_norm")),
        "query_norm.weight",
    }
    assert "no weight decay on 4 of role bias, 1 of role norm" in plan.notes
    assert TransferPlan.from_json(plan.to_json()) == plan


def test_what_a_model_marks_has_no_decay():
    plan, found = decays(Recurrence, X, no_decay=())
    assert without(found) == {"log_decay", "skip"}
    assert "no weight decay on log_decay, skip (marked by the model)" in plan.notes
    assert without(decays(Listed, X, no_decay=())[1]) == {"pos_embed", "bias_table"}
    assert without(decays(Wrapped, X, no_decay=())[1]) == {"net.pos_embed", "net.bias_table"}


def test_roles_and_patterns_of_names_have_no_decay():
    _, found = decays(Attention, TOKENS, no_decay=("embedding", "key.*"))
    assert without(found) == {"tokens.weight", "positions", "key.weight", "key.bias"}
    assert without(decays(Attention, TOKENS, no_decay=[])[1]) == set()
    plan, found = decays(Listed, X, no_decay=["patch.weight"])
    said = "no weight decay on pos_embed, bias_table (marked by the model), patch.weight ("
    assert any(note.startswith(said) for note in plan.notes)
    assert found["patch.bias"] == 0.1


@pytest.mark.parametrize("no_decay", [("norms",), "*.nothing", 3, (1,)])
def test_what_fits_nothing_is_refused(no_decay):
    with pytest.raises(PlanError, match="no_decay="):
        decays(Attention, TOKENS, no_decay=no_decay)


@pytest.mark.parametrize("cls", [Attention, Recurrence])
def test_an_optimizers_own_groups_decide(cls):
    x = TOKENS if cls is Attention else X
    base = cls(8)
    names = list(dict(base.named_parameters()))
    groups = [
        {"params": [p], "weight_decay": 0.2 if name == names[-1] else 0.1}
        for name, p in base.named_parameters()
    ]
    optimizer = torch.optim.AdamW(groups, lr=0.01)

    def plan(**settings):
        return plan_transfer(
            Tuned((base, x), 0.01, **settings), (cls(8), x), optimizer=optimizer, law="constant"
        )

    kept = plan()
    assert [e.weight_decay for e in kept.parameters] == [0.1] * (len(names) - 1) + [0.2]
    assert any("as in the groups of the optimizer" in note for note in kept.notes)
    asked = {e.name: e.weight_decay for e in plan(no_decay=(names[0],)).parameters}
    assert asked[names[0]] == 0
    assert asked[names[-1]] == 0.2


class Offset(nn.Module):
    """Residual blocks that end in a gain read as 1 + w."""

    def __init__(self, depth):
        super().__init__()
        self.stem = nn.Linear(4, 8)
        self.layers = nn.ModuleList(nn.Linear(8, 8) for _ in range(depth))
        self.gains = nn.ParameterList(nn.Parameter(torch.zeros(8)) for _ in range(depth))
        self.head = nn.Linear(8, 2)

    def forward(self, x):
        x = self.stem(x)
        for layer, gain in zip(self.layers, self.gains, strict=True):
            x = x + nn.functional.rms_norm(layer(x), (8,)) * (1 + gain)
        return self.head(x)


@pytest.mark.parametrize(("no_decay", "is_said"), [(None, False), ((), True)])
def test_decay_that_undoes_a_multiplier_is_said(no_decay, is_said):
    x = torch.zeros(1, 4)
    tuned = Tuned((Offset(2), x), 0.01, weight_decay=0.1, no_decay=no_decay)
    plan = plan_transfer(tuned, (Offset(6), x), optimizer="adamw", law="complete-p")
    found = {e.name: e.weight_decay for e in plan.parameters if e.name.startswith("gains")}
    assert all((decay > 0) == is_said for decay in found.values())
    assert any("undoes its multiplier" in note for note in plan.notes) == is_said


@pytest.mark.parametrize("name", ["blocks.{}.weight", "stages.{}.0.fc.bias"])
def test_the_decay_of_namesakes_is_found_without_reading_every_name_again(name, monkeypatch):
    read = []
    monkeypatch.setattr(
        tuned, "name_template", lambda text: read.append(text) or name_template(text)
    )
    decay = tuned.DecayAtBase(0.1, {name.format(n): 0.3 for n in range(20)})
    infos = [ParamInfo(name.format(n), (4, 4), "hidden", 4, 4) for n in range(20, 40)]
    assert [decay.of(ParamPair(info, info)) for info in infos] == [0.3] * 20
    assert len(read) <= 2 * 40
