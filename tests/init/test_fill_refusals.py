"""What `initialize_` refuses, before anything changes."""

import copy
import math

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from etastar.errors import InitError
from etastar.graph.capture import capture_graph
from etastar.init import initialize_
from etastar.models import build, example_inputs
from tests.init.drawing import Net, initialized


@pytest.mark.parametrize(
    "other",
    [
        {"depth": 3, "width": 32},
        {"depth": 2, "width": 64},
        {"depth": 2, "width": 32, "bias": False},
    ],
)
def test_a_model_that_is_not_the_graphs_is_refused_before_anything_changes(other):
    graph = capture_graph(build("mlp", depth=2, width=32), *example_inputs("mlp"))
    model = build("mlp", **other)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(InitError, match="differ from the graph"):
        initialize_(model, graph)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_a_model_without_memory_is_refused():
    model = build("mlp", depth=2, width=32).to("meta")
    graph = capture_graph(model, *(x.to("meta") for x in example_inputs("mlp")))
    with pytest.raises(InitError, match="meta device"):
        initialize_(model, graph)


def test_a_sharded_model_is_refused_before_anything_changes(tmp_path):
    model = build("mlp", depth=2, width=32)
    graph = capture_graph(model, *example_inputs("mlp"))
    before = copy.deepcopy(model.state_dict())
    store = dist.FileStore(str(tmp_path / "store"), 1)
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        fully_shard(model, mesh=init_device_mesh("cpu", (1,)))
        with pytest.raises(InitError, match="capture and initialize before fully_shard"):
            initialize_(model, graph)
        after = {name: value.full_tensor() for name, value in model.state_dict().items()}
    finally:
        dist.destroy_process_group()
    assert all(torch.equal(after[k], v) for k, v in before.items())


def test_parameters_made_in_inference_mode_are_refused():
    with torch.inference_mode():
        model = build("mlp", depth=2, width=32)
    graph = capture_graph(build("mlp", depth=2, width=32), *example_inputs("mlp"))
    with pytest.raises(InitError, match="inference mode"):
        initialize_(model, graph)


def test_complex_parameters_are_refused_unless_they_are_frozen():
    model = Net(lambda m, x: m.out(x * m.phase.abs()), out=nn.Linear(8, 4),
                phase=nn.Parameter(torch.ones(8, dtype=torch.complex64)))  # fmt: skip
    graph = capture_graph(model, torch.zeros(2, 8))
    before = model.out.weight.clone()
    with pytest.raises(InitError, match=r"'phase' of torch\.complex64"):
        initialize_(model, graph)
    assert torch.equal(model.out.weight, before)
    model.phase.requires_grad_(False)
    report = initialize_(model, capture_graph(model, torch.zeros(2, 8)))
    assert report["phase"].action == "kept"


@pytest.mark.parametrize("seed", ["x", 1.5, math.nan])
def test_a_seed_that_is_no_whole_number_is_refused_before_anything_changes(seed):
    model = build("mlp", depth=2, width=32)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(InitError, match="seed="):
        initialized(model, *example_inputs("mlp"), seed=seed)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2, torch.complex64])
@pytest.mark.parametrize("which", [0, -1])
def test_dtypes_that_hold_no_draw_are_refused_before_anything_changes(dtype, which):
    model = build("mlp", depth=2, width=32)
    graph = capture_graph(model, *example_inputs("mlp"))
    layers = [m for m in model.modules() if isinstance(m, nn.Linear)]
    layers[which].weight = nn.Parameter(layers[which].weight.detach().to(dtype))
    before = [p.detach().clone().view(torch.uint8).tolist() for p in model.parameters()]
    with pytest.raises(InitError, match=str(dtype)):
        initialize_(model, graph)
    after = [p.detach() for p in model.parameters()]
    assert [a.view(torch.uint8).tolist() for a in after] == before
