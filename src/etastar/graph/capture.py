"""Capture the executed graph of an unmodified model."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from etastar.errors import CaptureError
from etastar.graph.arguments import tensors_in
from etastar.graph.contraction import data_inputs, judge_sums
from etastar.graph.dag import Graph
from etastar.graph.isolation import global_state_kept, lazy_copy
from etastar.graph.tracing import Trace, TracingError, parameter_records, trace
from etastar.naming import unwrap

__all__ = ["capture_graph"]


def capture_graph(model: nn.Module, *args: Any, **kwargs: Any) -> Graph:
    """Capture what one forward pass executes, as a graph of operations [WU].

    The pass runs at the dispatch level on fake tensors: no arithmetic is done, no parameter
    memory is taken, and a model on the meta device works as it is. What fake tensors refuse
    (values read in Python, shapes that depend on data) is run on real tensors of the example, and
    `Graph.capture_note` says so. The model, its hooks and modes, the random generators and
    PyTorch's switches are as before afterwards, also when the pass raises.

    Args:
        model: Any module; wrappers of DDP and `torch.compile` are looked through.
        *args: Example inputs as the model takes them; their values matter only on real tensors.
        **kwargs: Keyword inputs likewise.

    Returns:
        The graph.

    Raises:
        CaptureError: The forward pass raised, on fake tensors and on real ones.

    Example:
        >>> graph = capture_graph(nn.Sequential(nn.Linear(4, 8), nn.ReLU()), torch.zeros(2, 4))
        >>> [node.kind for node in graph]
        ['input', 'weight layer', 'activation']

    Reference:
        [WU] arXiv 2602.07494, section on the graph of a network.
    """
    start = time.perf_counter()
    if not isinstance(model, nn.Module):
        raise CaptureError(
            f"a {type(model).__name__} as model",
            "a torch.nn.Module",
            "pass the module itself, then its example inputs",
        )
    model = _materialised(unwrap(model), args, kwargs)
    traced, note = _trace_anyhow(model, args, kwargs)
    sources = data_inputs(traced.nodes, traced.inputs)
    return Graph(
        nodes=judge_sums(traced.nodes, [traced.inputs[name] for name in sources], traced.outputs),
        inputs=traced.inputs,
        outputs=traced.outputs,
        data_inputs=sources,
        parameters=parameter_records(model),
        capture="fake" if note is None else "real",
        capture_note=note,
        seconds=time.perf_counter() - start,
    )


def _materialised(model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> nn.Module:
    """The model itself; of a lazy one, a copy whose shapes a dry run has set."""
    if not any(is_lazy(p) for p in (*model.parameters(), *model.buffers())):
        return model
    ready = lazy_copy(model)
    try:
        with global_state_kept(), torch.no_grad():
            ready(*args, **kwargs)
    except Exception as error:
        raise _capture_error(TracingError("", None), error, None) from error
    return ready


def _trace_anyhow(
    model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[Trace, str | None]:
    """Trace on fake tensors, else on real ones; the note says why."""
    try:
        return trace(model, args, kwargs, fake=True), None
    except TracingError as error:
        refused = error
    reason = _first_line(refused.__cause__)
    note = f"fake tensors refused {refused.operation or 'the forward pass'} " + (
        f"in {refused.module or 'the model'}: {reason}"
    )
    if (valueless := _without_values(model, args, kwargs)) is not None:
        raise _capture_error(refused, refused.__cause__, f"{valueless} hold no values (meta)")
    try:
        return trace(model, args, kwargs, fake=False), note
    except TracingError as error:
        raise _capture_error(error, error.__cause__, None) from error.__cause__


def _without_values(
    model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> str | None:
    """What is on the meta device, so that there are no real tensors to run on."""
    if any(t.is_meta for t in (*model.parameters(), *model.buffers())):
        return "its parameters"
    return "its inputs" if any(t.is_meta for t in tensors_in((args, kwargs))) else None


def _first_line(error: BaseException | None) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}".rstrip(": ")


def _capture_error(
    where: TracingError, cause: BaseException | None, obstacle: str | None
) -> CaptureError:
    place = f"operation {where.operation} in module {where.module or '(root)'!r}"
    if where.operation is None:
        place = f"module {where.module or '(root)'!r}"
    tail = f"; on real tensors it could not be tried: {obstacle}" if obstacle else ""
    return CaptureError(
        f"a forward pass that failed at {place}: {_first_line(cause)}{tail}",
        "a model that runs on the example inputs as they were given",
        "check shapes and dtypes of the inputs by calling model(*args, **kwargs) yourself",
    )
