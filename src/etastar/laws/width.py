"""The width rule of the maximal update parametrization."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Final, Literal, final

from etastar.errors import LawError
from etastar.formatting import number
from etastar.laws.base import Effect, Factors, Law, ParamPair, TransferCase
from etastar.optimizers import OptimizerKind, ShapeRule
from etastar.parameter import ParamInfo
from etastar.typed import require_type

EmbeddingRule = Literal["mup", "large-vocabulary"]
DecayRule = Literal["kept", "1/width"]
AttentionRule = Literal["own", "1/d"]
KeysValuesRule = Literal["mup", "grouped"]
_RULES: Final = {
    "embedding": EmbeddingRule,
    "decay": DecayRule,
    "attention": AttentionRule,
    "keys_values": KeysValuesRule,
}

_LARGE: Final = 8  # rows of a table per feature (a choice; Llama 2 of 7B has 8, GPT-2 has 65)


@final
@dataclass(frozen=True)
class Width(Law):
    """muP: every layer's output and its change keep their size as the width grows.

    With n_in and n_out the ratios target / base of a weight's fan-in (in channels) and of its
    output units:

    | role | SGD lr | Adam-like lr | spectral lr | relative lr |
    | --- | --- | --- | --- | --- |
    | input weight, embedding, bias, norm | n_out | 1 | sqrt(n_out) / own rule | 1 |
    | hidden weight | n_out / n_in | 1 / n_in | sqrt(n_out / n_in) / own rule | n_in^(-1/2) |
    | output weight | 1 / n_in | 1 / n_in | sqrt(1 / n_in) / own rule | 1 |

    An input weight whose inputs grow (features of time, as many as the width) has the hidden rule.

    Muon, SOAP, Shampoo and Scion step a matrix to a spectral norm that does not depend on the
    gradient's; it should be proportional to sqrt(n_out / n_in), so that the optimizer's own factor
    of the shape is divided out at both sizes. What Muon leaves to AdamW has AdamW's rule, as have
    SOAP's vectors.

    A relative step is lr times the weight's own size, so that the Adam rule is divided by that size
    at initialization: n_in^(-1/2) of a hidden weight, 1 / n_in of the readout.

    The readout is a layer with the output multiplier 1 / n_in whose own weights keep the base's
    variance: std x n_in^(-1/2) relative to an initialization of variance 1 / fan_in, and weight
    decay as `fold_multiplier` derives. A network that divides its logits itself, by numbers that
    differ between base and target, gets what is left of the multiplier. Of a weight-normalized one
    the gain has it too, and goes as a row's norm, n_in^(1/2) times an element. One whose weight is
    normalized without gain, masked or bent has the hidden rule. Other weights, initialized with
    variance 1 / fan_in, are right as they are. lr x wd of each layer's own weights stays, coupled
    or not, as in the authors' package.

    Epsilon of an Adam-like optimizer follows the gradient's size, 1 / n_out; that of the readout's
    own weights stays, 1 with its multiplier folded in. A norm of queries or keys whose heads keep
    their size has n_out 1. [TP5] leaves epsilon alone, which is this rule where epsilon is small.
    SOAP's follows the gradient in its eigenbasis, the inverse of its rate.

    Attention logits are divided by the root of a head's size in most networks and should be by the
    size, which is the same where heads keep their size and grow in number; see `attention`.

    Args:
        embedding: "large-vocabulary": lr of looked-up tables x n_out^(-1/2) for Adam-like
            optimizers, where the vocabulary is much larger than the width (2506.15025).
        attention: "1/d": what makes the queries (or the gain of their norm) carries what the
            network's own scale leaves of 1 / head size; queries of a weight of their own [TP5].
        keys_values: "grouped": lr of what makes keys and values x (1 + r^(1/2)), relative to the
            base, r the heads of queries for each of theirs, for Adam-like optimizers (2605.15290).
        decay: "1/width": lr x decay, the shrink of a step, x 1 / n instead of x 1, where the tokens
            grow with the parameters (compute-optimal runs, 2512.05620); beside no law of duration.

    Raises:
        LawError: An option is none of these, or no parameter can carry the attention's factor.

    Example:
        >>> Width(decay="1/width").options
        {'decay': '1/width'}

    Source: [TP5], Tables 3 and 8, Definition 4.1; epsilon: [CP], Table 1; spectral: arXiv
    2512.05620 (its code has the table), 2603.00541, 2602.20937; Scion's own rule: 2502.07529.
    """

    embedding: EmbeddingRule = "mup"
    decay: DecayRule = "kept"
    attention: AttentionRule = "own"
    keys_values: KeysValuesRule = "mup"

    name: ClassVar[str] = "width"
    effects: ClassVar[frozenset[Effect]] = frozenset({"width"})
    named_if_set: ClassVar[frozenset[str]] = frozenset(_RULES)

    def __post_init__(self) -> None:
        for name, rule in _RULES.items():
            require_type(name, getattr(self, name), rule, error=LawError)

    def factors(self, pair: ParamPair, case: TransferCase) -> Factors:
        """See `Law.factors`."""
        role = pair.target.role
        is_readout = role == "output" or (role == "norm" and pair.fan_in_ratio != 1)
        is_readout = is_readout and pair.target.affine
        found = (_readout if is_readout else _others)(pair, case.optimizer)
        if self.embedding != "mup" and role == "embedding" and case.optimizer.update == "adam":
            lr = pair.units_ratio**-0.5
            found = replace(found, lr=lr, weight_decay=1 / lr)
        makes = pair.target.attention and pair.target.attention.makes
        if self.attention == "1/d" and makes == "queries":
            found = replace(found, multiplier=found.multiplier * _scores_left(pair))
        if self.keys_values == "grouped" and case.optimizer.update == "adam":
            found = found * Factors(lr=(by := _grouped(pair)), weight_decay=1 / by)
        if self.decay == "1/width":
            n = pair.fan_in_ratio if role in ("hidden", "output") else pair.units_ratio
            found = replace(found, weight_decay=found.weight_decay / n)
        return found

    def check(self, pairs: Sequence[ParamPair]) -> None:
        """See `Law.check`: the attention's factor has a place."""
        for pair in pairs if self.attention == "1/d" else ():
            part = pair.target.attention
            lacks = part and (
                part.makes == "several" or (part.makes == "queries" and not pair.target.affine)
            )
            if lacks and _scores_left(pair) != 1:
                raise LawError(
                    f"attention='1/d' for {pair.target.name!r}, which makes more than the queries, "
                    "or queries normalized without gain, or of a weight that takes no factor",
                    "queries from a weight of their own, or a gain on their norm",
                    "divide the scores by the head's size in the network itself (scale=1 / size), "
                    "or keep the size of heads",
                )

    def notes(self, case: TransferCase) -> Iterator[str]:
        """See `Law.notes`: options that matter here and were not asked for, or have no rule."""
        base = {info.name: info for info in case.base.parameters}
        pairs = [ParamPair(base[p.name], p) for p in case.target.parameters if p.name in base]
        left = [_scores_left(pair) for pair in pairs]
        if self.attention == "own" and (off := next((x for x in left if x != 1), None)):
            yield (
                f"the size of heads changes: muP wants the attention's scores x {number(off)} "
                "beside the network's own scale, which width=Width(attention='1/d') does"
            )
        readouts = [p for p in pairs if p.target.role == "output" and p.fan_in_ratio != 1]
        for name in (pair.target.name for pair in readouts if not pair.target.affine):
            yield (
                f"no factor on {name} is sure to reach the readout that it makes (a norm, a "
                "mask): it has the rate of a hidden weight, and its multiplier over width is left "
                "out"
            )
        grouped = [pair.target for pair in pairs if _grouped(pair) != 1]
        tables = [pair.target for pair in pairs if _has_large_vocabulary(pair)]
        for infos, option, rule, paper in (
            (grouped, self.keys_values, "keys_values='grouped'", "2605.15290"),
            (tables, self.embedding, "embedding='large-vocabulary'", "2506.15025"),
        ):
            kinds = {case.optimizer.for_parameter(info).update for info in infos}
            named = ", ".join(info.name for info in infos[:1])
            if option == "mup" and "adam" in kinds:
                yield (
                    f"{named}{' and others' * (len(infos) > 1)}: {paper} has another rate, which "
                    f"width=Width({rule}) takes"
                )
            elif option != "mup" and kinds - {"adam"}:
                yield f"{rule} is a rule for Adam's kind, and left out where another steps"


def _has_large_vocabulary(pair: ParamPair) -> bool:
    info = pair.target
    is_table = info.role == "embedding" and info.layer_type == "embedding"
    return is_table and pair.units_ratio != 1 and info.shape[0] >= _LARGE * info.shape[-1]


def _scores_left(pair: ParamPair) -> float:
    """What the network's own scale leaves to do of 1 / head size, target over base."""
    base, target = pair.base.attention, pair.target.attention
    if base is None or target is None:
        return 1.0
    left = (base.head_size / target.head_size) / (target.scale / base.scale)
    return 1.0 if math.isclose(left, 1.0, rel_tol=1e-9) else left


def _grouped(pair: ParamPair) -> float:
    both = [
        1 + math.sqrt(p.attention.repeats if p.attention else 1) for p in (pair.base, pair.target)
    ]
    return both[1] / both[0]


def _others(pair: ParamPair, optimizer: OptimizerKind) -> Factors:
    rate, eps = _rate(pair, optimizer), 1.0
    if optimizer.update == "adam":
        eps = 1 / pair.units_ratio
    elif optimizer.shape_rule == "eigenbasis":
        eps = 1 / rate
    return Factors(lr=rate, weight_decay=1 / rate, eps=eps)


def _readout(pair: ParamPair, optimizer: OptimizerKind) -> Factors:
    n = pair.fan_in_ratio
    rate, eps = 1.0, 1.0
    if optimizer.update == "sgd":
        rate = n
    elif optimizer.update == "adam":
        eps = 1 / n  # the multiplier, folded in, takes it back
        rate = math.sqrt(n) if pair.target.role == "norm" else 1.0  # a gain is a row's norm
    elif optimizer.update == "muon":
        rate = math.sqrt(n / _own_squared(pair, optimizer.shape_rule))
        eps = 1 / math.sqrt(n) if optimizer.shape_rule == "eigenbasis" else 1.0
    return Factors(
        multiplier=pair.beside_own(1 / n),
        init=math.sqrt(n),
        lr=rate,
        weight_decay=1 / rate,
        eps=eps,
    )


def _rate(pair: ParamPair, optimizer: OptimizerKind) -> float:
    has_fan_in = pair.target.role in ("input", "hidden", "output")
    n_out, n_in = pair.units_ratio, pair.fan_in_ratio if has_fan_in else 1.0
    if optimizer.update == "sgd":
        return n_out / n_in
    if optimizer.update == "muon":
        return math.sqrt(n_out / n_in / _own_squared(pair, optimizer.shape_rule))
    return 1 / (n_in if optimizer.update == "adam" else math.sqrt(n_in))


def _own_squared(pair: ParamPair, rule: ShapeRule) -> float:
    """Square of the optimizer's own factor, target over base."""
    return _squared(pair.target, rule) / _squared(pair.base, rule)


def _squared(info: ParamInfo, rule: ShapeRule) -> float:
    rows, columns = info.shape[0] if info.shape else 1, math.prod(info.shape[1:])
    if rule == "match_rms_adamw":
        return max(rows, columns)
    if rule == "spectral":  # Scion's own factor for the taps of a kernel is left as it is
        return rows * math.prod(info.kernel_size) / columns
    return max(1, rows / columns) if rule == "original" else 1.0
