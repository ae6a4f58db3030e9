"""What was tuned, and what will be trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, replace
from typing import TYPE_CHECKING

from etastar.errors import PlanError
from etastar.formatting import short_repr
from etastar.graph.capture import NetworkLike, graph_of
from etastar.laws import Architecture, Training
from etastar.transfer.network_kind import network_features
from etastar.transfer.plan_record import require_settings

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Target", "Tuned", "read_architecture", "read_tuned"]

_SHARED = ("weight_decay", "no_decay", "betas", "eps", "batch_size", "num_steps")
_ALLOWED = "(network, learning rate) of a network that was tuned: Tuned(network, lr), or several"


@dataclass(frozen=True)
class Tuned:
    """A network with the settings that were tuned on it.

    The rate holds for what it was tuned under: the same initialization, batch size, steps and
    schedule as the target will have. Of a model whose weights are as they were before training the
    plan's notes say where they differ from the target's, or from what the plan draws.

    Attributes:
        network: A graph, or (model, example inputs); see `NetworkLike`. A graph or an architecture
            that was read before costs no second capture.
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

    network: NetworkLike | Architecture
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

    network: NetworkLike | Architecture
    _: KW_ONLY
    batch_size: int | None = None
    num_steps: int | None = None
    eps: float | None = None
    __repr__ = short_repr

    def __post_init__(self) -> None:
        require_settings(self)


def read_architecture(
    network: NetworkLike | Architecture, *, training: Training | None = None
) -> Architecture:
    """Depth report and parameters of a network.

    Args:
        network: A graph; or a model and its example inputs; or an architecture already read.
        training: Batch size and steps; None for those of an architecture, else unknown.

    Returns:
        What the laws need to know of it.

    Raises:
        CaptureError: It is none of these, or the model could not be run on the inputs.
        DepthError: The network has no effective depth.
    """
    given = training or Training()
    if isinstance(network, Architecture):
        return network if given == Training() else replace(network, training=given)
    graph = graph_of(network)
    return Architecture(graph.depth(), graph.parameters, given, network_features(graph))


def read_tuned(base: Tuned | Sequence[Tuned]) -> tuple[tuple[Tuned, Architecture], ...]:
    """The tuned networks, the deepest last.

    Args:
        base: As `plan_transfer` takes it.

    Returns:
        Each with its architecture.

    Raises:
        PlanError: It is none, or several differ in another setting than the learning rates.
    """
    found = sorted(
        ((tuned, _architecture(tuned)) for tuned in _listed(base)),
        key=lambda item: (item[1].report.effective_depth, item[1].report.layer_longest_path),
    )
    for name in _SHARED:
        values = list(dict.fromkeys(getattr(tuned, name) for tuned, _ in found))
        if len(values) > 1:
            raise PlanError(
                f"tuned networks that differ in {name}: {', '.join(map(str, values))}",
                "networks that were tuned alike, but for their learning rates",
                "give those of one setting; the deepest alone will do",
            )
    return tuple(found)


def _architecture(tuned: Tuned) -> Architecture:
    return read_architecture(tuned.network, training=Training(tuned.batch_size, tuned.num_steps))


def _listed(base: object) -> Iterator[Tuned]:
    several = [base] if isinstance(base, Tuned) else base
    if not isinstance(several, Sequence) or isinstance(several, str) or not several:
        raise PlanError(f"a base given as {_described(base)}", _ALLOWED, "pass Tuned(network, lr)")
    for one in several:
        if not isinstance(one, Tuned):
            raise PlanError(
                f"a tuned network given as {_described(one)}",
                _ALLOWED,
                "pass plan_transfer(Tuned(network, lr), target, ...)",
            )
        yield one


def _described(base: object) -> str:
    if isinstance(base, (tuple, list)):
        return f"({', '.join(type(item).__name__ for item in base)})"
    return type(base).__name__
