"""A plan on real models: base size, groups, copies and wrappers, refusal of strangers."""

import copy
import io

import pytest
import torch
from rich.console import Console
from torch import nn

from etastar.errors import PlanError
from etastar.formatting import name_lines, number
from etastar.laws import LAWS
from etastar.transfer import Tuned, plan_transfer

OPTIMIZERS = {
    "sgd": torch.optim.SGD,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
}
RATE = 0.1 + 0.2  # not a short decimal: it must come through bit for bit


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("law", LAWS)
def test_at_base_size_nothing_changes(make_net, make_plan, law, optimizer):
    settings = {"optimizer": optimizer, "law": law, "weight_decay": 0.3, "no_decay": ()}
    plan = make_plan((3, 16), (3, 16), lr=RATE, **settings)
    model, untouched = make_net(3, 16), make_net(3, 16)
    plan.rescale_(model)
    for ours, theirs in zip(model.parameters(), untouched.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    (group,) = plan.param_groups(model)
    assert group["lr"] == RATE
    assert group["weight_decay"] == 0.3
    assert "eps" not in group
    assert {id(p) for p in group["params"]} == {id(p) for p in model.parameters()}


def test_at_base_size_muon_has_one_group_each(make_net, make_plan):
    plan = make_plan((3, 16), (3, 16), lr=RATE, optimizer="muon", aux_lr=0.01)
    model = make_net(3, 16)
    (matrices,) = plan.param_groups(model, kind="muon")
    (rest,) = plan.param_groups(model, kind="adamw")
    assert (matrices["lr"], rest["lr"]) == (RATE, 0.01)
    assert len(matrices["params"]) == 6
    assert len(matrices["params"]) + len(rest["params"]) == len(list(model.parameters()))


def rates(optimizer, model):
    """Learning rate by name."""
    names = {id(p): n for n, p in model.named_parameters()}
    return {names[id(p)]: g["lr"] for g in optimizer.param_groups for p in g["params"]}


def test_every_parameter_has_the_rate_of_its_role(make_ready, make_plan):
    plan = make_plan(law="constant")
    model = make_ready(plan)
    found = rates(torch.optim.AdamW(plan.param_groups(model)), model)
    assert found["stem.weight"] == found["norm.bias"] == found["blocks.4.0.bias"] == 0.1
    assert found["blocks.4.2.weight"] == pytest.approx(0.1 / 4)
    assert found["head.weight"] == pytest.approx(0.1 / 4)
    assert plan.lr == pytest.approx(0.1 / 4)


def test_depth_law_multiplies_the_width_rule(make_net, make_plan):
    plan = make_plan(optimizer="sgd", law="effective-depth")
    factor = (7 / 4) ** -1.5  # stem, additions, head: 4 layers deep at the base, 7 at the target
    assert (plan.base.depth, plan.target_depth) == (4, 7)
    found = {p.name: p.lr for p in plan.parameters}
    assert found["blocks.0.0.weight"] == pytest.approx(0.1 * factor)
    assert found["stem.weight"] == pytest.approx(0.1 * factor * 4)


def test_width_none_leaves_width_alone(make_plan):
    plan = make_plan(law="constant", width="none")
    assert {p.lr for p in plan.parameters} == {0.1}
    assert {p.init for p in plan.parameters} == {1.0}


def wrapped(model, kind):
    if kind == "deepcopy":
        return copy.deepcopy(model)
    if kind == "compile":
        return torch.compile(model, backend="eager")
    if kind == "data parallel":
        return nn.DataParallel(model)
    if kind == "compile of data parallel":
        return torch.compile(nn.DataParallel(model), backend="eager")
    model.load_state_dict(copy.deepcopy(model.state_dict()))
    return model


@pytest.mark.parametrize(
    "kind", ["deepcopy", "state dict", "compile", "data parallel", "compile of data parallel"]
)
def test_a_plan_works_on_copies_and_wrappers(make_ready, make_plan, kind):
    plan = make_plan(law="complete-p")
    model = make_ready(plan)
    expected = [[p.shape for p in g["params"]] for g in plan.param_groups(model)]
    other = wrapped(model, kind)
    groups = plan.param_groups(other)
    assert [[p.shape for p in g["params"]] for g in groups] == expected
    assert {id(p) for g in groups for p in g["params"]} == {id(p) for p in other.parameters()}
    with pytest.raises(PlanError, match="rescaled by a plan before"):
        plan.rescale_(other)


def test_a_plan_works_under_distributed_data_parallel(make_ready, make_plan, tmp_path):
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1
    )
    try:
        plan = make_plan(optimizer="sgd")
        model = nn.parallel.DistributedDataParallel(make_ready(plan))
        groups = plan.param_groups(model)
        torch.optim.SGD(groups).step()
        assert sum(len(g["params"]) for g in groups) == len(list(model.parameters()))
        captured = plan_transfer(
            Tuned((model, (torch.zeros(3, 6),)), 1.0),
            (model, (torch.zeros(3, 6),)),
            optimizer="sgd",
        )
        assert all(not p.name.startswith("module.") for p in captured.parameters)
    finally:
        torch.distributed.destroy_process_group()


def test_frozen_parameters_are_left_out(make_ready, make_plan):
    plan = make_plan()
    model = make_ready(plan)
    model.stem.requires_grad_(False)
    taken = {id(p) for g in plan.param_groups(model) for p in g["params"]}
    assert taken == {id(p) for p in model.parameters() if p.requires_grad}
    model.requires_grad_(False)
    with pytest.raises(PlanError, match="requires a gradient"):
        plan.param_groups(model)


class Tied(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.embedding = nn.Embedding(7, width)
        self.hidden = nn.Linear(width, width)
        self.head = nn.Linear(width, 7, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, tokens):
        return self.head(torch.relu(self.hidden(self.embedding(tokens))))


def test_tied_parameters_appear_once_and_are_noted():
    tokens = torch.zeros(2, 3, dtype=torch.int64)
    plan = plan_transfer(Tuned((Tied(8), (tokens,)), 0.1), (Tied(16), (tokens,)), optimizer="sgd")
    model = Tied(16)
    assert sum(len(g["params"]) for g in plan.param_groups(model)) == 3
    assert any("embedding.weight" in note for note in plan.notes)
    assert "embedding.weight" in str(plan)
    model.head.weight = nn.Parameter(torch.zeros(7, 16))
    with pytest.raises(PlanError, match=r"'head\.weight' is tied to 'embedding\.weight'"):
        plan.param_groups(model)


def test_an_unplanned_tie_is_refused(make_net, make_plan):
    plan, model = make_plan(), make_net(5, 32)
    model.blocks[1][0].weight = model.blocks[0][0].weight
    with pytest.raises(PlanError, match=r"'blocks\.1\.0\.weight' is tied to"):
        plan.param_groups(model)


@pytest.mark.parametrize("method", ["param_groups", "rescale_"])
@pytest.mark.parametrize(
    ("size", "message"),
    [
        ((5, 16), r"'stem\.weight' has shape \(16, 6\), in the plan \(32, 6\)"),
        ((6, 32), r"'blocks\.5\.0\.weight' is not in the plan"),
        ((4, 32), r"'blocks\.4\.0\.weight' is not in the model"),
    ],
)
def test_a_model_that_differs_is_refused_unchanged(make_net, make_plan, method, size, message):
    model, untouched = make_net(*size), make_net(*size)
    with pytest.raises(PlanError, match=message):
        getattr(make_plan(law="depth-mup"), method)(model)
    for ours, theirs in zip(model.parameters(), untouched.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_rescaling_multiplies_by_the_plans_factors(make_net, make_plan):
    plan, model, before = make_plan(law="complete-p"), make_net(5, 32), make_net(5, 32)
    plan.rescale_(model)
    ratio = {
        name: (p / q).mean().item()
        for (name, p), q in zip(model.named_parameters(), before.parameters(), strict=True)
        if q.abs().min() > 0
    }
    assert ratio["blocks.3.2.weight"] == pytest.approx(2 / 5)
    assert ratio["blocks.3.2.bias"] == pytest.approx(2 / 5)
    assert ratio["blocks.3.0.weight"] == 1.0
    assert ratio["head.weight"] == pytest.approx(1 / 2)
    assert ratio["stem.weight"] == 1.0


def test_epsilon_is_given_where_it_differs_or_was_asked_for(make_ready, make_plan):
    model = make_ready(make_plan())
    some = [g.get("eps") for g in make_plan().param_groups(model)]
    assert set(some) == {None, 1e-8 / 4}  # the readout's stays, all others' follow the gradient
    every = [g.get("eps") for g in make_plan(eps=1e-8).param_groups(model)]
    assert None not in every
    assert all("eps" not in g for g in make_plan(optimizer="sgd").param_groups(model))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_groups_differ_and_survive_the_optimizers_state(make_ready, make_plan, optimizer):
    plan = make_plan(optimizer=optimizer, weight_decay=0.1)
    model = make_ready(plan)
    made = OPTIMIZERS[optimizer](plan.param_groups(model))
    keys = [(g["lr"], g["weight_decay"], g.get("eps")) for g in made.param_groups]
    assert len(set(keys)) == len(keys) > 1
    assert len({g["name"] for g in made.param_groups}) == len(keys)
    again = OPTIMIZERS[optimizer](plan.param_groups(make_ready(plan)))
    again.load_state_dict(made.state_dict())
    assert [g["lr"] for g in again.param_groups] == [g["lr"] for g in made.param_groups]


def test_muon_trains_with_its_two_optimizers(make_ready, make_plan):
    plan = make_plan(optimizer="muon", lr=0.02, aux_lr=0.01, law="depth-mup")
    model = make_ready(plan)
    optimizers = [
        torch.optim.Muon(plan.param_groups(model, kind="muon")),
        torch.optim.AdamW(plan.param_groups(model, kind="adamw")),
    ]
    taken = [id(p) for o in optimizers for g in o.param_groups for p in g["params"]]
    assert sorted(taken) == sorted(id(p) for p in model.parameters())
    x, y = torch.randn(32, 6), torch.randint(4, (32,))
    losses = []
    for _ in range(30):
        loss = nn.functional.cross_entropy(model(x), y)
        losses.append(loss.item())
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize(("optimizer", "kind"), [("muon", None), ("muon", "sgd"), ("sgd", "muon")])
def test_the_wrong_optimizers_groups_are_refused(make_net, make_plan, optimizer, kind):
    aux = {"aux_lr": 0.1} if optimizer == "muon" else {}
    plan = make_plan(optimizer=optimizer, **aux)
    with pytest.raises(PlanError, match="kind="):
        plan.param_groups(make_net(5, 32), kind=kind)


def test_table_shows_every_law_and_every_group(make_plan):
    plan = make_plan(law=["effective-depth", "constant"], weight_decay=0.1)
    text = str(plan)
    for word in ("effective-depth", "constant", "width", "init x", "weight decay", "eps"):
        assert word in text
    assert "blocks.*.*.weight (10)" in text
    for group in plan.groups:
        assert number(group.lr) in text


def printed(plan, width):
    text = io.StringIO()
    Console(file=text, width=width, color_system=None).print(plan)
    return text.getvalue()


@pytest.mark.parametrize("law", [*LAWS, ["structure", "constant", "path-sum"]], ids=str)
@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "muon"])
def test_no_number_is_cut_at_80_columns_and_names_stand_below(make_plan, law, optimizer):
    aux = {"aux_lr": 0.003217} if optimizer == "muon" else {}
    plan = make_plan((2, 7), (5, 24), law=law, optimizer=optimizer, lr=0.0123456, **aux)
    for text in (str(plan), printed(plan, 80)):
        lines = text.splitlines()
        assert max(map(len, lines)) <= 80
        for group in plan.groups:
            place = next(n for n, line in enumerate(lines) if line.startswith(group.name[:8]))
            shown = lines[place].split()
            assert number(group.lr) in shown
            assert number(group.weight_decay) in shown
            names = [f"  {line}" for line in name_lines(group.parameters, 78)]
            assert "\n".join(names) in "\n".join(lines[place : place + 3 + len(names)])


def test_a_narrow_line_shortens_names_and_keeps_numbers(make_plan):
    plan = make_plan(law="complete-p", lr=0.0123456, weight_decay=0.0789012)
    text = printed(plan, 40)
    assert "…" in text
    assert all(number(group.lr) in text for group in plan.groups)
    assert all(number(group.weight_decay) in text for group in plan.groups)


def test_rate_times_decoupled_weight_decay_stays(make_plan):
    plan = make_plan(weight_decay=0.2, law="effective-depth")
    stem = next(p for p in plan.parameters if p.name == "stem.weight")
    assert stem.weight_decay == pytest.approx(0.2 * 0.1 / stem.lr)
    assert stem.lr < 0.1


def test_two_plans_of_the_same_networks_are_equal(make_plan):
    plans = [make_plan(law=law) for law in LAWS for _ in range(2)]
    assert all(a == b for a, b in zip(plans[::2], plans[1::2], strict=True))
    assert len(set(plans)) == len(LAWS)


class _Block(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.norm, self.inner, self.outer = (
            nn.LayerNorm(4),
            nn.Linear(4, inner),
            nn.Linear(inner, 4),
        )

    def forward(self, x):
        return x + self.outer(torch.relu(self.inner(self.norm(x))))


@pytest.mark.parametrize("sizes", [(16, 16), (8, 16, 16)])
def test_the_rate_of_a_plan_is_that_of_weights_that_no_multiplier_scales(sizes):
    # the first layer of blocks without a stem is an input: more hidden weights end a branch
    def net(repeats):
        blocks = [_Block(inner) for inner in sizes * repeats]
        return nn.Sequential(*blocks, nn.LayerNorm(4), nn.Linear(4, 2)), torch.zeros(1, 4)

    plan = plan_transfer(Tuned(net(2), 0.01), net(8), optimizer="adamw", law="complete-p")
    rates = {entry.role: entry.lr for entry in plan.parameters if entry.role == "output"}
    assert plan.lr == rates["output"] == 0.01
    assert min(entry.lr for entry in plan.parameters) == 0.01 / 4
