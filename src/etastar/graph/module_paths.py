"""Which module runs: a stack kept by global hooks, and recurrent modules as single layers."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import (
    register_module_forward_hook,
    register_module_forward_pre_hook,
)

from etastar.graph.arguments import tensors_in
from etastar.graph.dag import Operand, WeightUse
from etastar.graph.recorder import Recorder
from etastar.graph.storage import NOTHING, Value
from etastar.naming import canonical_modules

__all__ = ["module_paths_recorded"]


@contextmanager
def module_paths_recorded(recorder: Recorder, *models: nn.Module) -> Iterator[None]:
    """Tell the recorder the dotted path of the module that runs, while in the context.

    Args:
        recorder: The recorder of its operations.
        *models: The model that will be run, and any other with the same paths that it may reach.

    Yields:
        Nothing.
    """
    paths: dict[int, str] = {}
    for path, module in (pair for model in models for pair in canonical_modules(model)):
        paths.setdefault(id(module), path)

    def enter(module: nn.Module, args: Any) -> None:
        recorder.module_stack.append(paths.get(id(module), recorder.module_stack[-1]))
        recorder.opaque_depth += isinstance(module, nn.RNNBase)

    def leave(module: nn.Module, args: Any, output: Any) -> None:
        error = sys.exc_info()[1]  # set while PyTorch handles what this module raised
        if error is not None and output is None:
            recorder.note_failure(error)
        if isinstance(module, nn.RNNBase):
            if output is not None and recorder.opaque_depth == 1:
                _record_recurrent(module, output, recorder)
            recorder.opaque_depth -= 1
        recorder.module_stack.pop()

    handles = [
        register_module_forward_pre_hook(enter),
        register_module_forward_hook(leave, always_call=True),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _layer_names(module: nn.RNNBase, layer: int) -> list[str]:
    """Attribute names of the parameters of one stacked layer, both directions."""
    ends = (f"_l{layer}", f"_l{layer}_reverse")
    return [name for name, _ in module.named_parameters(recurse=False) if name.endswith(ends)]


def _record_recurrent(module: nn.RNNBase, output: Any, recorder: Recorder) -> None:
    """One weight layer per stacked layer, in a chain; final states belong to their own layer."""
    read: Value = NOTHING
    for tensor in tensors_in(output):
        read = read | recorder.read(tensor)
    if not read.producers:
        return
    result, states = output[0], list(tensors_in(output[1]))
    sequence = next(tensors_in(result))
    producers, directions = read.producers, 2 if module.bidirectional else 1
    for layer in range(module.num_layers):
        last = layer == module.num_layers - 1
        rows = slice(layer * directions, (layer + 1) * directions)
        written = [state[rows] for state in states] + ([sequence] if last else [])
        node = _layer_node(module, layer, producers, sequence, written, recorder)
        producers = (node,)


def _layer_node(
    module: nn.RNNBase,
    layer: int,
    producers: tuple[int, ...],
    sequence: torch.Tensor,
    written: list[torch.Tensor],
    recorder: Recorder,
) -> int:
    prefix = recorder.module_stack[-1]
    names = [f"{prefix}.{n}" if prefix else n for n in _layer_names(module, layer)]
    matrices = tuple(n for n in names if len(recorder.records[n].shape) >= 2)
    fan_in = module.input_size if layer == 0 else module.hidden_size
    operands = (
        Operand(producers, (), tuple(sequence.shape)),
        Operand((), tuple(names), recorder.records[matrices[0]].shape),
    )
    node = recorder.add_node(
        f"recurrent.{type(module).__name__.lower()}",
        "weight layer",
        operands,
        sequence,
        write=written,
        weight=WeightUse("recurrent", matrices, fan_in, module.hidden_size),
    )
    return node.index
