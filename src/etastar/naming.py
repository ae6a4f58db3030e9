"""Names of parameters and modules without what DDP, FSDP and `torch.compile` put around them."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from torch import nn

_INDEX = re.compile(r"(?<![^.])\d+(?![^.])")
_COUNTING = re.compile(r"(\d+|(?<=\d)[a-z](?![a-z]))")
_Place: TypeAlias = tuple[str, str]

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

    Example:
        >>> import torch
        >>> linear = torch.nn.Linear(2, 2)
        >>> unwrap(torch.nn.DataParallel(linear)) is linear
        True
    """
    inner = _wrapped(module)
    return module if inner is None else unwrap(inner)


def canonical_modules(model: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Every module with the dotted path it has in the unwrapped model, put behind the prefix.

    A wrapper has the path of what it wraps. A module that is reached by two paths is given twice.

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
    """Every parameter by each of its names in the unwrapped model, a tied one by several.

    They are in the order of `named_parameters(remove_duplicate=False)`.

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
    """A dotted name with a star for every index, which is a numeric component.

    Example:
        >>> name_template("layer1.0.conv1.weight")
        'layer1.*.conv1.weight'
    """
    return _INDEX.sub("*", name)


def name_indices(name: str) -> tuple[int, ...]:
    """The indices in a dotted name, which `name_template` leaves open, outer before inner.

    Example:
        >>> name_indices("layer1.0.conv1.weight")
        (0,)
    """
    return tuple(int(index) for index in _INDEX.findall(name))


def separated_indices(names: Iterable[str], others: Iterable[str]) -> dict[str, str]:
    """The names of two networks, with dots about each number that counts repeated modules.

    Where blocks are attributes (`block0`, `denselayer25`, `conv4_13`, `weight_ih_l1`), a number, or
    a letter behind one (`inception4c`), is an index if the two networks have it at the same place,
    but not the same ones there: so `conv1` and `conv2` of every block stay names.

    Args:
        names: Dotted names of one network's parameters.
        others: Those of the other network.

    Returns:
        Each name, and what `name_template` and `name_indices` are to read in its place, a ~ where a
        component was cut: another name for every name.

    Example:
        >>> two = ["block0.conv1.weight", "block1.conv1.weight"]
        >>> separated_indices(two[:1], two)["block1.conv1.weight"]
        'block~.1.conv1.weight'
    """
    networks = [dict.fromkeys(names), dict.fromkeys(others)]
    parts = {name: _COUNTING.split(name) for network in networks for name in network}
    read = {name: texts[0] for name, texts in parts.items()}  # up to the next number
    for level in range(1, max(map(len, parts.values()), default=0), 2):
        places = {n: _place(read[n], p[level:]) for n, p in parts.items() if level < len(p)}
        seen: list[defaultdict[_Place, set[str]]] = [defaultdict(set), defaultdict(set)]
        for numbers, network in zip(seen, networks, strict=True):
            for name in network.keys() & places.keys():
                numbers[places[name]].add(parts[name][level])
        for name, place in places.items():
            here, there = (numbers[place] for numbers in seen)
            counts = bool(place[1] and here and there and here != there)
            read[name] += _read(parts[name][level:], read[name], counts=counts)
    return read


def _place(before: str, following: Sequence[str]) -> _Place:
    """What is about a number: all before it, and the rest of its component; "" if it is alone."""
    rest = "#".join(following[1::2]).partition(".")[0]
    is_alone = following[0].isdigit() and not rest and (not before or before.endswith("."))
    return name_template(before), "" if is_alone else f"*{rest}"


def _read(following: Sequence[str], before: str, *, counts: bool) -> str:
    """A number and the text behind it, with dots about it if it counts."""
    number, text = following[:2]
    if not counts:
        return number + text
    index = number if number.isdigit() else str(ord(number) - ord("a"))
    ends = text.startswith(".") or (not text and len(following) == 2)
    cut = "" if not before or before.endswith(".") else "~."
    return f"{cut}{index}{'' if ends else '.~'}{text}"
