"""The peers: a range test by torch-lr-finder [arXiv 1506.01186], and the package mup [TP5]."""

from __future__ import annotations

import contextlib
import importlib.util
import io
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import torch
from torch.utils.data import DataLoader

from etastar.errors import MissingExtraError, TrialError
from etastar.sweep.recipe import Size
from studies.mup_package import MupInit
from studies.rules.base import Rule
from studies.training import (
    cross_entropy,
    family_batches,
    family_optimizer,
    initialized_model,
)

if TYPE_CHECKING:
    from studies.declaration import Family
    from studies.rules.base import Question

_START: Final = 1e-7  # start, end and length of the range as the package's own README has them
_END: Final = 100.0
_STEPS: Final = 100
_SKIPPED: Final = 10 + 5  # the package's own defaults: what it leaves out at either end
_OTHER_BATCHES: Final = 30_000
"""Added to the seed, so that the test does not see the batches of the training."""


@dataclass(frozen=True)
class LRFinderRule(Rule):
    """The rate of steepest descent of the loss while the rate rises exponentially.

    It tunes nothing and has no base; it trains the target for up to 100 steps.

    Example:
        >>> LRFinderRule().num_bases
        0

    Source: arXiv 1506.01186; the package torch-lr-finder, `plot(suggest_lr=True)`.
    """

    name: str = "lr-finder"
    num_bases: int = 0

    def require(self) -> None:
        """See `Rule.require`."""
        if importlib.util.find_spec("torch_lr_finder") is None:
            raise MissingExtraError("torch-lr-finder", "dev")

    def rate(self, question: Question) -> float | None:
        """See `Rule.rate`; None where the loss diverged before there was anything to see."""
        return _range_test(question.family, question.target)[0]

    def own_steps(self, question: Question) -> int:
        """See `Rule.own_steps`: those of the range test."""
        return _range_test(question.family, question.target)[1]


@lru_cache(maxsize=64)
def _range_test(family: Family, size: Size) -> tuple[float | None, int]:
    """The suggested rate, and the steps taken; once in a process."""
    from matplotlib.figure import Figure  # comes with the package
    from torch_lr_finder import LRFinder

    seed = family.seeds[0]
    batches = list(family_batches(family, seed + _OTHER_BATCHES, num_steps=_STEPS))
    silence = io.StringIO()  # progress and advice that nobody reads
    with (
        torch.random.fork_rng(devices=[]),
        contextlib.redirect_stdout(silence),
        contextlib.redirect_stderr(silence),
    ):
        torch.default_generator.manual_seed(seed)
        model = initialized_model(family, **dict(size)).train()
        optimizer = family_optimizer(family, model, _START, **dict(size))
        finder: Any = LRFinder(model, optimizer, cross_entropy, device="cpu")
        loader: Any = DataLoader(batches, batch_size=None)  # type: ignore[arg-type]
        finder.range_test(loader, end_lr=_END, num_iter=_STEPS)
        steps = len(finder.history["lr"])
        if steps < _SKIPPED + 2:
            return None, steps
        _, rate = finder.plot(ax=Figure().subplots(), suggest_lr=True)
    return float(rate), steps


@dataclass(frozen=True)
class MupRule(Rule):
    """Keeps the rate: initialization and parameter groups are the package's.

    Example:
        >>> MupRule().name
        'mup'

    Source: [TP5]; the package mup.
    """

    name: str = "mup"

    def require(self) -> None:
        """See `Rule.require`."""
        if importlib.util.find_spec("mup") is None:
            raise TrialError(
                "no installed package 'mup'",
                "the package that this peer is run by",
                "pip install --no-deps mup (its metadata ask for torchvision, which it never uses)",
            )

    def rate(self, question: Question) -> float | None:
        """See `Rule.rate`; None for networks that are not the package's."""
        is_its_own = isinstance(question.family.initialization, MupInit)
        return question.base.optimum.lr if is_its_own else None
