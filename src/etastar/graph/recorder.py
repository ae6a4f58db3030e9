"""Records every dispatched operation of a forward pass as a node, on fake tensors or real ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode

from etastar.graph.arguments import map_tensors, tensors_in
from etastar.graph.node import NOTHING, Call, Node, Operand, ParameterRecord, Region, Slot
from etastar.graph.operations import JOINS, Operation, keeps_apart, operation_of, run_fake
from etastar.graph.regions import StorageLog
from etastar.graph.step import Step

Observer = Callable[[Node, torch.Tensor], None]
"""Called with every new node and its output, in the order of execution."""


class FakeTwins:
    """The fake twin of each tensor, always the same one; views of one storage stay views of one.

    A meta tensor's twin is on the CPU, so that constants made in forward match it.

    Args:
        fake_mode: The mode that the twins belong to.

    Example:
        >>> twins, weight = FakeTwins(FakeTensorMode()), torch.zeros(2, 3)
        >>> twins.of(weight) is twins.of(weight), twins.of(weight).shape
        (True, torch.Size([2, 3]))
    """

    def __init__(self, fake_mode: FakeTensorMode) -> None:
        self.mode = fake_mode
        self._known: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def of(self, tensor: torch.Tensor) -> torch.Tensor:
        """The twin; `tensor` itself if it is fake."""
        known = self._known.get(id(tensor))
        if known is not None:
            return known[1]
        if isinstance(tensor, FakeTensor):
            return tensor
        with unset_fake_temporarily():  # what a twin is made of is not fake itself
            twin = self._made(tensor)
        if isinstance(tensor, nn.Parameter):
            twin._is_param = True  # noqa: SLF001  what makes it an instance of nn.Parameter
        self.pair(tensor, twin)
        return twin

    def pair(self, tensor: torch.Tensor, twin: torch.Tensor) -> None:
        """Make `twin` the twin of `tensor`; both are kept alive, so that the identity is theirs."""
        self._known[id(tensor)] = (tensor, twin)

    def clone_of(self, tensor: torch.Tensor) -> torch.Tensor:
        """A fake tensor of the same form with a storage of its own, every time another one."""
        form = (tensor.shape, tensor.stride())
        with unset_fake_temporarily():
            empty = torch.empty_strided(*form, dtype=tensor.dtype, device="meta")
            return self._fake(empty, like=tensor)

    def _made(self, tensor: torch.Tensor) -> torch.Tensor:
        if tensor.is_meta:
            return self._fake(tensor.detach(), like=tensor)
        is_inference = tensor.is_inference()  # PyTorch would make another such tensor of it
        return self.clone_of(tensor) if is_inference else self.mode.from_tensor(tensor)

    def _fake(self, meta: torch.Tensor, *, like: torch.Tensor) -> torch.Tensor:
        device = torch.device("cpu") if like.is_meta else like.device
        return FakeTensor(self.mode, meta.requires_grad_(like.requires_grad), device)


class _Parts(NamedTuple):
    """Where a tensor holds, one behind another along `dim`, what was made of each joined tensor."""

    node: int
    dim: int | None  # None in a view, whose dimensions are others
    sizes: list[int]
    regions: list[Region]


class Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Dispatch mode that builds nodes from what is executed, above an optional fake mode.

    Args:
        records: The parameters of the model by canonical name.
        twins: Fake twins, of the mode that computes shapes; None to run on real tensors.
        observer: Called with every node and its output.
        before_write: Called with every real tensor that an operation is about to write to.
    """

    supports_higher_order_operators = True

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Nothing is compiled while it runs, so PyTorch need not guard every call."""
        return False

    def __init__(
        self,
        records: dict[str, ParameterRecord],
        *,
        twins: FakeTwins | None,
        observer: Observer | None,
        before_write: Callable[[torch.Tensor], None],
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.records = records
        self.twins = twins
        self.observer = observer
        self.before_write = before_write
        self.nodes: list[Node] = []
        self.log = StorageLog()
        self.module_stack: list[str] = [""]
        self.opaque_depth = 0
        self._failures: list[tuple[BaseException, str, str | None]] = []
        self._parts: dict[int, _Parts] = {}  # by node
        self._of_parts: dict[tuple[int, int], Operand] = {}  # by node and number of the part

    # -- what the tracer calls ---------------------------------------------------------------

    def as_fake(self, tensor: torch.Tensor) -> torch.Tensor:
        """The fake twin of a real tensor, always the same; `tensor` itself on real tensors."""
        return tensor if self.twins is None else self.twins.of(tensor)

    def add_parameter(self, name: str, tensor: torch.Tensor, *, also: torch.Tensor) -> None:
        """Make a parameter known, so that uses of it, or of its original, are recognised."""
        self.log.write(self.as_fake(tensor), Operand((), (name,)))
        if self.twins is None:
            self.log.write(also, Operand((), (name,)))
        elif also is not tensor:
            self.twins.pair(also, self.as_fake(tensor))

    def add_input(self, tensor: torch.Tensor) -> int:
        """Add a source; returns its node."""
        return self.add_node("input", (), tensor, write=(tensor,), kind="input").index

    def read(self, tensor: torch.Tensor) -> Operand:
        """What a tensor holds now."""
        return self.log.read(self.as_fake(tensor))

    def add_node(
        self,
        op: str,
        operands: tuple[Operand, ...],
        output: torch.Tensor,
        *,
        write: Sequence[torch.Tensor] = (),
        **what: Any,
    ) -> Node:
        """Append a node, of which `what` are further fields; the tensors `write` hold it."""
        node = Node(
            index=len(self.nodes),
            op=op,
            module=self.module_stack[-1],
            operands=operands,
            shape=tuple(output.shape),
            dtype=str(output.dtype),
            **{"kind": "other", **what},
        )
        self.nodes.append(node)
        for tensor in write:
            self.log.write(tensor, Operand((node.index,)))
        if self.observer is not None:
            self.observer(node, output)
        return node

    def note_failure(self, error: BaseException, operation: str | None = None) -> None:
        """Remember where an error was seen: in the module that runs now."""
        self._failures.append((error, self.module_stack[-1], operation))

    def place_of(self, error: BaseException) -> tuple[str, str | None]:
        """Module in which an error (or its cause) was first seen, and the operation if in one."""
        chain = [error]
        while (cause := chain[-1].__cause__) is not None and cause not in chain:
            chain.append(cause)
        seen = ((at, op) for known, at, op in self._failures if known in chain)
        return next(seen, ("", None))

    # -- dispatch ----------------------------------------------------------------------------

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        operation = operation_of(func)
        if operation.name == "device":
            return func(*args, **kwargs)
        try:
            if self.twins is not None:
                args, kwargs = map_tensors((args, kwargs), self.as_fake)
            return self._run(func, operation, args, kwargs)
        except Exception as error:
            self.note_failure(error, operation.full_name)
            raise

    def _run(
        self, func: Any, operation: Operation, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        tensors: list[torch.Tensor] = []

        def slot(tensor: torch.Tensor) -> Slot:
            tensors.append(tensor)
            return Slot(len(tensors) - 1)

        slots = map_tensors((args, kwargs), slot)
        values = [self.log.read(tensor) for tensor in tensors]
        keys = {self.log.key(tensor) for tensor in tensors}
        if self.twins is not None:
            result = run_fake(func, operation, args, kwargs)
        else:
            for tensor in _named_tensors(operation, operation.written, args, kwargs):
                self.before_write(tensor)
            result = func(*args, **kwargs)
        mutated = _named_tensors(operation, operation.mutated, args, kwargs)
        outputs = list(tensors_in(result))
        fresh = [t for t in outputs if self.log.key(t) not in keys]
        views = [t for t in outputs if self.log.key(t) in keys] if not mutated else []
        step = Step(operation, Call(func, *slots), tensors, values, fresh, mutated, views)
        self._record(step)
        return result

    def _record(self, step: Step) -> None:
        data = step.data_operands()
        if step.operation.group == "cut":
            self._write(step, NOTHING)
        elif not data:
            self._write(step, step.parameter_value(self.records))
        elif self.opaque_depth:
            producers = (p for i in data for p in step.values[i].producers)
            self._write(step, Operand(tuple(dict.fromkeys(producers))), data)
        elif step.views and not step.fresh:
            self._record_view(step)
        else:
            self._record_computation(step, data)

    def _write(self, step: Step, value: Operand, data: list[int] | None = None) -> None:
        """Log what the results hold without a node; where `data` is given, those that hold it."""
        for tensor in (*step.fresh, *step.mutated):
            held = value if data is None or step.holds_data(tensor, data) else NOTHING
            self.log.write(tensor, held, fresh=step.is_fresh(tensor))

    def _record_view(self, step: Step) -> None:
        source, *others = (i for i, v in enumerate(step.values) if v.producers)
        made_of = step.values[source].producers
        single = len(made_of) == 1 and not others and self.nodes[made_of[0]].name not in JOINS
        parts = None if others or len(made_of) > 1 else self._parts.get(made_of[0])
        is_one = single and step.operation.name != "unbind" and parts is None
        held = [view for view in step.views if self.log.read(view).producers]
        groups = [held] if is_one and held else [[view] for view in held]
        for views in groups:
            part = self._part_of(parts, views[0])
            value = part or (step.values[source] if single else self.log.read(views[0]))
            if value.producers:
                operand = Operand(
                    value.producers, value.parameters, tuple(views[0].shape), parts=value.parts
                )
                name = step.operation.full_name
                node = self.add_node(name, (operand,), views[0], kind="view", call=step.call)
                if parts is not None and part is None:
                    kept = name == "aten.expand.default" and views[0].ndim == len(
                        parts.regions[0][1]
                    )
                    self._parts[node.index] = parts if kept else parts._replace(dim=None)
                for view in views:
                    self.log.alias(view, Operand((node.index,)))

    def _part_of(self, parts: _Parts | None, view: torch.Tensor) -> Operand | None:
        """What a view holds that lies within one part, and depends on that alone; else None."""
        if parts is None:
            return None
        region = Region.of(view)
        found = [n for n, part in enumerate(parts.regions) if part.overlaps(region)]
        return self._made_of(parts, found[0]) if len(found) == 1 else None

    def _made_of(self, parts: _Parts, number: int) -> Operand | None:
        """One part of what a node made, by nodes of its own; None where that holds no data."""
        pending = [parts.node]
        while pending:
            index, missing = pending[-1], list[int]()
            if (index, number) not in self._of_parts:
                inputs = self.nodes[index].inputs
                missing = [n for n in inputs if (n, number) not in self._of_parts]
                if not missing:
                    self._of_parts[index, number] = self._alone(index, number)
            pending += missing
            if not missing:
                pending.pop()
        found = self._of_parts[parts.node, number]
        return found if found.producers else None

    def _alone(self, index: int, number: int) -> Operand:
        """A node again, reading one part of each of its inputs; nothing where one holds no data."""
        node = self.nodes[index]
        before = {n: self._of_parts[n, number].producers for n in node.inputs}
        if not all(before.values()):
            return NOTHING
        operands = tuple(
            replace(o, producers=tuple(p for n in o.producers for p in before[n]))
            for o in node.operands
        )
        shape = self._parts[index].regions[number].shape
        self.nodes.append(replace(node, index=len(self.nodes), operands=operands, shape=shape))
        return Operand((self.nodes[-1].index,))

    def _keep_apart(self, step: Step, node: Node, whole: torch.Tensor) -> None:
        """Remember the parts of what was made of joined tensors, of each of them by itself."""
        found = [self._parts.get(n) for n in node.inputs]
        first = found[0]
        if first is None or first.dim is None or (len(found) > 1 and node.addends):
            return
        alike = all(one and one[1:3] == first[1:3] for one in found)
        if alike and keeps_apart(step.operation, step.call, node, first.dim):
            regions = [Region.of(part) for part in torch.split(whole, first.sizes, first.dim)]
            self._parts[node.index] = _Parts(node.index, first.dim, first.sizes, regions)

    def _record_computation(self, step: Step, data: list[int]) -> None:
        written = [t for t in (*step.fresh, *step.mutated) if step.holds_data(t, data)]
        if not written:
            self._write(step, NOTHING)
            return
        operands, name = step.operands(data), step.operation.full_name
        if step.operation.has_fused_addend and operands[0].producers:
            node = self._fused_sum(step, operands, written[0])
        else:
            operands, use = step.with_modulated(operands, self.nodes, self.records)
            what = step.classified(operands, self.records)
            what |= {"kind": "weight layer", "weight": use, "mixes": False} if use else {}
            node = self.add_node(name, operands, written[0], **what)
        self._write(step, Operand((node.index,)), data)
        if step.operation.name in JOINS and len(step.fresh) == 1 and _is_plain(step.fresh[0]):
            self._log_parts(step, step.fresh[0], node.index)
        elif node.inputs and node.weight is None and _is_plain(written[0]):
            self._keep_apart(step, node, written[0])

    def _log_parts(self, step: Step, whole: torch.Tensor, node: int) -> None:
        """Let each part of what was concatenated or stacked, taken out again, be what it was."""
        parts = _Parts(node, 0, [], [])
        dim, place = step.operation.argument("dim", step.call.args, step.call.kwargs) or 0, 0
        is_cat = step.operation.name == "cat"
        for tensor, value in zip(step.tensors, step.values, strict=True):
            if is_cat and tensor.ndim != whole.ndim:
                continue  # an empty one, as PyTorch allows
            size = tensor.shape[dim] if is_cat else 1
            if size < whole.shape[dim]:
                part = whole.narrow(dim, place, size) if is_cat else whole.select(dim, place)
                self._of_parts[node, len(parts.sizes)] = value
                parts.sizes.append(size)
                parts.regions.append(Region.of(part))
                if value.producers:
                    self.log.alias(part, value)
            place += size
        if len(parts.sizes) > 1:
            self._parts[node] = parts._replace(dim=dim % whole.ndim)

    def _fused_sum(self, step: Step, operands: tuple[Operand, ...], out: torch.Tensor) -> Node:
        """Two nodes: the product without its addend, and the sum of the two."""
        addend, *factors = operands
        without = (Operand((), (), addend.shape), *factors)
        name, shape = step.operation.full_name, tuple(out.shape)
        if any(o.producers for o in factors):
            what = {**step.classified(without, self.records), "call": None}
            added = Operand((self.add_node(name, without, out, **what).index,), (), shape)
        else:
            added = Operand((), tuple(n for o in factors for n in o.parameters), shape)
        return self.add_node(name, (addend, added), out, addends=(0, 1))


def _is_plain(tensor: torch.Tensor) -> bool:
    return tensor.layout is torch.strided and not tensor.is_nested


def _named_tensors(
    operation: Operation, names: Sequence[str], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> list[torch.Tensor]:
    """Tensors within the named arguments of an operation."""
    return [t for name in names for t in tensors_in(operation.argument(name, args, kwargs))]
