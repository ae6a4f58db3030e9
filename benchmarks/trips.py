"""How many files of the package a command opens, and how many a proposed run passes.

A profiler counts the files of etastar in which a function ran (an import alone does not count), in
a process of its own for each trip: `python benchmarks/trips.py [--files]`.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

_SWEEP = "sweep zoo:mlp --sizes depth=2,4 --data digits --optimizer sgd --steps 20 --seeds 2"
TRIPS = {
    "transfer": (
        "transfer zoo:mlp --base depth=2 --target depth=8,width=128 --lr 0.1 --optimizer adamw",
        40,
    ),
    "measure": ("measure zoo:mlp --arg depth=2 --data digits --optimizer adamw", 35),
    "sweep": (f"{_SWEEP} --batch 16", 45),
}
"""Command line of each trip, and the most files that it may open."""

_COUNT = """
import sys, json
files, inside = set(), set()
def is_import(frame):
    # a module's own lines, the bodies of its classes, and what they call while it is imported
    while frame is not None and "/etastar/" in frame.f_code.co_filename:
        if not frame.f_code.co_flags & 1:
            return True
        frame = frame.f_back
    return False
def profile(frame, event, argument):
    name = frame.f_code.co_filename
    if event == "call" and "/etastar/" in name and not is_import(frame):
        files.add(name.rpartition("/etastar/")[2])
        if running and "/etastar/sweep/" in name:
            inside.add(name.rpartition("/etastar/")[2])
running = []
sys.setprofile(profile)
from etastar.cli import main
sys.argv = ["etastar", *json.loads(sys.argv[1])]
sweep = sys.argv[1] == "sweep"
if sweep:
    from etastar.sweep import study
    run = study._Sweep._complete
    def counted(self, proposal):
        running.append(1)
        try:
            return run(self, proposal)
        finally:
            running.pop()
    study._Sweep._complete = counted
try:
    main()
except SystemExit as end:
    code = end.code
sys.setprofile(None)
print(json.dumps({"code": code, "files": sorted(files), "inside": sorted(inside)}), file=sys.stderr)
"""


def open_files(command: str) -> dict[str, object]:
    """The files that a command opens, and those of `sweep/` between a proposal and its records.

    Args:
        command: Arguments of `etastar`.

    Returns:
        Exit code, files, and files inside of a sweep's runs.
    """
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-c", _COUNT, json.dumps(command.split())],
            capture_output=True,
            text=True,
            cwd=folder,
            check=True,
        )
    found: dict[str, object] = json.loads(done.stderr.splitlines()[-1])
    return found


def main() -> None:
    """Print a line for each trip."""
    for name, (command, most) in TRIPS.items():
        found = open_files(command)
        files, inside = found["files"], found["inside"]
        assert isinstance(files, list)
        assert isinstance(inside, list)
        print(f"{name}: {len(files)} files (at most {most}), exit {found['code']}")
        if inside:
            print(f"  from a proposal to its records: {len(inside)} files of sweep/ (at most 12)")
        if "--files" in sys.argv:
            print("  " + "\n  ".join(files))


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1] / "src"))
    main()
