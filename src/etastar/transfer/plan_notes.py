"""What a plan says beside its numbers: factors that are not its own, decay, what is not used."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Final

from etastar.formatting import name_pattern, number, shorten_middle
from etastar.laws import Architecture, Law, ParamPair, Reads, TransferCase
from etastar.optimizers import OPTIMIZERS, OptimizerKind
from etastar.transfer.plan_record import ParamPlan
from etastar.transfer.tuned import NO_DECAY, ROLES, DecayAtBase, Tuned

_NAMES: Final = 60  # characters
_LONG: Final = 100_000  # steps of a run that states none (a choice)
_OF_TRAINING: Final = frozenset({"batch size", "duration", "width"})


def notes_on_ties(pairs: Sequence[ParamPair], tied: Sequence[str]) -> Iterator[str]:
    """Tables that are readouts too, where the width changes and a width rule is in force."""
    for pair in pairs:
        if pair.target.name in tied and pair.units_ratio != 1:
            yield (
                f"{pair.target.name} is embedding and readout in one: treated as an embedding, the "
                "readout's multiplier over width cannot be applied"
            )


def notes_on_multipliers(
    pairs: Sequence[ParamPair],
    laws: Sequence[Law],
    case_of: Callable[[ParamPair], TransferCase],
) -> Iterator[str]:
    """Constant factors in the forward pass that are others at base and target.

    A sentence for each ratio of factors and what the laws make of it.
    """
    found: defaultdict[str, list[str]] = defaultdict(list)
    for pair in pairs:
        if not math.isclose(pair.own_ratio, 1.0, rel_tol=1e-9):
            found[_said(pair, laws, case_of(pair))].append(pair.target.name)
    for said, names in found.items():
        yield f"the network itself multiplies what {name_pattern(names)} makes {said}"


def _said(pair: ParamPair, laws: Sequence[Law], case: TransferCase) -> str:
    """By how much, and what is left of the multipliers of laws that have one there."""
    change = f"by {number(pair.own_ratio)} from base to target"
    alone = replace(pair, own_ratio=1.0)
    counted = []
    for law in laws:
        full, left = (law.factors(one, case).multiplier for one in (alone, pair))
        if full != left:
            counted.append((law.name, full, left))
    if not counted:
        return f"{change}: no law of this plan takes that into account"
    named, every_full, every_left = zip(*counted, strict=True)
    names, full, left = " x ".join(named), math.prod(every_full), math.prod(every_left)
    rest = "nothing is left to apply" if left == 1 else f"{number(left)} is left to apply"
    return f"{change}: of the multiplier {number(full)} of {names} {rest}"


def decay_notes(
    decay: DecayAtBase, pairs: Sequence[ParamPair], entries: Sequence[ParamPlan]
) -> Iterator[str]:
    """What has no weight decay, and what has it and had better not; nothing without any decay."""
    if decay.usual > 0 and decay.without is not None:
        off: defaultdict[str, list[str]] = defaultdict(list)
        for pair in pairs:
            off[decay.reason(pair.target)].append(pair.target.name)
        said = [
            f"{len(names)} of role {word}" if word in ROLES else f"{_shown(names)} ({word})"
            for word, names in off.items()
            if word
        ]
        if said:
            yield f"no weight decay on {', '.join(said)}"
    if decay.without is None:
        usually = [
            pair.target.name
            for pair in pairs
            if (pair.target.role in NO_DECAY or pair.target.no_decay) and decay.of(pair) > 0
        ]
        if usually:
            yield (
                f"weight decay on {_shown(usually)}, as in the groups of the optimizer; usual is "
                f"none there: Tuned(..., no_decay={NO_DECAY})"
            )
    undone = [e.name for e in entries if e.gain_offset and e.init != 1 and e.weight_decay > 0]
    if undone:
        yield (
            f"weight decay pulls {_shown(undone)}, read as 1 + w, to a factor of 1 and so undoes "
            "its multiplier over time: take it out by no_decay"
        )


def notes_on_cap(
    optimizer: OptimizerKind, entries: Sequence[ParamPlan], num_steps: int | None
) -> Iterator[str]:
    """Rates that torch's Adafactor, whose step t has at most t^(-1/2), cuts within the run."""
    rates = {entry.lr for entry in entries}
    highest = max(rates)
    is_capped = optimizer.source == OPTIMIZERS["adafactor"].source
    if is_capped and len(rates) > 1 and highest > (num_steps or _LONG) ** -0.5:
        yield (
            f"torch.optim.Adafactor takes no rate above t^(-1/2) at step t: {number(highest)} "
            f"is cut from step {highest**-2:.0f} on, unless the schedule is below it, and with it "
            "the ratio between the groups"
        )


def _shown(names: Sequence[str]) -> str:
    return shorten_middle(name_pattern(names), _NAMES)


def unread(
    tuned: Sequence[tuple[Tuned, Architecture]],
    target: Architecture,
    read: frozenset[Reads],
    laws: Sequence[Law],
) -> Iterator[str]:
    """Tuned networks, a batch size, steps or a depth that the laws do not look at.

    `tuned` has the plan's base last, `read` is the evidence that the laws were made from.
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
