"""What the demo is asked to do and what it found: records, and the same as plain data."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any, Literal

from etastar.errors import TrialError

if TYPE_CHECKING:
    from etastar.fit import Optimum, TransferRegret

__all__ = ["DemoCurve", "DemoNetwork", "DemoResult", "DemoRule", "DemoSettings", "DemoTrial"]

Size = Literal["base", "target"]
BranchInit = Literal["all", "none"]
"""Whether every branch weight carries 1/K at initialization; "none" where a law brings it."""


@dataclass(frozen=True)
class DemoSettings:
    """Budget, grids and seeds of the demo, fixed before anything is run.

    The ranges of the two grids come from a pilot with one other seed (1000) and rates a factor of 4
    apart, and were set before the final run. Where the lowest mean loss of a curve lies at an edge
    of its grid, whichever edge, the grid is extended there with the same spacing, one rate at a
    time, at most `extension` times; what is still at the edge then is flagged.

    Attributes:
        base_blocks: Residual blocks of the network that is tuned.
        target_blocks: Residual blocks of the network that the rate is carried to.
        width: Channels.
        num_steps: Optimizer steps of every run.
        batch_size: Images in a batch.
        momentum: Of SGD.
        seeds: Of initialization and batch order; the same for every rate, rule and size.
        base_lrs: Learning rates tried at the base, rising.
        target_lrs: Learning rates tried at the target, rising.
        extension: Rates that may be added at each end of a grid.
        confidence: Of all intervals.
        num_resamples: Bootstrap resamples over seeds.

    Raises:
        TrialError: A setting is out of range.

    Example:
        >>> DemoSettings().base_lrs[0]
        0.015625
    """

    base_blocks: int = 2
    target_blocks: int = 24
    width: int = 16
    num_steps: int = 100
    batch_size: int = 64
    momentum: float = 0.9
    seeds: tuple[int, ...] = (0, 1, 2, 3)
    base_lrs: tuple[float, ...] = tuple(2.0**k for k in range(-6, 1))
    target_lrs: tuple[float, ...] = tuple(2.0**k for k in range(-11, -4))
    extension: int = 2
    confidence: float = 0.95
    num_resamples: int = 1000

    def __post_init__(self) -> None:
        for name, lrs in (("base_lrs", self.base_lrs), ("target_lrs", self.target_lrs)):
            rising = all(low < high for low, high in pairwise(lrs))
            _require(len(lrs) > 1 and lrs[0] > 0 and rising, name, lrs, "two rising rates or more")
        blocks = f"{self.base_blocks} to {self.target_blocks}"
        _require(0 < self.base_blocks < self.target_blocks, "blocks", blocks, "a deeper target")
        once = len(set(self.seeds)) == len(self.seeds) > 0
        _require(once, "seeds", self.seeds, "one seed or more, each once")
        _require(self.extension >= 0, "extension", self.extension, "0 or more")
        _require(0 <= self.momentum < 1, "momentum", self.momentum, "from 0 to below 1")


def _require(condition: bool, name: str, value: object, expected: str) -> None:
    if not condition:
        raise TrialError(f"{name}={value}", expected, f"correct {name}")


@dataclass(frozen=True)
class DemoNetwork:
    """One of the two networks.

    Attributes:
        blocks: Residual blocks.
        effective_depth: Fewest weight layers and residual additions on a path.
        residual_additions: K, the additions of the residual stream.
    """

    blocks: int
    effective_depth: int
    residual_additions: int


@dataclass(frozen=True)
class DemoTrial:
    """One training run; every run of the demo is kept.

    Attributes:
        size: Which network.
        residual: How its branches were initialized, before a law's own factor.
        lr: Learning rate (of the hidden weights, where a law sets several).
        seed: Of initialization and batch order.
        used_for: The curves and rules it counts for; rules that ask for the same run share it.
        initial_loss: Training loss of the first batch, before the first step.
        mean_loss: Mean training loss over the budget; +inf if it diverged.
        final_loss: Mean training loss over the last tenth of the budget; +inf if it diverged.
        steps_done: Optimizer steps taken.
        diverged: Whether it was stopped because the loss was no longer reasonable.
        accuracy: Share of the test images classified rightly; None if it diverged.
    """

    size: Size
    residual: BranchInit
    lr: float
    seed: int
    used_for: tuple[str, ...]
    initial_loss: float
    mean_loss: float
    final_loss: float
    steps_done: int
    diverged: bool
    accuracy: float | None


@dataclass(frozen=True)
class DemoCurve:
    """Loss over learning rate at one size under one initialization.

    Attributes:
        size: Which network.
        residual: How its branches were initialized.
        lrs: Rates, rising, with those that the extension added.
        losses: Mean training loss of each rate, seed by seed.
        added_lrs: Those of the rates that the extension added.
        optimum: The minimum.
    """

    size: Size
    residual: BranchInit
    lrs: tuple[float, ...]
    losses: tuple[tuple[float, ...], ...]
    added_lrs: tuple[float, ...]
    optimum: Optimum

    @property
    def flags(self) -> tuple[str, ...]:
        """What to know before the optimum is trusted; empty for a fitted, interior one."""
        found = self.optimum
        return tuple(
            text
            for holds, text in (
                (found.at_edge, "AT THE EDGE of the range: no optimum"),
                (found.method == "lowest point", "lowest point of the grid, no parabola fitted"),
                (bool(self.added_lrs), f"range extended by {len(self.added_lrs)}"),
                (found.num_diverged > 0, f"diverged runs: {found.num_diverged}"),
            )
            if holds
        )


@dataclass(frozen=True)
class DemoRule:
    """What one rule came to at the target, seed by seed.

    Attributes:
        name: Name of the law.
        law: The same with its options.
        base_lr: Rate tuned at the base, under the initialization of this rule.
        lr: Rate at the target (of the hidden weights).
        other_lrs: Further rates of the same network, where the law sets several.
        residual: How the branches were initialized, before the law's own factor.
        mean_losses: Mean training loss of each seed.
        final_losses: Training loss at the end, of each seed.
        accuracies: Test accuracy of each seed; None for a diverged one.
        regret: Mean loss minus that of the target's own optimum, with intervals.
    """

    name: str
    law: str
    base_lr: float
    lr: float
    other_lrs: tuple[float, ...]
    residual: BranchInit
    mean_losses: tuple[float, ...]
    final_losses: tuple[float, ...]
    accuracies: tuple[float | None, ...]
    regret: TransferRegret

    @property
    def factor(self) -> float:
        """Rate at the target over the rate tuned at the base."""
        return self.lr / self.base_lr

    @property
    def mean_loss(self) -> float:
        """Mean over seeds; +inf when one diverged."""
        return fmean(self.mean_losses)

    @property
    def loss_spread(self) -> float | None:
        """Standard deviation over seeds; None for a single seed or a diverged one."""
        if len(self.mean_losses) == 1 or not math.isfinite(self.mean_loss):
            return None
        return stdev(self.mean_losses)

    @property
    def accuracy(self) -> float | None:
        """Mean test accuracy over the seeds that did not diverge; None when all did."""
        known = [value for value in self.accuracies if value is not None]
        return fmean(known) if known else None

    @property
    def num_diverged(self) -> int:
        """Seeds that diverged."""
        return sum(not math.isfinite(loss) for loss in self.mean_losses)


@dataclass(frozen=True)
class DemoResult:
    """Everything the demo ran, and what it came to.

    Attributes:
        settings: What was asked for.
        base: The network that was tuned.
        target: The network that the rate was carried to.
        curves: At the base under both initializations, at the target under 1/K.
        rules: Every registered depth law, in the registry's order.
        reference: The target at its own optimum, under the 1/K initialization; its regret is 0.
        reference_note: Why the reference is not at the fitted optimum; None if it is.
        trials: Every run, in the order in which it was asked for.
        seconds: Wall time; not compared.
    """

    settings: DemoSettings
    base: DemoNetwork
    target: DemoNetwork
    curves: tuple[DemoCurve, ...]
    rules: tuple[DemoRule, ...]
    reference: DemoRule
    reference_note: str | None
    trials: tuple[DemoTrial, ...]
    seconds: float = field(default=0.0, compare=False)

    def curve(self, size: Size, residual: BranchInit) -> DemoCurve:
        """The curve of one size under one initialization."""
        return next(c for c in self.curves if (c.size, c.residual) == (size, residual))

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON; what is not finite (a diverged run's loss) is None.

        The bootstrap's resampled rates are left out: they follow from the losses and the settings.
        """
        data = asdict(self)
        for curve in data["curves"]:
            del curve["optimum"]["resampled_lrs"]
        for rule, row in zip((*self.rules, self.reference), _rows(data), strict=True):
            row |= {"factor": rule.factor, "mean_loss": rule.mean_loss, "accuracy": rule.accuracy}
        plain: dict[str, Any] = _finite(data)
        return plain


def _rows(data: dict[str, Any]) -> list[dict[str, Any]]:
    return [*data["rules"], data["reference"]]


def _finite(value: Any) -> Any:
    """The same data with None for every number that JSON cannot hold."""
    match value:
        case float():
            return value if math.isfinite(value) else None
        case dict():
            return {key: _finite(item) for key, item in value.items()}
        case list() | tuple():
            return [_finite(item) for item in value]
    return value
