"""Random networks: depth and path statistics equal a listing of every path.

The reference is independent of the package: it reads the generating program, not the graph, finds
frontiers and n-ary additions in it by itself, and walks through every path.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from etastar.graph.capture import capture_graph, effective_depth

WIDTH = 4

# -- programs ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Line:
    """One statement: what is done to which earlier values (by number)."""

    op: str
    reads: tuple[int, ...]
    shape: tuple[int, ...] = ()  # bracketing of an n-ary sum: which neighbours are summed first


@dataclass
class Program:
    """Values 0 to inputs - 1 are the inputs; each line makes the next one; the last is returned."""

    inputs: int
    lines: list[Line] = field(default_factory=list)


UNARY = ("linear", "relu", "square", "view", "reshape", "scale", "softmax", "inplace_relu")
BINARY = ("add", "sub", "product", "inplace_add", "inplace_sub", "concatenate", "linear_into")


@st.composite
def programs(draw: st.DrawFn, max_lines: int = 9) -> Program:
    program = Program(draw(st.integers(1, 2)))
    for _ in range(draw(st.integers(1, max_lines))):
        last = program.inputs + len(program.lines) - 1
        near = st.one_of(st.just(last), st.integers(0, last))
        kind = draw(st.sampled_from(["linear", "unary", "binary", "binary", "nary"]))
        if kind == "nary":
            count = draw(st.integers(3, 5))
            reads = tuple(draw(st.lists(near, min_size=count, max_size=count)))
            merges = tuple(draw(st.integers(0, count - 2 - i)) for i in range(count - 1))
            program.lines.append(Line("sum", reads, merges))
        elif kind == "binary":
            op = draw(st.sampled_from(BINARY))
            program.lines.append(Line(op, (draw(near), draw(near))))
        else:
            op = "linear" if kind == "linear" else draw(st.sampled_from(UNARY))
            program.lines.append(Line(op, (draw(near),)))
    return program


# -- the network ---------------------------------------------------------------------------------


class Network(nn.Module):
    """Runs a program."""

    def __init__(self, program: Program) -> None:
        super().__init__()
        self.program = program
        fan_in = {"concatenate": 2 * WIDTH}
        self.layers = nn.ModuleDict(
            {
                str(i): nn.Linear(fan_in.get(line.op, WIDTH), WIDTH)
                for i, line in enumerate(program.lines)
                if line.op in ("linear", "concatenate", "linear_into")
            }
        )
        self.head = nn.Linear(WIDTH, 2)

    def forward(self, *inputs: Tensor) -> Tensor:
        values = list(inputs)
        for i, line in enumerate(self.program.lines):
            operands = [values[r] for r in line.reads]
            values.append(self._run(str(i), line, operands))
        return self.head(values[-1])

    def _run(self, name: str, line: Line, operands: list[Tensor]) -> Tensor:
        x, y = operands[0], operands[-1]
        if line.op == "sum":
            return _bracketed(operands, line.shape)
        unary = {
            "linear": lambda: self.layers[name](x),
            "relu": lambda: torch.relu(x),
            "square": lambda: x.square(),
            "view": lambda: x.view(-1).view(x.shape),
            "reshape": lambda: x.unsqueeze(0).transpose(1, 2).transpose(1, 2)[0],
            "scale": lambda: x * 0.5,
            "softmax": lambda: torch.softmax(x, -1),
            "inplace_relu": lambda: x.clone().relu_(),
            "add": lambda: x + y,
            "sub": lambda: x - y,
            "product": lambda: x * y,
            "inplace_add": lambda: x.clone().add_(y),
            "inplace_sub": lambda: x.clone().view(-1).sub_(y.reshape(-1)).view(x.shape),
            "concatenate": lambda: self.layers[name](torch.cat([x, y], 1)),
            "linear_into": lambda: self._written(name, x, y),
        }
        return unary[line.op]()

    def _written(self, name: str, x: Tensor, y: Tensor) -> Tensor:
        buffer = x.clone()
        buffer[:, :2] = self.layers[name](y)[:, :2]
        return buffer


def _bracketed(operands: list[Tensor], merges: tuple[int, ...]) -> Tensor:
    terms = list(operands)
    for at in merges:
        terms[at : at + 2] = [terms[at] + terms[at + 1]]
    return terms[0]


# -- the reference -------------------------------------------------------------------------------


@dataclass
class Term:
    """A value of the reference: an expression over counted nodes, before sums are judged."""

    addends: list[Term] | None = None  # of a sum
    parts: list[Term] | None = None  # of anything else without a weight
    node: int | None = None  # of an input or a weight layer
    reads: Term | None = None  # of a weight layer
    uses: int = 0
    carries: bool = False  # passes one value on unchanged


class Reference:
    """Frontiers of a program: sets of counted nodes, and which nodes each counted node follows."""

    def __init__(self, program: Program) -> None:
        self.before: dict[int, frozenset[int]] = {}
        self.is_layer: dict[int, bool] = {}
        self.known: dict[int, frozenset[int]] = {}
        values = [Term(node=-1 - i) for i in range(program.inputs)]
        for line in program.lines:
            values.append(self._term(line, [values[r] for r in line.reads]))
        head = Term(node=0, reads=values[-1])
        self.terms = self._executed([*values, head])
        for term in reversed(self.terms):
            if term.uses or not term.carries:  # a view that nothing reads, reads nothing itself
                for part in self._children(term):
                    part.uses += 1
        self.sources = self._data_inputs(values[: program.inputs])
        self.end = self.frontier(head)

    def _term(self, line: Line, operands: list[Term]) -> Term:
        if line.op == "sum":
            terms = list(operands)
            for at in line.shape:
                terms[at : at + 2] = [Term(addends=terms[at : at + 2])]
            return terms[0]
        if line.op in ("add", "sub"):
            return Term(addends=operands)
        if line.op in ("inplace_add", "inplace_sub"):
            return Term(addends=[Term(parts=operands[:1], carries=True), operands[1]])
        if line.op == "linear":
            return Term(node=0, reads=operands[0])
        if line.op == "concatenate":
            return Term(node=0, reads=Term(parts=operands))
        if line.op == "linear_into":
            copied = Term(parts=operands[:1], carries=True)
            return Term(parts=[copied, Term(node=0, reads=operands[1])])
        return Term(parts=operands, carries=line.op in ("view", "reshape"))

    def _children(self, term: Term) -> list[Term]:
        found = [*(term.addends or []), *(term.parts or [])]
        return found if term.reads is None else [*found, term.reads]

    def _executed(self, values: list[Term]) -> list[Term]:
        """Every term in the order of evaluation, also those that the end does not need."""
        seen: dict[int, Term] = {}

        def visit(term: Term) -> None:
            if id(term) not in seen:
                for child in self._children(term):
                    visit(child)
                seen[id(term)] = term

        for value in values:
            visit(value)
        return list(seen.values())

    def _data_inputs(self, inputs: list[Term]) -> set[int]:
        """Inputs that some layer reads through nothing but operations without a weight."""
        found: set[int] = set()

        def plain(term: Term) -> set[int] | None:
            """Inputs below a term; None if a layer is among what it is made of."""
            if term.node is not None:
                return None if term.reads is not None else {term.node}
            below = [plain(child) for child in self._children(term)]
            return None if None in below else set().union(*[b for b in below if b])

        for term in self.terms:
            if term.reads is not None:
                found |= plain(term.reads) or set()
        return found

    def _leaves(self, term: Term) -> list[Term]:
        """Addends of the n-ary sum: those of partial sums that nothing else reads included."""
        leaves = []
        for addend in term.addends or []:
            inner = addend
            while inner.uses == 1 and inner.carries and inner.parts:
                inner = inner.parts[0]
            leaves += self._leaves(inner) if inner.addends and inner.uses == 1 else [addend]
        return leaves

    def frontier(self, term: Term) -> frozenset[int]:
        if id(term) not in self.known:
            self.known[id(term)] = self._frontier(term)
        return self.known[id(term)]

    def _frontier(self, term: Term) -> frozenset[int]:
        if term.reads is not None:
            return self._counted(self.frontier(term.reads), is_layer=True)
        if term.node is not None:
            return frozenset({term.node} & self.sources)
        if term.addends is None:
            return frozenset().union(*[self.frontier(part) for part in term.parts or []])
        fronts = [self.frontier(leaf) for leaf in self._leaves(term)]
        union = frozenset().union(*fronts)
        different = {front for front in fronts if front}
        return self._counted(union, is_layer=False) if len(different) > 1 else union

    def _counted(self, before: frozenset[int], *, is_layer: bool) -> frozenset[int]:
        if not before:
            return before
        node = len(self.before) + 1
        self.before[node], self.is_layer[node] = before, is_layer
        return frozenset({node})

    def paths(self) -> list[tuple[int, ...]]:
        """Every path to the end: its source (negative), then its counted nodes."""
        found: list[tuple[int, ...]] = []
        waiting = [(node,) for node in self.end]
        while waiting:
            path = waiting.pop()
            if path[0] < 0:
                found.append(path)
            else:
                waiting += [(node, *path) for node in self.before[path[0]]]
        return found

    def layers_of(self, path: tuple[int, ...]) -> tuple[int, ...]:
        """The path without its additions."""
        return tuple(node for node in path if node < 0 or self.is_layer[node])


def _moments(lengths: list[int]) -> tuple[int, ...]:
    return tuple(sum(n**k for n in lengths) for k in range(4))


def _inputs(program: Program) -> list[Tensor]:
    return [torch.zeros(3, WIDTH) for _ in range(program.inputs)]


UNREAD_VIEW = Program(
    1,
    [
        Line("linear", (0,)),
        Line("linear", (1,)),
        Line("sum", (2, 2, 1), (0, 0)),
        Line("view", (3,)),
        Line("linear", (0,)),
        Line("add", (5, 3)),
    ],
)


@settings(deadline=None, max_examples=150)
@given(programs())
@example(UNREAD_VIEW)
def test_depth_and_statistics_equal_a_listing_of_every_path(program: Program) -> None:
    reference = Reference(program)
    paths = reference.paths()
    lengths = [len(path) - 1 for path in paths]
    graph = capture_graph(Network(program), *_inputs(program))
    report = graph.depth(sources=[*graph.data_inputs, *graph.conditions])
    assert report.effective_depth == min(lengths)
    assert report.longest_path == max(lengths)
    assert report.path_length_moments == _moments(lengths)
    kinds = Counter(reference.is_layer[n] for n in {n for path in paths for n in path[1:]})
    assert (report.weight_layers, report.residual_additions) == (kinds[True], kinds[False])
    layers = [len(path) - 1 for path in {reference.layers_of(path) for path in paths}]
    assert report.layer_longest_path == max(layers)
    assert report.layer_path_length_moments == _moments(layers)


@st.composite
def bracketings(draw: st.DrawFn) -> tuple[int, tuple[int, ...], tuple[int, ...]]:
    count = draw(st.integers(3, 6))
    one, other = (
        tuple(draw(st.integers(0, count - 2 - i)) for i in range(count - 1)) for _ in range(2)
    )
    return count, one, other


@settings(deadline=None, max_examples=60)
@given(bracketings(), st.permutations(range(6)))
def test_bracketing_and_order_of_a_sum_do_not_matter(
    bracketing: tuple[int, tuple[int, ...], tuple[int, ...]], order: list[int]
) -> None:
    count, one, other = bracketing
    reports = []
    for merges, turn in ((one, range(6)), (other, order)):
        lines = [Line("linear", (i,)) for i in range(count - 1)]  # a chain: all frontiers differ
        reads = tuple(i for i in turn if i < count)
        lines += [Line("sum", reads, merges)]
        reports.append(effective_depth(Network(Program(1, lines)), torch.zeros(3, WIDTH)))
    first, second = reports
    assert first.path_length_moments == second.path_length_moments
    assert first.residual_additions == second.residual_additions == 1
    assert first.path_count == count
