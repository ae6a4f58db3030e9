"""Laws of how long and on how much at a time a network trains: batch size, duration, decay."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Final, Literal, final

from etastar.errors import LawError
from etastar.laws.base import Effect, Factors, Law, ParamPair, TransferCase
from etastar.optimizers import OptimizerKind
from etastar.typed import require_type

TrainingScales = Literal["all", "rate"]
"""Every setting as the law says, or the learning rate alone."""

_LONG: Final = 10  # times the memory 1 / (1 - beta_2) of the second moments (a choice)
_NOISE: Final = "gradients that are mostly noise"


@dataclass(frozen=True)
class _NoiseLaw(Law):
    """What both laws of the gradient's noise share: one number k decides every factor.

    A run of T steps at rate lr sees the same noise, the same moments' memory and the same decay, in
    units of the run, where lr^2 T / B, (1 - beta) T and lr x decay x T stay.
    """

    scales: TrainingScales = "all"
    named_if_set: ClassVar[frozenset[str]] = frozenset({"scales"})

    def __post_init__(self) -> None:
        require_type("scales", self.scales, TrainingScales, error=LawError)

    def _by_noise(self, k: float, optimizer: OptimizerKind) -> Factors:
        root, decoupled = math.sqrt(k), optimizer.decoupled_weight_decay
        if optimizer.update != "adam":
            decays = decoupled and self.scales == "all"
            return Factors(weight_decay=k if decays else 1.0)
        if self.scales == "rate":
            return Factors(lr=root)
        decay = root if decoupled else 1.0
        return Factors(lr=root, weight_decay=decay, eps=1 / root, betas=(k, k))

    def _said(self, change: str, case: TransferCase) -> Iterator[str]:
        kind = case.optimizer
        if kind.update == "adam":
            yield f"{self.name}: {change}; {_reach(case)}; its own error is in no interval"
        else:
            kept = "; their decay keeps lr x decay x steps" * kind.decoupled_weight_decay
            own = "those of its matrices" if kind.fallback or kind.eps else "they"
            yield (
                f"{self.name}: {change}; no source says how rates of {kind.name} follow it: {own} "
                f"stay{kept}"
            )


@final
@dataclass(frozen=True)
class BatchSize(_NoiseLaw):
    """The noise of the gradient shrinks with the batch, and the settings follow; at equal data.

    With m_B = target over base batch size, optimizers of the Adam kind: lr x m_B^(1/2), decoupled
    weight decay x m_B^(1/2), 1 - beta_1 and 1 - beta_2 x m_B, eps x m_B^(-1/2). SGD: lr x m_B,
    momentum and decay stay. Of Muon's matrices decay alone follows, x m_B. Together with `Duration`
    this is Complete(d)P. Nothing is scaled where a batch size is not given.

    Args:
        scales: "all", or "rate" for the learning rate alone.

    Raises:
        LawError: `scales` is neither.

    Example:
        >>> BatchSize(scales="rate").options
        {'scales': 'rate'}

    Source: [CDP]; for the batch alone [SDE]; SGD: the same paper's linear rule.
    """

    name: ClassVar[str] = "batch-size"
    effects: ClassVar[frozenset[Effect]] = frozenset({"batch size"})

    def factors(self, pair: ParamPair, case: TransferCase) -> Factors:
        """See `Law.factors`."""
        ratio = _ratio(case, "batch_size") or 1.0
        if case.optimizer.update == "sgd":
            return Factors(lr=ratio)
        return self._by_noise(ratio, case.optimizer)

    def notes(self, case: TransferCase) -> Iterator[str]:
        """See `Law.notes`."""
        if _ratio(case, "batch_size") is None:
            yield _unknown(self.name, "batch size", "batch_size", case)
        elif case.optimizer.update == "sgd":
            yield (
                f"{self.name}: {_change(case, 'batch_size')}; the linear rule of SGD is derived for"
                f" {_NOISE}, and leaves momentum; its own error is in no interval"
            )
        else:
            yield from self._said(f"{_change(case, 'batch_size')}", case)


@final
@dataclass(frozen=True)
class Duration(_NoiseLaw):
    """The settings follow the number of examples seen, batch size x steps; at equal batch size.

    With m_D = target over base examples, optimizers of the Adam kind: lr x m_D^(-1/2), decoupled
    weight decay x m_D^(-1/2), 1 - beta_1 and 1 - beta_2 x m_D^-1, eps x m_D^(1/2). SGD stays as it
    is: no source says what its rate and momentum should do. Of Muon's matrices decay alone follows,
    x m_D^-1. Where no batch size is given it is taken to be the same; nothing is scaled where the
    steps are not given.

    Args:
        scales: "all", or "rate" for the learning rate alone.

    Raises:
        LawError: `scales` is neither.

    Example:
        >>> Duration().options
        {}

    Source: [CDP].
    """

    name: ClassVar[str] = "duration"
    effects: ClassVar[frozenset[Effect]] = frozenset({"duration"})

    def factors(self, pair: ParamPair, case: TransferCase) -> Factors:
        """See `Law.factors`."""
        ratio = _examples(case) or 1.0
        if case.optimizer.update == "sgd":
            return Factors()
        return self._by_noise(1 / ratio, case.optimizer)

    def notes(self, case: TransferCase) -> Iterator[str]:
        """See `Law.notes`."""
        ratio = _examples(case)
        if ratio is None:
            missing = "num_steps" if _ratio(case, "num_steps") is None else "batch_size"
            yield _unknown(self.name, missing.replace("num_", "").replace("_", " "), missing, case)
        elif case.optimizer.update == "sgd" and ratio != 1:
            yield f"{self.name}: no source says what SGD's rate and momentum should do: both stay"
        else:
            yield from self._said(f"examples seen x {ratio:.4g}", case)


@final
@dataclass(frozen=True)
class DecayTimescale(Law):
    """Weight decay alone follows the steps, so that its timescale stays the same share of the run.

    With m_T = target over base steps: weight decay x 1 / m_T, which keeps lr x decay x steps; all
    else stays. For decoupled decay and for SGD; another optimizer's coupled decay is a part of the
    loss and stays. Nothing is scaled where the steps are not given.

    Example:
        >>> DecayTimescale().options
        {}

    Source: [WA].
    """

    name: ClassVar[str] = "decay-timescale"
    effects: ClassVar[frozenset[Effect]] = frozenset({"batch size", "duration"})

    def factors(self, pair: ParamPair, case: TransferCase) -> Factors:
        """See `Law.factors`."""
        shrinks = case.optimizer.decoupled_weight_decay or case.optimizer.update == "sgd"
        ratio = _ratio(case, "num_steps") if shrinks else None
        return Factors(weight_decay=1 / (ratio or 1.0))

    def notes(self, case: TransferCase) -> Iterator[str]:
        """See `Law.notes`."""
        if _ratio(case, "num_steps") is None:
            yield _unknown(self.name, "steps", "num_steps", case)


def _ratio(case: TransferCase, name: str) -> float | None:
    """Target over base number; None where one is not given."""
    ours, theirs = (getattr(n.training, name) for n in (case.target, case.base))
    return None if ours is None or theirs is None else ours / theirs


def _examples(case: TransferCase) -> float | None:
    """Target over base number of examples seen; None where that is not known."""
    steps, batches = _ratio(case, "num_steps"), _ratio(case, "batch_size")
    if case.base.training.batch_size is None and case.target.training.batch_size is None:
        return steps
    return None if steps is None or batches is None else steps * batches


def _unknown(law: str, words: str, name: str, case: TransferCase) -> str:
    sides = (("base", case.base), ("target", case.target))
    missing = [side for side, network in sides if getattr(network.training, name) is None]
    return f"{law}: {words} of {' and '.join(missing)} not given, so nothing follows it"


def _change(case: TransferCase, name: str) -> str:
    ours, theirs = (getattr(n.training, name) for n in (case.base, case.target))
    return f"{name.replace('_', ' ')} {ours} to {theirs}"


def _reach(case: TransferCase) -> str:
    """What the rules of the Adam kind are derived for, and whether these runs are that."""
    derived = f"derived for {_NOISE} in long runs"
    known = [n.training.num_steps for n in (case.base, case.target)]
    steps = [n for n in known if n is not None]
    betas = case.optimizer.betas
    memory = 1 / (1 - betas[1]) if betas is not None else 1.0
    if len(steps) < 2:
        return f"{derived}; whether these are is not known, their steps are not given"
    if min(steps) >= _LONG * memory:
        return derived
    return (
        f"{derived}, at least {_LONG} / (1 - beta_2) = {_LONG * memory:.0f} steps, and one of these"
        f" has {min(steps)}: a small GPT of 300 to 1,200 steps wanted other rates: tune again"
    )
