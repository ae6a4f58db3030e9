"""`python -m studies.families`: run the families of a scale, or go on."""

from __future__ import annotations

import argparse
import sys

from studies.families.declared import SCALES
from studies.families.knowing import write_experience
from studies.families.stages import jobs, run_jobs
from studies.families.table import family_page, rules_page
from studies.families.trying import stored_outcomes, try_rules


def main() -> None:
    """Read the scale, and run it."""
    parser = argparse.ArgumentParser(prog="python -m studies.families", description=main.__doc__)
    parser.add_argument("--scale", choices=list(SCALES), default="cpu")
    parser.add_argument("--workers", type=int, default=2, help="processes of one thread each")
    parser.add_argument(
        "--exponents", action="store_true", help="write pages and what the runs say; run none"
    )
    parser.add_argument("--families", nargs="+", metavar="NAME", help="these alone")
    parser.add_argument(
        "--parametrizations", nargs="+", metavar="NAME", help="these alone: own, complete-p, ..."
    )
    parser.add_argument(
        "--rules",
        action="store_true",
        help="ask every rule; train its rate at the deepest size",
    )
    parser.add_argument(
        "--only", action="append", metavar="RULE", help="of --rules, train this; repeated"
    )
    given = parser.parse_args()
    scale = SCALES[given.scale]
    if given.exponents:
        folder = write_experience(scale).parent
        (folder / "README.md").write_text(family_page(scale), encoding="utf-8")
        rules = rules_page(scale, stored_outcomes(scale))
        (folder / "rules.md").write_text(rules, encoding="utf-8")
        sys.stdout.write(f"{folder}\n")
        return
    if given.rules:
        for name in try_rules(scale, given.families, only=given.only, workers=given.workers):
            sys.stdout.write(f"{name}: rules\n")
            sys.stdout.flush()
        return
    chosen = [
        chain
        for chain in jobs(scale)
        if all(
            (given.families is None or name in given.families)
            and (given.parametrizations is None or parametrization in given.parametrizations)
            for name, parametrization, _ in chain
        )
    ]
    for chain in run_jobs(scale, chosen, workers=given.workers):
        sys.stdout.write("  ".join("/".join(map(str, job)) for job in chain) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
