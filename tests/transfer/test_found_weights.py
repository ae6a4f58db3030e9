"""Powers of K and of fan-in read off initial weights, against initializations that are known."""

import math

import pytest
import torch
from torch import nn

import etastar
from etastar.graph import capture_graph
from etastar.laws import Bound, EffectiveDepth, Evidence, Structure, UnboundLaw
from etastar.models import build, example_inputs
from etastar.transfer import Tuned, match_parameters, plan_transfer, read_architecture
from etastar.transfer.found_weights import found_weights, powers_of_branches


def look(base, target):
    infos = [read_architecture(network).parameters for network in (base, target)]
    return found_weights(base, target, match_parameters(*infos))


def zoo(name, depth, rule=None, **settings):
    settings = {"depth": depth, "width": 32} | settings
    torch.manual_seed(depth)
    model, inputs = build(name, **settings), example_inputs(name, **settings)
    if rule is not None:
        etastar.initialize_(model, capture_graph(model, *inputs), residual=rule, seed=depth)
    return model, inputs


def gpt2(blocks, width=64):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(blocks)
    config = transformers.GPT2Config(
        n_layer=blocks,
        n_embd=width,
        n_head=4,
        vocab_size=512,
        n_positions=64,
        bos_token_id=0,
        eos_token_id=0,
    )
    return transformers.GPT2LMHeadModel(config), torch.zeros(1, 8, dtype=torch.int64)


class Residual(nn.Module):
    """Stem, branches of two layers whose variance is K^(-inner) and K^(-last) over fan-in, head."""

    def __init__(self, blocks, inner, last, width=64):
        super().__init__()
        self.stem = nn.Linear(8, width)
        self.first = nn.ModuleList(nn.Linear(width, width) for _ in range(blocks))
        self.second = nn.ModuleList(nn.Linear(width, width) for _ in range(blocks))
        self.head = nn.Linear(width, 4)
        for layers, power in ((self.first, inner), (self.second, last)):
            for layer in layers:
                nn.init.normal_(layer.weight, std=math.sqrt(blocks**-power / width))

    def forward(self, x):
        x = self.stem(x)
        for first, second in zip(self.first, self.second, strict=True):
            x = x + second(first(x).relu())
        return self.head(x)


def residual(blocks, inner, last, **settings):
    torch.manual_seed(blocks)
    return Residual(blocks, inner, last, **settings), torch.zeros(1, 8)


@pytest.mark.parametrize(
    ("name", "rule", "powers"),
    [
        ("gpt", "all", (1.0, 1.0)),
        ("gpt", "last", (0.0, 1.0)),
        ("gpt", "none", (0.0, 0.0)),
        ("gpt", None, (0.0, 0.0)),
        ("vit", "all", (1.0, 1.0)),
        ("resmlp", "last", (0.0, 1.0)),
    ],
)
@pytest.mark.parametrize("width", [32, 48])
def test_the_initializations_of_the_zoo(name, rule, powers, width):
    settings = {"branch_layers": 2} if name == "resmlp" else {}
    found = look(zoo(name, 2, rule, **settings), zoo(name, 8, rule, width=width, **settings))
    assert powers_of_branches(found) == powers


@pytest.mark.parametrize("width", [64, 128, 256])
def test_gpt2s_own_initialization_scales_the_last_weights_and_knows_no_fan_in(width):
    found = look(gpt2(2), gpt2(8, width))
    powers = {one.names[0].split(".", 3)[3]: one.power for one in found if one.power is not None}
    assert powers == {
        "attn.c_attn.weight": 0.0,
        "attn.c_proj.weight": 1.0,
        "mlp.c_fc.weight": 0.0,
        "mlp.c_proj.weight": 1.0,
    }
    assert {one.fan_power for one in found} == {1 if width == 64 else 0}


def test_a_power_between_is_a_real_number_within_its_error():
    found = look(residual(2, 0.5, 1.5), residual(16, 0.5, 1.5))
    inner, last = powers_of_branches(found)
    assert inner == pytest.approx(0.5, abs=0.06)
    assert last == pytest.approx(1.5, abs=0.06)
    assert all(one.error < 0.03 for one in found if one.power is not None)


def test_the_stated_error_is_the_spread_over_draws():
    def network(seed):
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(16, 16), nn.Linear(16, 16))
        nn.init.normal_(model[1].weight)
        return model, torch.zeros(1, 16)

    pairs = match_parameters(*[read_architecture(network(0)).parameters] * 2)
    draws = [found_weights(network(2 * n), network(2 * n + 1), pairs)[2] for n in range(150)]
    spread = torch.tensor([one.log_ratio for one in draws]).std()
    assert draws[0].error == pytest.approx(math.sqrt(4 / 256))
    assert spread == pytest.approx(draws[0].error, rel=0.2)


def test_a_lone_value_at_the_bound_of_a_truncated_normal_is_no_other_rule():
    """Where the truncation lies a hundred standard deviations out, float32 rounds draws to it."""
    base, target = residual(2, 0.0, 0.0, width=256), residual(8, 0.0, 0.0, width=256)
    with torch.no_grad():
        target[0].second[1].weight[3, 5] = -100 * target[0].second[1].weight.std()
    found = look(base, target)
    assert powers_of_branches(found) == (0.0, 0.0)
    plan = plan_transfer(Tuned(base, 0.1), target, optimizer="sgd")
    assert not [note for note in plan.notes if "different rules" in note]


def test_layers_of_other_fans_out_are_not_read_together():
    """Under `fan_out` of `kaiming_normal_` they were drawn with other deviations."""

    def network(depth):
        torch.manual_seed(depth)
        read, stages = 8, []
        for made in (32, 64):
            reads = [read, *[made] * (depth - 1)]
            stages.append(nn.Sequential(*(nn.Linear(n, made, bias=False) for n in reads)))
            read = made
        model = nn.Sequential(*stages, nn.Linear(64, 4))
        for layer in (*model[0], *model[1]):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out")
        return model, torch.zeros(1, 8)

    plan = plan_transfer(Tuned(network(1), 0.1), network(4), optimizer="sgd")
    assert not [note for note in plan.notes if "different rules" in note]


def test_a_rule_by_the_number_of_the_block_is_no_power_of_k():
    def network(blocks):
        model, x = residual(blocks, 0, 0)
        for number, layer in enumerate(model.second):
            nn.init.normal_(layer.weight, std=1 / math.sqrt(64 * (number + 1)))
        return model, x

    assert powers_of_branches(look(network(3), network(12))) == (0.0, 0.0)


def test_where_weights_show_nothing_none_is_said():
    small, large = residual(2, 1, 1), residual(8, 1, 1)
    graphs = [capture_graph(*network) for network in (small, large)]
    with torch.device("meta"):
        hollow = Residual(8, 1, 1), torch.zeros(1, 8)
    assert look(*graphs) == ()
    for pair in ((small, graphs[1]), (graphs[0], large), (small, hollow)):
        assert powers_of_branches(look(*pair)) is None
    assert powers_of_branches(look(small, residual(2, 1, 1))) is None  # equal K
    assert powers_of_branches(look(small, residual(8, 1, 1, width=64))) == (1.0, 1.0)


@pytest.mark.parametrize("value", [0.0, 0.3])
def test_zero_and_constant_weights_show_no_power(value):
    networks = residual(2, 1, 1), residual(8, 1, 1)
    for model, _ in networks:
        for layer in model.second:
            nn.init.constant_(layer.weight, value)
    found = look(*networks)
    assert [one.power for one in found if one.pair.target.branch_last] == [None, None]
    assert powers_of_branches(found) == (1.0, 0.0)


def test_frozen_weights_were_not_drawn_for_this_network():
    networks = residual(2, 1, 1), residual(8, 1, 1)
    for model, _ in networks:
        model.second.requires_grad_(False)
    assert powers_of_branches(look(*networks)) == (1.0, 0.0)


def test_too_few_weights_to_tell_0_from_1_show_none():
    assert powers_of_branches(look(residual(2, 1, 1, width=2), residual(3, 1, 1, width=2))) is None


def test_half_precision_is_read_as_it_is():
    networks = residual(2, 0, 1), residual(8, 0, 1)
    for model, _ in networks:
        model.bfloat16()
    networks = [(model, x.bfloat16()) for model, x in networks]
    assert powers_of_branches(look(*networks)) == (0.0, 1.0)


class Finding(UnboundLaw):
    """Takes down the evidence that it is given."""

    name = "finding"
    reads = frozenset()

    def bind(self, evidence: Evidence):
        return Bound((EffectiveDepth(),), self.reads, note=f"found {evidence.powers}")


def test_a_law_that_is_made_from_evidence_has_the_powers():
    networks = residual(4, 0, 1), residual(16, 0, 1)
    plan = plan_transfer(Tuned(networks[0], 0.1), networks[1], optimizer="sgd", law=Finding())
    assert plan.notes[0] == "found (0.0, 1.0)"
    graph = capture_graph(*networks[1])
    plan = plan_transfer(Tuned(networks[0], 0.1), graph, optimizer="sgd", law=Finding())
    assert plan.notes[0] == "found None"


def test_the_structure_law_with_the_powers_of_the_weights():
    networks = residual(4, 0.5, 0.5), residual(16, 0.5, 0.5)
    law = Structure.with_powers(*powers_of_branches(look(*networks)))
    plan = plan_transfer(Tuned(networks[0], 0.1), networks[1], optimizer="adamw", law=law)
    assert plan.lr == pytest.approx(0.1 * 4**-0.75, rel=0.05)
    assert "inner=0." in plan.law
