"""Differences where one layer moves far more than the others."""

import pytest
import torch

from etastar.graph import capture_graph
from etastar.init import initialize_
from etastar.measure import measure_update
from etastar.models import build


@pytest.mark.parametrize("seed", [0, 2])
def test_a_small_readout_does_not_spoil_what_is_measured_of_the_layers_before_it(seed):
    # its pre-activation is tiny beside its change; were the step short enough for that, it would be
    # lost in the rounding of the other weights
    x = torch.randn(1, 64, generator=torch.Generator().manual_seed(0))
    network = build("mlp", in_features=64, depth=32, width=512)
    initialize_(network, capture_graph(network, x), readout="mup", seed=seed)
    found, expected = (
        measure_update(
            network, (x, None), lambda output, _: output.sum(), optimizer="sgd", method=method
        )
        for method in ("differences", "forward")
    )
    assert found.eta_star == pytest.approx(expected.eta_star, rel=0.01)
