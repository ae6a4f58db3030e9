"""Capture the executed graph of an unmodified model, and its depth in one call."""

from __future__ import annotations

import copy
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import accumulate
from typing import Any, TypeAlias

import torch
from torch import nn
from torch.nn.parameter import UninitializedBuffer, is_lazy

from etastar.depth import DepthReport
from etastar.errors import CaptureError, DepthError, EtastarError, cause_of
from etastar.formatting import name_pattern
from etastar.graph.arguments import named_inputs, tensors_in
from etastar.graph.dag import Graph
from etastar.graph.isolation import (
    AUTOCAST_DEVICES,
    ambient_modes_left,
    global_state_kept,
    require_plain_execution,
)
from etastar.graph.tracing import Trace, failed_pass, trace
from etastar.naming import unwrap

NetworkLike: TypeAlias = Graph | tuple[nn.Module, Any]
"""A graph, or a model with what it takes: (model, x), (model, (x, y)), (model, {"x": x, "y": y}).

A tuple holds the positional arguments, a dict those by keyword; anything else is the one argument.
"""


def capture_graph(model: nn.Module, *args: Any, **kwargs: Any) -> Graph:
    """Capture what one forward pass executes, as a graph of operations [WU].

    The pass runs at the dispatch level on fake tensors: no arithmetic is done, no parameter
    memory is taken, and a model on the meta device works as it is. What fake tensors refuse
    (values read in Python, shapes that depend on data) is run on real tensors of the example, and
    `Graph.capture_note` says so. Where training mode skips layers by chance the graph is evaluation
    mode's, and `Graph.notes` say so. The model, its hooks and modes, the random generators and
    PyTorch's switches are as before afterwards, also when the pass raises.

    Args:
        model: Any module; wrappers of DDP and `torch.compile` are looked through.
        *args: Example inputs as the model takes them; their values matter only on real tensors.
        **kwargs: Keyword inputs likewise.

    Returns:
        The graph.

    Raises:
        CaptureError: The forward pass raised, on fake tensors and on real ones; or the model is
            sharded, an input has no strides, or the call is within a tracer of PyTorch.

    Example:
        >>> graph = capture_graph(nn.Sequential(nn.Linear(4, 8), nn.ReLU()), torch.zeros(2, 4))
        >>> [node.kind for node in graph]
        ['input', 'weight layer', 'activation']

    Reference:
        [WU] arXiv 2602.07494, section on the graph of a network.
    """
    start = time.perf_counter()
    require_module(model)
    require_plain_execution()
    model = unwrap(model)
    _require_strided(model, args, kwargs)
    with global_state_kept():
        traced = _trace_without_ambient_modes(model, args, kwargs)
    seconds = time.perf_counter() - start
    return Graph.of_trace(traced, seconds=seconds, model=type(model).__name__)


def effective_depth(
    model: Graph | nn.Module,
    *args: Any,
    sources: Sequence[str] | None = None,
    outputs: Sequence[str] | None = None,
    **kwargs: Any,
) -> DepthReport:
    """Effective depth of a model: fewest weight layers and residual additions on a path.

    Args:
        model: A model, followed by its example inputs; or a captured graph alone.
        *args: Example inputs of a model.
        sources: See `Graph.depth`.
        outputs: See `Graph.depth`.
        **kwargs: Keyword inputs of a model.

    Returns:
        The report of `Graph.depth`.

    Raises:
        CaptureError: The model does not run on its inputs.
        DepthError: An unknown source or output, no weight layer, or no path.

    Example:
        >>> chain = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
        >>> effective_depth(chain, torch.zeros(1, 4)).effective_depth
        2
    """
    if not isinstance(model, Graph):
        model = capture_graph(model, *args, **kwargs)
    elif args or kwargs:
        raise DepthError(
            "a graph together with example inputs",
            "a graph alone, or a model with its inputs",
            "leave the inputs out: the graph was captured with its own",
        )
    return model.depth(sources=sources, outputs=outputs)


def graph_of(network: NetworkLike) -> Graph:
    """The graph of a network.

    Args:
        network: A graph, which is returned; or the model and its example inputs.

    Returns:
        The graph.

    Raises:
        CaptureError: It is neither, or the model could not be run on the inputs.

    Example:
        >>> linear, x = nn.Linear(4, 2), torch.zeros(1, 4)
        >>> graph_of((linear, x)) == graph_of((linear, (x,))) == graph_of((linear, {"input": x}))
        True
    """
    match network:
        case Graph():
            return network
        case (nn.Module() as model, tuple() as arguments):
            return capture_graph(model, *arguments)
        case (nn.Module() as model, Mapping() as keywords):
            return capture_graph(model, **keywords)
        case (nn.Module() as model, argument):
            return capture_graph(model, argument)
    raise CaptureError(
        f"a network given as {_described(network)}",
        "a Graph, or (model, example inputs): one input, a tuple of them, or a dict of keywords",
        "pass e.g. (model, torch.zeros(1, 3, 32, 32))",
    )


def _described(network: object) -> str:
    if isinstance(network, tuple):
        return f"({', '.join(type(item).__name__ for item in network)})"
    return type(network).__name__


def require_module(model: nn.Module, *, error: type[EtastarError] = CaptureError) -> None:
    """Refuse what is no module, and a model whose parameters are parts of tensors.

    Raises:
        EtastarError: Of the class `error`, for anything but a module, and for a model after
            `fully_shard` (FSDP2), tensor parallelism, or within `FullyShardedDataParallel`.
    """
    if not isinstance(model, nn.Module):
        raise error(
            f"a {type(model).__name__} as model",
            "a torch.nn.Module",
            "pass the module itself",
        )
    for name, parameter in model.named_parameters():
        kind = type(parameter).__name__
        if isinstance(parameter, nn.Parameter) and hasattr(parameter, "device_mesh"):
            kind = "DTensor"
        if kind in ("DTensor", "FlatParameter"):
            raise error(
                f"a sharded model: parameter {name!r} is a {kind}",
                "a model whose parameters are whole",
                "capture and initialize before fully_shard; names stay the same, so that a plan "
                "made before holds afterwards",
            )


def _require_strided(model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    """Inputs whose layout has no strides cannot be told apart by region; COO tensors can be run."""
    for name, tensor in named_inputs(model, args, kwargs):
        if tensor.is_nested or tensor.layout not in (torch.strided, torch.sparse_coo):
            kind = "nested" if tensor.is_nested else str(tensor.layout).removeprefix("torch.")
            raise CaptureError(
                f"a {kind} tensor as input {name!r}",
                "strided tensors, or sparse ones in COO layout",
                "capture on a dense example of the same shape: its values do not matter",
            )


def _trace_without_ambient_modes(
    model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Trace:
    """The same graph within autocast as outside; but for what runs within autocast alone."""
    is_autocast = any(torch.is_autocast_enabled(device) for device in AUTOCAST_DEVICES)
    try:
        with ambient_modes_left():
            return _trace_anyhow(model, args, kwargs)
    except CaptureError:
        if not is_autocast:
            raise
    with ambient_modes_left(but_autocast=True):
        return _trace_anyhow(model, args, kwargs)


def _materialised(model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> nn.Module:
    """The model itself; of a lazy one, a copy whose shapes a dry run has set."""
    if not any(is_lazy(p) for p in (*model.parameters(), *model.buffers())):
        return model
    unshaped: dict[int, Any] = {  # PyTorch can copy such parameters, but not such buffers
        id(b): UninitializedBuffer(device=b.device, dtype=b.dtype)  # type: ignore[call-arg]
        for b in model.buffers()
        if isinstance(b, UninitializedBuffer)
    }
    ready = copy.deepcopy(model, memo=unshaped)  # it shares nothing with the model
    try:
        with torch.no_grad():
            ready(*args, **kwargs)
    except Exception as error:
        raise failed_pass(error) from error
    return ready


def _trace_anyhow(model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Trace:
    """Trace on fake tensors, else on real ones (and why); with the layers skipped by chance."""
    model = _materialised(model, args, kwargs)
    return _with_all_layers(model, args, kwargs, _trace_fake_or_real(model, args, kwargs))


def _trace_fake_or_real(
    model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Trace:
    try:
        return trace(model, args, kwargs, fake=True)
    except CaptureError as error:
        if error.place is None:  # it ran
            raise
        refused = error
        module, operation = error.place
    own = (*model.parameters(), *model.buffers())
    for what, tensors in (("parameters", own), ("inputs", tensors_in((args, kwargs)))):
        if any(tensor.is_meta for tensor in tensors):
            raise CaptureError(
                f"{refused.received}; on real tensors it could not be tried: its {what} hold no "
                "values (meta)",
                refused.expected,
                refused.action,
            )
    note = f"fake tensors refused {operation or 'the forward pass'} in {module or 'the model'}: "
    note += cause_of(refused.__cause__ or refused)
    return replace(trace(model, args, kwargs, fake=False), capture_note=note)


_Uses = Counter[tuple[str, ...]]


def _with_all_layers(
    model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], traced: Trace
) -> Trace:
    """The trace in which no layer was skipped by chance, with what to know about it.

    Layerdrop (arXiv 1909.11556) and stochastic depth (arXiv 1603.09382) decide by a random number
    which layers run. Evaluation mode runs them all, so that it is asked where training mode drew a
    number or left a parameter out; its trace is taken where it runs all that training mode ran, and
    more.
    """
    is_training = any(module.training for module in model.modules())
    if not is_training or not (traced.is_random or _unread(traced)):
        return traced
    why_real = traced.capture_note
    try:
        whole = trace(model, args, kwargs, fake=why_real is None, evaluation=True)
    except CaptureError as error:
        note = (
            "a random number was drawn and parameters were not used: whether layers were skipped "
            "by chance is not known, as evaluation mode does not run "
            f"({cause_of(error.__cause__ or error)})"
        )
        return replace(traced, notes=(note,)) if traced.is_random and _unread(traced) else traced
    ran, runs = _uses(traced), _uses(whole)
    missing = runs - ran
    if not missing:
        return traced
    skipped = name_pattern(dict.fromkeys(_places(missing, ran)))
    if ran - runs:
        note = (
            f"training mode, which was captured, leaves out what evaluation mode runs: {skipped}; "
            "if a random number decides, the depth is one of many"
        )
        return replace(traced, notes=(note,))
    note = (
        "captured in evaluation mode, as training mode skipped what evaluation mode runs: "
        f"{skipped}"
    )
    return replace(whole, capture_note=why_real, notes=(note,))


def _places(missing: _Uses, ran: _Uses) -> Iterator[str]:
    """The outermost module around each missing layer in which nothing ran."""
    alive = {"", *(place for module, *_ in ran for place in _around(module))}
    for module, *_ in [use for use in missing if len(use) > 1] or missing:
        yield next((place for place in _around(module) if place not in alive), module) or "(root)"


def _around(module: str) -> Iterator[str]:
    """The paths of the modules around one, and its own."""
    return accumulate(module.split("."), "{}.{}".format)


def _unread(traced: Trace) -> set[str]:
    """Parameters that no operation on an activation read."""
    return set(traced.parameter_records) - {n for node in traced.nodes for n in node.parameters}


def _uses(traced: Trace) -> _Uses:
    """Weight layers and sums of activations, each by its module and parameters."""
    found: _Uses = Counter()
    for node in traced.nodes:
        names = () if node.weight is None else node.weight.parameters
        if names or sum(bool(node.operands[i].producers) for i in node.addends) > 1:
            found.update([(node.module, *names)])
    return found
