"""Threads that capture beside each other, and beside others that run models."""

import contextlib
import importlib
import threading
import warnings

import numpy as np
import pytest
import torch
from torch import nn

from etastar.errors import CaptureError
from etastar.graph import capture_graph
from etastar.graph.isolation import global_state_kept, random_numbers_kept

X = torch.ones(2, 4)


class Failing(nn.Linear):
    def forward(self, x):
        torch.set_default_dtype(torch.float64)
        torch.backends.mha.set_fastpath_enabled(True)
        raise OSError("on purpose")


def attention():
    return nn.TransformerEncoderLayer(4, 2, 8, batch_first=True).eval()


def convolution():
    """In train mode on one example, which BatchNorm refuses outside of a capture."""
    return nn.Sequential(nn.Conv2d(1, 2, 4), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(2, 2))


CASES = [
    (attention, torch.ones(1, 3, 4)),
    (convolution, torch.ones(1, 1, 4, 4)),
    (lambda: nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5), nn.Linear(4, 2)), X),
]


def in_threads(*functions, rounds):
    """Run each again and again in a thread of its own, all starting at once; their errors."""
    barrier, errors = threading.Barrier(len(functions)), []

    def run(function):
        barrier.wait()
        try:
            for _ in range(rounds):
                function()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(function,)) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return errors


@pytest.fixture(scope="module")
def expected():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        importlib.import_module("torch._dynamo")  # so that there is a stance to be left behind
    return [capture_graph(make(), x) for make, x in CASES]


def test_threads_get_equal_graphs_and_leave_every_switch_as_it_was(expected, global_state):
    graphs = []

    # built here: a model is made outside of our lock
    models, failing = [make() for make, _ in CASES], Failing(4, 4)

    def capture(index):
        return lambda: graphs.append((index, capture_graph(models[index], CASES[index][1])))

    def fail():
        with contextlib.suppress(CaptureError):
            capture_graph(failing, X)

    before = global_state()
    errors = in_threads(*map(capture, [0, 1, 2, 0, 1, 2]), fail, fail, rounds=6)
    assert errors == []
    after = global_state()
    for switch, value in before.items():
        assert after[switch] == value, switch
    assert len(graphs) == 36
    assert all(graph == expected[index] for index, graph in graphs)


def test_a_capture_leaves_a_thread_that_runs_a_model_alone(expected, global_state):
    model, stop, outputs, refused = nn.Sequential(nn.Linear(4, 4), nn.ReLU()), [], [], []
    picky = convolution()
    reference = model(X)

    def run():
        while not stop:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                outputs.append(torch.equal(model(X), reference))
                try:
                    picky(torch.ones(1, 1, 4, 4))
                except ValueError:
                    refused.append(True)
                else:
                    refused.append(False)

    before = global_state()
    runner = threading.Thread(target=run)
    runner.start()
    graphs = [capture_graph(make(), x) for _ in range(8) for make, x in CASES]
    stop.append(True)
    runner.join()
    assert outputs
    assert all(outputs)
    assert refused
    assert all(refused)
    assert graphs == expected * 8
    after = global_state()
    for switch in ("warnings", "batch_check", "mha", "stance", "logger", "collector", "hooks"):
        assert after[switch] == before[switch], switch


def test_who_holds_the_state_may_ask_for_it_again_and_others_wait():
    order = []

    def other():
        with random_numbers_kept():
            order.append("other")

    thread = threading.Thread(target=other)
    with global_state_kept():
        thread.start()
        with global_state_kept():
            capture_graph(nn.Linear(4, 2), X)
            order.append("inner")
        order.append("outer")
    thread.join()
    assert order == ["inner", "outer", "other"]


def test_random_numbers_go_on_as_if_nothing_had_been_drawn():
    def drawn():
        return torch.rand(1).item(), float(np.random.rand())  # noqa: NPY002

    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002
    expected = drawn()
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002
    with random_numbers_kept():
        drawn()
    assert drawn() == expected


def test_threads_that_ask_for_depth_and_parameters_contract_a_graph_once(monkeypatch):
    from etastar.graph import contraction, dag

    calls, contract = [], dag.contract
    for module in (contraction, dag):
        monkeypatch.setattr(module, "contract", lambda *args: calls.append(1) or contract(*args))
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    graph = capture_graph(model, X)
    found = []
    errors = in_threads(
        *[lambda: found.append((graph.depth().effective_depth, graph.parameters))] * 4, rounds=3
    )
    assert errors == []
    assert {depth for depth, _ in found} == {2}
    assert len({parameters for _, parameters in found}) == 1
    assert len(calls) == 1
    assert graph.depth(sources=["input"]).effective_depth == 2
    assert len(calls) == 1
