"""What was given and no law of a plan uses, in sentences for its notes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from etastar.formatting import number

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from etastar.laws import Architecture, Law, Reads
    from etastar.transfer.tuned import Tuned

__all__ = ["unread"]

_OF_TRAINING = frozenset({"batch size", "duration", "width"})


def unread(
    tuned: Sequence[tuple[Tuned, Architecture]],
    target: Architecture,
    read: frozenset[Reads],
    laws: Sequence[Law],
) -> Iterator[str]:
    """Tuned networks, a batch size, steps or a depth that the laws do not look at.

    Args:
        tuned: What was tuned, the base of the plan last.
        target: The target.
        read: Evidence that the laws were made from.
        laws: The laws of the plan.

    Yields:
        A sentence for each.
    """
    start, base = tuned[-1]
    if len(tuned) > 1 and "points" not in read:
        yield (
            f"{len(tuned)} tuned networks: the law starts from the deepest, effective depth "
            f"{base.report.effective_depth} with lr {number(start.lr)}; the others are not used"
        )
    effects = frozenset().union(*(law.effects for law in laws))
    ours, theirs = target.training, base.training
    by_batch = "batch size" in effects
    # at equal data the law of the batch size is all there is to do
    by_steps = "duration" in effects or (by_batch and ours.examples == theirs.examples)
    for words, pair, corrected, law in (
        ("batch size", (theirs.batch_size, ours.batch_size), by_batch, "batch-size"),
        ("steps", (theirs.num_steps, ours.num_steps), by_steps, "duration"),
    ):
        if None not in pair and pair[0] != pair[1] and not corrected:
            yield (
                f"{words} {pair[0]} to {pair[1]}: no law of this plan corrects for it; {law!r} "
                "would, beside the others"
            )
    depths = [network.report.effective_depth for network in (base, target)]
    if depths[0] != depths[1] and all(law.effects and law.effects <= _OF_TRAINING for law in laws):
        yield (
            f"effective depth {depths[0]} to {depths[1]}: no law of this plan corrects for it; "
            "name one, or 'auto', beside the others"
        )
