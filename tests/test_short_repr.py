"""What a result of a network of 24 layers is called on one line: short, for every kind."""

import pytest
import torch

import etastar
from etastar.cli.demo_command import DemoResult
from etastar.cli.report_command import FileWritten
from etastar.fit import find_optimum, fit_power_law, transfer_regret
from etastar.formatting import Shown
from etastar.init import check_stability, initialize_
from etastar.integrations.lr_range import LrRange
from etastar.sources.measuring import check_named, measurable, measure_named
from etastar.sources.model_spec import capture_spec
from etastar.sources.recipe_spec import RecipeSpec, named_recipe
from etastar.sources.stored_optima import StoreFit
from etastar.sweep import TuneResult, run_sweep
from etastar.sweep.search import Grid

DEEP = {"depth": 24, "width": 8}
SIZES = [{"depth": 24}, {"depth": 26}]


@pytest.fixture(scope="module")
def results():
    """One result of every kind, of networks of 24 layers."""
    short = {"num_steps": 2, "batch_size": 4}
    spec = RecipeSpec("zoo:resmlp", "digits", "adamw", {"width": 8}, **short)
    one = named_recipe(RecipeSpec("zoo:resmlp", "digits", "adamw", DEEP, **short))
    recipe = named_recipe(spec)
    model = recipe.make_model(depth=24)
    batch = next(iter(recipe.batches(0)))
    graph = capture_spec("zoo:resmlp", DEEP)
    tuned = etastar.Tuned((model, batch[0]), 0.1)
    plan = etastar.plan_transfer(tuned, graph, optimizer="adamw", law="structure")
    sweep = run_sweep(recipe, SIZES, search=Grid([0.001, 0.01, 0.1]), seeds=1)
    fit = fit_power_law([24, 25, 26], [0.1, 0.05, 0.03])
    kept = [(size.size, 24.0, size.optimum) for size in sweep.sizes]
    losses = torch.rand(2, 40).tolist()
    return [
        graph,
        graph.depth(),
        tuned,
        etastar.Target((model, batch[0])),
        measurable(spec, SIZES)[1],
        plan,
        initialize_(model, graph),
        check_stability(model, batch, recipe.loss_fn),
        measure_named(one, seeds=2),
        measure_named(recipe, SIZES, seeds=2),
        check_named(recipe, SIZES, lr=1e-3, seeds=1),
        find_optimum([0.01, 0.1, 1.0], [[2.0] * 3, [1.0] * 3, [2.0] * 3]),
        fit,
        transfer_regret(*losses),
        sweep,
        sweep.sizes[0],
        TuneResult(plan, sweep, (("depth", 24),), 0.1, "budget", 1.5, 0.05),
        StoreFit(fit, (), tuple(kept), (), {"model": "zoo:resmlp"}, DEEP, plan),
        FileWritten("report.html", 10**6, ("Plan",) * 300),
        LrRange((0.1,) * 999, (1.0,) * 999),
        DemoResult(tuple({"rule": str(i), "lr": 0.1, "loss": 1.0} for i in range(50))),
    ]


def kinds(of=Shown):
    return {one for cls in of.__subclasses__() for one in (cls, *kinds(cls))}


def test_the_results_are_of_every_kind(results):
    assert kinds() <= {type(result) for result in results}


def test_every_result_is_short_and_names_its_kind(results):
    for result in results:
        text = repr(result)
        assert len(text) < 2000, text
        assert "\n" not in text
        assert type(result).__name__ in text


def test_what_is_long_is_counted(results):
    texts = {type(result).__name__: repr(result) for result in results}
    assert "path=<26 PathStep>" in texts["DepthReport"]
    assert "effective_depth=26" in texts["DepthReport"]
    assert "parameters=<52 ParamPlan>" in texts["TransferPlan"]
    assert "network=(ResidualNetwork, Tensor)" in texts["Tuned"]


def test_a_graph_says_its_model_and_sizes(results):
    graph = results[0]
    parameters = sum(parameter.numel() for parameter in results[2].network[0].parameters())
    assert repr(graph) == (
        f"<Graph of ResidualNetwork: {len(graph)} nodes, {parameters:,} parameters>"
    )
