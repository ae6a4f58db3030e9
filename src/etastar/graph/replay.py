"""A recorded forward pass once more, for less: nothing is recorded, wanted outputs are shown."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from etastar.graph.arguments import map_tensors, tensors_in
from etastar.graph.isolation import attributes_kept, global_state_kept, own_tensors, quiet_switches
from etastar.graph.operations import operation_of
from etastar.graph.step import named_arguments
from etastar.graph.values import ValuesKept

__all__ = ["UNSTEADY", "Script", "replay"]


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

    Returns:
        Whether the pass was the recorded one. If not, it raised or took another way, the observer
        may have seen a part, and only a new recording can tell.

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
    kept = ValuesKept(own_tensors(model))
    guards = [kept.before_write, *([] if before_write is None else [before_write])]
    mode = _Replay(script, observer, guards, nodes)
    with ExitStack() as stack:
        stack.enter_context(global_state_kept())
        stack.enter_context(quiet_switches())
        stack.enter_context(kept)
        stack.enter_context(attributes_kept(model))
        stack.enter_context(torch.no_grad())
        args, kwargs = map_tensors((tuple(args), dict(kwargs)), _cloned)
        try:
            with mode:
                model(*args, **kwargs)
        except Exception:
            return False
    return mode.is_complete


def _cloned(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().clone().requires_grad_(tensor.requires_grad)


class _DepartedError(Exception):
    """Another operation than the recorded one."""


class _Replay(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts what is executed and shows the outputs that are wanted."""

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
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._operations = script.operations
        self._observer = observer
        self._guards = guards
        self._done = 0
        self._wanted: dict[int, list[tuple[int, int]]] = {}
        for node in sorted(nodes):
            number, which = script.places[node]
            self._wanted.setdefault(number, []).append((node, which))

    @property
    def is_complete(self) -> bool:
        """Whether everything recorded has been executed."""
        return self._done == len(self._operations)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        operation = operation_of(func)
        if operation.name in UNSTEADY:
            return func(*args, **kwargs)
        number = self._done
        if self.is_complete or self._operations[number] is not func:
            raise _DepartedError
        for tensor in named_arguments(operation, operation.written, args, kwargs):
            for guard in self._guards:
                guard(tensor)
        result = func(*args, **kwargs)
        self._done += 1
        wanted = self._wanted.get(number)
        if wanted:
            tensors = list(tensors_in(result))
            for node, which in wanted:
                self._observer(node, tensors[which])
        return result
