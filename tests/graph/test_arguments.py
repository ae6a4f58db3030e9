"""Tensors within nested values: found by name, replaced, structure kept."""

from __future__ import annotations

import dataclasses
from collections import OrderedDict, namedtuple
from typing import Any

import torch
from torch import Tensor, nn

from etastar.graph.arguments import map_tensors, named_inputs, named_tensors
from etastar.graph.capture import capture_graph
from etastar.graph.node import Slot

Pair = namedtuple("Pair", ["left", "right"])


@dataclasses.dataclass(frozen=True)
class Record:
    logits: Tensor
    note: str


ONE = torch.ones(1)


def test_every_container_is_looked_into_by_name() -> None:
    value = {"a": [ONE, (ONE, 3)], "p": Pair(ONE, None), "r": Record(ONE, "x"), 5: ONE}
    names = [name for name, _ in named_tensors(value)]
    assert names == ["a.0", "a.1.0", "p.left", "r.logits", "5"]
    assert [name for name, _ in named_tensors(ONE)] == ["output"]


def test_replacement_keeps_structure_and_changes_nothing_given() -> None:
    value: dict[str, Any] = {"a": [ONE, (ONE, 3)], "p": Pair(ONE, None), "r": Record(ONE, "x")}
    doubled = map_tensors(value, lambda t: t * 2)
    assert type(doubled["p"]) is Pair
    assert type(doubled["r"]) is Record
    assert all(t.item() == 2 for _, t in named_tensors(doubled))
    assert all(t is ONE for _, t in named_tensors(value))
    assert type(map_tensors(OrderedDict(a=ONE), lambda t: t)) is OrderedDict


def test_values_without_tensors_are_passed_on_as_they_are() -> None:
    record = Record("none", "x")  # type: ignore[arg-type]
    assert map_tensors(record, lambda t: t) is record


def test_slots_stand_for_tensors_in_order() -> None:
    model = nn.Linear(1, 1)
    model.register_forward_hook(lambda _, args, out: torch.cat([out, *args]))
    model.register_forward_hook(lambda _, args, out: nn.functional.gelu(out, approximate="tanh"))
    *_, joined, bent = (node.call for node in capture_graph(model, ONE))
    assert joined is not None
    assert (joined.args, joined.kwargs) == (([Slot(0), Slot(1)],), {})
    assert bent is not None
    assert (bent.args, bent.kwargs) == ((Slot(0),), {"approximate": "tanh"})


def test_inputs_are_named_by_the_signature_of_forward() -> None:
    class Model(nn.Module):
        def forward(self, first: Any, second: Any = None, *rest: Any, key: Any = None) -> Any:
            return first

    model = Model()
    names = [name for name, _ in named_inputs(model, (ONE,) * 4, {})]
    assert names == ["first", "second", "rest.0", "rest.1"]
    assert [name for name, _ in named_inputs(model, (ONE,), {"key": ONE})] == ["first", "key"]
