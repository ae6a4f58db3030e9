"""Options of the width rule: attention's scale, grouped heads, large vocabularies, decay."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations

from etastar import Tuned, plan_transfer
from etastar.errors import LawError
from etastar.graph import capture_graph
from etastar.laws import Width

IDS = torch.zeros(1, 5, dtype=torch.long)


class Attention(nn.Module):
    """Queries, keys and values of their own; scores by hand or by PyTorch's function."""

    def __init__(self, width, heads, groups, *, norm=False, eager=False, scale=None, fused=False):
        super().__init__()
        self.size, self.heads, self.groups = width // heads, heads, groups
        self.eager, self.scale = eager, scale
        self.embed = nn.Embedding(300, width)
        names = {"q": heads} if fused else {"q": heads, "k": groups, "v": groups}
        for name, n in names.items():
            self.add_module(name, nn.Linear(width, (3 if fused else 1) * n * self.size))
        self.norm = nn.RMSNorm(self.size) if norm else nn.Identity()
        self.out, self.head = nn.Linear(width, width), nn.Linear(width, 300, bias=False)

    def forward(self, ids):
        x = self.embed(ids)
        made = [f(x) for f in (self.q, self.k, self.v)] if hasattr(self, "k") else None
        made = made or self.q(x).chunk(3, -1)
        q, k, v = (t.unflatten(-1, (-1, self.size)).transpose(1, 2) for t in made)
        k, v = (t.repeat_interleave(self.heads // self.groups, 1) for t in (k, v))
        q = self.norm(q)
        scale = self.scale or self.size**-0.5
        if self.eager:
            mixed = torch.softmax((q @ k.mT) * scale, -1) @ v
        else:
            mixed = F.scaled_dot_product_attention(q, k, v, scale=scale)
        return self.head(x + self.out(mixed.transpose(1, 2).flatten(2)))


def plan_of(base, target, width, optimizer="adamw"):
    nets = [(Attention(*size[:3], **size[3]), IDS) for size in (base, target)]
    tuned = Tuned(nets[0], 0.01, weight_decay=0.1)
    plan = plan_transfer(tuned, nets[1], optimizer=optimizer, law="constant", width=width)
    return {entry.name: entry for entry in plan.parameters}, plan, nets


def scores(model):
    """Change of the scores' logarithm in size when the queries' parameters are scaled."""
    x = model.embed(IDS[:, :3] + torch.arange(3))
    q, k = (f(x).unflatten(-1, (-1, model.size)).transpose(1, 2) for f in (model.q, model.k))
    k = k.repeat_interleave(model.heads // model.groups, 1)
    return model.norm(q) @ k.mT


@pytest.mark.parametrize("eager", [False, True], ids=["fused", "by hand"])
@pytest.mark.parametrize("norm", [False, True], ids=["plain", "normalized queries"])
def test_the_queries_carry_what_is_left_of_one_over_the_heads_size(norm, eager):
    kind = {"norm": norm, "eager": eager}
    sizes = (32, 4, 4, kind), (64, 2, 2, kind)  # heads of 8 and of 32
    usual, plan, _ = plan_of(*sizes, "mup")
    assert any("scores x 0.5" in note for note in plan.notes)
    found, plan, nets = plan_of(*sizes, Width(attention="1/d"))
    assert not any("the size of heads" in note for note in plan.notes)
    carriers = {"norm.weight"} if norm else {"q.weight", "q.bias"}
    for name, entry in found.items():
        by = 0.5 if name in carriers else 1.0
        assert entry.init == pytest.approx(by * usual[name].init), name
        assert entry.lr == pytest.approx(by * usual[name].lr), name
    model = nets[1][0]
    before = scores(model)
    plan.rescale_(model)
    torch.testing.assert_close(scores(model), before / 2)


@pytest.mark.parametrize("eager", [False, True], ids=["fused", "by hand"])
def test_a_network_that_divides_by_the_heads_size_itself_is_left_alone(eager):
    sizes = [
        (width, 2, 2, {"eager": eager, "scale": 2 / width}) for width in (32, 64)
    ]  # 1 / head size
    found, plan, _ = plan_of(*sizes, Width(attention="1/d"))
    assert found["q.weight"].init == 1.0
    assert not any("heads" in note for note in plan_of(*sizes, "mup")[1].notes)
    assert plan.laws[-1].options == (("attention", "1/d"),)


def test_a_scale_of_one_is_the_networks_own():
    """As T5 and Gemma have it: nothing of 1 / size is done, also where the size changes."""
    sizes = [(width, 2, 2, {"scale": 1}) for width in (32, 64)]
    found, _, _ = plan_of(*sizes, Width(attention="1/d"))
    assert found["q.weight"].init == pytest.approx(0.5)


@pytest.mark.parametrize("by", [parametrizations.spectral_norm, parametrizations.orthogonal])
def test_queries_whose_weight_takes_no_factor_are_refused_where_heads_change_size(by):
    def network(width, heads):
        model = Attention(width, heads, heads)
        by(model.q)
        return model, IDS

    def plan(target):
        rule = Width(attention="1/d")
        tuned = Tuned(network(32, 4), 0.01)
        return plan_transfer(tuned, target, optimizer="adamw", law="constant", width=rule)

    with pytest.raises(LawError, match="of a weight that takes no factor"):
        plan(network(64, 4))
    assert plan(network(64, 8)).lr == pytest.approx(0.01 / 2)


def test_gain_and_direction_of_queries_carry_the_factor_together():
    def network(width, heads):
        model = Attention(width, heads, heads)
        parametrizations.weight_norm(model.q)
        return model, IDS

    model, _ = target = network(64, 4)
    rule, tuned = Width(attention="1/d"), Tuned(network(32, 4), 0.01)
    plan = plan_transfer(tuned, target, optimizer="adamw", law="constant", width=rule)
    before = scores(model)
    plan.rescale_(model)
    torch.testing.assert_close(scores(model), before * 0.5**0.5)


def test_queries_that_share_a_weight_are_refused_where_heads_change_size():
    sizes = (32, 4, 4, {"fused": True}), (64, 2, 2, {"fused": True})
    with pytest.raises(LawError, match=r"'q\.\w+', which makes more than the queries"):
        plan_of(*sizes, Width(attention="1/d"))
    same = (32, 4, 4, {"fused": True}), (64, 8, 8, {"fused": True})
    assert plan_of(*same, Width(attention="1/d"))[0]["q.weight"].init == 1.0


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("eager", [False, True], ids=["fused", "by hand"])
def test_repeats_of_keys_and_values_are_read_off_the_graph(groups, eager):
    graph = capture_graph(Attention(32, 4, groups, eager=eager), IDS)
    parts = {info.name: info.attention for info in graph.parameters}
    assert parts["k.weight"].repeats == parts["v.bias"].repeats == 4 // groups
    assert parts["q.weight"].repeats == 1
    assert parts["q.weight"].makes == "queries"
    assert parts["out.weight"] is parts["embed.weight"] is None


def test_grouped_keys_and_values_follow_their_repeats():
    """lr x (1 + r^(1/2)) / 2 at r heads of queries for each of theirs, decay its inverse [GQA]."""
    sizes = (32, 4, 4, {}), (64, 8, 2, {})
    usual, plan, _ = plan_of(*sizes, "mup")
    assert any("2605.15290" in note for note in plan.notes)
    found, plan, _ = plan_of(*sizes, Width(keys_values="grouped"))
    assert not any("2605.15290" in note for note in plan.notes)
    for name, entry in found.items():
        by = (1 + math.sqrt(4)) / 2 if name[:2] in ("k.", "v.") else 1.0
        assert entry.lr == pytest.approx(by * usual[name].lr), name
        assert entry.weight_decay == pytest.approx(usual[name].weight_decay / by), name
    alike = plan_of((32, 4, 2, {}), (64, 8, 4, {}), Width(keys_values="grouped"))[0]
    assert alike["k.weight"].lr == usual["k.weight"].lr


def test_a_large_vocabularys_table_follows_the_root_of_the_width():
    """Embedding over hidden rate as width^(1/2) and not as width: x m_N^(-1/2) [LV]."""
    sizes = (16, 2, 2, {}), (32, 4, 4, {})
    usual, plan, _ = plan_of(*sizes, "mup")
    assert any(note.startswith("embed.weight: 2506.15025") for note in plan.notes)
    found, plan, _ = plan_of(*sizes, Width(embedding="large-vocabulary"))
    assert not any("2506" in note for note in plan.notes)
    ratio = found["embed.weight"].lr / found["q.weight"].lr
    base = usual["embed.weight"].lr / (2 * usual["q.weight"].lr)
    assert ratio == pytest.approx(base * math.sqrt(2))
    assert {n for n in found if found[n].lr != usual[n].lr} == {"embed.weight"}
    wide = plan_of((64, 2, 2, {}), (128, 4, 4, {}), "mup")[1]
    assert not any("2506" in note for note in wide.notes)


@pytest.mark.parametrize(
    "rule", [{"embedding": "large-vocabulary"}, {"keys_values": "grouped"}], ids=("tables", "keys")
)
def test_what_is_a_rule_for_adam_is_said_to_be_left_out_of_sgd(rule):
    sizes = (16, 2, 2, {}), (32, 4, 2, {})
    usual = plan_of(*sizes, "mup", "sgd")
    assert not any("25" in note for note in usual[1].notes)
    found = plan_of(*sizes, Width(**rule), "sgd")
    assert any("left out" in note for note in found[1].notes)
    assert {n: e.lr for n, e in found[0].items()} == {n: e.lr for n, e in usual[0].items()}


def test_decay_that_shrinks_with_the_width():
    sizes = (32, 4, 4, {}), (128, 16, 16, {})
    usual = plan_of(*sizes, "mup")[0]
    found, _, _ = plan_of(*sizes, Width(decay="1/width"))
    for name, entry in found.items():
        assert entry.lr == usual[name].lr
        assert entry.weight_decay == pytest.approx(usual[name].weight_decay / 4), name


@pytest.mark.parametrize("wrong", ["embedding", "decay", "attention", "keys_values"])
def test_a_wrong_option_is_refused(wrong):
    with pytest.raises(LawError, match=wrong):
        Width(**{wrong: "no such rule"})


def test_the_base_size_stays_as_it_is():
    options = Width("large-vocabulary", "1/width", "1/d", "grouped")
    size = (32, 4, 2, {"norm": True})
    for entry in plan_of(size, size, options)[0].values():
        assert (entry.lr, entry.init) == (0.01, 1.0)
