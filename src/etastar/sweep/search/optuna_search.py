"""Optuna's samplers as searches."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import inf, isfinite
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from etastar.errors import MissingExtraError, TrialError
from etastar.sweep.search.base import Search
from etastar.sweep.search.ceilings import with_ceilings
from etastar.sweep.space import Point

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from optuna import Study, Trial
    from optuna.samplers import BaseSampler

    from etastar.sweep.record import TrialRecord
    from etastar.sweep.search.base import Context

__all__ = ["SAMPLERS", "OptunaSearch"]

SAMPLERS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "tpe": "TPESampler",
        "random": "RandomSampler",
        "qmc": "QMCSampler",
        "gp": "GPSampler",
    }
)
"""Optuna's samplers that search one continuous number, by short name (its CMA-ES needs two)."""


@dataclass(frozen=True)
class OptunaSearch(Search):
    """One of Optuna's samplers over log lr; a trial of Optuna is one rate with every seed.

    The study is made anew at each call, in memory, and the finished runs are told to it in the
    order in which the sampler had asked for them. So the same runs give the same proposal. A
    diverged rate is told as the worst finite loss so far (as 0 while there is none), which every
    sampler takes.

    Args:
        low: Lowest rate.
        high: Highest rate.
        num_trials: Number of rates.
        sampler: A key of `SAMPLERS`.
        seed: Of the sampler.
        batch_size: Rates asked for at once, so that they can run side by side.
        sampler_options: What else the sampler is made with.
        stop_hopeless: Whether a run ends once its mean loss is certain to be far above the best
            one's; see `with_ceilings`. The sampler is told the mean over the steps done.

    Raises:
        TrialError: A setting is out of range, or the sampler or an option of it is unknown.
        MissingExtraError: Optuna, or what this sampler needs, is not installed.

    Example:
        >>> from etastar.sweep.search.base import Context
        >>> context = Context((("depth", 2),), seeds=(0, 1), optima=(), num_steps=10)
        >>> points = OptunaSearch(0.01, 1.0, num_trials=5).propose((), context)
        >>> [point.seed for point in points], 0.01 <= points[0].lr <= 1.0
        ([0, 1], True)
    """

    low: float
    high: float
    num_trials: int
    sampler: str = "tpe"
    seed: int = 0
    batch_size: int = 1
    sampler_options: Mapping[str, Any] = field(default_factory=dict)
    stop_hopeless: bool = True

    name = "optuna"

    def __post_init__(self) -> None:
        if self.sampler not in SAMPLERS:
            raise TrialError(
                f"sampler {self.sampler!r}", f"one of: {', '.join(SAMPLERS)}", "choose a listed one"
            )
        in_range = 0 < self.low < self.high < inf and self.num_trials >= 1 and self.batch_size >= 1
        if not in_range:
            raise TrialError(
                f"low={self.low}, high={self.high}, num_trials={self.num_trials}, "
                f"batch_size={self.batch_size}",
                "0 < low < high, one trial or more, a batch of one or more",
                "change the setting that is out of range",
            )

        with _quiet():
            self._made(_optuna().samplers)  # refuse now what would be refused at the first proposal

    @property
    def options(self) -> dict[str, float | int | str]:
        """All settings; those of the sampler with its name before them."""
        return {
            "low": self.low,
            "high": self.high,
            "num_trials": self.num_trials,
            "sampler": self.sampler,
            "seed": self.seed,
            "batch_size": self.batch_size,
            "stop_hopeless": self.stop_hopeless,
            **{f"{self.sampler}.{key}": str(value) for key, value in self.sampler_options.items()},
        }

    def propose(self, finished: Sequence[TrialRecord], context: Context) -> tuple[Point, ...]:
        """Runs of the first rates that are not finished with; see `Search.propose`."""
        seeds = tuple(dict.fromkeys(context.seeds))
        losses = {record.point: _told(record) for record in finished}
        worst = 0.0
        with _quiet():
            study = self._study()
            for first in range(0, self.num_trials, self.batch_size):
                number = min(self.batch_size, self.num_trials - first)
                trials = [study.ask() for _ in range(number)]
                points = [[Point(lr, seed) for seed in seeds] for lr in map(self._lr, trials)]
                missing = [point for rate in points for point in rate if point not in losses]
                if missing:
                    new = tuple(dict.fromkeys(missing))
                    return with_ceilings(new, finished) if self.stop_hopeless else new
                for trial, rate in zip(trials, points, strict=True):
                    loss = sum(losses[point] for point in rate) / len(rate)
                    worst = max(worst, loss) if isfinite(loss) else worst
                    study.tell(trial, loss if isfinite(loss) else worst)
        return ()

    def _lr(self, trial: Trial) -> float:
        lr: float = trial.suggest_float("lr", self.low, self.high, log=True)
        return lr

    def _study(self) -> Study:
        optuna = _optuna()
        return optuna.create_study(sampler=self._made(optuna.samplers))

    def _made(self, samplers: Any) -> BaseSampler:
        make: Callable[..., BaseSampler] = getattr(samplers, SAMPLERS[self.sampler])
        accepted = inspect.signature(make).parameters
        unknown = [option for option in self.sampler_options if option not in accepted]
        if unknown or "seed" in self.sampler_options:
            raise TrialError(
                f"sampler options {sorted(self.sampler_options)}",
                "options out of: " + ", ".join(name for name in accepted if name != "seed"),
                "leave out what is not listed; the seed is an option of the search",
            )
        try:
            return make(seed=self.seed, **self.sampler_options)
        except ImportError as error:
            raise MissingExtraError(error.name or SAMPLERS[self.sampler], "sweep") from error


def _told(record: TrialRecord) -> float:
    """The loss; of a run that its ceiling ended, the mean as far as it went."""
    return sum(record.losses) / len(record.losses) if record.stopped else record.loss


def _optuna() -> Any:
    try:
        import optuna
    except ImportError as error:
        raise MissingExtraError("optuna", "sweep") from error
    return optuna


@contextmanager
def _quiet() -> Iterator[None]:
    """No line per trial; each call replays them all. Some samplers are called experimental."""
    logging = _optuna().logging
    before = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(before)
