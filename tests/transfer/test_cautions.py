"""What a plan says of a base and a target that do not show what it takes for granted."""

from dataclasses import replace

import pytest
import torch
from torch import nn

import etastar
from etastar.graph import capture_graph
from etastar.laws import Structure, TransferCase, get_laws
from etastar.models import build, example_inputs
from etastar.optimizers import optimizer_kind
from etastar.transfer import Tuned, match_parameters, plan_transfer, read_architecture
from etastar.transfer.cautions import Initial, cautions
from etastar.transfer.found_weights import found_weights

X = torch.zeros(2, 8)


class Stream(nn.Module):
    """Stem, blocks of two layers with what `gain` makes behind them, head."""

    def __init__(self, blocks, width=64, gain=nn.Identity):
        super().__init__()
        self.stem = nn.Linear(8, width)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width), gain())
            for _ in range(blocks)
        )
        self.head = nn.Linear(width, 4)

    def forward(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = x + block(x)
        return self.head(x)


def drawn(blocks=4, width=64, *, seed=0, std=None, last=None, **settings):
    """A network with std(fan_in) in every weight, and last(fan_in, blocks) in those of branches."""
    torch.manual_seed(1000 * seed + blocks)
    model = Stream(blocks, width, **settings)
    for name, parameter in model.named_parameters():
        if std is not None and parameter.ndim == 2:
            nn.init.normal_(parameter, std=std(parameter.shape[1]))
        if last is not None and name.endswith(".2.weight"):
            nn.init.normal_(parameter, std=last(parameter.shape[1], blocks))
    return model, X


def stable(blocks=4, width=64, *, residual="all", seed=0, **settings):
    model, x = drawn(blocks, width, **settings)
    etastar.initialize_(model, capture_graph(model, x), residual=residual, seed=seed + blocks)
    return model, x


def notes(base, target, **settings):
    settings = {"optimizer": "adamw", "law": "constant"} | settings
    return plan_transfer(Tuned(base, 0.01), target, **settings).notes


def matching(words, *arguments, **settings):
    return [note for note in notes(*arguments, **settings) if words in note]


def lecun(fan_in):
    return fan_in**-0.5


def everywhere(std):
    return lambda fan_in: std


class TestInitialization:
    def test_two_networks_of_initialize_get_no_caution(self):
        assert notes(stable(4), stable(16, 128)) == ()

    def test_one_standard_deviation_everywhere_is_named_at_both(self):
        (note,) = notes(drawn(4, std=everywhere(0.02)), drawn(16, 128, std=everywhere(0.02)))
        assert note.startswith("base and target: std 0.02 everywhere, not 1/fan_in")
        assert "initialize both alike" in note

    def test_another_gain_is_named_with_the_one_that_is_due(self):
        (note,) = notes(drawn(4, std=lecun), drawn(16, std=lecun))
        assert note.startswith("base and target: variance 0.99 to 1 / fan_in in blocks.*.*.weight")
        assert "not 0.062 to 0.5 / fan_in as plan.initialize_ draws" in note

    def test_a_base_whose_target_is_only_a_graph_is_named_alone(self):
        graph = capture_graph(*drawn(16))
        (note,) = notes(drawn(4, std=everywhere(0.02)), graph)
        assert note.startswith("base: std 0.02 everywhere, not 1/fan_in")
        assert notes(stable(4), graph) == ()
        assert notes(capture_graph(*drawn(4)), graph) == ()

    def test_a_base_of_initialize_and_a_target_without(self):
        (note,) = notes(stable(4), drawn(16))
        assert note == (
            "the base was initialized by initialize_, the target is not: initialize both alike, by "
            "plan.initialize_(model)"
        )

    def test_a_target_of_initialize_and_a_base_without(self):
        (note,) = notes(drawn(4, std=everywhere(0.02)), stable(16))
        assert note == (
            "the target was initialized by initialize_, the base is not (std 0.02 everywhere, not "
            "1/fan_in): initialize both alike"
        )

    def test_two_rules_of_initialize(self):
        (note,) = matching(
            "were initialized by initialize_ with", stable(4), stable(16, residual="last")
        )
        assert "residual='all'" in note
        assert "residual='last'" in note

    def test_the_rule_of_a_base_that_is_not_the_plans(self):
        (note,) = matching("the base was initialized", stable(4), stable(16), law="complete-p")
        assert "residual='all', plan.initialize_ draws with residual='none'" in note
        base = stable(4, residual="none")
        assert notes(base, stable(16, residual="none"), law="complete-p") == ()

    def test_a_chain_has_no_branches_to_differ_in(self):
        def chain(depth):
            layers = [layer for _ in range(depth) for layer in (nn.ReLU(), nn.Linear(16, 16))]
            model = nn.Sequential(nn.Linear(8, 16), *layers)
            etastar.initialize_(model, capture_graph(model, X))
            return model, X

        assert notes(chain(3), chain(12), law=Structure("none")) == ()


class TestUnlike:
    words = "initialized by different rules"

    def test_a_factor_of_1_3_on_4096_weights_is_seen(self):
        base = drawn(4, std=lecun)
        target = drawn(16, std=lecun)
        with torch.no_grad():
            for block in target[0].blocks:
                block[0].weight.mul_(1.3)
        (note,) = matching(self.words, base, target)
        assert "blocks.*.0.weight (16) std 0.13 against 0.16" in note
        assert matching(self.words, base, drawn(16, std=lecun)) == []

    def test_zeros_at_one_size_alone_are_seen(self):
        base, target = drawn(4, std=lecun), drawn(16, std=lecun)
        nn.init.zeros_(target[0].head.weight)
        (note,) = matching(self.words, base, target)
        assert "head.weight std 0.12 against 0:" in note
        nn.init.zeros_(base[0].head.weight)
        assert matching(self.words, base, target) == []

    @pytest.mark.parametrize("power", [0.25, 0.5, 1.0])
    def test_powers_of_k_are_one_rule(self, power):
        """Of a standard deviation: DeepNorm and Fixup, GPT-2 and Depth-muP, CompleteP."""

        def last(fan_in, blocks):
            return fan_in**-0.5 * blocks**-power

        networks = [drawn(blocks, std=lecun, last=last) for blocks in (4, 16)]
        assert matching(self.words, *networks) == []

    @pytest.mark.parametrize(
        "rule",
        [
            nn.init.xavier_normal_,
            nn.init.kaiming_uniform_,
            lambda weight: nn.init.kaiming_normal_(weight, mode="fan_out"),
            lambda weight: nn.init.trunc_normal_(weight, std=0.02),
            nn.init.orthogonal_,
        ],
        ids=["xavier", "kaiming", "fan-out", "constant", "orthogonal"],
    )
    def test_the_usual_rules_are_one_rule_at_any_width(self, rule):
        networks = [drawn(4, 64), drawn(12, 192)]
        for model, _ in networks:
            for parameter in model.parameters():
                if parameter.ndim == 2:
                    rule(parameter)
        assert matching(self.words, *networks) == []

    @pytest.mark.parametrize("name", ["mlp", "cnn2d", "resnet", "gpt", "vit"])
    def test_pytorchs_own_initialization_is_one_rule(self, name):
        networks = []
        for depth, width in ((3, 16), (9, 48)):
            settings = {"depth": depth, "width": width}
            networks.append((build(name, **settings), example_inputs(name, **settings)))
        assert matching(self.words, *networks) == []

    def test_no_draw_of_one_rule_gives_a_false_alarm(self):
        base, target = drawn(4, 32, std=lecun), drawn(12, 32, std=lecun)
        graphs = [capture_graph(*network) for network in (base, target)]
        architectures = [read_architecture(graph) for graph in graphs]
        pairs = match_parameters(*[network.parameters for network in architectures])
        case = TransferCase(*architectures, optimizer_kind("adamw"))
        laws = get_laws("constant")
        for seed in range(200):
            torch.manual_seed(seed)
            for model, _ in (base, target):
                for parameter in model.parameters():
                    if parameter.ndim == 2:
                        nn.init.normal_(parameter, std=parameter.shape[1] ** -0.5)
            found = found_weights(base, target, pairs)
            initial = Initial((base, target), found, graphs[1], residual="own")
            assert cautions(case, laws=laws, initial=initial) == ()
        due = replace(initial, residual="all")  # a plan that does not keep the networks' own
        assert len(cautions(case, laws=laws, initial=due)) == 1


class TestPowers:
    def networks(self):
        def last(fan_in, blocks):
            return (fan_in * blocks) ** -0.5

        return [drawn(blocks, std=lecun, last=last) for blocks in (4, 16)]

    @pytest.mark.parametrize("law", ["depth-mup", "complete-p"])
    def test_a_law_that_scales_branches_which_hold_1_over_k_already(self, law):
        words = "plan.rescale_ would count depth twice, plan.initialize_ does not"
        (note,) = matching(words, *self.networks(), law=law)
        assert note.startswith(f"{law} scales the branches, and blocks.*.2.weight (16) hold 1/K")
        assert matching(words, drawn(4, std=lecun), drawn(16, std=lecun), law=law) == []
        assert matching(words, *self.networks(), law="constant") == []

    def test_the_structure_law_for_another_initialization(self):
        words = "power of 1/K"
        (note,) = matching(words, *self.networks(), law="structure")
        assert "found 0 and 1, structure assumes 1 and 1" in note
        assert matching(words, *self.networks(), law=Structure("last")) == []
        assert matching(words, stable(4), stable(16), law="structure") == []

    def test_what_initialize_will_draw_anew_is_not_compared(self):
        assert matching("count depth twice", stable(4), stable(16), law="complete-p") == []


class Scale(nn.Module):
    def __init__(self, value, size=64):
        super().__init__()
        self.gain = nn.Parameter(torch.full((size,) if size else (), value))

    def forward(self, x):
        return self.gain * x


class OnePlus(nn.Module):
    """A norm of the branch's output with gain 1 + w."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.zeros(64))

    def forward(self, x):
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6) * (1 + self.w)


class TestClosedBranches:
    words = "branches start (nearly) closed"

    @pytest.mark.parametrize(("value", "size"), [(1e-6, 64), (0.0, 0), (0.05, 64)])
    def test_a_layer_scale_or_a_rezero_gain_near_zero(self, value, size):
        networks = [drawn(blocks, gain=lambda: Scale(value, size)) for blocks in (4, 8)]
        (note,) = matching(self.words, *networks)
        assert f"blocks.*.3.gain (8) of mean size {value:.2g}" in note

    @pytest.mark.parametrize(
        "gain", [lambda: Scale(1.0), lambda: Scale(0.2), lambda: nn.LayerNorm(64)]
    )
    def test_open_branches(self, gain):
        assert matching(self.words, *[drawn(blocks, gain=gain) for blocks in (4, 8)]) == []

    def test_a_norm_of_the_branch_that_starts_at_zero(self):
        networks = [drawn(blocks, gain=lambda: nn.LayerNorm(64)) for blocks in (4, 8)]
        for model, _ in networks:
            for block in model.blocks:
                nn.init.zeros_(block[3].weight)
        assert len(matching(self.words, *networks)) == 1

    def test_the_form_1_plus_w_is_open_at_zero(self):
        assert matching(self.words, *[drawn(blocks, gain=OnePlus) for blocks in (4, 8)]) == []

    def test_last_weights_of_zero(self):
        networks = [drawn(blocks) for blocks in (4, 8)]
        for model, _ in networks:
            for block in model.blocks:
                nn.init.zeros_(block[2].weight)
        (note,) = matching(self.words, *networks)
        assert "blocks.*.2.weight (8)" in note


class TestDepthMuP:
    words = "their first layer stops learning (2512.21075)"

    def test_branches_of_two_layers(self):
        assert len(matching(self.words, stable(4), stable(8), law="depth-mup")) == 1
        assert matching(self.words, stable(4), stable(4), law="depth-mup") == []
        assert matching(self.words, stable(4), stable(8), law="complete-p") == []

    def test_branches_of_one_layer(self):
        networks = [(build("resmlp", depth=d), example_inputs("resmlp")) for d in (4, 8)]
        assert matching(self.words, *networks, law="depth-mup") == []


class Concatenating(nn.Module):
    """Layers that read all before them: the shortest path leaves all but the readout out."""

    def __init__(self, depth):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(8 + 4 * k, 4) for k in range(depth))
        self.head = nn.Linear(8 + 4 * depth, 3)

    def forward(self, x):
        for layer in self.layers:
            x = torch.cat([x, torch.relu(layer(x))], 1)
        return self.head(x)


def test_a_plan_says_which_layers_its_depth_by_passes():
    (note,) = matching("by-passes", (Concatenating(4), X), (Concatenating(4), X))
    assert "4 of 5 weight layers" in note
    assert matching("by-passes", stable(4), stable(8)) == []


class TestDistance:
    @pytest.mark.parametrize("blocks", [1, 2])
    @pytest.mark.parametrize("name", ["gpt", "resnet"])
    def test_a_base_of_one_or_two_blocks(self, name, blocks):
        def network(depth):
            return capture_graph(build(name, depth=depth), *example_inputs(name))

        words = f"a base of {blocks} block{'s' * (blocks > 1)} is a weak guide"
        assert len(matching(words, network(blocks), network(6))) == 1
        assert matching("weak guide", network(blocks), network(blocks)) == []
        assert matching("weak guide", network(3), network(6)) == []

    def test_the_blocks_of_all_stages_count_together(self):
        class Stages(nn.Module):
            def __init__(self, blocks):
                super().__init__()
                self.stage1 = Stream(blocks)
                self.stage2 = Stream(blocks)
                self.between = nn.Linear(4, 8)

            def forward(self, x):
                return self.stage2(self.between(self.stage1(x)))

        graphs = {blocks: capture_graph(Stages(blocks), X) for blocks in (1, 2, 5)}
        assert len(matching("a base of 2 blocks", graphs[1], graphs[5])) == 1
        assert matching("weak guide", graphs[2], graphs[5]) == []

    def test_a_chain_has_no_blocks(self):
        graphs = [
            capture_graph(nn.Sequential(*[nn.Linear(8, 8) for _ in range(depth)]), X)
            for depth in (2, 8)
        ]
        assert notes(*graphs) == ()

    def test_a_target_more_than_eight_times_as_deep(self):
        graphs = {
            depth: capture_graph(nn.Sequential(*[nn.Linear(8, 8) for _ in range(depth)]), X)
            for depth in (3, 24, 27)
        }
        (note,) = notes(graphs[3], graphs[27])
        assert note.startswith("the target is 9 times as deep as the base, beyond the 8 times")
        assert notes(graphs[3], graphs[24]) == ()


def test_every_printed_plan_says_what_its_rate_was_tuned_under():
    plan = plan_transfer(Tuned(stable(4), 0.01), stable(8), optimizer="adamw", law="constant")
    shown = " ".join(str(plan).split())
    under = "under the same initialization, batch size, steps and schedule"
    assert shown.endswith(f"assumes: lr tuned at the base {under}")
    assert plan.notes == ()


def test_the_weights_are_read_and_left_alone():
    base, target = drawn(4, std=everywhere(0.02)), drawn(8, std=everywhere(0.02))
    before = [parameter.clone() for parameter in target[0].parameters()]
    assert notes(base, target)
    assert all(map(torch.equal, before, target[0].parameters()))
