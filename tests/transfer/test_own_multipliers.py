"""Factors that a network puts on its branches and logits itself are not applied a second time."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from etastar.transfer import Tuned, plan_transfer

IDS = torch.randint(1, 32, (2, 6))


def norm(x):
    return F.rms_norm(x, x.shape[-1:])


def behind(m, k, x):
    return x + m.layers[k](norm(x)) * (m.scale / math.sqrt(m.depth))


def before(m, k, x):
    return x + m.layers[k](norm(x) / m.depth)


def by_alpha(m, k, x):
    return torch.add(x, m.layers[k](norm(x)), alpha=1 / m.depth)


def behind_relu(m, k, x):
    return x + torch.relu(m.layers[k](norm(x))).div_(m.depth)


def in_the_weight(m, k, x):
    return x + F.linear(norm(x), m.layers[k].weight / m.depth)


def by_number(m, k, x):
    return x + m.layers[k](norm(x) / math.sqrt(k + 1))


def learned(m, k, x):
    return x + m.gates[k] * m.layers[k](norm(x))


def dropped(m, k, x):
    """Stochastic depth whose rate depends on the depth, as transformers writes it."""
    keep = 1 - 0.2 * (k + 1) / m.depth
    mask = (keep + torch.rand(len(x), 1, 1)).floor_()
    return x + m.layers[k](norm(x)).div(keep) * mask


class Stream(nn.Module):
    """Blocks of one of the forms above; logits divided by width / 16 where `divides` says."""

    def __init__(self, depth, form, width=16, divides=None):
        super().__init__()
        self.depth, self.form, self.scale, self.divides = depth, form, 1.4, divides
        self.tokens, self.head = nn.Embedding(32, width), nn.Linear(width, 32, bias=False)
        self.layers = nn.ModuleList(
            nn.Linear(width, width, bias=form not in (before, in_the_weight)) for _ in range(depth)
        )
        self.gates = nn.ParameterList(torch.full((), 1 / depth) for _ in range(depth))

    def forward(self, ids):
        x, share = self.tokens(ids), self.head.in_features / 16
        for k in range(self.depth):
            x = self.form(self, k, x)
        x = norm(x)
        if self.divides == "before":
            return self.head(x / share)
        return self.head(x) / share if self.divides == "behind" else self.head(x)


def plan_of(base, target, law="complete-p", optimizer="adamw"):
    return plan_transfer(Tuned(base, 0.01), target, optimizer=optimizer, law=law)


def by_name(plan):
    return {entry.name: entry for entry in plan.parameters}


def streams(form, **settings):
    return [(Stream(depth, form, **settings), IDS) for depth in (2, 8)]


def said(plan):
    return [note for note in plan.notes if note.startswith("the network itself multiplies")]


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize(
    ("form", "law"),
    [
        (behind, "depth-mup"),
        (before, "complete-p"),
        (by_alpha, "complete-p"),
        (behind_relu, "complete-p"),
        (in_the_weight, "complete-p"),
    ],
)
def test_what_the_network_does_itself_is_not_applied(form, law, optimizer):
    plan = plan_of(*streams(form), law=law, optimizer=optimizer)
    entries = {n: e for n, e in by_name(plan).items() if n.startswith("layers.")}
    assert {entry.init for entry in entries.values()} == {1.0}
    rate = {"depth-mup": (1.0, 0.5), "complete-p": (4.0, 1.0)}[law][optimizer == "adamw"]
    found = [entry.lr_multiplier for entry in entries.values() if entry.role == "hidden"]
    assert found == pytest.approx([rate] * 8)
    (note,) = said(plan)
    assert "nothing is left to apply" in note
    assert law in note
    assert "layers.*.weight (8)" in note


def test_a_part_of_it_is_made_up_for():
    plan = plan_of(*streams(behind))
    assert by_name(plan)["layers.5.weight"].init == pytest.approx(0.5)
    assert (
        "by 0.5 from base to target: of the multiplier 0.25 of complete-p 0.5 is" in said(plan)[0]
    )


@pytest.mark.parametrize("form", [by_number, learned, dropped])
def test_what_does_not_depend_on_the_depth_or_is_learned_is_none(form):
    plan = plan_of(*streams(form))
    where = "gates.5" if form is learned else "layers.5.weight"
    assert by_name(plan)[where].init == pytest.approx(0.25)
    assert said(plan) == []


@pytest.mark.parametrize("law", ["constant", "effective-depth", "structure"])
def test_laws_without_a_multiplier_say_so(law):
    plan = plan_of(*streams(behind), law=law)
    assert {entry.init for entry in plan.parameters} == {1.0}
    assert "no law of this plan takes that into account" in said(plan)[0]
    networks = [(Stream(4, behind), IDS)] * 2
    assert said(plan_of(*networks, law=law)) == []


def test_where_the_law_has_no_factor_none_is_applied():
    """A rank that grows, with a factor of one over the rank, between layers and at the end."""

    def adapted(rank):
        return nn.Sequential(
            nn.Linear(8, 32), nn.ReLU(), Low(rank), nn.ReLU(), Low(rank)
        ), torch.randn(4, 8)

    class Low(nn.Module):
        def __init__(self, rank):
            super().__init__()
            self.a, self.b, self.rank = nn.Linear(32, rank), nn.Linear(rank, 32), rank

        def forward(self, x):
            return self.b(self.a(x)) * (16 / self.rank)

    plan = plan_of(adapted(4), adapted(16))
    assert {(entry.init, entry.lr_multiplier) for entry in plan.parameters} == {(1.0, 1.0)}
    (note,) = said(plan)
    assert "no law of this plan takes that into account" in note


@pytest.mark.parametrize("divides", ["before", "behind"])
def test_logits_that_the_network_divides_are_not_divided_again(divides):
    sizes = [(Stream(2, learned, width, divides), IDS) for width in (16, 64)]
    plan = plan_of(*sizes)
    plain = plan_of(*[(Stream(2, learned, width), IDS) for width in (16, 64)])
    assert by_name(plan)["head.weight"].init == pytest.approx(2.0)
    assert by_name(plan)["head.weight"].lr_multiplier == pytest.approx(1.0)
    assert by_name(plain)["head.weight"].init == pytest.approx(0.5)
    assert "of the multiplier 0.25 of width nothing is left to apply" in said(plan)[0]
    assert said(plain) == []


def losses(model, optimizer):
    y, found = IDS.roll(1, 1).flatten(), []
    for _ in range(6):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(IDS).flatten(0, 1), y)
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    return torch.tensor(found, dtype=torch.float64)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_training_is_that_of_the_network_without_numbers_under_the_whole_law(optimizer):
    found = []
    for of_network in (True, False):
        torch.manual_seed(0)
        models = [Stream(depth, behind).double() for depth in (2, 8)]
        for model in models:  # factor at the base: 1 either way
            model.scale = math.sqrt(2 if of_network else model.depth)
        plan = plan_of((models[0], IDS), (models[1], IDS), "depth-mup", optimizer)
        init = by_name(plan)["layers.5.weight"].init
        assert init == (1.0 if of_network else pytest.approx(0.5))
        plan.rescale_(models[1])
        cls = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[optimizer]
        found.append(losses(models[1], cls(plan.param_groups(models[1]))))
    assert found[0].std() > 1e-4
    torch.testing.assert_close(*found, rtol=1e-9, atol=1e-9)


def granite(cls, config, layers, width=32, **own):
    import transformers

    settings = {
        "hidden_size": width, "intermediate_size": 2 * width, "num_attention_heads": width // 16,
        "num_key_value_heads": width // 16, "vocab_size": 32, "num_hidden_layers": layers,
        "pad_token_id": 0, "attention_multiplier": 1 / 16, **own,
    }  # fmt: skip
    return getattr(transformers, cls)(getattr(transformers, config)(**settings)), IDS


@pytest.mark.parametrize(
    ("cls", "config", "more"),
    [
        ("GraniteForCausalLM", "GraniteConfig", {}),
        (
            "GraniteMoeForCausalLM",
            "GraniteMoeConfig",
            {"num_local_experts": 2, "num_experts_per_tok": 2},
        ),
    ],
)
def test_granites_multipliers(cls, config, more):
    base, target = (
        granite(
            cls, config, layers, width, residual_multiplier=1 / layers, embedding_multiplier=width,
            logits_scaling=width / 16, **more,
        )
        for layers, width in ((2, 32), (8, 64))
    )  # fmt: skip
    entries = by_name(plan_of(base, target))
    o_proj = [e for n, e in entries.items() if n.endswith("o_proj.weight")]
    assert {entry.init for entry in o_proj} == {1.0}
    assert entries["lm_head.weight"].init == pytest.approx(math.sqrt(2))
    notes = said(plan_of(base, target))
    assert any("embed_tokens" in note and "no law of this plan" in note for note in notes)


@pytest.mark.parametrize("positions", [nn.Embedding, lambda *size: nn.Parameter(torch.ones(size))])
def test_a_table_that_is_added_has_no_factor_of_what_it_is_added_to(positions):
    class Scaled(nn.Module):
        def __init__(self, width):
            super().__init__()
            self.tokens, self.places = nn.Embedding(32, width), positions(9, width)
            self.head = nn.Linear(width, 5)

        def forward(self, ids):
            x = self.tokens(ids) * math.sqrt(self.head.in_features)
            table = self.places
            table = table(torch.arange(6)) if isinstance(table, nn.Module) else table[:6]
            return self.head(torch.relu(x + table))

    plan = plan_of((Scaled(16), IDS), (Scaled(64), IDS), law="constant")
    (note,) = said(plan)
    assert "what tokens.weight makes by 2" in note
