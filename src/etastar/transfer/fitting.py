"""The fitted law from several tuned networks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from etastar.errors import FitError, LawError, PlanError
from etastar.fit import PowerLawPosterior, power_law_posterior
from etastar.laws import EffectiveDepth, Fitted
from etastar.transfer.architecture import Network, read_architecture

if TYPE_CHECKING:
    from collections.abc import Sequence

    from etastar.laws import Architecture

__all__ = ["Tuned", "TunedFit", "fit_tuned"]

Tuned: TypeAlias = "tuple[Network, float] | tuple[Network, float, float]"
"""A network with its tuned learning rate and, where known, the variance of its logarithm."""


@dataclass(frozen=True)
class TunedFit:
    """What several tuned networks say of the learning rate over depth.

    Attributes:
        base: The deepest of them, which the plan starts from.
        lr: Its tuned learning rate.
        law: The fitted law, relative to it.
        posterior: The power law in effective depth.
    """

    base: Architecture
    lr: float
    law: Fitted
    posterior: PowerLawPosterior


def fit_tuned(
    bases: Sequence[Tuned],
    *,
    prior: EffectiveDepth | None = None,
    prior_sd: float = 0.5,
    noise: float = 0.15,
) -> TunedFit:
    """Fit a power law in effective depth through tuned networks of one width.

    Args:
        bases: Networks with their tuned learning rates; one gives the prior's law back.
        prior: Law whose exponent is the mean of the prior; None for the default -3/2.
        prior_sd: Standard deviation of the prior of the exponent.
        noise: Standard deviation of a tuned log learning rate without a variance, and its floor.

    Returns:
        The fit.

    Raises:
        PlanError: No networks, or one that is not (network, lr) or (network, lr, variance).
        FitError: A learning rate or variance is not valid.
        LawError: The networks differ in width.

    Example:
        >>> import torch
        >>> def net(depth):
        ...     layers = [torch.nn.Linear(8, 8) for _ in range(depth)]
        ...     return torch.nn.Sequential(*layers), (torch.zeros(1, 8),)
        >>> fit = fit_tuned([(net(2), 0.4), (net(4), 0.2), (net(8), 0.1)], prior_sd=10.0)
        >>> round(fit.law.exponent, 2), round(fit.posterior.predict(16), 3)
        (-1.0, 0.05)

    Source: docs/definitions.md, section 5.
    """
    tuned = [_read(item) for item in bases]
    if not tuned:
        raise PlanError("bases=[]", "at least one (network, lr)", "tune a network and give it")
    _require_one_width([network for network, _, _ in tuned])
    variances = [0.0 if variance is None else variance for _, _, variance in tuned]
    posterior = power_law_posterior(
        [network.report.effective_depth for network, _, _ in tuned],
        [lr for _, lr, _ in tuned],
        prior_exponent=(prior or EffectiveDepth()).exponent,
        prior_sd=prior_sd,
        variances=variances,
        noise=noise,
    )
    base, lr, _ = max(tuned, key=lambda item: item[0].report.effective_depth)
    return TunedFit(base, lr, _law(base, lr, posterior), posterior)


def _law(base: Architecture, lr: float, posterior: PowerLawPosterior) -> Fitted:
    line = posterior.predict(base.report.effective_depth)
    return Fitted(posterior.exponent, math.log(line / lr), posterior.exponent_sd)


def _read(item: object) -> tuple[Architecture, float, float | None]:
    if not isinstance(item, tuple) or len(item) not in (2, 3):
        raise PlanError(
            f"a base given as {type(item).__name__}",
            "(network, lr) or (network, lr, variance of log lr)",
            "pass e.g. bases=[(graph, 0.1), (deeper_graph, 0.05)]",
        )
    network, lr, *rest = item
    if isinstance(lr, bool) or not isinstance(lr, (int, float)):
        raise FitError(f"lr={lr!r} of a base", "a positive number", "give its tuned learning rate")
    return read_architecture(network), float(lr), rest[0] if rest else None


def _require_one_width(networks: Sequence[Architecture]) -> None:
    """A fit over depth means nothing where the width changes too."""
    heads = {
        tuple((p.fan_in, p.fan_out) for p in network.parameters if p.role in ("input", "embedding"))
        for network in networks
    }
    if len(heads) > 1:
        raise LawError(
            "bases whose first layers differ in width",
            "tuned networks that differ in depth alone",
            "tune all bases at one width; the width rule carries the result to the target's",
        )
