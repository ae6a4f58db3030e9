"""What `make lowest` installs is what pyproject.toml allows at the least."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
NOT_RUN = {"torch", "timm", "lightning", "peft", "pytorch_optimizer"}  # see CONTRIBUTING.md


def test_the_lowest_versions_are_the_bounds():
    project = (ROOT / "pyproject.toml").read_text().partition("\ndev = [")[0]
    bounds = dict(re.findall(r'"([\w-]+)>=([\d.]+)"', project.partition("dependencies = ")[2]))
    lowest = dict(
        re.findall(r"(?m)^([\w-]+)==([\d.]+)", (ROOT / "constraints-lowest.txt").read_text())
    )
    assert len(bounds) > 12

    def parts(version):
        return [int(part) for part in version.split(".")]

    for name in bounds.keys() - NOT_RUN:
        bound, held = parts(bounds[name]), parts(lowest[name])
        assert held == bound + [0] * (len(held) - len(bound)), name
