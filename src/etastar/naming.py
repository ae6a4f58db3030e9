"""Names of parameters and modules without what DDP, FSDP and `torch.compile` put around them."""

from __future__ import annotations

import re
from collections import defaultdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from torch import nn

__all__ = [
    "canonical_modules",
    "canonical_parameters",
    "name_indices",
    "name_template",
    "separated_indices",
    "unwrap",
]

_INDEX = re.compile(r"(?<![^.])\d+(?![^.])")
_DIGITS = re.compile(r"\d+")

# Class name of a wrapper, and the attribute that holds what it wraps.
_WRAPPED = {
    "DistributedDataParallel": "module",
    "DataParallel": "module",
    "OptimizedModule": "_orig_mod",
    "CheckpointWrapper": "_checkpoint_wrapped_module",
    "FullyShardedDataParallel": "_fsdp_wrapped_module",
}


def _wrapped(module: nn.Module) -> nn.Module | None:
    attribute = _WRAPPED.get(type(module).__name__)
    return module._modules.get(attribute) if attribute else None  # noqa: SLF001


def unwrap(module: nn.Module) -> nn.Module:
    """The module inside of any wrappers of DDP, FSDP, checkpointing and `torch.compile`.

    Args:
        module: Any module.

    Returns:
        The innermost wrapped module; `module` itself if it is no wrapper.

    Example:
        >>> import torch
        >>> linear = torch.nn.Linear(2, 2)
        >>> unwrap(torch.nn.DataParallel(linear)) is linear
        True
    """
    inner = _wrapped(module)
    return module if inner is None else unwrap(inner)


def canonical_modules(model: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Every module with the dotted path it has in the unwrapped model.

    Args:
        model: Any module, wrapped or not.
        prefix: Put before every path.

    Yields:
        Path and module; a wrapper has the path of what it wraps. A module that is reached by two
        paths is given twice.

    Example:
        >>> import torch
        >>> model = torch.nn.DataParallel(torch.nn.Sequential(torch.nn.ReLU()))
        >>> [(path, type(module).__name__) for path, module in canonical_modules(model)]
        [('', 'DataParallel'), ('', 'Sequential'), ('0', 'ReLU')]
    """
    yield prefix, model
    inner = _wrapped(model)
    for name, child in model._modules.items():  # noqa: SLF001  named_children drops repeats
        if child is not None:
            path = prefix if child is inner else f"{prefix}.{name}" if prefix else name
            yield from canonical_modules(child, path)


def canonical_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Every parameter by each of its names in the unwrapped model.

    Args:
        model: Any module, wrapped or not.

    Returns:
        Name to parameter, in the order of `named_parameters(remove_duplicate=False)`; a tied
        parameter stands under each of its names.

    Example:
        >>> import torch
        >>> list(canonical_parameters(torch.nn.DataParallel(torch.nn.Linear(2, 2))))
        ['weight', 'bias']
    """
    found: dict[str, nn.Parameter] = {}
    for path, module in canonical_modules(model):
        for name, parameter in module._parameters.items():  # noqa: SLF001  the same
            if parameter is not None:
                found.setdefault(f"{path}.{name}" if path else name, parameter)
    return found


def name_template(name: str) -> str:
    """A dotted name with a star for every index.

    Args:
        name: Dotted name of a parameter or module.

    Returns:
        The name with each numeric component replaced.

    Example:
        >>> name_template("layer1.0.conv1.weight")
        'layer1.*.conv1.weight'
    """
    return _INDEX.sub("*", name)


def name_indices(name: str) -> tuple[int, ...]:
    """The indices in a dotted name, which `name_template` leaves open.

    Args:
        name: Dotted name of a parameter or module.

    Returns:
        Its numeric components, outer before inner.

    Example:
        >>> name_indices("layer1.0.conv1.weight")
        (0,)
    """
    return tuple(int(index) for index in _INDEX.findall(name))


def separated_indices(names: Iterable[str], others: Iterable[str]) -> dict[str, str]:
    """The names of two networks, with dots about each number that counts repeated modules.

    Where blocks are attributes (`block0`, `denselayer25`, `weight_ih_l1`), a number is an index if
    the two networks have it at the same place, but not the same numbers there: so `conv1` and
    `conv2` of every block stay names.

    Args:
        names: Dotted names of one network's parameters.
        others: Those of the other network.

    Returns:
        Each name, and what `name_template` and `name_indices` are to read in its place.

    Example:
        >>> two = ["block0.conv1.weight", "block1.conv1.weight"]
        >>> separated_indices(two[:1], two)["block1.conv1.weight"]
        'block.1.conv1.weight'
    """
    networks = [dict.fromkeys(names, ""), dict.fromkeys(others, "")]  # what is read of each so far
    for level in range(1 + max((n.count(".") for read in networks for n in read), default=0)):
        ours, theirs = (_numbers(read, level) for read in networks)
        counting = {key for key in ours.keys() & theirs.keys() if ours[key] != theirs[key]}
        for read in networks:
            for name, before in read.items():
                read[name] = before + _separated(name, before, level, counting)
    return networks[0] | networks[1]


def _embedded(name: str, read: str, level: int) -> Iterator[tuple[tuple[str, str], re.Match[str]]]:
    """Numbers within a component, each with what stands before it and about it."""
    component = "".join(name.split(".")[level : level + 1])
    for match in _DIGITS.finditer(component):
        if match.group() != component:
            about = f"{component[: match.start()]}*{component[match.end() :]}"
            yield (name_template(read), about), match


def _numbers(read: dict[str, str], level: int) -> dict[tuple[str, str], set[str]]:
    found: dict[tuple[str, str], set[str]] = defaultdict(set)
    for name, before in read.items():
        for key, match in _embedded(name, before, level):
            found[key].add(match.group())
    return found


def _separated(name: str, read: str, level: int, counting: set[tuple[str, str]]) -> str:
    """One component with the dot before it, and with dots about a counting number."""
    if level > name.count("."):
        return ""
    component = name.split(".")[level]
    for key, match in _embedded(name, read, level):
        if key in counting:
            parts = (component[: match.start()], match.group(), component[match.end() :])
            component = ".".join(part for part in parts if part)
            break
    return f".{component}" if level else component
