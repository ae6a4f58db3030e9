"""Moments of all layers beside the band that they are to lie in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from etastar.formatting import Shown, number, shorten_middle

if TYPE_CHECKING:
    from rich.console import Group

__all__ = ["STABLE_BAND", "LayerMoments", "StabilityReport"]

STABLE_BAND: Final = (0.1, 10.0)
"""Of the ratios: one decade either way."""

_WIDTH = 56  # characters of a layer's name


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
        gradient_ratio: Squared norm of the gradient over that at the first addition of the same
            residual stream, or at the first layer; None where none reaches it.
        leaves: The moment that left the band, "forward" or "gradient"; None if none did.
    """

    module: str
    kind: str
    parameters: tuple[str, ...]
    forward: float
    gradient: float | None
    forward_ratio: float
    gradient_ratio: float | None
    leaves: Literal["forward", "gradient"] | None = None

    @property
    def name(self) -> str:
        """Module path and, for an addition, that it is one."""
        place = self.module or "(root)"
        return place if self.kind == "weight layer" else f"{self.kind} in {place}"


@dataclass(frozen=True)
class StabilityReport(Shown):
    """Moments of all layers in the order of execution, and the verdict.

    Attributes:
        layers: One entry for each weight layer and residual addition.
        notes: What was not judged, and why.
    """

    layers: tuple[LayerMoments, ...]
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
        low, high = STABLE_BAND
        layer = self.first_unstable
        if layer is None:
            return f"stable: {len(self.layers)} layers within {low:g} to {high:g}"
        ratio = layer.forward_ratio if layer.leaves == "forward" else layer.gradient_ratio
        name = shorten_middle(layer.name, _WIDTH)
        return (
            f"unstable: the {layer.leaves} moment of {name} is {ratio:.3g} times that of "
            f"the first layer, outside of {low:g} to {high:g}"
        )

    def as_dict(self) -> dict[str, Any]:
        """The verdict and the fields as plain data for JSON."""
        return {"stable": self.stable, "verdict": self.verdict, **super().as_dict()}

    def __rich__(self) -> Group:
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False)
        for heading in ("forward", "gradient"):
            table.add_column(heading, justify="right", no_wrap=True)
        table.add_column("layer (ratios to the first)", no_wrap=True)
        for layer in self.layers:
            mark = f"  <- {layer.leaves}" if layer.leaves else ""
            ratio = "none" if layer.gradient_ratio is None else number(layer.gradient_ratio)
            name = shorten_middle(layer.name, _WIDTH - len(mark))
            table.add_row(number(layer.forward_ratio), ratio, Text(name + mark))
        return Group(Text(self.verdict), table, *map(Text, self.notes))
