"""Names do not depend on what wraps a model or a part of it."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper

from etastar.naming import canonical_modules, canonical_parameters, unwrap

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # torch's own


def net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(2, 3), nn.Sequential(nn.Linear(3, 3), nn.ReLU()))


NAMES = ["0.weight", "0.bias", "1.0.weight", "1.0.bias"]


def test_wrappers_around_and_inside_do_not_change_names() -> None:
    plain = net()
    assert list(canonical_parameters(plain)) == NAMES
    assert list(canonical_parameters(torch.compile(nn.DataParallel(plain)))) == NAMES
    plain[1] = checkpoint_wrapper(torch.compile(plain[1]))
    assert list(canonical_parameters(plain)) == NAMES
    assert unwrap(plain[1]) is not plain[1]


def test_unwrap_reaches_the_innermost_module_and_leaves_others() -> None:
    plain = net()
    assert unwrap(plain) is plain
    assert unwrap(nn.DataParallel(torch.compile(plain))) is plain


def test_own_names_that_look_like_a_wrapper_stay() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = nn.Linear(2, 2, bias=False)

    assert list(canonical_parameters(Own())) == ["module.weight"]
    assert list(canonical_parameters(nn.DataParallel(Own()))) == ["module.weight"]


def test_tied_parameters_stand_under_every_name_and_modules_under_every_path() -> None:
    model = net()
    model.head = model[0]
    names = canonical_parameters(model)
    assert names["head.weight"] is names["0.weight"]
    assert [path for path, module in canonical_modules(model) if module is model[0]] == [
        "0",
        "head",
    ]


def test_parameters_are_those_of_the_model_itself() -> None:
    model = net()
    found = canonical_parameters(torch.compile(model))
    assert all(found[name] is parameter for name, parameter in model.named_parameters())
