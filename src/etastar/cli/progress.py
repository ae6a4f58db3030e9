"""What a command shows on standard error while it runs; standard output holds the result alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console

__all__ = ["sweep_progress"]


@contextmanager
def sweep_progress(store: str) -> Iterator[Callable[[Any], None]]:
    """One live line per size on standard error, with the present bracket; first, the store."""
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    from etastar.report.sweep_table import progress_text
    from etastar.sweep.storage.connection import shown

    console = Console(stderr=True)
    console.print(f"runs are kept in {shown(store)}", markup=False, highlight=False, soft_wrap=True)
    columns = (SpinnerColumn(finished_text="-"), TextColumn("{task.description}"))
    with Progress(*columns, TimeElapsedColumn(), console=console) as lines:
        tasks: dict[Any, Any] = {}

        def show(progress: Any) -> None:
            task = tasks.setdefault(progress.size, None)
            if task is None:
                task = tasks[progress.size] = lines.add_task("", total=1)
            text = (
                f"{progress_text(progress)}  {progress.num_finished} runs, {progress.steps} steps"
            )
            lines.update(task, description=text, completed=int(progress.done))

        yield show
