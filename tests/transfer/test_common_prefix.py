"""A module that holds the planned network and nothing else to train is looked through."""

import pytest
import torch
from torch import nn

from etastar.errors import PlanError


class Holder(nn.Module):
    def __init__(self, name, network):
        super().__init__()
        self.add_module(name, network)
        self.loss = nn.CrossEntropyLoss()


WRAPPERS = {
    "model.": lambda net: Holder("model", net),
    "module.": lambda net: Holder("module", net),
    "_orig_mod.": lambda net: Holder("_orig_mod", net),
    "_fsdp_wrapped_module.": lambda net: Holder("_fsdp_wrapped_module", net),
    "outer.inner.": lambda net: Holder("outer", Holder("inner", net)),
    "model. of DataParallel": lambda net: Holder("model", nn.DataParallel(net)),
    "DataParallel of model.": lambda net: nn.DataParallel(Holder("model", net)),
    "model. of compile": lambda net: Holder("model", torch.compile(net, backend="eager")),
}


@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)
@pytest.mark.parametrize("size", [(5, 32), (3, 16)])
def test_groups_of_the_wrapped_are_those_of_the_bare_network(make_net, make_plan, wrap, size):
    plan, net = make_plan(target=size, weight_decay=0.1), make_net(*size)
    plan.rescale_(net)
    assert plan.param_groups(wrap(net)) == plan.param_groups(net)


def test_it_is_rescaled_through_the_wrapper_and_once(make_net, make_plan):
    plan, net, twin = make_plan(), make_net(5, 32), make_net(5, 32)
    wrapped = Holder("model", net)
    plan.rescale_(wrapped)
    plan.rescale_(twin)
    assert all(map(torch.equal, net.parameters(), twin.parameters()))
    for model in (wrapped, net):
        with pytest.raises(PlanError, match="rescaled by a plan before"):
            plan.rescale_(model)


def test_a_wrapper_with_parameters_of_its_own_is_refused(make_net, make_plan):
    plan, net = make_plan(), make_net(5, 32)
    plan.rescale_(net)
    wrapped = Holder("model", net)
    wrapped.head = nn.Linear(4, 2)
    with pytest.raises(PlanError, match=r"'model.stem.weight' is not in the plan"):
        plan.param_groups(wrapped)
