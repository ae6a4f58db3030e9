"""A process that imports everything once and forks sweeps, for tests to kill. Run as a script.

It reads one JSON task a line from its input and answers each with a line: the pid of the child that
it forked, or, when asked for a child, whether that one is over, or how it ended.
"""

import ctypes
import json
import multiprocessing
import os
import socket
import sys
import time
import traceback
import warnings
from functools import partial

import torch
from torch import nn

from etastar.sweep.executors import Processes, processes
from etastar.sweep.recipe import Recipe
from etastar.sweep.search import Bracket, Grid
from etastar.sweep.storage import claims, optuna_store
from etastar.sweep.study import run_sweep

WIDTHS = (2, 4)
SEARCHES = {
    "grid": Grid(tuple(0.004 * 2**i for i in range(6))),
    "bracket": Bracket(0.003, precision=0.02),
}


def make_batches(seed):
    random = torch.Generator().manual_seed(seed)
    inputs = torch.randn(8, 8, 8, generator=random)
    return [(batch, batch.sum(1, keepdim=True)) for batch in inputs]


class FirstColumns(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.width, self.linear = width, nn.Linear(width, 1)

    def forward(self, inputs):
        return self.linear(inputs[:, : self.width])


def append(path, text):
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, text.encode())
    os.close(descriptor)


def begin_pulse(task, _):
    """One byte once the store is open; each run that begins adds another."""
    if "pulse" in task and not os.path.exists(task["pulse"]):
        append(task["pulse"], ".")


def meet(path):
    """Stay in the first run until another process has begun one as well, for a minute at most."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        with open(path) as file:
            if len({line.split()[0] for line in file}) > 1:
                return
        time.sleep(0.01)


def make_optimizer(task, model, lr, **size):
    if "journal" in task:
        append(task["journal"], f"{os.getpid()} {model.width} {lr!r} {torch.initial_seed()}\n")
        meet(task["journal"])
    if "pulse" in task:
        append(task["pulse"], ".")
    return torch.optim.SGD(model.parameters(), lr)


def bury_the_dead_soon():
    """Take a killed sweep for dead after seconds, where a person would wait for a minute."""
    claims._FIRST_PATIENCE = claims._LEAST_PATIENCE = 1.0
    claims.GRACE_SECONDS, optuna_store.HEARTBEAT_SECONDS = 4.0, 1


def workers(task):
    """In this process, or in two that are forked: what they import would take seconds each."""
    if "workers" not in task:
        return 0
    processes._SPAWN = multiprocessing.get_context("fork")
    warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads
    return Processes(task["workers"], threads=task["threads"])


def sweep(task):
    if task.get("impatient"):
        bury_the_dead_soon()
    recipe = Recipe(
        make_model=FirstColumns,
        batches=make_batches,
        loss_fn=nn.functional.mse_loss,
        make_optimizer=partial(make_optimizer, task),
        num_steps=task.get("num_steps", 8),
        batch_size=8,
        settings={"model": "first columns"},
    )
    return run_sweep(
        recipe,
        [{"width": width} for width in WIDTHS],
        search=SEARCHES[task["search"]],
        storage=task["storage"],
        name=task["name"],
        workers=workers(task),
        on_progress=partial(begin_pulse, task),
    )


def go_to_host(name):
    """A host of that name, as far as this process and its children can tell."""
    new_uts_namespace = 0x04000000
    assert ctypes.CDLL(None, use_errno=True).unshare(new_uts_namespace) == 0
    socket.sethostname(name)


def run_child(task):
    if "host" in task:
        go_to_host(task["host"])
    result = sweep(task)
    if "result" in task:
        with open(task["result"], "w") as file:
            json.dump(result.as_dict(), file)


def say(**answer):
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def warm_up():
    """Import whatever a sweep imports on its way, so that the children start fast."""
    import sqlalchemy.dialects.postgresql.psycopg2  # noqa: F401
    from optuna.storages import RDBStorage
    from optuna.trial import create_trial

    create_trial(value=0.0)
    RDBStorage("sqlite://").engine.dispose()
    sweep({"search": "grid", "storage": None, "name": "warm", "num_steps": 1})


def fork(task):
    pid = os.fork()
    if pid == 0:
        code = 1
        os.setpgid(0, 0)  # forked workers do not see the end of a killed sweep: the test ends them
        try:
            run_child(task)
            code = 0
        except BaseException:
            traceback.print_exc()
            raise
        finally:
            sys.stderr.flush()
            os._exit(code)
    return pid


def main():
    torch.set_num_threads(1)
    warm_up()
    say(ready=True)
    for line in sys.stdin:
        task = json.loads(line)
        if "wait" in task:
            _, status = os.waitpid(task["wait"], 0)
            say(status=os.waitstatus_to_exitcode(status))
        elif "look" in task:
            look = os.WEXITED | os.WNOHANG | os.WNOWAIT
            say(over=os.waitid(os.P_PID, task["look"], look) is not None)
        else:
            say(pid=fork(task))


if __name__ == "__main__":
    main()
