"""What the initial weights of base and target say: their size, and the power of K in them.

A network is read where it is given as a model with real weights; no forward pass is made. Of a
large tensor an even sample is taken, so that reading costs next to nothing.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

import torch
from torch import nn

from etastar.laws import ParamPair
from etastar.naming import canonical_parameters, name_template, separated_indices
from etastar.parameter import ParamInfo

_SAMPLED: Final = 1 << 16  # elements of one tensor; the relative error of a variance is 0.6%
_ROUNDING: Final = 1e-7  # of a mean of equal numbers, relative
_FAR, _LONE = 16.0, 1e-4  # mean sizes, and share of the values, of what was drawn beyond its spread
_CERTAIN: Final = 3.0  # standard errors within which a power of K is taken for 0 or 1


@dataclass(frozen=True)
class Spread:
    """The values of like parameters of one network; of a gain read as w + c, those of w + c.

    Attributes:
        variance: Variance about the mean; 0 of a constant.
        size: Mean absolute value.
        elements: Number of values that were read.
    """

    variance: float
    size: float
    elements: int

    @property
    def std(self) -> float:
        """Standard deviation."""
        return math.sqrt(self.variance)


@dataclass(frozen=True)
class FoundWeights:
    """Parameters that have one place in the network, over all blocks, at both sizes.

    Where names occur at both sizes, those alone are read: an initialization may depend on the
    number of the block.

    Attributes:
        names: Names in the target.
        pair: One of them with its counterpart, for role, fans and branch.
        base: Values in the base; None where it holds none, or they are frozen.
        target: Values in the target; None likewise.
        fan_power: 1 where the variance goes as 1/fan_in, 0 where it is the same at any width: what
            explains more of the two networks' weights, 1 if both do or none.
    """

    names: tuple[str, ...]
    pair: ParamPair
    base: Spread | None
    target: Spread | None
    fan_power: Literal[0, 1] = 1

    @property
    def log_fans(self) -> float:
        """log(fan_in_target / fan_in_base)."""
        return math.log(self.pair.target.fan_in / self.pair.base.fan_in)

    @property
    def log_k(self) -> float:
        """log(K_target / K_base) of its residual stream; 0 outside of branches."""
        ks = self.pair.target.stream_additions, self.pair.base.stream_additions
        return math.log(ks[0] / ks[1]) if min(ks) > 0 else 0.0

    @property
    def log_ratio(self) -> float | None:
        """log(Var_target / Var_base) + fan_power log_fans; None without both variances."""
        if self.base is None or self.target is None:
            return None
        if not (self.base.variance > 0 and self.target.variance > 0):
            return None
        of_width = self.fan_power * self.log_fans
        return math.log(self.target.variance / self.base.variance) + of_width

    @property
    def error(self) -> float:
        """Standard error of `log_ratio`: (2 / n_base + 2 / n_target)^(1/2), of normal weights."""
        read = (spread for spread in (self.base, self.target) if spread is not None)
        return math.sqrt(sum(2 / spread.elements for spread in read))

    @property
    def power(self) -> float | None:
        """Power p of 1/K in the variance of a branch's weight; None where it shows none.

        p = -log_ratio / log(K_target / K_base), taken for 0 or 1 within three standard errors.
        Weights that are zero or constant, networks of (nearly) equal K, and so few weights that 0
        and 1 are not apart show none.

        Source: docs/definitions.md, section 4.
        """
        if not self.pair.target.is_weight or self.log_k == 0 or self.log_ratio is None:
            return None
        power, reach = 0.0 - self.log_ratio / self.log_k, _CERTAIN * self.error / abs(self.log_k)
        if reach > 1 / 2:
            return None
        near = abs(power - round(power)) <= reach and round(power) in (0, 1)
        return float(round(power)) if near else power

    @property
    def is_plain(self) -> bool:
        """Whether its ratio is one that `fan_power` and a power of 0 or 1 explain."""
        if self.log_k:
            return self.power in (0.0, 1.0)
        return self.log_ratio is not None and abs(self.log_ratio) <= _CERTAIN * self.error


def model_of(network: object) -> nn.Module | None:
    """The model of a network as `Tuned` takes it; None of a graph."""
    match network:
        case (nn.Module() as model, _):
            return model
    return None


def found_weights(
    base: object, target: object, pairs: Sequence[ParamPair]
) -> tuple[FoundWeights, ...]:
    """The weights of two networks as they are, like parameters together; () if neither has any.

    What is not (model, example inputs) holds no weights. `pairs` are those of `match_parameters`.
    """
    models = model_of(base), model_of(target)
    if models == (None, None):
        return ()
    theirs, ours = (_values(model) for model in models)
    read = separated_indices([p.base.name for p in pairs], [p.target.name for p in pairs])
    places: defaultdict[tuple[object, ...], list[ParamPair]] = defaultdict(list)
    for pair in pairs:
        base, target = pair.base, pair.target
        fans = base.fan_in, target.fan_in, base.fan_out, target.fan_out
        sizes = *fans, base.stream_additions, target.stream_additions
        place = target.role, target.branch_position, target.branch_last
        places[name_template(read[target.name]), target.stream, sizes, place].append(pair)
    found = [_found(members, theirs, ours) for members in places.values()]
    same_std = [replace(one, fan_power=0) for one in found]
    widened = [n for n, one in enumerate(found) if one.pair.target.is_weight and one.log_fans]
    plain = [sum(rule[n].is_plain for n in widened) for rule in (found, same_std)]
    return tuple(found if plain[0] >= plain[1] else same_std)


def _values(model: nn.Module | None) -> dict[str, nn.Parameter]:
    """Parameters with values that are trained; what is frozen was not drawn for this network."""
    if model is None:
        return {}
    return {
        name: parameter
        for name, parameter in canonical_parameters(model).items()
        if parameter.is_floating_point()
        and parameter.requires_grad
        and parameter.numel()
        and not (parameter.is_meta or hasattr(parameter, "device_mesh"))
    }


def _found(
    pairs: Sequence[ParamPair],
    base: Mapping[str, nn.Parameter],
    target: Mapping[str, nn.Parameter],
) -> FoundWeights:
    shared = [pair for pair in pairs if pair.base.name == pair.target.name] or pairs
    return FoundWeights(
        names=tuple(pair.target.name for pair in pairs),
        pair=shared[0],
        base=_spread(base, [pair.base for pair in shared]),
        target=_spread(target, [pair.target for pair in shared]),
    )


def _spread(values: Mapping[str, nn.Parameter], infos: Iterable[ParamInfo]) -> Spread | None:
    offsets = {info.name: info.gain_offset for info in infos if info.name in values}
    read = [_typical(_sample(values[name])) + offset for name, offset in offsets.items()]
    total = sum(sample.numel() for sample in read)
    if not total:
        return None
    size = sum(float(sample.abs().sum()) for sample in read) / total
    variance = sum(float((sample - sample.mean()).square().sum()) for sample in read) / total
    return Spread(variance if variance > (_ROUNDING * size) ** 2 else 0.0, size, total)


def _sample(parameter: nn.Parameter) -> torch.Tensor:
    flat = parameter.detach().reshape(-1)
    return flat[:: -(-flat.numel() // _SAMPLED)].to("cpu", torch.float64)


def _typical(sample: torch.Tensor) -> torch.Tensor:
    """The values without lone ones far out: a truncated normal may leave some."""
    sizes = (sample - sample.mean()).abs()
    near = sizes <= _FAR * sizes.mean()
    return sample[near] if (~near).sum() <= _LONE * len(sample) else sample


def powers_of_branches(found: Iterable[FoundWeights]) -> tuple[float, float] | None:
    """Power of 1/K in the variance of the inner and of the last weights of residual branches.

    The smallest of each, as `Structure.with_powers` takes them; 0 where the one or the other shows
    none (a last weight that starts at zero). None where no weight shows one.
    """
    known = [(one.pair.target.branch_last, one.power) for one in found if one.power is not None]
    if not known:
        return None
    inner, last = (
        min((power for is_last, power in known if is_last is which), default=0.0)
        for which in (False, True)
    )
    return inner, last
