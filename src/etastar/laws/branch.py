"""Where a law's branch multiplier can sit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from etastar.errors import LawError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from etastar.laws.base import ParamPair

__all__ = ["require_branch_scales"]


def require_branch_scales(pairs: Sequence[ParamPair], *, law: str) -> None:
    """Refuse a network where a branch's output has no parameters that scale it.

    Args:
        pairs: All parameters of the target with their counterparts in the base.
        law: Name of the law that needs the multiplier.

    Raises:
        LawError: The output of a branch is bent, normalized without gain, or made without
            parameters, and the number of branches of its stream changes.
    """
    for stream, additions in _scaled_streams(pairs).items():
        inside = [pair.target for pair in pairs if pair.target.stream == stream]
        scaled = {info.branch for info in inside if info.branch_scale}
        if missing := sorted(set(range(additions)) - scaled):
            names = [info.name for info in inside if info.branch == missing[0]]
            raise LawError(
                f"the law {law!r} for a network where {len(missing)} of {additions} residual "
                f"branches cannot carry a multiplier, first number {missing[0]} "
                f"({', '.join(names[:4]) or 'no parameters'})",
                "branches that end in a layer, or in a norm with gain",
                "choose another law, or end the branch with a layer or an affine norm",
            )


def _scaled_streams(pairs: Sequence[ParamPair]) -> dict[int, int]:
    """K of every stream whose number of branches changes."""
    return {
        pair.target.stream: pair.target.stream_additions
        for pair in pairs
        if pair.target.stream is not None and pair.stream_ratio != 1
    }
