"""The depth report of a graph or of a model."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any

from torch import nn

from etastar.depth import DepthReport, PathStep
from etastar.errors import DepthError
from etastar.graph.capture import capture_graph
from etastar.graph.contraction import Contraction, contract
from etastar.graph.dag import Graph
from etastar.graph.paths import layer_path_statistics, path_statistics, shortest_path
from etastar.graph.reuse import recurrent_parameters, tied_parameters, unused_parameters

__all__ = ["effective_depth"]

_NEVER_TAKEN = ("loss", "past_key_values", "cache")


def effective_depth(
    graph: Graph | nn.Module,
    *inputs: Any,
    sources: Sequence[str] | None = None,
    outputs: Sequence[str] | None = None,
    **kwargs: Any,
) -> DepthReport:
    """Effective depth: fewest weight layers and residual additions from a source to an output.

    L = min over paths of the number of counted nodes on the path [WU].

    Args:
        graph: A captured graph; or a model, followed by its example inputs.
        *inputs: Example inputs of a model.
        sources: Names of the inputs that paths start at; None for the data inputs.
        outputs: Names of the outputs that paths end at; None for `logits`, else
            `last_hidden_state`, else the first tensor.
        **kwargs: Keyword inputs of a model.

    Returns:
        The report.

    Raises:
        CaptureError: The model does not run on its inputs.
        DepthError: An unknown source or output, no weight layer, or no path.

    Example:
        >>> import torch
        >>> chain = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
        >>> effective_depth(chain, torch.zeros(1, 4)).effective_depth
        2

    Reference:
        [WU] arXiv 2602.07494, definition of effective depth.
    """
    start = time.perf_counter()
    if not isinstance(graph, Graph):
        graph = capture_graph(graph, *inputs, **kwargs)
    elif inputs or kwargs:
        raise DepthError(
            "a graph together with example inputs",
            "a graph alone, or a model with its inputs",
            "leave the inputs out: the graph was captured with its own",
        )
    names = _chosen("source", sources, graph.inputs) or graph.data_inputs
    ends = _chosen("output", outputs, graph.outputs) or (_default_output(graph.outputs),)
    contraction = contract(graph, names)
    _check_paths(graph, contraction, names, ends)
    return _report(graph, contraction, ends, start)


def _chosen(what: str, names: Sequence[str] | None, known: Iterable[str]) -> tuple[str, ...]:
    """The names, if all are known; () if none was asked for."""
    if names is None:
        return ()
    listed = ", ".join(known) or "(none)"
    unknown = [name for name in names if name not in set(known)]
    if unknown or not names:
        raise DepthError(
            f"{what} {', '.join(map(repr, unknown)) or '(an empty list)'}",
            f"one or more of: {listed}",
            f"name a listed {what}, or none at all for the default",
        )
    return tuple(names)


def _default_output(outputs: dict[str, tuple[int, ...]]) -> str:
    for name in ("logits", "last_hidden_state"):
        if name in outputs:
            return name
    plain = [name for name in outputs if not name.startswith(_NEVER_TAKEN)]
    if not plain:
        raise DepthError(
            f"outputs {', '.join(outputs) or '(no floating-point tensor)'}",
            "an output of activations",
            "return a floating-point tensor from forward, or name an output",
        )
    return plain[0]


def _check_paths(
    graph: Graph, contraction: Contraction, sources: Sequence[str], outputs: Sequence[str]
) -> None:
    if not graph.weight_layers():
        raise DepthError(
            "a model that ran no weight layer on its input",
            "at least one operation that contracts an activation with a parameter of two or more "
            "dimensions",
            "check that the example inputs reach the layers of the model",
        )
    if not any(contraction.outputs[name] for name in outputs):
        raise DepthError(
            f"no path from {', '.join(sources) or '(no data input)'} to {', '.join(outputs)}",
            "an output that depends on a source",
            f"name others: inputs are {', '.join(graph.inputs)}; outputs are "
            f"{', '.join(graph.outputs)}",
        )


def _report(
    graph: Graph, contraction: Contraction, outputs: tuple[str, ...], start: float
) -> DepthReport:
    paths = path_statistics(contraction, outputs)
    layers = layer_path_statistics(contraction, outputs)
    on_path = _on_some_path(contraction, outputs)
    counts = [c.counted_as for c in contraction.counted if c.node in on_path]
    assert paths.shortest is not None
    assert paths.longest is not None
    return DepthReport(
        effective_depth=paths.shortest,
        path=tuple(_step(graph, i) for i in shortest_path(contraction, outputs)),
        longest_path=paths.longest,
        residual_additions=counts.count("residual addition"),
        weight_layers=counts.count("weight layer"),
        path_count=paths.moments[0],
        path_length_moments=paths.moments,
        layer_longest_path=layers.longest or 0,
        layer_path_count=layers.moments[0],
        layer_path_length_moments=layers.moments,
        tied=tied_parameters(graph, contraction),
        recurrent=recurrent_parameters(graph, contraction),
        unused_parameters=unused_parameters(graph),
        sources=tuple(contraction.sources),
        outputs=outputs,
        matrix=_matrix(graph, contraction),
        capture=graph.capture,
        capture_note=graph.capture_note,
        seconds=graph.seconds + time.perf_counter() - start,
    )


def _step(graph: Graph, index: int) -> PathStep:
    node = graph.nodes[index]
    counted_as = "weight layer" if node.weight is not None else "residual addition"
    return PathStep(node.module, counted_as, node.op)  # type: ignore[arg-type]


def _on_some_path(contraction: Contraction, outputs: Iterable[str]) -> set[int]:
    """Counted nodes from which an output is reached (all are reached from a source)."""
    found = {end for name in outputs for end in contraction.outputs[name]}
    for node in reversed(contraction.counted):
        if node.node in found:
            found.update(node.predecessors)
    return found


def _matrix(graph: Graph, contraction: Contraction) -> dict[str, dict[str, int | None]]:
    """Fewest counted nodes from every input to every output, masks and caches too."""
    weights = {c.node for c in contraction.counted}
    matrix: dict[str, dict[str, int | None]] = {}
    for name, index in graph.inputs.items():
        distance = _distances(graph, weights, index)
        matrix[name] = {
            output: min((distance[i] for i in made if i in distance), default=None)
            for output, made in graph.outputs.items()
        }
    return matrix


def _distances(graph: Graph, counted: set[int], source: int) -> dict[int, int]:
    distance = {source: 0}
    for node in graph.nodes[source + 1 :]:
        reached = [distance[p] for p in node.inputs if p in distance]
        if reached:
            distance[node.index] = min(reached) + (node.index in counted)
    return distance
