"""What the papers claim of the slope of the best rate over depth, beside what the families say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from studies.records import Claim
from studies.verdicts import verdict_of

if TYPE_CHECKING:
    from studies.families.curves import Exponent
    from studies.records import Verdict

_NORMAL: Final = 1.96


@dataclass(frozen=True)
class PaperClaim:
    """A slope that was printed.

    Attributes:
        setting: Of the paper.
        low: Steepest value that is claimed.
        high: Flattest; the same where one value is.
        source: Where it stands.
        families: Ours that are closest, with their parametrization; they differ in width, data and
            schedule.
    """

    setting: str
    low: float
    high: float
    source: str
    families: tuple[tuple[str, str], ...]


_OWN: Final = "own"
_SECOND_HAND: Final = "second-hand: reviews that quote [WU]'s Table 1"

CLAIMS: Final = (
    PaperClaim(
        *("any chain with SGD", -1.5, -1.5, "the abstracts of [WU], [AM] and [JE]"),
        (("mlp-relu", _OWN), ("mlp-tanh", _OWN)),
    ),
    PaperClaim("CNN, SGD, CIFAR", -1.392, -1.339, _SECOND_HAND, (("cnn-relu", _OWN),)),
    PaperClaim(
        *("ResNet, SGD, 1/K, CIFAR-10", -1.567, -1.355, _SECOND_HAND),
        (("resnet-am", _OWN), ("resmlp-am", _OWN)),
    ),
    PaperClaim(
        *("ResNet with BatchNorm", -1.701, -1.701, _SECOND_HAND),
        (("resnet-bn", "stabilized"), ("resnet-bn", _OWN), ("resnet-bottleneck", _OWN)),
    ),
    PaperClaim("CNN, Adam", -1.207, -1.207, "the same, Table 3", (("cnn-adam", _OWN),)),
    PaperClaim(
        *("ViT, post-norm, three data sets", -1.441, -1.178, _SECOND_HAND),
        (("post-vit", "stabilized"), ("post-vit", _OWN), ("post-ln", _OWN)),
    ),
    PaperClaim("CCT", -1.45, -1.45, _SECOND_HAND, ()),
    PaperClaim(
        *("CaiT (LayerScale), left out of the print", -0.2, -0.2, "second-hand"),
        (("vit-scaled", _OWN), ("convnext", _OWN)),
    ),
    PaperClaim(
        *("pre-norm Transformers, Adam: no drift", 0.0, 0.0, "2603.00541"),
        (("gpt", _OWN), ("llama", _OWN), ("vit", _OWN)),
    ),
    PaperClaim(
        *("complete-p, Adam: one rate for all depths", 0.0, 0.0, "[CP]"),
        (("gpt", "complete-p"), ("llama", "complete-p"), ("vit", "complete-p")),
    ),
)
"""Of [AM] there are no slopes a set-up, and no paper trained a transferred rate."""


def claim_rows(found: Mapping[tuple[str, str], Exponent]) -> Iterable[tuple[str, ...]]:
    """A row for each claim and family: the slope by both counts, and the verdict by each.

    Args:
        found: Exponents by family and parametrization.

    Yields:
        Claim, source, claimed, family, slope by effective depth, verdict, slope by blocks, verdict.
    """
    for claim in CLAIMS:
        claimed = (
            f"{claim.low:g}" if claim.low == claim.high else f"{claim.low:g} to {claim.high:g}"
        )
        head = (claim.setting, claim.source, claimed)
        if not claim.families:
            yield (*head, "no family", *("-",) * 4)
        for name, parametrization in claim.families:
            label = name if parametrization == _OWN else f"{name}, {parametrization}"
            exponent = found.get((name, parametrization))
            if exponent is None:
                yield (*head, label, *("not run",) * 4)
                continue
            slopes = ((exponent.value, exponent.sd), (exponent.by_blocks, exponent.by_blocks_sd))
            cells = (
                (f"{value:.2f} ± {_NORMAL * sd:.2f}", _verdict(claim, value, sd, exponent))
                for value, sd in slopes
            )
            yield (*head, label, *(cell for pair in cells for cell in pair))


def _verdict(claim: PaperClaim, value: float, sd: float, exponent: Exponent) -> Verdict:
    """The nearest value of the claimed range against the 95% interval."""
    if not exponent.well_posed:
        return "undecided"
    nearest = min(max(value, claim.low), claim.high)
    interval = (value - _NORMAL * sd, value + _NORMAL * sd)
    stated = Claim(claim.setting, claim.source, exponent.family, nearest)
    return verdict_of(stated, interval)[0]
