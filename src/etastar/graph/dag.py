"""The captured graph, which keeps its contraction: depth and parameters are read off that."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from html import escape
from typing import Any, Literal

from etastar.depth import DepthReport, PathStep
from etastar.errors import DepthError
from etastar.graph.addends import fold_scans
from etastar.graph.contraction import Contraction, contract, data_inputs, leading_to
from etastar.graph.node import Node, ParameterRecord
from etastar.graph.paths import (
    LAYERS_ALONE,
    bypassed_layers,
    path_notes,
    path_statistics,
    reused_parameters,
    shortest_path,
)
from etastar.graph.residual import Branch, conditions, disagreement, find_residuals
from etastar.graph.roles import parameter_infos
from etastar.graph.tracing import Trace
from etastar.parameter import ParamInfo

_NEVER_TAKEN = ("loss", "past_key_values", "cache")
_NEAR, _ALIKE = 2, 1.25  # counted nodes, and ratio, of outputs with a pool or a head (a choice)


@dataclass(frozen=True)
class Graph:
    """The executed graph of one forward pass.

    Attributes:
        nodes: All nodes, in the order of execution; edges point to smaller indices.
        inputs: Name of every input tensor, and its node.
        outputs: Name of every output tensor, and the nodes whose values it holds.
        data_inputs: Names of the inputs that count as data (sources).
        conditions: Names of the inputs that weight layers read too, but that condition a network
            whose data are others: a time, a class, a prompt.
        parameter_records: Every parameter by canonical name.
        capture_note: Why it was traced on real tensors; None if it was on fake ones.
        notes: What else is to be known of how it was captured.
        seconds: Time the capture took.
        model: Class of the model.
    """

    nodes: tuple[Node, ...]
    inputs: dict[str, int]
    outputs: dict[str, tuple[int, ...]]
    data_inputs: tuple[str, ...]
    conditions: tuple[str, ...]
    parameter_records: dict[str, ParameterRecord]
    capture_note: str | None = None
    notes: tuple[str, ...] = ()
    seconds: float = field(default=0.0, compare=False)
    model: str = field(default="", compare=False)

    @classmethod
    def of_trace(cls, traced: Trace, *, seconds: float = 0.0, model: str = "") -> Graph:
        """The graph of a trace, with its contraction: data inputs found, sums judged."""
        inputs, outputs, notes = traced.inputs, traced.outputs, traced.notes
        read = data_inputs(traced.nodes, inputs)
        sources = {name: inputs[name] for name in read}
        every = contract(traced.nodes, sources, outputs)
        nodes, note = fold_scans(traced.nodes, _additions(every))
        if note is not None:
            notes, every = (*notes, note), contract(nodes, sources, outputs)
        found = conditions(nodes, every)
        records, why_real = traced.parameter_records, traced.capture_note
        graph = cls(nodes, inputs, outputs, read, (), records, why_real, notes, seconds, model)
        return _judged(graph, every) if not found else graph.from_sources(set(read) - set(found))

    def from_sources(self, sources: Iterable[str]) -> Graph:
        """The same graph with other inputs as data: depth, streams and roles follow.

        Args:
            sources: Names of the inputs that count as data.

        Returns:
            The graph, for everything that takes one.

        Raises:
            DepthError: An unknown name, or none.

        Example:
            >>> import torch
            >>> from etastar.graph.capture import capture_graph
            >>> graph = capture_graph(torch.nn.Bilinear(2, 2, 2), torch.ones(2), torch.ones(2))
            >>> graph.data_inputs, graph.from_sources(["input2"]).data_inputs
            (('input1', 'input2'), ('input2',))
        """
        asked = _chosen("source", sources, self.inputs)
        names = tuple(name for name in self.inputs if name in asked)
        read = data_inputs(self.nodes, self.inputs)
        rest = tuple(name for name in read if name not in names)
        graph = replace(self, data_inputs=names, conditions=rest)
        return _judged(graph, self._contracted(names))

    @property
    def capture(self) -> Literal["fake", "real"]:
        """Whether it was traced on fake or on real tensors."""
        return "fake" if self.capture_note is None else "real"

    def __repr__(self) -> str:
        parameters = sum(math.prod(record.shape) for record in self.parameter_records.values())
        sizes = f"{len(self.nodes):,} nodes, {parameters:,} parameters"
        return f"<Graph of {self.model or 'a model'}: {sizes}>"

    def _repr_html_(self) -> str:
        """What a notebook shows: its depth report, where it has a depth."""
        with suppress(DepthError):
            return self.depth()._repr_html_()
        return f"<pre>{escape(repr(self))}</pre>"

    def __len__(self) -> int:
        return len(self.nodes)

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes)

    def weight_layers(self) -> tuple[Node, ...]:
        """The weight layers, in the order of execution."""
        return tuple(node for node in self.nodes if node.kind == "weight layer")

    @cached_property
    def contraction(self) -> Contraction:
        """The graph contracted to weight layers and residual additions, from the data inputs."""
        return self._contracted(self.data_inputs)

    def _contracted(self, sources: tuple[str, ...]) -> Contraction:
        return contract(self.nodes, {name: self.inputs[name] for name in sources}, self.outputs)

    @cached_property
    def parameters(self) -> tuple[ParamInfo, ...]:
        """Role, fans, place and sharing of every parameter, in the order of the model.

        A tied parameter is there once, under its first name.

        Example:
            >>> import torch
            >>> from etastar.graph.capture import capture_graph
            >>> graph = capture_graph(torch.nn.Linear(4, 2), torch.zeros(1, 4))
            >>> [(info.name, info.role, info.fan_in) for info in graph.parameters]
            [('weight', 'output', 4), ('bias', 'bias', 1)]
        """
        layers = self.contraction
        if self.conditions:
            layers = self._contracted((*self.data_inputs, *self.conditions))
        return parameter_infos(self.nodes, self.parameter_records, self.contraction, layers)

    def depth(
        self, *, sources: Sequence[str] | None = None, outputs: Sequence[str] | None = None
    ) -> DepthReport:
        """Effective depth: fewest weight layers and residual additions from a source to an output.

        L = min over paths of the number of counted nodes on the path [WU].

        Args:
            sources: Names of the inputs that paths start at; None for the data inputs.
            outputs: Names of the outputs that paths end at; None for `logits`, else
                `last_hidden_state`, else the first tensor that is no input as it came.

        Returns:
            The report.

        Raises:
            DepthError: An unknown source or output, no weight layer, or no path.

        Example:
            >>> import torch
            >>> from etastar.graph.capture import capture_graph
            >>> chain = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Linear(8, 2))
            >>> capture_graph(chain, torch.zeros(1, 4)).depth().effective_depth
            2

        Reference:
            [WU] arXiv 2602.07494, definition of effective depth.
        """
        start = time.perf_counter()
        names = _chosen("source", sources, self.inputs) or self.data_inputs
        is_kept = names == self.data_inputs
        contraction = self.contraction if is_kept else self._contracted(names)
        ends = _chosen("output", outputs, self.outputs) or (_default_output(contraction),)
        _check_paths(self, contraction, names, ends)
        path, branches = shortest_path(contraction, ends), find_residuals(contraction)
        missed = bypassed_layers(contraction, ends, path, branches)
        notes = [*self.notes, *path_notes(self.nodes, contraction, missed, branches)]
        notes += self._adapted(path, branches) if is_kept else ()
        notes += self._disagreement(ends) if sources is None else ()
        notes += _deeper_output(contraction, ends[0]) if outputs is None else ()
        return _report(self, contraction, ends, path, missed, notes, start)

    def _adapted(self, path: Sequence[int], branches: Sequence[Branch]) -> Iterator[str]:
        """How many additions of the path sum a layer and its adapter, a product of low rank."""
        beside = {
            (branch.stream, branch.index)
            for branch in branches
            if branch.is_projected and branch.addition in path
        }
        low_rank = {
            (info.stream, info.branch)
            for info in (self.parameters if beside else ())
            if info.is_weight and info.branch_last and info.features_in == 0
        }
        if found := len(beside & low_rank):
            yield (
                f"{found} of {len(path)} counted nodes on the shortest path are sums of a layer "
                f"and its adapter: without adapters the effective depth is {len(path) - found}"
            )

    def _disagreement(self, outputs: tuple[str, ...]) -> Iterator[str]:
        """What the depths from single inputs say, where they are not the same."""
        if len(self.data_inputs) + len(self.conditions) < 2:
            return
        depths = {}
        for name in (*self.data_inputs, *self.conditions):
            contraction = self._contracted((name,))
            if any(contraction.outputs[end] for end in outputs):
                depths[name] = len(shortest_path(contraction, outputs))
        if len(set(depths.values())) > 1:
            yield disagreement(depths, self.conditions)


def _additions(contraction: Contraction) -> set[int]:
    return {c.node for c in contraction.counted if c.counted_as == "residual addition"}


def _judged(graph: Graph, contraction: Contraction) -> Graph:
    """The graph with the kind of every sum as its own contraction has it."""
    added = _additions(contraction)
    nodes = tuple(
        replace(node, kind="residual addition" if node.index in added else "other")
        if (node.kind == "residual addition") != (node.index in added)
        else node
        for node in graph
    )
    graph = replace(graph, nodes=nodes)
    graph.__dict__["contraction"] = contraction
    return graph


def _chosen(what: str, names: object, known: Iterable[str]) -> tuple[str, ...]:
    """The names, if all are known; () if none was asked for."""
    if names is None:
        return ()
    asked: tuple[Any, ...] = ()
    if isinstance(names, Iterable) and not isinstance(names, (str, Mapping)):
        asked = tuple(names)
    unknown = [name for name in asked if name not in tuple(known)]
    if unknown or not asked:
        received = f"{what} {', '.join(map(repr, unknown))}" if unknown else f"{what}s={names!r}"
        raise DepthError(
            received,
            f"a list of one or more of: {', '.join(known) or '(none)'}",
            f"name a listed {what}, or none at all for the default",
        )
    return asked


def _default_output(contraction: Contraction) -> str:
    outputs, sources = contraction.outputs, set(contraction.sources.values())
    for name in ("logits", "last_hidden_state"):
        if name in outputs:
            return name
    plain = [name for name in outputs if not name.startswith(_NEVER_TAKEN)]
    untouched = {name for name in plain if outputs[name] and sources.issuperset(outputs[name])}
    plain.sort(key=untouched.__contains__)  # last
    if not plain:
        raise DepthError(
            f"outputs {', '.join(outputs) or '(no floating-point tensor)'}",
            "an output of activations",
            "return a floating-point tensor from forward, or name an output",
        )
    return plain[0]


def _deeper_output(contraction: Contraction, taken: str) -> Iterator[str]:
    """Where another output lies far behind the one that is taken, as behind an auxiliary head."""
    others = {
        name: len(shortest_path(contraction, (name,)))
        for name, made in contraction.outputs.items()
        if made and not name.startswith(_NEVER_TAKEN)
    }
    deepest = max(others, key=others.__getitem__)
    if others[deepest] > _ALIKE * others[taken] + _NEAR:
        yield (
            f"the effective depth is that of the output {taken}, {others[taken]}; that of "
            f"{deepest} is {others[deepest]}: if it is the one to be trained, return it first"
        )


def _check_paths(
    graph: Graph, contraction: Contraction, sources: Sequence[str], outputs: Sequence[str]
) -> None:
    if not graph.weight_layers():
        raise DepthError(
            "a model that ran no weight layer on its input",
            "at least one operation that contracts an activation with a parameter of two or more "
            "dimensions",
            "check that the example inputs reach the layers of the model, and that these are "
            "operations of PyTorch",
        )
    if not any(contraction.outputs[name] for name in outputs):
        raise DepthError(
            f"no path from {', '.join(sources) or '(no data input)'} to {', '.join(outputs)}",
            "an output that depends on a source",
            f"name others: inputs are {', '.join(graph.inputs)}; outputs are "
            f"{', '.join(graph.outputs)}",
        )


def _report(
    graph: Graph,
    contraction: Contraction,
    outputs: tuple[str, ...],
    path: Sequence[int],
    missed: Mapping[int, bool],
    notes: Sequence[str],
    start: float,
) -> DepthReport:
    longest, moments = path_statistics(contraction, outputs)
    layer_longest, layer_moments = path_statistics(contraction, outputs, LAYERS_ALONE)
    on_path = leading_to(contraction.counted, (n for o in outputs for n in contraction.outputs[o]))
    counted_as = {c.node: c.counted_as for c in contraction.counted}
    counts = [what for node, what in counted_as.items() if node in on_path]
    tied, recurrent, stacked = reused_parameters(graph.nodes, contraction)
    consumed = {name for node in graph for name in node.parameters}
    records = graph.parameter_records
    return DepthReport(
        effective_depth=len(path),
        path=tuple(PathStep(graph.nodes[i].module, counted_as[i], graph.nodes[i].op) for i in path),
        longest_path=longest,
        residual_additions=counts.count("residual addition"),
        weight_layers=counts.count("weight layer"),
        path_count=moments[0],
        path_length_moments=moments,
        layer_longest_path=layer_longest,
        layer_path_length_moments=layer_moments,
        tied=tied,
        recurrent=recurrent,
        stacked=stacked,
        unused_parameters=tuple(
            n for n, r in records.items() if len(r.shape) >= 2 and n not in consumed
        ),
        sources=tuple(contraction.sources),
        outputs=outputs,
        matrix=_matrix(graph, set(counted_as)),
        capture=graph.capture,
        capture_note=graph.capture_note,
        notes=tuple(notes),
        bypassed_layers=len(missed),
        bypassed_by_sums=sum(missed.values()),
        seconds=graph.seconds + time.perf_counter() - start,
    )


def _matrix(graph: Graph, counted: set[int]) -> dict[str, dict[str, int | None]]:
    """Fewest counted nodes from every input to every output, masks and caches too."""
    matrix: dict[str, dict[str, int | None]] = {}
    for name, source in graph.inputs.items():
        distance = {source: 0}
        for node in graph.nodes[source + 1 :]:
            reached = [distance[p] for p in node.inputs if p in distance]
            if reached:
                distance[node.index] = min(reached) + (node.index in counted)
        matrix[name] = {
            output: min((distance[i] for i in made if i in distance), default=None)
            for output, made in graph.outputs.items()
        }
    return matrix
