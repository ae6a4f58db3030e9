"""`python -m studies.families`: run the families of a scale, or go on."""

from __future__ import annotations

import argparse
import sys

from studies.families.declared import SCALES
from studies.families.stages import run_jobs


def main() -> None:
    """Read the scale, and run it."""
    parser = argparse.ArgumentParser(prog="python -m studies.families", description=main.__doc__)
    parser.add_argument("--scale", choices=list(SCALES), default="cpu")
    parser.add_argument("--workers", type=int, default=2, help="processes of one thread each")
    given = parser.parse_args()
    for chain in run_jobs(SCALES[given.scale], workers=given.workers):
        sys.stdout.write("  ".join("/".join(map(str, job)) for job in chain) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
