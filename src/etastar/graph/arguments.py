"""Tensors within nested arguments and results: take them out by name, put others in."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import nn


def _is_namedtuple(value: object) -> bool:
    return isinstance(value, tuple) and hasattr(value, "_fields")


def _is_dataclass(value: object) -> bool:
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def _items(value: Any) -> Iterator[tuple[str, Any]] | None:
    """Named children of a container; None for a leaf."""
    if isinstance(value, Mapping):
        return ((str(key), child) for key, child in value.items())
    if _is_namedtuple(value):
        return zip(value._fields, value, strict=True)
    if isinstance(value, (list, tuple)):
        return ((str(i), child) for i, child in enumerate(value))
    if _is_dataclass(value):
        fields = dataclasses.fields(value)
        return ((f.name, getattr(value, f.name)) for f in fields if hasattr(value, f.name))
    return None


def named_tensors(value: Any, prefix: str = "") -> Iterator[tuple[str, torch.Tensor]]:
    """Every tensor within nested dicts, sequences and dataclasses, with its dotted path.

    Example:
        >>> a = torch.zeros(1)
        >>> [name for name, _ in named_tensors({"logits": a, "extra": (a, [a, 3])})]
        ['logits', 'extra.0', 'extra.1.0']
    """
    if isinstance(value, torch.Tensor):
        yield prefix or "output", value
        return
    for name, child in _items(value) or ():
        yield from named_tensors(child, f"{prefix}.{name}" if prefix else name)


def tensors_in(value: Any) -> Iterator[torch.Tensor]:
    """Every tensor within a nested value, in order."""
    return (tensor for _, tensor in named_tensors(value))


def cloned(tensor: torch.Tensor) -> torch.Tensor:
    """A leaf of the same values: no two inputs share a tensor, and none is the caller's."""
    return tensor.detach().clone().requires_grad_(tensor.requires_grad)


def map_tensors(value: Any, function: Callable[[torch.Tensor], Any]) -> Any:
    """The same nested value with every tensor replaced; containers are rebuilt, never changed.

    Example:
        >>> map_tensors({"x": [torch.ones(2), "as it is"]}, lambda t: t.sum().item())
        {'x': [2.0, 'as it is']}
    """
    if isinstance(value, torch.Tensor):
        return function(value)
    if isinstance(value, (list, tuple)) and not _is_namedtuple(value):
        return type(value)([map_tensors(child, function) for child in value])
    if _is_namedtuple(value):
        return type(value)(*(map_tensors(child, function) for child in value))
    if isinstance(value, dict):
        return _mapped_dict(value, function)
    if _is_dataclass(value) and any(True for _ in tensors_in(value)):
        items = _items(value) or ()
        return dataclasses.replace(value, **{n: map_tensors(c, function) for n, c in items})
    return value


def _mapped_dict(value: dict[Any, Any], function: Callable[[torch.Tensor], Any]) -> Any:
    mapped = {key: map_tensors(child, function) for key, child in value.items()}
    if type(value) is dict:
        return mapped
    try:  # a BatchEncoding, an OrderedDict: the model may use its methods
        return type(value)(mapped)
    except TypeError:
        return mapped


def named_inputs(
    model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Iterator[tuple[str, torch.Tensor]]:
    """Every input tensor; positional ones are named by the signature of `model.forward`.

    Example:
        >>> [name for name, _ in named_inputs(nn.Linear(1, 1), (torch.zeros(1),), {})]
        ['input']
    """
    try:
        bound: Mapping[str, Any] = inspect.signature(model.forward).bind_partial(*args).arguments
    except (TypeError, ValueError):  # it has no signature, or another one
        bound = {"args": args}
    free = {f"{name}_" if name in kwargs else name: value for name, value in bound.items()}
    return named_tensors({**free, **kwargs})
