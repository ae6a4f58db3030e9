"""The mup package's own collector of coordinate data, run on our width plans.

Its test (`mup/test/__main__.py`, `CoordCheckCase`) bounds the ratio of mean |output| of every
module at two widths (1000 and 4000 of an MLP, 128 and 512 of a CNN) at each of three steps by
[1 / 1.2, 1.2]; readouts start at zero, so that the last output is zero at the first step. Batches
of 32, rates 0.1 (SGD) and 0.001 (Adam), one seed: the same here.
"""

import mup.coord_check
import pytest
import torch

from etastar.datasets import load
from etastar.graph import capture_graph
from etastar.init import initialize_
from etastar.models import build, example_inputs
from etastar.transfer import Tuned, plan_transfer

BOUND = 1.2
NUM_STEPS = 3
OPTIMIZERS = {"sgd": (torch.optim.SGD, 0.1), "adam": (torch.optim.Adam, 0.001)}
NETWORKS = {
    "mlp": (250, (1000, 4000), {"depth": 2}),
    "cnn2d": (32, (128, 512), {"depth": 2}),
    "gpt": (32, (64, 256), {"depth": 2, "context": 8}),
}


def first_batch(name):
    data = load("stdlib-text", context=8) if name == "gpt" else load("digits")
    inputs, targets = next(iter(data.batches(0, 32, 1)))
    return inputs, targets.flatten()


def ratios(name, optimizer, *, widths, planned=True):
    """Ratio of mean |output| at the second width over the first, by module and step."""
    base, _, options = NETWORKS[name]
    make_optimizer, lr = OPTIMIZERS[optimizer]
    graphs = {
        width: capture_graph(
            build(name, width=width, **options), *example_inputs(name, width=width, **options)
        )
        for width in (base, *widths)
    }
    plans = {
        width: plan_transfer(
            Tuned(graphs[base], lr), graphs[width], optimizer=optimizer, law="constant", width="mup"
        )
        for width in widths
    }
    made = {}

    def lazy(width):
        def make():
            model = build(name, width=width, **options)
            readout = "zero" if planned else "standard"
            initialize_(model, graphs[width], residual="none", readout=readout)
            if planned:
                plans[width].rescale_(model)
            made[id(model)] = width
            return model

        return make

    def optimizer_of(model):
        if not planned:
            return make_optimizer(model.parameters(), lr=lr)
        return make_optimizer(plans[made[id(model)]].param_groups(model))

    inputs, targets = first_batch(name)
    data = mup.coord_check._get_coord_data(
        {width: lazy(width) for width in widths},
        [(inputs, targets)],
        optimizer_of,
        nsteps=NUM_STEPS,
        cuda=False,
        flatten_output=name == "gpt",
        show_progress=False,
    )
    data = data[data.module != ""].groupby(["module", "t", "width"]).l1.mean().unstack()
    return data[widths[0]], data[widths[1]]


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("name", ["mlp", "cnn2d", "gpt"])
def test_width_plans_are_flat_within_mups_own_bound(name, optimizer):
    narrow, wide = ratios(name, optimizer, widths=NETWORKS[name][1])
    is_zero = (narrow == 0) & (wide == 0)
    assert list(narrow[is_zero].index) == [("head", 1)]
    found = (wide / narrow)[~is_zero]
    assert len(found) >= 8
    assert found.min() > 1 / BOUND, found[found <= 1 / BOUND]
    assert found.max() < BOUND, found[found >= BOUND]


def test_one_rate_for_all_widths_is_not():
    narrow, wide = ratios("mlp", "adam", widths=(1000, 4000), planned=False)
    found = (wide / narrow).xs(NUM_STEPS, level="t")
    assert found["layers.0"] < BOUND
    assert found["layers.1"] > BOUND
    assert found["head"] > BOUND
