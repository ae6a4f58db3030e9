"""Where a command keeps its runs and trains them, and what it shows while they are under way."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from etastar.sweep.executors import Executor
    from etastar.sweep.recipe import Recipe
    from etastar.sweep.tune_result import TuneProgress

__all__ = ["journal_name", "local_executor", "progress_lines", "tuning_lines"]


def journal_name(recipe: Recipe) -> str:
    """A journal file that is the same for the same recipe alone.

    Args:
        recipe: What a run is.

    Returns:
        Its name.
    """
    from etastar.sweep.recipe import recipe_settings

    text = json.dumps(sorted(recipe_settings(recipe).items()))
    return f"sweep-{hashlib.sha256(text.encode()).hexdigest()[:8]}.log"


def local_executor(workers: int, device: str, run_timeout: float | None) -> Executor:
    """What runs on this machine.

    Args:
        workers: Number of processes; 0 for this one.
        device: Where each of them trains.
        run_timeout: Seconds after which a run is ended; None for no end.

    Returns:
        The executor.
    """
    from etastar.errors import TrialError
    from etastar.sweep.executors import Processes, Sequential

    if workers:
        return Processes(workers, device=device, run_timeout=run_timeout)
    if run_timeout is not None:
        raise TrialError(
            f"--run-timeout {run_timeout:g} for runs in this process",
            "runs in processes of their own, which can be ended",
            "give --workers 1 or more, or leave --run-timeout out",
        )
    return Sequential(device=device)


@contextmanager
def progress_lines(
    store: str, *, live: bool = False, name: str = "sweep"
) -> Iterator[Callable[..., None]]:
    """One live line per size on standard error, with the present bracket; first, the store.

    Args:
        store: Where the runs are kept.
        live: Whether a page shows them too, whose address is printed.
        name: Of the sweep in the store.

    Yields:
        What to call with every `Progress`, and with a line on all sizes if there is one.
    """
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    from etastar.sweep.storage.connection import shown_location

    console = Console(stderr=True)
    kept = f"runs are kept in {shown_location(store)}"
    console.print(kept, markup=False, highlight=False, soft_wrap=True)
    columns = (SpinnerColumn(finished_text="-"), TextColumn("{task.description}"))
    with ExitStack() as stack:
        if live:
            from etastar.report.live_page import LivePage

            url = stack.enter_context(LivePage(store, name=name)).url
            console.print(f"live page: {url}", markup=False, highlight=False, soft_wrap=True)
        lines = stack.enter_context(Progress(*columns, TimeElapsedColumn(), console=console))
        tasks: dict[Any, Any] = {}

        def line(key: Any, text: str, *, done: bool) -> None:
            if key not in tasks:
                tasks[key] = lines.add_task("", total=1)
            lines.update(tasks[key], description=text, completed=int(done))

        said = ""

        def show(progress: Any, total: str = "") -> None:
            nonlocal said
            if progress.waiting and said != (said := progress.waiting.partition(";")[0]):
                console.print(progress.waiting, markup=False, highlight=False, soft_wrap=True)
            text = f"{progress}  {progress.num_finished} runs, {progress.steps} steps"
            text += f"  {progress.waiting}" if progress.waiting else ""
            line(progress.size, text, done=progress.done)
            if total:
                line("total", total, done=progress.done)

        yield show


@contextmanager
def tuning_lines(
    store: str, *, live: bool = False, name: str = "sweep"
) -> Iterator[Callable[[TuneProgress], None]]:
    """As `progress_lines`, with the cost so far and about how long it still takes.

    The time is that of the runs of this call, stretched to the cost that is expected if every size
    is needed that fits the budget; a narrow interval ends it earlier.

    Args:
        store: Where the runs are kept.
        live: As for `progress_lines`.
        name: The same.

    Yields:
        What to call with every `TuneProgress`.
    """
    from etastar.formatting import percent

    began, before = time.monotonic(), -1.0
    with progress_lines(store, live=live, name=name) as show:

        def show_cost(progress: TuneProgress) -> None:
            nonlocal before
            before = progress.cost if before < 0 else before
            line = f"spent {percent(progress.cost)} of one target run"
            if progress.cost > before and not progress.sweep.done:
                pace = (time.monotonic() - began) / (progress.cost - before)
                left = pace * max(0.0, progress.expected - progress.cost)
                line += f", at most about {_duration(left)} left"
            show(progress.sweep, line)

        yield show_cost


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes}:{rest:02d} min"
