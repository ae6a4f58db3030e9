"""Where and on what capture is called: modes around the call, sharded models, odd inputs."""

import subprocess
import sys
import textwrap

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

from etastar.errors import CaptureError, DepthError, InitError
from etastar.graph import capture_graph
from etastar.graph.capture import require_module
from etastar.models import build, example_inputs

X = torch.ones(2, 4)
OPTIONS = {"depth": 1, "width": 16, "context": 8}


def chain():
    return nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2))


class Reads(nn.Module):
    """Looks at a value, so that real tensors are needed."""

    def __init__(self):
        super().__init__()
        self.model = chain()

    def forward(self, x):
        y = self.model(x)
        return y if float(y.sum()) > -1e30 else -y


MODELS = {
    "chain": (chain, (X,)),
    "reads": (Reads, (X,)),
    "gpt": (lambda: build("gpt", **OPTIONS), example_inputs("gpt", **OPTIONS)),
}


class default_dtype:
    def __enter__(self):
        torch.set_default_dtype(torch.float64)

    def __exit__(self, *error):
        torch.set_default_dtype(torch.float32)


AMBIENT = {
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "default dtype": default_dtype,
    "meta device": lambda: torch.device("meta"),
    "inference mode": torch.inference_mode,
    "no grad": torch.no_grad,
}


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("mode", AMBIENT)
def test_modes_around_the_call_change_nothing_and_stay(model, mode, global_state):
    make, args = MODELS[model]
    network = make()
    expected = capture_graph(network, *args)
    with AMBIENT[mode]():
        before = global_state()
        graph = capture_graph(network, *args)
        assert global_state() == before
    assert graph == expected


def test_a_model_made_in_inference_mode_is_captured_outside_of_it():
    with torch.inference_mode():
        model, x = chain(), X.clone()
    assert capture_graph(model, x) == capture_graph(chain(), X)
    assert all(t.is_inference() for t in (*model.parameters(), *model.buffers()))


def test_what_runs_within_autocast_alone_is_captured_there():
    with torch.autocast("cpu", torch.bfloat16):
        graph = capture_graph(chain(), X.bfloat16())
    assert graph.depth().effective_depth == 2
    with pytest.raises(CaptureError, match="same dtype"):
        capture_graph(chain(), X.bfloat16())


def test_a_call_within_a_fake_mode_is_refused_and_leaves_the_weights():
    model = chain()
    before = [(id(p), p.data_ptr(), p.detach().clone()) for p in model.parameters()]
    with FakeTensorMode(allow_non_fake_inputs=True), pytest.raises(CaptureError, match="FakeTens"):
        capture_graph(model, X)
    after = [(id(p), p.data_ptr(), p) for p in model.parameters()]
    assert all(
        a[:2] == b[:2] and torch.equal(a[2], b[2]) for a, b in zip(after, before, strict=True)
    )


def test_a_call_within_a_tracer_is_refused():
    def function(x):
        capture_graph(chain(), x)
        return x

    with pytest.raises(CaptureError, match="a call within"):
        make_fx(function, tracing_mode="fake")(X)


def in_process_of_its_own(program):
    """What a program prints; the interpreter may crash."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-500:]
    return done.stdout


def test_a_call_within_a_transform_is_refused_before_it_can_crash():
    printed = in_process_of_its_own("""
        import torch
        from torch import nn
        from etastar.errors import CaptureError
        from etastar.graph import capture_graph
        model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
        def loss(x):
            capture_graph(model, x)
            return x.sum()
        x = torch.ones(2, 4)
        for transformed in (
            lambda: torch.func.grad(loss)(x),
            lambda: torch.func.vmap(loss)(x),
            lambda: torch.func.jvp(loss, (x,), (x,)),
        ):
            try:
                transformed()
            except CaptureError as error:
                print(error.received)
        print(len(capture_graph(model, x)))
        """)
    assert printed.count("transform of torch.func") == 3
    assert printed.endswith("3\n")


def test_a_sharded_model_is_refused_with_what_to_do():
    printed = in_process_of_its_own("""
        import torch
        import torch.distributed as dist
        from torch import nn
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard
        from etastar.errors import CaptureError
        from etastar.graph import capture_graph
        dist.init_process_group("gloo", rank=0, world_size=1, store=dist.HashStore())
        model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
        fully_shard(model, mesh=init_device_mesh("cpu", (1,)))
        try:
            capture_graph(model, torch.ones(2, 4))
        except CaptureError as error:
            print(error)
        dist.destroy_process_group()
        """)
    assert "sharded model: parameter '0.weight' is a DTensor" in printed
    assert "before fully_shard" in printed


def test_whole_models_pass_and_parts_are_refused_with_the_error_asked_for():
    class FlatParameter(nn.Parameter):
        """As FullyShardedDataParallel's, by name."""

    model = chain()
    require_module(model)
    model.flat = FlatParameter(torch.ones(3))
    with pytest.raises(InitError, match="'flat' is a FlatParameter"):
        require_module(model, error=InitError)


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.float64, torch.float16])
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_inputs_of_a_dtype_that_the_model_refuses_are_refused(dtype, device):
    model = chain().to(device)
    with pytest.raises(CaptureError, match=r"dtype|torch\.float32"):
        capture_graph(model, X.to(dtype))


@pytest.mark.parametrize("layer", [nn.Conv2d(1, 2, 1), nn.Bilinear(4, 4, 2), nn.Embedding(9, 4)])
def test_layers_of_every_kind_refuse_what_pytorch_refuses(layer):
    shape = (1, 1, 4, 4) if isinstance(layer, nn.Conv2d) else (2, 4)
    args = (torch.zeros(shape),) * (2 if isinstance(layer, nn.Bilinear) else 1)
    wrong = [a.double() if isinstance(layer, nn.Conv2d | nn.Bilinear) else a for a in args]
    with pytest.raises(RuntimeError):
        layer(*wrong)
    with pytest.raises(CaptureError):
        capture_graph(layer, *wrong)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("kind", ["sparse_csr", "nested"])
def test_inputs_without_strides_are_refused_by_name(kind):
    if kind == "nested":
        x = torch.nested.nested_tensor([X, X], layout=torch.jagged)
    else:
        x = X.to_sparse_csr()
    with pytest.raises(CaptureError, match=f"a {kind} tensor as input 'input'"):
        capture_graph(chain(), x)


def test_a_sparse_adjacency_is_captured():
    class Convolution(nn.Linear):
        def forward(self, adjacency, x):
            return torch.sparse.mm(adjacency, super().forward(x))

    graph = capture_graph(Convolution(4, 4), torch.eye(2).to_sparse(), X)
    assert graph.depth().effective_depth == 1


@pytest.mark.parametrize("names", [3, "input", [], [1], object(), {"input": 1}])
@pytest.mark.parametrize("what", ["sources", "outputs"])
def test_names_of_sources_and_outputs_are_a_list_of_known_ones(names, what):
    graph = capture_graph(chain(), X)
    with pytest.raises(DepthError, match="a list of one or more of"):
        graph.depth(**{what: names})
