"""Modules in files that a person names: they find each other, and are on nobody else's path.

Each directory is a package of its own, `etastar_files_...`, and its files are modules of it. In
such a module `import helper` means the file beside it, at whatever time it runs, as it would in a
script. Nothing else in the process sees these files: a file called optuna.py is not what Optuna's
users get, two directories may each have a helper.py, and `sys.path` stays as it is.
"""

from __future__ import annotations

import builtins
import sys
from collections.abc import Sequence
from functools import partial
from hashlib import sha256
from importlib import import_module
from importlib.machinery import (
    SOURCE_SUFFIXES,
    FileFinder,
    ModuleSpec,
    PathFinder,
    SourceFileLoader,
)
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

_PREFIX = "etastar_files_"

# names that mean the library in a person's own files too
_LIBRARIES = {*sys.stdlib_module_names, "__main__", "etastar", "numpy", "optuna", "ray", "torch"}


def module_in_file(path: Path) -> ModuleType:
    """Run a Python file as a module; each call runs it again."""
    name = f"{_package(path.parent)}.{path.stem.replace('.', '_')}"
    loader = _Loader(name, str(path))
    spec = spec_from_file_location(name, path, loader=loader)
    assert spec is not None
    module = module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickling look their module up
    try:
        loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def module_by_name(name: str) -> ModuleType:
    """Import a module, by its dotted name, from the working directory or the path."""
    here = Path.cwd()
    if not {"", str(here)} & set(sys.path):
        package = _package(here)
        if _is_beside(package, name.partition(".")[0]):
            return import_module(f"{package}.{name}")
    return import_module(name)


def _package(directory: Path) -> str:
    """The package that a directory is."""
    place = str(directory.resolve())
    name = f"{_PREFIX}{sha256(place.encode()).hexdigest()[:12]}"
    if name not in sys.modules:
        package = ModuleType(name)
        package.__path__ = [place]
        sys.modules[name] = package
        if _Finder not in sys.meta_path:
            sys.meta_path.insert(0, _Finder)
    return name


class _Finder:
    """Finds Python files of these packages, and nothing else."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name.startswith(_PREFIX):
            for place in path or ():
                found = FileFinder(place, (_Loader, SOURCE_SUFFIXES)).find_spec(name)
                if found is not None and found.loader is not None:
                    return found
        return None


class _Loader(SourceFileLoader):
    """Runs a file with an `import` of its own."""

    def exec_module(self, module: ModuleType) -> None:
        package = module.__name__.partition(".")[0]
        own = {**vars(builtins), "__import__": partial(_import, package)}
        vars(module)["__builtins__"] = own
        super().exec_module(module)


def _import(
    package: str,
    name: str,
    globals: Any = None,  # noqa: A002  the names that Python gives them
    locals: Any = None,  # noqa: A002
    fromlist: Sequence[str] | None = (),
    level: int = 0,
) -> Any:
    """The import statement of a file: what lies beside it is a module of its package."""
    if level == 0 and _is_beside(package, name.partition(".")[0]):
        return builtins.__import__(name, {"__package__": package}, None, fromlist or (), 1)
    return builtins.__import__(name, globals, locals, fromlist or (), level)


def _is_beside(package: str, name: str) -> bool:
    if name in _LIBRARIES:
        return False
    if f"{package}.{name}" in sys.modules:
        return True
    found = PathFinder.find_spec(name, sys.modules[package].__path__)
    if found is None:
        return False
    if found.loader is None:  # a plain folder goes after what is installed
        return find_spec(name) is None
    # what this process has imported in the usual way is not run a second time
    return getattr(sys.modules.get(name), "__file__", None) != found.origin
