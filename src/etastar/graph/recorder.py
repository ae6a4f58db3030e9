"""Records every dispatched operation of a forward pass as a node of the graph."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from etastar.graph.arguments import map_tensors, slotted, tensors_in
from etastar.graph.dag import Call, Kind, Node, Operand, ParameterRecord, WeightUse
from etastar.graph.fake_kernels import run_fake
from etastar.graph.operations import Operation, operation_of
from etastar.graph.storage import NOTHING, StorageLog, Value
from etastar.graph.weights import Factors, contracted_factors, weight_use

__all__ = ["Observer", "Recorder"]

Observer = Callable[[Node, torch.Tensor], None]
"""Called with every new node and its output, in the order of execution."""


def _carries(tensor: torch.Tensor) -> bool:
    """Whether a tensor can hold activations: floating point or complex."""
    return tensor.is_floating_point() or tensor.is_complex()


class Recorder(TorchDispatchMode):
    """Dispatch mode that builds nodes from what is executed, above an optional fake mode.

    Args:
        records: The parameters of the model by canonical name.
        fake_mode: Mode that computes shapes only; None to run on real tensors.
        observer: Called with every node and its output.
    """

    supports_higher_order_operators = True

    def __init__(
        self,
        records: dict[str, ParameterRecord],
        *,
        fake_mode: FakeTensorMode | None = None,
        observer: Observer | None = None,
    ) -> None:
        super().__init__()
        self.records = records
        self.fake_mode = fake_mode
        self.observer = observer
        self.nodes: list[Node] = []
        self.log = StorageLog()
        self._fakes: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self.module_stack: list[str] = [""]
        self.opaque_depth = 0
        self.failed_at: tuple[str, str] | None = None

    # -- what the tracer calls ---------------------------------------------------------------

    def as_fake(self, tensor: torch.Tensor) -> torch.Tensor:
        """The fake twin of a real tensor, always the same; `tensor` itself on real tensors."""
        if self.fake_mode is None or isinstance(tensor, FakeTensor):
            return tensor
        known = self._fakes.get(id(tensor))
        if known is None:  # both are kept alive: the identity stays theirs, the twin the same
            known = self._fakes[id(tensor)] = (tensor, self.fake_mode.from_tensor(tensor))
        return known[1]

    def add_parameter(self, name: str, tensor: torch.Tensor, *, also: torch.Tensor) -> None:
        """Make a parameter known, so that uses of it, or of its original, are recognised."""
        self.log.write(self.as_fake(tensor), Value((), (name,)))
        if self.fake_mode is None:
            self.log.write(also, Value((), (name,)))
        elif also is not tensor:
            self._fakes[id(also)] = (also, self.as_fake(tensor))

    def add_input(self, tensor: torch.Tensor) -> int:
        """Add a source; returns its node."""
        return self.add_node("input", "input", (), tensor, write=(tensor,)).index

    def read(self, tensor: torch.Tensor) -> Value:
        """What a tensor holds now."""
        return self.log.read(self.as_fake(tensor))

    def add_node(
        self,
        op: str,
        kind: Kind,
        operands: tuple[Operand, ...],
        output: torch.Tensor,
        *,
        write: Sequence[torch.Tensor] = (),
        weight: WeightUse | None = None,
        addends: tuple[int, ...] = (),
        mixes: bool = False,
        call: Call | None = None,
    ) -> Node:
        """Append a node and log that the tensors `write` hold its result."""
        node = Node(
            index=len(self.nodes),
            op=op,
            kind=kind,
            module=self.module_stack[-1],
            operands=operands,
            shape=tuple(output.shape),
            dtype=str(output.dtype),
            weight=weight,
            addends=addends,
            mixes=mixes,
            call=call,
        )
        self.nodes.append(node)
        for tensor in write:
            self.log.write(tensor, Value((node.index,)))
        if self.observer is not None:
            self.observer(node, output)
        return node

    # -- dispatch ----------------------------------------------------------------------------

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        operation = operation_of(func)
        if operation.name == "device":
            return func(*args, **kwargs)
        try:
            if self.fake_mode is not None:
                args, kwargs = map_tensors((args, kwargs), self.as_fake)
            return self._run(func, operation, args, kwargs)
        except Exception:
            self.failed_at = self.failed_at or (self.module_stack[-1], operation.full_name)
            raise

    def _run(
        self, func: Any, operation: Operation, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        tensors: list[torch.Tensor] = []
        slots = slotted((args, kwargs), tensors)
        values = [self.log.read(tensor) for tensor in tensors]
        keys = {self.log.key(tensor) for tensor in tensors}
        if self.fake_mode is None:
            result = func(*args, **kwargs)
        else:
            result = run_fake(func, operation, args, kwargs)
        mutated = _mutated(operation, args, kwargs)
        outputs = list(tensors_in(result))
        fresh = [t for t in outputs if self.log.key(t) not in keys]
        views = [t for t in outputs if self.log.key(t) in keys] if not mutated else []
        step = _Step(operation, Call(func, *slots), tensors, values, outputs, fresh, mutated, views)
        self._record(step)
        return result

    def _record(self, step: _Step) -> None:
        data = step.data_operands()
        if step.operation.is_cut or not data:
            self._record_constant(step)
        elif self.opaque_depth:
            self._record_opaque(step, data)
        elif step.views and not step.fresh:
            self._record_view(step)
        else:
            self._record_computation(step, data)

    def _record_constant(self, step: _Step) -> None:
        names = NOTHING if step.operation.is_cut else step.parameter_value()
        for tensor in (*step.fresh, *step.mutated):
            self.log.write(tensor, names)

    def _record_opaque(self, step: _Step, data: list[int]) -> None:
        value = NOTHING
        for i in data:
            value = value | Value(step.values[i].producers)
        for tensor in (*step.fresh, *step.mutated):
            self.log.write(tensor, value if step.holds_data(tensor, data) else NOTHING)

    def _record_view(self, step: _Step) -> None:
        source, *others = (i for i, v in enumerate(step.values) if v.producers)
        single = len(step.values[source].producers) == 1 and not others
        groups = [step.views] if single else [[view] for view in step.views]
        for views in groups:
            value = step.values[source] if single else self.log.read(views[0])
            if value.producers:
                operand = Operand(value.producers, value.parameters, tuple(views[0].shape))
                node = self.add_node(
                    step.operation.full_name, "view", (operand,), views[0], call=step.call
                )
                for view in views:
                    self.log.alias(view, Value((node.index,)))

    def _record_computation(self, step: _Step, data: list[int]) -> None:
        written = [t for t in (*step.fresh, *step.mutated) if step.holds_data(t, data)]
        for tensor in (*step.fresh, *step.mutated):
            if not any(tensor is t for t in written):
                self.log.write(tensor, NOTHING)
        if not written:
            return
        operands = step.operands(data)
        addend = step.fused_addend()
        if addend is not None and operands[addend].producers:
            self._record_fused_sum(step, operands, addend, written)
            return
        kind, weight, mixes = self._classify(step, operands)
        self.add_node(
            step.operation.full_name,
            kind,
            operands,
            written[0],
            write=written,
            weight=weight,
            addends=step.addends(),
            mixes=mixes,
            call=step.call,
        )

    def _record_fused_sum(
        self,
        step: _Step,
        operands: tuple[Operand, ...],
        addend: int,
        written: list[torch.Tensor],
    ) -> None:
        """Two nodes: the product without its addend, and the sum of the two."""
        added = operands[addend]
        without = tuple(
            Operand((), (), o.shape) if i == addend else o for i, o in enumerate(operands)
        )
        if any(o.producers for o in without):
            kind, weight, mixes = self._classify(step, without)
            name, out = step.operation.full_name, written[0]
            product = self.add_node(name, kind, without, out, weight=weight, mixes=mixes)
            added_to = (added, Operand((product.index,), (), tuple(out.shape)))
        else:
            names = tuple(n for o in without for n in o.parameters)
            added_to = (added, Operand((), names, tuple(written[0].shape)))
        self.add_node(
            step.operation.full_name, "other", added_to, written[0], write=written, addends=(0, 1)
        )

    def _classify(
        self, step: _Step, operands: tuple[Operand, ...]
    ) -> tuple[Kind, WeightUse | None, bool]:
        operation, call = step.operation, step.call
        factors = contracted_factors(operation, call.args, call.kwargs)
        weight = factors and weight_use(factors, operands, self.records, groups=step.groups())
        if weight is not None:
            return "weight layer", weight, False
        if operation.is_attention:
            return "attention contraction", None, True
        if factors is not None and factors.contraction is not None:
            return self._classify_weightless(factors, operands)
        if operation.is_norm:
            return "norm", None, False
        kind: Kind = "activation" if operation.is_activation else "other"
        return kind, None, operation.is_mixing

    @staticmethod
    def _classify_weightless(
        factors: Factors, operands: tuple[Operand, ...]
    ) -> tuple[Kind, WeightUse | None, bool]:
        pair = (operands[factors.left], operands[factors.right])
        if all(o.producers for o in pair):
            return "attention contraction", None, True
        return "other", None, not any(o.parameters for o in pair)


class _Step:
    """One executed operation, before it is known what it is to the graph."""

    def __init__(
        self,
        operation: Operation,
        call: Call,
        tensors: list[torch.Tensor],
        values: list[Value],
        outputs: list[torch.Tensor],
        fresh: list[torch.Tensor],
        mutated: list[torch.Tensor],
        views: list[torch.Tensor],
    ) -> None:
        self.operation = operation
        self.call = call
        self.tensors = tensors
        self.values = values
        self.outputs = outputs
        self.fresh = fresh
        self.mutated = mutated
        self.views = views

    def _is_read(self, tensor: torch.Tensor) -> bool:
        return self.operation.reads_mutated or not any(tensor is m for m in self.mutated)

    def data_operands(self) -> list[int]:
        """Operands that carry activations: the floating ones, else integers that are data."""
        data = [
            i
            for i, (tensor, value) in enumerate(zip(self.tensors, self.values, strict=True))
            if value.producers and self._is_read(tensor)
        ]
        floating = [i for i in data if _carries(self.tensors[i])]
        return floating or data

    def holds_data(self, tensor: torch.Tensor, data: list[int]) -> bool:
        """Whether a result depends on the data operands in value, not only in its index."""
        if _carries(tensor) or self.views:
            return True
        if any(_carries(self.tensors[i]) for i in data):
            return False
        return tensor.dtype is not torch.bool or self._builds_one_hot(tensor, data)

    def _builds_one_hot(self, tensor: torch.Tensor, data: list[int]) -> bool:
        if any(self.tensors[i].dtype is torch.bool for i in data):
            return True  # what was kept once is kept
        is_table = self.operation.is_equality and len(data) == 1 and len(self.tensors) == 2
        return is_table and tensor.numel() > self.tensors[data[0]].numel()

    def operands(self, data: list[int]) -> tuple[Operand, ...]:
        """Every tensor argument; what carries no activation has no producers."""
        return tuple(
            Operand(
                value.producers if i in data else (),
                value.parameters if self._is_read(tensor) else (),
                tuple(tensor.shape),
            )
            for i, (tensor, value) in enumerate(zip(self.tensors, self.values, strict=True))
        )

    def parameter_value(self) -> Value:
        """The parameters that a result without data was computed from."""
        names: dict[str, None] = {}
        for tensor, value in zip(self.tensors, self.values, strict=True):
            if self._is_read(tensor):
                names.update(dict.fromkeys(value.parameters))
        return Value((), tuple(names))

    def fused_addend(self) -> int | None:
        """Operand position of a fused addend; it comes first in all such operations."""
        return self.operation.fused_addend

    def addends(self) -> tuple[int, ...]:
        """Operand positions that are summed."""
        if self.operation.name == "index_put" and True in self.call.args[3:4]:
            return (0, len(self.tensors) - 1)
        addends = self.operation.addends
        return addends if addends and max(addends) < len(self.tensors) else ()

    def groups(self) -> int:
        """Groups of a convolution; 1 for everything else."""
        names = self.operation.argument_names
        if "groups" not in names:
            return 1
        position = names.index("groups")
        args, kwargs = self.call.args, self.call.kwargs
        return int(args[position] if position < len(args) else kwargs.get("groups", 1))


def _mutated(
    operation: Operation, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> list[torch.Tensor]:
    found: list[torch.Tensor] = []
    for name in operation.mutated:
        position = operation.argument_names.index(name)
        value = args[position] if position < len(args) else kwargs.get(name)
        found += tensors_in(value)
    return found
