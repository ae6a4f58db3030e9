"""Each example as it stands, in a fresh environment with the extra that it names and nothing else.

    python .ci/examples.py [EXTRA ...]

The first line of an example says what it needs and how it runs in seconds. Behind the examples of
an extra come the tests of `tests/integrations` that skip without it (`pytest.importorskip`).
"""

import os
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parents[1]
FIRST_LINE = re.compile(r'# pip install "?etastar(?:\[(\w+)\])?"?; (python \w+\.py --steps \d+)\n')
LOSS = re.compile(r"^loss ([\d.]+) to ([\d.]+)$", re.MULTILINE)
PIP_AND_UV = {
    "FIND_LINKS": "FIND_LINKS",
    "INDEX_URL": "DEFAULT_INDEX",
    "EXTRA_INDEX_URL": "INDEX",
    "DEFAULT_TIMEOUT": "HTTP_TIMEOUT",
}
"""How settings of pip are called by uv."""


def run(*command, cwd=ROOT):
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    for pip, uv in PIP_AND_UV.items():
        if f"PIP_{pip}" in environment:
            environment.setdefault(f"UV_{uv}", environment[f"PIP_{pip}"])
    done = subprocess.run(
        command, cwd=cwd, env=environment, text=True, check=False, capture_output=True
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))}\n{done.stdout}\n{done.stderr}")
    return done.stdout


def by_extra():
    """Command lines of the examples by the extra that they name, "" where they name none."""
    found = {}
    for path in sorted((ROOT / "examples").glob("*.py")):
        matched = FIRST_LINE.match(path.read_text())
        assert matched, f"{path.name}: its first line says neither what it needs nor how it runs"
        found.setdefault(matched[1] or "", []).append(matched[2])
    return found


def tests_of(extra):
    asking = re.compile(rf'importorskip\(\s*"{extra}"')
    paths = (ROOT / "tests" / "integrations").glob("test_*.py")
    return sorted(path for path in paths if extra and asking.search(path.read_text()))


class Environments:
    """Fresh ones in a folder, made by uv, whose files are links; by pip where uv is not to be had.

    Args:
        folder: Where to.
    """

    def __init__(self, folder):
        self.folder = folder
        run(sys.executable, "-m", "venv", folder / "tools")
        tools = folder / "tools" / "bin"
        try:
            run(tools / "pip", "install", "--quiet", "uv")
            self.uv = tools / "uv"
            run(self.uv, "build", "--quiet", "--wheel", "--out-dir", folder, ROOT)
        except SystemExit as error:
            print(f"without uv: {error}")
            self.uv = None
            run(tools / "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, ROOT)
        (self.wheel,) = folder.glob("etastar-*.whl")

    def make(self, extra):
        """A Python that has the package with one extra."""
        place = self.folder / (extra or "none")
        what = f"{self.wheel}[{extra}]" if extra else self.wheel
        if self.uv:
            try:
                run(self.uv, "venv", "--quiet", "--python", sys.executable, place)
                self.install(place, what)
                return place / "bin" / "python"
            except SystemExit as error:
                print(f"pip in place of uv: {error}")
        run(sys.executable, "-m", "venv", "--clear", place)
        self.install(place, what)
        return place / "bin" / "python"

    def install(self, place, *what):
        python = place / "bin" / "python"
        by_uv = self.uv and not (place / "bin" / "pip").exists()
        pip = [self.uv, "pip", "install", "-p", python] if by_uv else [python, "-m", "pip"]
        pip += [] if by_uv else ["install", "--no-compile"]
        run(*pip, "--quiet", "-c", ROOT / "constraints.txt", *what)


def check(environments, extra, commands):
    """Run the examples of an extra, then its tests; the lines to print."""
    python = environments.make(extra)
    lines = [f"etastar[{extra}]" if extra else "etastar"]
    beside = []
    if extra == "timm" and "nms does not exist" in failure(python, "import torchvision"):
        beside = [ROOT / "tests" / "vision.py"]
        lines.append("  torchvision is built for another torch: run beside tests/vision.py")
    for command in commands:
        _, script, *arguments = command.split()
        printed = run(python, *beside, ROOT / "examples" / script, *arguments, cwd=python.parent)
        ((first, last),) = LOSS.findall(printed)
        if float(last) >= float(first):
            raise SystemExit(f"{command}: the loss goes from {first} to {last}")
        lines.append(f"  {command}: loss {first} to {last}")
    if tests := tests_of(extra):
        environments.install(python.parents[1], "pytest", "hypothesis")
        passed = run(python, "-m", "pytest", "-q", *tests).splitlines()[-1]
        lines.append(f"  {', '.join(path.name for path in tests)}: {passed}")
        if "skipped" in passed:
            raise SystemExit("\n".join(lines))
    return "\n".join(lines)


def failure(python, code):
    return subprocess.run([python, "-c", code], text=True, check=False, capture_output=True).stderr


if __name__ == "__main__":
    examples = by_extra()
    project = (ROOT / "pyproject.toml").read_text()
    unknown = [one for one in examples if one and f"\n{one} = [" not in project]
    assert not unknown, f"no extra of the package: {', '.join(unknown)}"
    wanted = sys.argv[1:] or list(examples)
    assert examples.keys() >= {*wanted}, f"no example names all of: {', '.join(wanted)}"
    with tempfile.TemporaryDirectory(prefix="etastar-") as folder:
        environments = Environments(Path(folder))
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for printed in pool.map(lambda e: check(environments, e, examples[e]), wanted):
                print(printed, flush=True)
