"""What was tuned, what will be trained, and the settings at the base as all of it agrees."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from fnmatch import fnmatchcase
from functools import cached_property
from typing import TYPE_CHECKING, Final, get_args

import torch

from etastar.errors import OptimizerError, PlanError
from etastar.formatting import short_repr
from etastar.graph.capture import NetworkLike, graph_of
from etastar.laws import Architecture, ParamPair, Training
from etastar.naming import canonical_parameters, name_template
from etastar.optimizers import OptimizerKind
from etastar.parameter import ParamInfo, Role
from etastar.transfer.found_weights import model_of
from etastar.transfer.network_kind import network_features
from etastar.transfer.plan_record import BaseRecord, require_settings

if TYPE_CHECKING:
    from torch.optim import Optimizer


NO_DECAY: Final = ("bias", "norm")
"""Roles without weight decay where nothing else is said ([CP], Table 1; common practice)."""
ROLES: Final = get_args(Role)
_ROUNDING = 1e-9
_KEPT = ("aux_lr", "eps", "betas", "batch_size", "num_steps", "log_lr_sd")

_SHARED = ("weight_decay", "no_decay", "betas", "eps", "batch_size", "num_steps")


@dataclass(frozen=True)
class Tuned:
    """A network with the settings that were tuned on it.

    The rate holds for what it was tuned under: the same initialization, batch size, steps and
    schedule as the target will have. Of a model whose weights are as they were before training the
    plan's notes say where they differ from the target's, or from what the plan draws.

    Attributes:
        network: A graph, or (model, example inputs); see `NetworkLike`. A graph costs no
            second capture.
        lr: Its tuned learning rate.
        weight_decay: As the optimizer takes it, for all parameters; None for that of an optimizer
            instance, parameter by parameter, else 0.
        no_decay: What has none: roles and patterns of names, `("bias", "norm", "*.A_log")`, beside
            what the model marks itself. None for biases and norm gains; of an optimizer instance
            for what its groups say.
        betas: Of an Adam-like optimizer; None for the optimizer's own.
        eps: Epsilon; None for the optimizer's own. With Muon, AdamW's.
        batch_size: Examples (or tokens) in a batch; None if unknown.
        num_steps: Optimizer steps; None if unknown.
        log_lr_sd: Standard deviation of the logarithm of the tuned rate; None if unknown.
        aux_lr: With Muon, the learning rate tuned for the AdamW that updates all but the hidden
            matrices; refused otherwise.

    Raises:
        PlanError: A number is no valid setting.

    Example:
        >>> import torch
        >>> Tuned((torch.nn.Linear(2, 2), torch.zeros(1, 2)), 0.1, weight_decay=0.01).lr
        0.1
    """

    network: NetworkLike
    lr: float
    _: KW_ONLY
    weight_decay: float | None = None
    no_decay: Sequence[str] | None = None
    betas: tuple[float, float] | None = None
    eps: float | None = None
    batch_size: int | None = None
    num_steps: int | None = None
    log_lr_sd: float | None = None
    aux_lr: float | None = None
    __repr__ = short_repr

    def __post_init__(self) -> None:
        require_settings(self)
        if self.no_decay is None:
            return
        words = (self.no_decay,) if isinstance(self.no_decay, str) else self.no_decay
        if not isinstance(words, Sequence) or not all(isinstance(word, str) for word in words):
            raise PlanError(
                f"no_decay={self.no_decay!r}",
                "roles and patterns of names",
                "write no_decay=('bias', 'norm', '*.A_log') or the like; () for none",
            )
        object.__setattr__(self, "no_decay", tuple(words))


@dataclass(frozen=True)
class Target:
    """A network that is to be trained, with what is known of its training.

    Attributes:
        network: As for `Tuned`.
        batch_size: Examples (or tokens) in a batch; None if unknown.
        num_steps: Optimizer steps; None if unknown.
        eps: Epsilon of every parameter; None for the base's as the laws scale it. With Muon,
            AdamW's.

    Raises:
        PlanError: A number is no valid setting.
    """

    network: NetworkLike
    _: KW_ONLY
    batch_size: int | None = None
    num_steps: int | None = None
    eps: float | None = None
    __repr__ = short_repr

    def __post_init__(self) -> None:
        require_settings(self)


def read_architecture(network: NetworkLike, *, training: Training | None = None) -> Architecture:
    """Depth report and parameters of a network.

    Args:
        network: A graph; or a model and its example inputs.
        training: Batch size and steps; None where they are not known.

    Returns:
        What the laws need to know of it.

    Raises:
        CaptureError: It is none of these, or the model could not be run on the inputs.
        DepthError: The network has no effective depth.
    """
    graph = graph_of(network)
    report = graph.depth()
    features = network_features(graph, report)
    return Architecture(report, graph.parameters, training or Training(), features)


def read_tuned(base: Tuned | Sequence[Tuned]) -> tuple[tuple[Tuned, Architecture], ...]:
    """The tuned networks with their architectures, the deepest last."""
    found = [
        (one, read_architecture(one.network, training=Training(one.batch_size, one.num_steps)))
        for one in _listed(base)
    ]
    found.sort(key=lambda item: (item[1].report.effective_depth, item[1].report.layer_longest_path))
    for name in _SHARED:
        values = list(dict.fromkeys(getattr(tuned, name) for tuned, _ in found))
        if len(values) > 1:
            raise PlanError(
                f"tuned networks that differ in {name}: {', '.join(map(str, values))}",
                "networks that were tuned alike, but for their learning rates",
                "give those of one setting; the deepest alone will do",
            )
    return tuple(found)


def _listed(base: object) -> Sequence[Tuned]:
    several = [base] if isinstance(base, Tuned) else base
    given = several if isinstance(several, Sequence) and not isinstance(several, str) else ()
    if not given or not all(isinstance(one, Tuned) for one in given):
        kinds = f" of {', '.join(type(one).__name__ for one in given)}" if given else ""
        raise PlanError(
            f"a base given as {type(base).__name__}{kinds}",
            "(network, learning rate) of a network that was tuned: Tuned(network, lr), or several",
            "pass plan_transfer(Tuned(network, lr), target, ...)",
        )
    return given


@dataclass(frozen=True)
class DecayAtBase:
    """Weight decay of every parameter at the base.

    Attributes:
        usual: Of a parameter that is not named.
        base: Of parameters of the base, by name.
        target: Of parameters of the target, by name: an instance may be the target's.
        without: Roles, and patterns of names, without decay beside what a model marks itself; None
            where the groups of an optimizer say everything.
    """

    usual: float
    base: Mapping[str, float] = field(default_factory=dict)
    target: Mapping[str, float] = field(default_factory=dict)
    without: tuple[str, ...] | None = None

    def of(self, pair: ParamPair) -> float:
        """Weight decay of a parameter; of one that the base lacks, that of its namesakes there."""
        if self.reason(pair.target):
            return 0.0
        if pair.target.name in self.target:
            return self.target[pair.target.name]
        if pair.base.name in self.base:
            return self.base[pair.base.name]
        alike = self._of_namesakes.get(name_template(pair.target.name), set())
        return min(alike) if len(alike) == 1 else self.usual

    @cached_property
    def _of_namesakes(self) -> Mapping[str, set[float]]:
        """What the base's parameters have, by names with their indices left open."""
        found: defaultdict[str, set[float]] = defaultdict(set)
        for name, decay in self.base.items():
            found[name_template(name)].add(decay)
        return found

    def reason(self, info: ParamInfo) -> str:
        """The role or pattern for which a parameter has no decay, or the model; "" for none."""
        if self.without is None:
            return ""
        for word in self.without:
            if info.role == word or any(fnmatchcase(n, word) for n in (info.name, *info.aliases)):
                return word
        return "marked by the model" if info.no_decay else ""

    def require_matches(self, pairs: Sequence[ParamPair]) -> None:
        """Refuse a pattern that fits no parameter: it would be dropped silently."""
        every = [info for pair in pairs for info in (pair.target, pair.base)]
        names = {name for info in every for name in (info.name, *info.aliases)}
        for pattern in self.without or ():
            if pattern not in ROLES and not any(fnmatchcase(n, pattern) for n in names):
                raise PlanError(
                    f"no_decay={pattern!r}, which fits no parameter",
                    f"roles ({', '.join(ROLES)}) or patterns of names, as '*.A_log'",
                    "write * for what varies, or leave the pattern out",
                )


def agreed_settings(
    tuned: Tuned,
    network: Architecture,
    kind: OptimizerKind,
    instance: Optimizer | None,
    target: Target,
) -> tuple[BaseRecord, DecayAtBase]:
    """The settings at the base, refused where the optimizer has others or does not have them.

    `kind` has the own settings of an instance, if one was given, which may hold the parameters of
    the base or of the target.
    """
    _refuse_lacking(tuned, kind, target)
    if instance is not None:
        _refuse_other(tuned, instance)
    usual = tuned.weight_decay if tuned.weight_decay is not None else kind.weight_decay or 0.0
    decay = DecayAtBase(float(usual), without=NO_DECAY)
    if instance is not None and tuned.weight_decay is None:
        decay = _decay_of_groups(instance, tuned, target, usual)
    if tuned.no_decay is not None:
        decay = replace(decay, without=tuple(tuned.no_decay))
    record = BaseRecord(
        depth=network.report.effective_depth,
        lr=float(tuned.lr),
        weight_decay=float(usual),
        **{name: getattr(tuned, name) for name in _KEPT},
    )
    return record, decay


def _refuse_lacking(tuned: Tuned, kind: OptimizerKind, target: Target) -> None:
    lacking = {
        "eps": (tuned.eps is not None or target.eps is not None, (kind.fallback or kind).eps),
        "betas": (tuned.betas is not None, (kind.fallback or kind).betas),
        "weight_decay": (bool(tuned.weight_decay), kind.weight_decay),
    }
    for name, (given, own) in lacking.items():
        if given and own is None:
            raise OptimizerError(
                f"{name}={getattr(tuned, name) or getattr(target, name, None)} for {kind.name}",
                f"no {name}: {kind.name} has none",
                f"leave {name} out",
            )
    if (tuned.aux_lr is not None) != (kind.fallback is not None):
        raise OptimizerError(
            f"aux_lr={tuned.aux_lr} for {kind.name}",
            "aux_lr with a Muon, and with one alone",
            "with a Muon, give the learning rate of the AdamW for embeddings, biases and readout",
        )


def _refuse_other(tuned: Tuned, instance: Optimizer) -> None:
    """An instance says what was tuned, and so does `Tuned`: they must say the same."""
    for name in ("lr", "weight_decay", "eps", "betas"):
        if (given := getattr(tuned, name)) is None:
            continue
        groups = (group[name] for group in instance.param_groups if name in group)
        found = [torch.as_tensor(own, dtype=torch.float64, device="cpu") for own in groups]
        wanted = torch.tensor(given, dtype=torch.float64)
        if not all(torch.allclose(own, wanted, _ROUNDING, 0) for own in found):
            shown = sorted({str(own.tolist()) for own in found})
            raise OptimizerError(
                f"{name}={given} tuned, and an optimizer with {name}={', '.join(shown)}",
                f"one {name}",
                f"leave {name} out of Tuned, give the optimizer's class, or make both agree"
                if name != "lr"
                else "give the optimizer's class, or an instance with the tuned learning rate",
            )


def _decay_of_groups(
    instance: Optimizer, tuned: Tuned, target: Target, usual: float
) -> DecayAtBase:
    groups = [(g["params"], float(g.get("weight_decay", 0.0))) for g in instance.param_groups]
    if len({decay for _, decay in groups}) == 1:
        return DecayAtBase(float(usual))
    by_parameter = {id(p): decay for parameters, decay in groups for p in parameters}
    found: defaultdict[str, dict[str, float]] = defaultdict(dict)
    for place, network in (("base", tuned.network), ("target", target.network)):
        if (model := model_of(network)) is not None:
            named = canonical_parameters(model).items()
            found[place] = {n: by_parameter[id(p)] for n, p in named if id(p) in by_parameter}
    if not any(found.values()):
        raise PlanError(
            "an optimizer whose groups differ in weight decay, of a model that was not given",
            "the optimizer of the base or of the target, that network given as (model, inputs)",
            "give the model, or one weight decay as Tuned(..., weight_decay=...)",
        )
    return DecayAtBase(float(usual), found["base"], found["target"])
