"""The experiment on random cells: its sizes are graphs, and its initialization divides by d."""

import pytest
import torch

from studies.cells import cell_plan
from studies.experiments.graphs import _weightless_ways, stable_cells, study
from studies.experiments.registry import EXPERIMENTS
from studies.initialization import InDegreeInit
from studies.network import captured, network_architecture

SCALES = ("smoke", "cpu", "paper")


@pytest.mark.parametrize("scale", SCALES)
def test_every_cell_stands_at_two_depths_and_claims_are_about_two_axes(scale):
    declared = EXPERIMENTS["graphs"](scale)
    family = declared.families[0]
    cells = {dict(one)["cell_seed"] for one in family.sizes}
    depths = {dict(one)["depth"] for one in family.sizes}
    assert len(family.sizes) == len(cells) * len(depths)
    assert len(depths) == 2
    assert cells == set(stable_cells(len(cells)))
    assert family.targets == ()
    assert {claim.axis for claim in declared.claims} == {"effective-depth", "path-sum"}
    assert all(set(f.axes) >= {"nominal-depth", "path-sum"} for f in declared.families)


def test_random_cells_tell_the_predictors_apart():
    family = study("cpu").families[0]
    reports = [network_architecture(family.network, one).report for one in family.sizes]
    effective = [report.effective_depth for report in reports]
    nominal = [report.layer_longest_path for report in reports]
    assert len({(e, n) for e, n in zip(effective, nominal, strict=True)}) > len(set(effective))
    assert len(set(nominal)) > 2


def test_one_stack_has_a_skip_and_the_other_has_not():
    families = {family.name: family for family in study("smoke").families}
    for name, growth in (("cell without skip, SGD", 2), ("cell with skip, SGD", 1)):
        family = families[name]
        depths = [
            network_architecture(family.network, one).report.effective_depth
            for one in family.sizes[:2]
        ]
        assert depths[1] - depths[0] == growth, name
        assert family.targets


def test_the_variance_of_a_branch_is_divided_by_the_number_that_is_summed():
    family = study("smoke").families[2]
    graph = captured(family.network, (("batch_norm", False), ("depth", 2), ("width", 64)))
    model = family.network.build(depth=2, width=64, batch_norm=False)
    InDegreeInit().apply_(model, graph, family=family, seed=3)
    # cell 0: node 3 sums conv1x1(0), avgpool(1) and conv3x3(2); node 2 is conv3x3(0) alone
    summed, alone = (model.cells[0].ops[edge][1].weight for edge in ("2to3", "0to2"))
    assert (alone.var() / summed.var()).item() == pytest.approx(3.0, rel=0.05)


def test_stable_cells_keep_their_signals_over_depth():
    family = study("smoke").families[0]
    x = torch.randn(16, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    for cell_seed in stable_cells(8):
        scales = []
        for depth in (1, 8):
            size = (
                ("batch_norm", False),
                ("cell_seed", cell_seed),
                ("depth", depth),
                ("width", 32),
            )
            model = family.network.build(**dict(size))
            InDegreeInit().apply_(model, captured(family.network, size), family=family, seed=1)
            scales.append(model(x).square().mean().sqrt().item())
        assert 1 / 40 < scales[1] / scales[0] < 20, (cell_seed, scales)


def test_a_cell_that_doubles_its_input_is_left_out():
    doubled = "skip,skip,zero,zero,conv1x1,skip"
    assert max(_weightless_ways(cell_plan(edges=doubled)).values()) == 1
    doubled = "skip,skip,skip,skip,conv1x1,skip"
    assert _weightless_ways(cell_plan(edges=doubled)) == {3: 1, 2: 1, 1: 1, 0: 3}
    assert 3 not in stable_cells(5)
