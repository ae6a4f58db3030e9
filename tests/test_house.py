"""The house: no import circle, each name once, short files, few parameters."""

import ast
from collections import Counter
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src"
FILES = sorted((SOURCE / "etastar").rglob("*.py"))
TREES = {path: ast.parse(path.read_text()) for path in FILES}
SHARED_NAMES = {"__init__", "__main__", "base", "registry"}


def module_name(path):
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in FILES}


def imported_modules(name):
    """Modules of the package that a file imports, anywhere in it, under TYPE_CHECKING too.

    Importing a name of a package (`from etastar.graph import Graph`) reads its `__init__`. What the
    machinery of imports does by itself, running the `__init__` of the packages above, is left out.
    """
    for node in ast.walk(TREES[MODULES[name]]):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)
        elif isinstance(node, ast.ImportFrom) and node.module in MODULES:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in MODULES else node.module


def test_no_import_circle_between_files():
    graph = {name: set(imported_modules(name)) - {name} for name in MODULES}
    assert sum(map(len, graph.values())) > len(graph)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_file_names_occur_once():
    counts = Counter(path.stem for path in FILES if path.stem not in SHARED_NAMES)
    assert [name for name, count in counts.items() if count > 1] == []


def test_public_names_are_defined_once():
    places = {}
    for path, tree in TREES.items():
        for node in tree.body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                defined = [node.name]
            elif isinstance(node, (ast.Assign, ast.AnnAssign)):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                defined = [t.id for t in targets if isinstance(t, ast.Name)]
            else:
                continue
            for name in defined:
                if not name.startswith("_"):
                    places.setdefault(name, set()).add(path)
    assert {name: sorted(p.name for p in at) for name, at in places.items() if len(at) > 1} == {}


def test_no_public_function_has_more_than_eight_parameters():
    found = []
    for path, tree in TREES.items():
        if path.parent.name == "cli":
            continue  # a command has an option for each setting
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
                every = (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)
                names = [a.arg for a in every if a.arg not in ("self", "cls")]
                if len(names) > 8:
                    found.append((path.name, node.name, len(names)))
    assert found == []


def test_files_are_short_and_few():
    lengths = {path: len(path.read_text().splitlines()) for path in FILES}
    assert {path.name: n for path, n in lengths.items() if n > 400} == {}
    assert sum(lengths.values()) <= 22_000
    assert len(FILES) <= 190
