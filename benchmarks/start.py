"""How soon a command says something, beside how long PyTorch takes to load and the command in all.

Each is a process of its own, the least of a few: `python benchmarks/start.py [--runs 3]`. It prints
a table, which `results/start.md` keeps. The time to the first line is a share of that of loading
PyTorch, since seconds are the machine's.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time

COMMANDS = {
    "depth": "depth zoo:gpt --arg depth=12",
    "transfer": "transfer zoo:gpt --base depth=3 --target depth=12 --lr 0.001 --optimizer adamw",
    "check": "check zoo:mlp --data digits --optimizer adam --sizes width=16,64 --seeds 1",
    "measure": "measure zoo:mlp --data digits --optimizer sgd --seeds 1",
}


def seconds(arguments: list[str]) -> tuple[float, float]:
    """Seconds to the first line on either output, and to the end."""
    start = time.perf_counter()
    command = [sys.executable, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        assert process.stdout is not None
        process.stdout.readline()
        first = time.perf_counter() - start
        process.stdout.read()
    return first, time.perf_counter() - start


def main() -> None:
    """Print a row for each command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    runs = parser.parse_args().runs
    loading = min(seconds(["-c", "import torch"])[1] for _ in range(runs))
    print("| command | first line, s | of loading PyTorch | in all, s |")
    print("| --- | --- | --- | --- |")
    for name, line in COMMANDS.items():
        times = [seconds(["-m", "etastar", *line.split()]) for _ in range(runs)]
        first, end = (min(column) for column in zip(*times, strict=True))
        print(f"| {name} | {first:.2f} | {first / loading:.2f} | {end:.1f} |")
    print(f"\nLoading PyTorch: {loading:.2f} s.")


if __name__ == "__main__":
    main()
