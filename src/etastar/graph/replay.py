"""A recorded forward pass once more, for less: nothing is recorded, wanted outputs are shown."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from etastar.graph.arguments import map_tensors, tensors_in
from etastar.graph.isolation import attributes_kept, global_state_kept, own_tensors, quiet_switches
from etastar.graph.operations import operation_of
from etastar.graph.regions import ValuesKept
from etastar.graph.step import named_arguments

__all__ = ["UNSTEADY", "Script", "Watch", "replay", "watched"]


UNSTEADY: Final = ("device", "detach")
"""Operations that are not counted: autograd detaches what it saves, when it saves it."""


@dataclass(frozen=True)
class Script:
    """What a recorded pass executed.

    Attributes:
        operations: What was dispatched, in order.
        places: Where a node's output is found: the operation's number, and which of the tensors
            that it returned. A node without a place needs a recorded pass.
    """

    operations: tuple[Any, ...]
    places: Mapping[int, tuple[int, int]]


def replay(
    model: nn.Module,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    script: Script,
    observer: Callable[[int, torch.Tensor], None],
    *,
    nodes: frozenset[int],
    before_write: Callable[[torch.Tensor], None] | None = None,
    stops: bool = False,
) -> bool:
    """Run a model without autograd as it ran when the script was recorded.

    The model, the inputs and PyTorch's state are as before afterwards.

    Args:
        model: The model, whose values may be others than they were.
        args: Positional arguments, of the same shapes.
        kwargs: Keyword arguments.
        script: Of a pass recorded by `trace`.
        observer: Called with a node's index and its output.
        nodes: The nodes whose outputs are wanted.
        before_write: Called with every tensor that is about to be written to.
        stops: Whether the pass ends with the last of those nodes.

    Returns:
        Whether the pass, as far as it went, was the recorded one. If not, it raised or took another
        way, the observer may have seen a part, and only a new recording can tell.

    Example:
        >>> from etastar.graph.tracing import trace
        >>> model, x = nn.Linear(2, 2, bias=False), torch.ones(1, 2)
        >>> script = trace(model, (x,), {}, fake=False).script
        >>> found = {}
        >>> nodes = frozenset(script.places)
        >>> replay(model, (x,), {}, script, found.__setitem__, nodes=nodes)
        True
        >>> torch.equal(found[max(found)], model(x))
        True
    """
    if not nodes <= script.places.keys():
        return False
    kept = ValuesKept([*own_tensors(model), *tensors_in((args, kwargs))])
    guards = [kept.before_write, *([] if before_write is None else [before_write])]
    mode = Watch(script, observer, guards, nodes, is_strict=True, stops=stops)
    with ExitStack() as stack:
        stack.enter_context(global_state_kept())
        stack.enter_context(quiet_switches())
        stack.enter_context(kept)
        stack.enter_context(attributes_kept(model))
        stack.enter_context(torch.no_grad())
        args, kwargs = map_tensors((tuple(args), dict(kwargs)), _own)
        try:
            with mode:
                model(*args, **kwargs)
        except Exception:
            return mode.has_stopped
    return mode.has_stopped or mode.is_complete


@contextmanager
def watched(
    script: Script,
    observer: Callable[[int, torch.Tensor], None],
    *,
    nodes: frozenset[int],
    before_write: Callable[[torch.Tensor], None],
) -> Iterator[Watch]:
    """Watch a pass that the caller makes, with autograd or without, beside a recorded one.

    Args:
        script: Of a pass recorded by `trace`.
        observer: Called with a node's index and its output, as long as the pass is the recorded
            one.
        nodes: The nodes whose outputs are wanted.
        before_write: Called with every tensor that is about to be written to.

    Yields:
        What tells, afterwards, whether the whole of the recorded pass was made.

    Example:
        >>> from etastar.graph.tracing import trace
        >>> model, x = nn.Linear(2, 2, bias=False), torch.ones(1, 2)
        >>> script = trace(model, (x,), {}, fake=False).script
        >>> found, nodes = {}, frozenset(script.places)
        >>> with watched(script, found.__setitem__, nodes=nodes, before_write=id) as watch:
        ...     output = model(x)
        >>> watch.is_complete, torch.equal(found[max(found)], output)
        (True, True)
    """
    known = nodes & script.places.keys()
    watch = Watch(script, observer, [before_write], known, is_strict=False)
    watch.has_departed = known != nodes
    with quiet_switches(), watch:
        yield watch


def _own(tensor: torch.Tensor) -> torch.Tensor:
    """Another tensor with the same values, of the strides that it had when it was recorded."""
    values = tensor.detach()
    values = values if values.is_contiguous() else values.clone()
    return values.requires_grad_(tensor.requires_grad)


class _DepartedError(Exception):
    """Another operation than the recorded one."""


class _StoppedError(Exception):
    """All that is wanted has been seen."""


class Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts what is executed and shows the outputs that are wanted.

    Args:
        script: What should be executed.
        observer: Called with a node's index and its output.
        guards: Called with every tensor that is about to be written to.
        nodes: The nodes that are wanted, which have places in the script.
        is_strict: Whether another operation than the script's is an error.
        stops: Whether what comes after the last wanted node is one too.

    Attributes:
        has_departed: Whether another operation was met.
        has_stopped: Whether all wanted nodes were seen, and nothing is executed any more.
    """

    supports_higher_order_operators = True

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False

    def __init__(
        self,
        script: Script,
        observer: Callable[[int, torch.Tensor], None],
        guards: Sequence[Callable[[torch.Tensor], None]],
        nodes: frozenset[int],
        *,
        is_strict: bool,
        stops: bool = False,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.has_departed = self.has_stopped = False
        self._is_strict = is_strict
        self._operations = script.operations
        self._observer = observer
        self._guards = guards
        self._done = 0
        self._wanted: dict[int, list[tuple[int, int]]] = {}
        for node in sorted(nodes):
            number, which = script.places[node]
            self._wanted.setdefault(number, []).append((node, which))
        self._end = max(self._wanted) if stops and self._wanted else None

    @property
    def is_complete(self) -> bool:
        """Whether everything recorded has been executed."""
        return self._done == len(self._operations) and not self.has_departed

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        operation = operation_of(func)
        if self.has_stopped:  # the model went on in spite of it
            raise _StoppedError
        if operation.name in UNSTEADY:
            return func(*args, **kwargs)
        number = self._done
        known = self._operations[number] if number < len(self._operations) else None
        if known is not func:
            self.has_departed = True
            if self._is_strict:
                raise _DepartedError
        for tensor in named_arguments(operation, operation.written, args, kwargs):
            for guard in self._guards:
                guard(tensor)
        result = func(*args, **kwargs)
        self._done += 1
        wanted = None if self.has_departed else self._wanted.get(number)
        if wanted:
            tensors = list(tensors_in(result))
            for node, which in wanted:
                self._observer(node, tensors[which])
        if number == self._end:
            self.has_stopped = True
            raise _StoppedError
        return result
