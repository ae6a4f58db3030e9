"""`python -m studies NAME --scale SCALE`: run an experiment; the same command goes on."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import get_args

from rich.console import Console

from etastar.errors import EtastarError
from etastar.sweep.recipe import format_size
from etastar.sweep.result import Progress
from studies.declaration import Scale
from studies.experiments.registry import EXPERIMENTS
from studies.page import evidence_table
from studies.reproduce import RESULTS, reproduce


def main(arguments: Sequence[str] | None = None) -> int:
    """Run an experiment of the papers and print its verdicts.

    Args:
        arguments: Of the command line; None for the process's own.

    Returns:
        0; 2 for an error of ours, 130 for Ctrl-C.
    """
    parser = argparse.ArgumentParser(prog="python -m studies", description=__doc__)
    parser.add_argument("name", help=", ".join(EXPERIMENTS))
    parser.add_argument("--scale", default="cpu", help=", ".join(get_args(Scale)))
    parser.add_argument("--out", default=RESULTS, help="results go to OUT/NAME/SCALE")
    parser.add_argument("--storage", help="journal file or database URL; a journal in the results")
    parser.add_argument("--workers", type=int, default=0, help="processes that train")
    options = parser.parse_args(arguments)
    errors = Console(stderr=True)

    def show(family: str, progress: Progress) -> None:
        if progress.done:
            line = f"{family}: {format_size(progress.size)}, {len(progress.records)} runs"
            errors.print(line, markup=False, highlight=False, soft_wrap=True)

    try:
        found = reproduce(**vars(options), on_progress=show)
    except EtastarError as error:
        errors.print(f"error\n{error}", markup=False, highlight=False, soft_wrap=True)
        return 2
    except KeyboardInterrupt:
        errors.print("stopped by Ctrl-C; what the store has is kept")
        return 130
    Console().print(evidence_table(found.evidence, str(found.folder)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
