"""What a measurement of the criterion gives."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

from etastar.errors import MeasureError

__all__ = ["LayerUpdate", "Method", "PreActivations", "SeedUpdate", "UpdateReport"]

PreActivations = Literal["layers", "hidden", "stream"]
"""Outputs of all weight layers; of all but those that no other follows (the head); or the residual
stream after each addition, which in a network without additions is the outputs of `hidden`."""

Method = Literal["forward", "differences", "exact"]
"""Forward-mode derivative, differences, or the finite step found by bisection."""


@dataclass(frozen=True)
class LayerUpdate:
    """One pre-activation.

    Attributes:
        module: Dotted path of the module it was computed in.
        name: Its weights' parameter names, joined by "+"; "addition" for the residual stream.
        mean_square_update: Mean of (dz/d eta)^2 over probe examples, positions, units and seeds;
            per squared unit of the learning rate.
        interval: 95% interval of it over seeds; None with one seed.
        second_moment: Mean of z^2 before the step, over the same.
    """

    module: str
    name: str
    mean_square_update: float
    interval: tuple[float, float] | None
    second_moment: float


@dataclass(frozen=True)
class SeedUpdate:
    """What one seed gave.

    Attributes:
        places: (module, name) of each pre-activation, in the order of execution.
        mean_squares: S_l / eta^2 of each.
        second_moments: Mean of z^2 of each before the step.
        method: How it was measured.
        note: Why not by the method that was asked for; "" where it was.
    """

    places: tuple[tuple[str, str], ...]
    mean_squares: tuple[float, ...]
    second_moments: tuple[float, ...]
    method: Method
    note: str = ""

    @property
    def mean_square(self) -> float:
        """M of this seed: the mean over the pre-activations."""
        return math.fsum(self.mean_squares) / len(self.mean_squares)


@dataclass(frozen=True)
class UpdateReport:
    """The maximal-update criterion of one network: S(eta) = eta^2 M, eta* = sqrt(c / M).

    Attributes:
        layers: The pre-activations, in the order of execution.
        mean_square_update: M, the arithmetic mean of the layers' mean-square updates [AM], mean
            over seeds; per squared unit of the learning rate.
        mean_square_interval: 95% interval of it by bootstrap over seeds; None with one seed.
        eta_star: Maximal-update learning rate, of the group that `lr_unit` names.
        eta_star_interval: 95% interval of it; None with one seed.
        by_seed: M of each seed.
        seeds: The seeds.
        c: Mean-square change that eta* makes.
        method: How the derivative was taken.
        note: Why not by the method that was asked for; "" where it was.
        pre_activations: Which pre-activations counted.
        after: Optimizer steps before the one that was measured.
        lr: Learning rate of those steps; None without.
        rounds: Rounds of the self-consistent form; 0 where it was not asked for.
        converged: Whether they reached a fixed point.
        cost_steps: Training steps' worth of gradients, over all seeds.
    """

    layers: tuple[LayerUpdate, ...]
    mean_square_update: float
    mean_square_interval: tuple[float, float] | None
    eta_star: float
    eta_star_interval: tuple[float, float] | None
    by_seed: tuple[float, ...]
    seeds: tuple[int, ...]
    c: float
    method: Method
    note: str
    pre_activations: PreActivations
    after: int = 0
    lr: float | None = None
    rounds: int = 0
    converged: bool = True
    cost_steps: int = field(default=0)

    def predicted(self, eta: float) -> float:
        """S(eta) = eta^2 M, to first order.

        Args:
            eta: Learning rate.

        Returns:
            Mean-square change of the pre-activations.

        Raises:
            MeasureError: The rate is negative or not finite.
        """
        if not (math.isfinite(eta) and eta >= 0):
            raise MeasureError(f"eta={eta}", "a finite rate of at least 0", "give another rate")
        return eta**2 * self.mean_square_update

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON-safe values."""
        return {
            "eta_star": _finite(self.eta_star),
            "eta_star_interval": _pair(self.eta_star_interval),
            "mean_square_update": _finite(self.mean_square_update),
            "mean_square_interval": _pair(self.mean_square_interval),
            "layers": [
                {
                    "module": layer.module,
                    "name": layer.name,
                    "mean_square_update": _finite(layer.mean_square_update),
                    "interval": _pair(layer.interval),
                    "second_moment": _finite(layer.second_moment),
                }
                for layer in self.layers
            ],
            "method": self.method,
            "note": self.note,
            "pre_activations": self.pre_activations,
            "seeds": list(self.seeds),
            "by_seed": [_finite(value) for value in self.by_seed],
            "c": self.c,
            "after": self.after,
            "lr": self.lr,
            "rounds": self.rounds,
            "converged": self.converged,
            "cost_steps": self.cost_steps,
        }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _pair(interval: tuple[float, float] | None) -> list[float | None] | None:
    return None if interval is None else [_finite(end) for end in interval]
