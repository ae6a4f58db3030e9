"""What a stability check found: moments by layer, a verdict, the layer that leaves the band."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["DepthStability", "Judged", "LayerMoments", "StabilityReport"]

Judged = Literal["both limits", "upper limit", "reference"]


@dataclass(frozen=True)
class LayerMoments:
    """Moments of the output of one weight layer or residual addition.

    Attributes:
        module: Dotted path of the module it ran in.
        kind: "weight layer" or "residual addition".
        parameters: Names of its weights; () for an addition.
        forward: Mean square of its output.
        gradient: Mean square of the loss's gradient with respect to it; None if none reaches it.
        forward_ratio: `forward` over that of the first layer.
        gradient_ratio: Squared norm of the gradient over that at the first layer; None likewise.
        judged: Which limits of the band it was held to.
        leaves: The moment that left the band, "forward" or "gradient"; None if none did.
    """

    module: str
    kind: str
    parameters: tuple[str, ...]
    forward: float
    gradient: float | None
    forward_ratio: float
    gradient_ratio: float | None
    judged: Judged
    leaves: Literal["forward", "gradient"] | None = None

    @property
    def name(self) -> str:
        """Module path and, for an addition, that it is one."""
        place = self.module or "(root)"
        return place if self.kind == "weight layer" else f"{self.kind} in {place}"

    def __str__(self) -> str:
        gradient = "none" if self.gradient_ratio is None else f"{self.gradient_ratio:.3g}"
        mark = f"  <- {self.leaves}" if self.leaves else ""
        return f"{self.forward_ratio:>10.3g}  {gradient:>10}  {self.name}{mark}"


@dataclass(frozen=True)
class StabilityReport:
    """Moments of all layers in the order of execution, and the verdict.

    Attributes:
        layers: One entry for each weight layer and residual addition.
        band: Limits of the ratios.
        notes: What was not judged, and why.
    """

    layers: tuple[LayerMoments, ...]
    band: tuple[float, float]
    notes: tuple[str, ...] = ()

    @property
    def stable(self) -> bool:
        """Whether no layer leaves the band."""
        return self.first_unstable is None

    @property
    def first_unstable(self) -> LayerMoments | None:
        """The first layer, in the order of execution, that leaves the band.

        Forward moments are looked at first: one that overflows spoils every gradient before it.
        """
        leaving = [layer for layer in self.layers if layer.leaves]
        forward = (layer for layer in leaving if layer.leaves == "forward")
        return next(forward, leaving[0] if leaving else None)

    @property
    def verdict(self) -> str:
        """The result in one sentence."""
        low, high = self.band
        layer = self.first_unstable
        if layer is None:
            return f"stable: {len(self.layers)} layers within {low:g} to {high:g}"
        ratio = layer.forward_ratio if layer.leaves == "forward" else layer.gradient_ratio
        return (
            f"unstable: the {layer.leaves} moment of {layer.name} is {ratio:.3g} times that of "
            f"the first layer, outside of {low:g} to {high:g}"
        )

    def __str__(self) -> str:
        head = f"{'forward':>10}  {'gradient':>10}  layer (ratios to the first)"
        return "\n".join((self.verdict, head, *map(str, self.layers), *self.notes))


@dataclass(frozen=True)
class DepthStability:
    """Stability over a range of depths.

    Attributes:
        reports: Depth and report, in the order given.
    """

    reports: tuple[tuple[int, StabilityReport], ...]

    @property
    def stable(self) -> bool:
        """Whether no layer leaves the band at any depth."""
        return self.first_unstable is None

    @property
    def first_unstable(self) -> tuple[int, LayerMoments] | None:
        """The first depth at which a layer leaves the band, and that layer."""
        for depth, report in self.reports:
            if report.first_unstable is not None:
                return depth, report.first_unstable
        return None
