"""How Sphinx builds the documentation: `make docs`."""

import re
import subprocess
import sys
from pathlib import Path

from etastar import __version__

HERE = Path(__file__).parent

project = "etastar"
release = version = __version__
copyright = "the etastar contributors"  # noqa: A001  Sphinx reads this name

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
]
exclude_patterns = ["_build", "_generated"]

myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence"]

default_role = "py:obj"  # docstrings write `name` as Markdown does
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
napoleon_use_ivar = True

html_theme = "furo"
html_title = f"etastar {__version__}"
html_static_path = ["_static"]
html_css_files = ["etastar.css"]
html_show_sphinx = False

OUTSIDE = re.compile(r"\[([^\]]*)\]\(((?:\.\./)+[^)#]+)\)")
"""A Markdown link upwards, which may leave the documentation."""


def link_outside(app: object, page: str, text: list[str]) -> None:
    """Make files of the repository that are no pages here downloads, so that links lead on."""
    folder = (HERE / page).parent

    def link(found: re.Match[str]) -> str:
        target = (folder / found[2]).resolve()
        if target.is_relative_to(HERE) or not target.is_file():
            return found[0]
        return f"{{download}}`{found[1]} <{found[2]}>`"

    text[0] = OUTSIDE.sub(link, text[0])


def plain_bars(
    app: object, what: str, name: str, thing: object, options: object, lines: list[str]
) -> None:
    """Keep |z| a norm, and a table of Markdown as it is written."""
    written: list[str] = []
    for line in lines:
        table = line.lstrip().startswith("| ")
        if table and not (written and written[-1].lstrip().startswith("| ")):
            written += ["::", ""]
        if not table and written and written[-1].lstrip().startswith("| "):
            written.append("")
        doctest = line.lstrip().startswith((">>>", "..."))
        written.append(f"   {line}" if table else line if doctest else line.replace("|", r"\|"))
    lines[:] = written


def write_commands(app: object) -> None:
    """Write what each command takes, from the commands themselves."""
    (HERE / "_generated").mkdir(exist_ok=True)
    options = ["--name", "etastar", "--output", str(HERE / "_generated" / "commands.md")]
    command = [sys.executable, "-m", "typer", "etastar.cli", "utils", "docs", *options]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def setup(app: object) -> None:
    """Connect the three to Sphinx."""
    app.connect("builder-inited", write_commands)
    app.connect("source-read", link_outside)
    app.connect("autodoc-process-docstring", plain_bars, priority=400)
