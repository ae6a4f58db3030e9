"""One recorded forward pass: set up the recorder, follow the modules, name inputs and outputs."""

from __future__ import annotations

import random
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

from etastar.errors import CaptureError, cause_of
from etastar.graph.arguments import cloned, map_tensors, named_inputs, named_tensors, tensors_in
from etastar.graph.isolation import (
    attributes_kept,
    global_state_kept,
    isolated_copy,
    own_tensors,
    quiet_switches,
)
from etastar.graph.node import NOTHING, Node, Operand, ParameterRecord, WeightUse
from etastar.graph.recorder import FakeTwins, Observer, Recorder
from etastar.graph.regions import ValuesKept
from etastar.naming import canonical_modules, canonical_parameters


@dataclass(frozen=True)
class Trace:
    """What one recorded forward pass gave.

    Attributes:
        nodes: The nodes, sums not yet judged.
        inputs: Node of every input tensor by name.
        outputs: Nodes of every floating output tensor by name.
        result: What the model returned.
        parameter_records: Every parameter of the model by its first canonical name.
        is_random: Whether the pass drew from a random generator of Python, NumPy or PyTorch.
        capture_note: Why it ran on real tensors; None if it ran on fake ones.
        notes: What else is to be known of it.
    """

    nodes: tuple[Node, ...]
    inputs: dict[str, int]
    outputs: dict[str, tuple[int, ...]]
    result: Any
    parameter_records: dict[str, ParameterRecord]
    is_random: bool = False
    capture_note: str | None = None
    notes: tuple[str, ...] = ()


def trace(
    model: nn.Module,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    *,
    fake: bool,
    grad: bool = False,
    observer: Observer | None = None,
    private: bool = False,
    evaluation: bool = False,
) -> Trace:
    """Run an unwrapped model once under the recorder; the model is as before afterwards.

    Args:
        model: The model, with all parameters materialised.
        args: Its positional arguments.
        kwargs: Its keyword arguments.
        fake: Whether to run on fake tensors.
        grad: Whether autograd records the run (for an observer that differentiates).
        observer: Called with every node and its output tensor.
        private: Whether nobody else holds the model, so that it need not be copied.
        evaluation: Whether to run in evaluation mode, whatever mode the model is in; norms over the
            batch alone stay in theirs.

    Raises:
        CaptureError: From what the forward pass raised, or because it returned no tensor.
    """
    records = _parameter_records(model)
    fake_mode = FakeTensorMode(allow_non_fake_inputs=True) if fake else None
    twins = None if fake_mode is None else FakeTwins(fake_mode)
    with ExitStack() as stack:
        stack.enter_context(global_state_kept())
        stack.enter_context(quiet_switches())
        kept = ValuesKept(own_tensors(model))
        stack.callback(kept.put_back)
        guard = kept.before_write
        recorder = Recorder(records, twins=twins, observer=observer, before_write=guard)
        running = model
        if private:
            stack.enter_context(attributes_kept(model))
        else:
            running = stack.enter_context(
                isolated_copy(model, twin=None if twins is None else twins.of)
            )
        if evaluation:
            norms = [m for m in running.modules() if m.training and hasattr(m, "running_mean")]
            running.eval()
            for norm in norms:
                norm.training = norm.running_mean is not None
        stack.enter_context(torch.set_grad_enabled(grad))
        tensors, originals = canonical_parameters(running), canonical_parameters(model)
        for name in records:  # either may be reached, by a function that both models share
            recorder.add_parameter(name, tensors[name], also=originals[name])
        clone = cloned if twins is None else twins.clone_of
        args, kwargs = map_tensors((tuple(args), dict(kwargs)), clone)
        inputs = {n: recorder.add_input(t) for n, t in named_inputs(model, args, kwargs)}
        stack.enter_context(_module_paths_recorded(recorder, running, model))
        before = _generators()
        result = _run(running, args, kwargs, recorder)
        is_random = _generators() != before
        outputs = _outputs(recorder, result)
    why_real = None if fake else "real tensors were asked for"
    return Trace(tuple(recorder.nodes), inputs, outputs, result, records, is_random, why_real)


def _generators() -> tuple[Any, ...]:
    """States of the random generators that a forward pass may decide by."""
    _, keys, *place = np.random.get_state()  # noqa: NPY002
    own = torch.random.get_rng_state().numpy().tobytes()
    return random.getstate(), np.asarray(keys).tobytes(), place, own


def _parameter_records(model: nn.Module) -> dict[str, ParameterRecord]:
    """Shape and aliases of every parameter by its first canonical name; a tied one once."""
    names: dict[nn.Parameter, list[str]] = {}
    for name, parameter in canonical_parameters(model).items():
        names.setdefault(parameter, []).append(name)
    exact, parts = _without_decay(model)
    return {
        every[0]: ParameterRecord(
            tuple(parameter.shape),
            tuple(every[1:]),
            no_decay=bool(getattr(parameter, "_no_weight_decay", False))
            or dict(getattr(parameter, "_optim", None) or {}).get("weight_decay") == 0
            or not exact.isdisjoint(every)
            or any(part in name for name in every for part in parts),
            is_quantized=not (parameter.is_floating_point() or parameter.is_complex()),
        )
        for parameter, every in names.items()
    }


def _without_decay(model: nn.Module) -> tuple[set[str], set[str]]:
    """Names that a model or a part of it lists as without decay, and parts of names, as timm's."""
    found: dict[str, set[str]] = {"no_weight_decay": set(), "no_weight_decay_keywords": set()}
    for path, module in canonical_modules(model):
        for what, names in found.items():
            listed: Any = getattr(module, what, None)
            if isinstance(listed, nn.Module):
                continue
            with suppress(Exception):  # of another signature, it is something else
                listed = listed() if callable(listed) else listed
            if isinstance(listed, (list, tuple, set, frozenset)):
                prefix = f"{path}." if path and what == "no_weight_decay" else ""
                names |= {f"{prefix}{name}" for name in listed}
    return found["no_weight_decay"], found["no_weight_decay_keywords"]


def _run(
    model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], recorder: Recorder
) -> Any:
    try:
        with nullcontext() if recorder.twins is None else recorder.twins.mode, recorder:
            return model(*args, **kwargs)
    except Exception as error:
        raise failed_pass(error, *recorder.place_of(error)) from error


def failed_pass(
    error: BaseException, module: str = "", operation: str | None = None
) -> CaptureError:
    """What a forward pass raised, as an error of ours that knows the module and the operation."""
    where = f"module {module or '(root)'!r}"
    if operation is not None:
        where = f"operation {operation} in {where}"
    failed = CaptureError(
        f"a forward pass that failed at {where}: {cause_of(error)}",
        "a model that runs on the example inputs as they were given",
        "check shapes and dtypes of the inputs by calling model(*args, **kwargs) yourself",
    )
    failed.place = module, operation
    return failed


def _outputs(recorder: Recorder, result: Any) -> dict[str, tuple[int, ...]]:
    outputs = {
        name: recorder.read(tensor).producers
        for name, tensor in named_tensors(result)
        if tensor.is_floating_point() or tensor.is_complex()
    }
    if not any(True for _ in tensors_in(result)):
        raise CaptureError(
            f"a model that returned {type(result).__name__}, which holds no tensor",
            "a tensor, or nested dicts, sequences or dataclasses of tensors",
            "return the tensors from forward, or wrap the model in a module that does",
        )
    return outputs


@contextmanager
def _module_paths_recorded(recorder: Recorder, *models: nn.Module) -> Iterator[None]:
    """Tell the recorder the dotted path of the module that runs, also where a hook reaches another.

    The hooks of modules are global, but a pass is one thread's: others may run models meanwhile.
    """
    paths: dict[int, str] = {}
    for path, module in (pair for model in models for pair in canonical_modules(model)):
        paths.setdefault(id(module), path)

    thread = threading.get_ident()

    def enter(module: nn.Module, args: Any) -> None:
        if threading.get_ident() != thread:
            return
        recorder.module_stack.append(paths.get(id(module), recorder.module_stack[-1]))
        recorder.opaque_depth += isinstance(module, nn.RNNBase)

    def leave(module: nn.Module, args: Any, output: Any) -> None:
        if threading.get_ident() != thread:
            return
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


def _record_recurrent(module: nn.RNNBase, output: Any, recorder: Recorder) -> None:
    """One weight layer per stacked layer, in a chain; final states belong to their own layer."""
    read = NOTHING
    for tensor in tensors_in(output):
        read = read | recorder.read(tensor)
    producers, prefix = read.producers, recorder.module_stack[-1]
    if not producers:
        return
    sequence, states = next(tensors_in(output[0])), list(tensors_in(output[1]))
    for layer in range(module.num_layers):
        ends = (f"_l{layer}", f"_l{layer}_reverse")  # both directions
        own = [name for name, _ in module.named_parameters(recurse=False) if name.endswith(ends)]
        names = tuple(f"{prefix}.{name}" if prefix else name for name in own)
        matrices = tuple(name for name in names if len(recorder.records[name].shape) >= 2)
        fan_in = module.input_size if layer == 0 else module.hidden_size
        directions = 2 if module.bidirectional else 1
        rows = slice(layer * directions, (layer + 1) * directions)
        last = [sequence] if layer == module.num_layers - 1 else []
        node = recorder.add_node(
            f"recurrent.{type(module).__name__.lower()}",
            (
                Operand(producers, (), tuple(sequence.shape)),
                Operand((), names, recorder.records[matrices[0]].shape),
            ),
            sequence,
            write=[state[rows] for state in states] + last,
            kind="weight layer",
            weight=WeightUse("recurrent", matrices, fan_in, module.hidden_size),
        )
        producers = (node.index,)
