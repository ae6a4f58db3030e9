"""Four threads that call the package at once: each gets what it gets alone, and nothing is left."""

import contextlib
import os
import random
import threading
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from etastar import (
    Recipe,
    Tuned,
    capture_graph,
    check_stability,
    coordinate_check,
    initialize_,
    measure_update,
    plan_transfer,
    run_sweep,
)
from etastar.errors import EtastarError, warnings_ignored
from etastar.graph.isolation import global_state_kept
from etastar.sweep.storage.connection import quiet_optuna

GENERATOR = torch.Generator().manual_seed(3)
X = torch.randn(4, 4, generator=GENERATOR)
Y = torch.arange(4) % 3


class Untidy(nn.Linear):
    """Sets what belongs to the process, draws, and raises."""

    def forward(self, x):
        torch.set_default_dtype(torch.float64)
        torch.manual_seed(9)
        os.environ["ETASTAR_TEST_THREADS"] = "left"
        warnings.simplefilter("error")
        raise OSError("on purpose")


class Normed(nn.Module):
    """Draws in train mode, and on one example BatchNorm refuses it outside of a capture."""

    def __init__(self, width=8):
        super().__init__()
        self.conv, self.norm, self.drop = (
            nn.Conv2d(1, width, 2),
            nn.BatchNorm2d(width),
            nn.Dropout(),
        )
        self.head = nn.Linear(width, 3)

    def forward(self, x):
        return self.head(self.drop(self.norm(self.conv(x.view(-1, 1, 2, 2)))).flatten(1))


def chain(width=8):
    return nn.Sequential(nn.Linear(4, width), nn.ReLU(), nn.Dropout(0.3), nn.Linear(width, 3))


def recipe(make):
    return Recipe(
        make_model=make,
        batches=lambda seed: [(X + torch.rand(1), Y) for _ in range(3)],
        loss_fn=F.cross_entropy,
        make_optimizer=lambda model, lr, **size: torch.optim.SGD(model.parameters(), lr),
        num_steps=3,
        batch_size=4,
    )


def failed(model):
    with contextlib.suppress(EtastarError):
        capture_graph(model, X)
    return "refused"


def initialized(model, graph):
    initialize_(model, graph, seed=1)
    return [p.tolist() for p in model.parameters()]


def calls(folder):
    """Functions of a number: each makes nothing that another thread could draw into."""
    torch.manual_seed(0)
    models = {
        "chain": chain(),
        "normed": Normed(),
        "attention": nn.TransformerEncoderLayer(4, 2, 8),
    }
    models["attention"].eval()
    graphs = {name: capture_graph(model, X[:1]) for name, model in models.items()}
    drawn = [chain() for _ in range(4)]  # one for each thread, as they are written to
    untidy = Untidy(4, 4)
    both = (Tuned((chain(4), X), 0.1), (models["chain"], X))

    def swept(thread):
        store = str(folder / f"runs-{thread}.log")
        result = run_sweep(recipe(chain), [{"width": 4}], search=[0.1, 0.2], seeds=1, storage=store)
        return [(trial.point, trial.losses) for trial in result.trials]

    return {
        "capture a chain": lambda thread: capture_graph(models["chain"], X[:1]),
        "capture norms": lambda thread: capture_graph(models["normed"], X[:1]),
        "capture attention": lambda thread: capture_graph(models["attention"], X[:1]),
        "fail": lambda thread: failed(untidy),
        "measure": lambda thread: measure_update(
            chain, (X, Y), F.cross_entropy, optimizer="adamw", seeds=2
        ),
        "measure norms": lambda thread: measure_update(
            Normed, (X, Y), F.cross_entropy, optimizer="sgd", seeds=1
        ),
        "coordinates": lambda thread: coordinate_check(
            chain, [{"width": 4}, {"width": 8}], (X, Y), F.cross_entropy, optimizer="sgd", lr=0.1,
            seeds=1,
        ).as_dict(),
        "stability": lambda thread: check_stability(
            models["normed"], (X, Y), F.cross_entropy
        ).as_dict(),
        "initialize": lambda thread: initialized(drawn[thread], graphs["chain"]),
        "plan": lambda thread: plan_transfer(*both, optimizer="sgd", law="constant").to_json(),
        "sweep": swept,
    }  # fmt: skip


def switches():
    return {
        "dtype": torch.get_default_dtype(),
        "batch check": F._verify_batch_size,
        "fast path": torch.backends.mha.get_fastpath_enabled(),
        "filters": list(warnings.filters),
        "torch": torch.get_rng_state().tolist(),
        "python": random.getstate(),
        "threads": torch.get_num_threads(),
        "environment": dict(os.environ),
        "precision": torch.backends.mkldnn.matmul.fp32_precision,
    }


def test_400_mixed_calls_in_four_threads_are_as_alone(tmp_path):
    functions = calls(tmp_path)
    names = list(functions)
    with warnings.catch_warnings():  # what the first calls import adds filters of its own
        expected = {name: function(0) for name, function in functions.items()}
    before, barrier, problems, count = switches(), threading.Barrier(4), [], []

    def work(thread):
        order = random.Random(thread)
        barrier.wait()
        for _ in range(100):
            name = order.choice(names)
            try:
                found = functions[name](thread)
                if found != expected[name]:
                    problems.append(f"{name}: another result")
            except Exception as error:
                problems.append(f"{name}: {type(error).__name__}: {error}")
            count.append(name)

    threads = [threading.Thread(target=work, args=(thread,)) for thread in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    assert len(count) == 400
    assert set(count) == set(names)
    after = switches()
    for name, value in before.items():
        assert after[name] == value, name


def test_filters_go_as_they_came_however_two_threads_interleave():
    """The first to enter leaves first: `catch_warnings` would put the other's filter back."""
    before = list(warnings.filters)
    first, second = warnings_ignored(), warnings_ignored()
    quiet = quiet_optuna()
    for step in (first, second, quiet):
        step.__enter__()
    for step in (first, quiet, second):
        step.__exit__(None, None, None)
    assert list(warnings.filters) == before


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_process_forked_while_another_thread_holds_the_state_does_not_wait_for_it():
    held, done = threading.Event(), threading.Event()

    def hold():
        with global_state_kept():
            held.set()
            done.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    child = os.fork()
    if not child:
        ready = threading.Timer(20, os._exit, (1,))
        ready.daemon = True
        ready.start()
        with global_state_kept():
            os._exit(0)
    done.set()
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
