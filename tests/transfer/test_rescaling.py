"""The factors of a plan count once: on which weights, in which order of calls, on which copies."""

import copy

import pytest
import torch
from torch import nn

from etastar.applied import recall
from etastar.errors import PlanError
from etastar.graph import capture_graph
from etastar.init import initialize_
from etastar.laws import LAWS
from etastar.transfer import TransferPlan, Tuned, plan_transfer

X = torch.zeros(3, 6)
BRANCH_LAWS = ("depth-mup", "complete-p")
TWICE = "rescaled by a plan before"


def state(model):
    return copy.deepcopy(model.state_dict())


def equal(ours, theirs):
    return all(torch.equal(value, theirs[name]) for name, value in ours.items())


def assert_refused_unchanged(call, model, match):
    before = state(model)
    with pytest.raises(PlanError, match=match):
        call(model)
    assert equal(model.state_dict(), before)


@pytest.mark.parametrize("law", LAWS)
def test_plan_initialize_is_the_fitting_initialization_times_the_factors(make_net, make_plan, law):
    plan, model, reference = make_plan(law=law), make_net(5, 32), make_net(5, 32, seed=1)
    plan.initialize_(model, seed=3)
    residual = "none" if law in BRANCH_LAWS else "all"
    assert plan.initialization.residual == residual
    initialize_(reference, capture_graph(reference, X), residual=residual, seed=3)
    for entry in plan.parameters:
        reference.get_parameter(entry.name).data.mul_(entry.init)
    assert equal(model.state_dict(), reference.state_dict())
    assert plan.param_groups(model)


@pytest.mark.parametrize("law", BRANCH_LAWS)
@pytest.mark.parametrize("residual", ["all", "last"])
def test_one_over_k_on_the_branches_and_a_branch_multiplier_exclude_each_other(
    make_net, make_plan, law, residual
):
    plan, model = make_plan(law=law), make_net(5, 32)
    initialize_(model, capture_graph(model, X), residual=residual)
    assert_refused_unchanged(plan.rescale_, model, "count depth twice")
    assert_refused_unchanged(plan.rescale_, copy.deepcopy(model), "count depth twice")
    initialize_(model, capture_graph(model, X), residual="none")
    plan.rescale_(model)


def test_one_over_k_goes_with_other_laws_and_with_width_alone(make_net, make_plan):
    for plan in (make_plan(law="effective-depth"), make_plan((2, 8), (2, 32), law="complete-p")):
        model = make_net(2 if "complete-p" in plan.law else 5, 32)
        initialize_(model, capture_graph(model, X))
        plan.rescale_(model)
        assert plan.param_groups(model)


def test_the_readout_of_mup_and_the_width_rule_exclude_each_other(make_net, make_plan):
    plan, model = make_plan(law="constant"), make_net(5, 32)
    initialize_(model, capture_graph(model, X), readout="mup")
    assert_refused_unchanged(plan.rescale_, model, "count width twice")
    make_plan(law="constant", width="none").rescale_(model)


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("first", ["rescale_", "initialize_"])
def test_rescaling_twice_is_refused(make_net, make_plan, law, first):
    plan, model = make_plan(law=law), make_net(5, 32)
    getattr(plan, first)(model)
    assert_refused_unchanged(plan.rescale_, model, TWICE)
    assert_refused_unchanged(make_plan(law="constant", lr=0.7).rescale_, model, TWICE)


def test_a_trained_model_is_not_rescaled_again(make_ready, make_plan):
    plan = make_plan(law="complete-p")
    model = make_ready(plan)
    optimizer = torch.optim.AdamW(plan.param_groups(model))
    model(torch.randn(3, 6)).square().mean().backward()
    optimizer.step()
    assert_refused_unchanged(plan.rescale_, model, TWICE)
    assert plan.param_groups(model)  # of a job that goes on


class Normed(nn.Module):
    """Residual blocks behind norms, and a readout."""

    def __init__(self, depth, norm=nn.LayerNorm):
        super().__init__()
        self.stem, self.head = nn.Linear(6, 8), nn.Linear(8, 2)
        self.norms = nn.ModuleList([norm(8) for _ in range(depth)])
        self.inner = nn.ModuleList([nn.Linear(8, 16) for _ in range(depth)])
        self.outer = nn.ModuleList([nn.Linear(16, 8) for _ in range(depth)])

    def forward(self, x):
        x = self.stem(x)
        for norm, inner, outer in zip(self.norms, self.inner, self.outer, strict=True):
            x = x + outer(torch.relu(inner(norm(x))))
        return self.head(x)


def normed_plan(norm):
    tuned = Tuned((Normed(2, norm), X), 0.1)
    return plan_transfer(tuned, (Normed(8, norm), X), optimizer="adamw", law="complete-p")


@pytest.mark.parametrize("norm", [nn.LayerNorm, nn.RMSNorm, nn.BatchNorm1d])
def test_a_resumed_job_does_not_rescale_what_it_loads(norm):
    plan, first, resumed = normed_plan(norm), Normed(8, norm), Normed(8, norm)
    plan.rescale_(first)
    optimizer = torch.optim.AdamW(plan.param_groups(first))
    for _ in range(2):
        optimizer.zero_grad()
        first(torch.randn(5, 6)).square().mean().backward()
        optimizer.step()
    resumed.load_state_dict(first.state_dict())
    assert_refused_unchanged(plan.rescale_, resumed, "gains and biases of the norm 'norms.0'")
    assert plan.param_groups(resumed, from_checkpoint=True)


def test_gains_that_are_drawn_are_fresh_and_norms_that_are_drawn_whole_are_named():
    plan, model = normed_plan(nn.BatchNorm1d), Normed(8, nn.BatchNorm1d)
    for norm in model.norms:
        nn.init.normal_(norm.weight, 1.0, 0.02)  # as of DCGAN
    plan.rescale_(model)
    model = Normed(8, nn.BatchNorm1d)
    for norm in model.norms:
        nn.init.normal_(norm.weight, 1.0, 0.02)
        nn.init.normal_(norm.bias)
    assert_refused_unchanged(plan.rescale_, model, "redrawn=True")
    plan.rescale_(model, redrawn=True)


def test_trained_norms_that_are_frozen_say_nothing_of_the_rest():
    plan, model = normed_plan(nn.LayerNorm), Normed(8)
    for norm in model.norms:
        for parameter in norm.parameters():
            nn.init.normal_(parameter)
            parameter.requires_grad_(False)
    plan.rescale_(model)


def test_drawing_anew_resets(make_ready, make_plan):
    plan = make_plan(law="complete-p")
    model = make_ready(plan)
    initialize_(model, capture_graph(model, X), residual="none")
    with pytest.raises(PlanError, match="never rescaled"):
        plan.param_groups(model)
    plan.rescale_(model)
    plan.initialize_(model)
    plan.initialize_(model)
    once, again = state(model), copy.deepcopy(model)
    plan.initialize_(again)
    assert equal(again.state_dict(), once)


def test_own_draws_are_named(make_ready, make_net, make_plan):
    plan = make_plan(law="complete-p")
    model, fresh = make_ready(plan), make_net(5, 32, seed=4)
    with torch.no_grad():
        for ours, theirs in zip(model.parameters(), fresh.parameters(), strict=True):
            ours.copy_(theirs)
    assert_refused_unchanged(plan.rescale_, model, TWICE)
    plan.rescale_(model, redrawn=True)
    plan.rescale_(fresh)
    assert equal(model.state_dict(), fresh.state_dict())


def test_frozen_weights_are_scaled_once_by_two_initializations(make_net, make_plan):
    plan, model, other = make_plan(law="constant"), make_net(5, 32), make_net(5, 32)
    for one in (model, other):
        one.head.weight.requires_grad_(False)
        plan.initialize_(one)
    plan.initialize_(model)
    assert equal(model.state_dict(), other.state_dict())


@pytest.mark.parametrize("law", LAWS)
def test_rates_for_another_network_are_not_handed_out(make_net, make_plan, law):
    plan, model = make_plan(law=law), make_net(5, 32)
    with pytest.raises(PlanError, match="never rescaled"):
        plan.param_groups(model)
    assert plan.param_groups(model, from_checkpoint=True)
    make_plan((2, 8), (5, 16), law=law)  # another plan does not count
    plan.rescale_(model)
    assert plan.param_groups(model)


def test_factors_of_another_plan_do_not_count(make_ready, make_plan):
    model = make_ready(make_plan(law="constant"))
    with pytest.raises(PlanError, match="rescaled by other factors"):
        make_plan(law="complete-p").param_groups(model)
    assert make_plan(law="effective-depth", lr=0.3).param_groups(model)  # the same factors


def test_a_plan_without_factors_asks_for_nothing(make_net, make_plan):
    model = make_net(5, 32)
    assert make_plan(law="effective-depth", width="none").param_groups(model)
    assert make_plan((5, 32), (5, 32), law="complete-p").param_groups(model)
    plan = make_plan((5, 32), (5, 32), law="complete-p")
    plan.rescale_(model)
    plan.rescale_(model)


def wrapped(model, kind):
    if kind == "deepcopy":
        return copy.deepcopy(model)
    if kind == "deepcopy of a wrapper":
        return copy.deepcopy(nn.DataParallel(model))
    if kind == "compile":
        return torch.compile(model, backend="eager")
    if kind == "double":
        return model.double()
    other = copy.deepcopy(model)
    nn.init.normal_(other.stem.weight)
    other.load_state_dict(model.state_dict())
    return other


@pytest.mark.parametrize(
    "kind", ["deepcopy", "deepcopy of a wrapper", "compile", "double", "loaded state"]
)
def test_copies_and_wrappers_are_known(make_ready, make_plan, kind):
    plan = make_plan(law="complete-p")
    other = wrapped(make_ready(plan), kind)
    assert plan.param_groups(other)
    assert_refused_unchanged(plan.rescale_, other, TWICE)


def test_the_wrapped_model_is_known_by_what_was_done_through_the_wrapper(make_net, make_plan):
    plan, model = make_plan(law="complete-p"), make_net(5, 32)
    plan.rescale_(torch.compile(nn.DataParallel(model), backend="eager"))
    assert plan.param_groups(model)


def test_a_copy_of_a_trained_model_is_named_as_a_checkpoint(make_ready, make_plan):
    plan = make_plan(law="complete-p")
    model = make_ready(plan)
    with torch.no_grad():
        model.stem.weight.add_(1.0)
    other = copy.deepcopy(model)
    with pytest.raises(PlanError, match="from_checkpoint=True"):
        plan.param_groups(other)
    assert plan.param_groups(other, from_checkpoint=True)


def test_another_model_from_the_same_seed_is_not_taken_for_it(make_net, make_plan):
    plan = make_plan(law="complete-p")
    plan.rescale_(make_net(5, 32))
    other = make_net(5, 32)
    assert recall(other) is None
    plan.rescale_(other)


def zero_branches(model):
    with torch.no_grad():
        for block in model.blocks:
            block[2].weight.zero_()
            block[2].bias.zero_()
    return model


def test_branches_that_start_at_zero_need_no_rescaling(make_net, make_plan):
    plan = make_plan((2, 32), (5, 32), law="complete-p")
    models = [zero_branches(make_net(5, 32)) for _ in range(3)]
    assert plan.param_groups(models[0])
    plan.rescale_(models[1])
    plan.rescale_(models[2])  # equal weights, another model
    assert_refused_unchanged(plan.rescale_, models[2], TWICE)


def test_a_zero_readout_after_our_own_initialization_is_rescaled_once(make_net, make_plan):
    plan, model = make_plan(law="constant"), make_net(5, 32)
    initialize_(model, capture_graph(model, X), readout="zero")
    plan.rescale_(model)  # nothing changes
    assert plan.param_groups(model)
    assert_refused_unchanged(plan.rescale_, model, TWICE)


def test_meta_weights_are_filled_first(make_net, make_plan):
    plan, model = make_plan(law="complete-p"), make_net(5, 32)
    reference = make_net(5, 32)
    empty = model.to("meta")
    with pytest.raises(PlanError, match="to_empty"):
        plan.rescale_(empty)
    filled = empty.to_empty(device="cpu")
    plan.initialize_(filled)
    plan.initialize_(reference)
    assert equal(filled.state_dict(), reference.state_dict())
    assert plan.param_groups(filled)


def test_a_loaded_plan_takes_the_graph(make_net, make_plan):
    plan, model, reference = make_plan(law="complete-p"), make_net(5, 32), make_net(5, 32)
    loaded = TransferPlan.from_json(plan.to_json())
    assert_refused_unchanged(loaded.initialize_, model, "graph=capture_graph")
    loaded.initialize_(model, graph=capture_graph(model, X), seed=2)
    plan.initialize_(reference, seed=2)
    assert equal(model.state_dict(), reference.state_dict())


@pytest.mark.parametrize("model", [None, "x", {}, 3, (n for n in "ab")])
@pytest.mark.parametrize("method", ["param_groups", "rescale_", "initialize_"])
def test_what_is_no_model_is_refused(make_plan, method, model):
    with pytest.raises(PlanError, match="in place of the model"):
        getattr(make_plan(), method)(model)


def test_a_measured_plan_refuses_networks_with_one_over_k_too(make_net):
    from torch.nn import functional as F

    from etastar.transfer import Measure

    nets = [make_net(depth, 8) for depth in (2, 6)]
    for net in nets:
        initialize_(net, capture_graph(net, X))
    measure = Measure((torch.randn(4, 6), torch.arange(4)), F.cross_entropy)
    with pytest.raises(PlanError, match="count depth twice"):
        plan_transfer(
            Tuned((nets[0], X), 0.1), (nets[1], X), optimizer="sgd", law="complete-p",
            measure=measure,
        )  # fmt: skip


def as_eight_bits(values):
    return values.to(torch.float8_e4m3fn)


def as_complex(values):
    return values.to(torch.complex64)


def of_one_row(values):
    return values[:1].expand(values.shape)


@pytest.mark.parametrize("change", [as_eight_bits, as_complex, of_one_row])
@pytest.mark.parametrize("method", ["rescale_", "initialize_"])
def test_every_parameter_is_looked_at_before_the_first_is_written(
    make_net, make_plan, method, change
):
    plan, model = make_plan(law="complete-p"), make_net(5, 32)
    last = [entry.name for entry in plan.parameters if entry.init != 1][-1]
    owner, name = model.get_submodule(last.rpartition(".")[0]), last.rpartition(".")[2]
    changed = change(getattr(owner, name).detach())
    setattr(owner, name, nn.Parameter(changed))
    before = [p.detach().clone().view(torch.uint8).tolist() for p in model.parameters()
              if p is not getattr(owner, name)]  # fmt: skip
    with pytest.raises(PlanError, match=f"parameter '{last}'"):
        getattr(plan, method)(model)
    after = [p.detach().clone().view(torch.uint8).tolist() for p in model.parameters()
             if p is not getattr(owner, name)]  # fmt: skip
    assert after == before
