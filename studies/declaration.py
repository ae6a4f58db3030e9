"""What an experiment is before it is run: families of networks, their sizes, and what is claimed.

A declaration is fixed in the experiment's file. Nothing in it depends on a result.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

from etastar.errors import TrialError
from etastar.graph import Graph
from etastar.sweep.recipe import Size
from etastar.sweep.search.base import Search

if TYPE_CHECKING:
    from torch import nn

    from studies.records import Claim

Scale = Literal["smoke", "cpu", "paper"]
"""`smoke` runs in seconds, `cpu` in minutes on real data, `paper` is the papers' protocol."""

Axis = Literal["effective-depth", "nominal-depth", "path-sum", "width"]
"""What an exponent is fitted in; see `studies.network`."""

Options = tuple[tuple[str, Any], ...]
"""Keyword arguments as sorted (name, value) pairs, so that a declaration can be hashed."""


def size(**values: int) -> Size:
    """A size of a network, as the sweep names it.

    Args:
        **values: Arguments of the network's factory.

    Returns:
        Sorted (name, value) pairs.

    Example:
        >>> size(width=64, depth=6)
        (('depth', 6), ('width', 64))
    """
    return tuple(sorted(values.items()))


@dataclass(frozen=True)
class Data:
    """A data set by name, with the options of its loader."""

    name: str
    options: Options = ()


@dataclass(frozen=True)
class OptimizerChoice:
    """An optimizer by name ("sgd", "adam", "adamw") with its options beside the learning rate."""

    name: str
    options: Options = ()


@dataclass(frozen=True)
class Parametrization:
    """Laws whose plan makes the parameter groups and scales the initialization of every size.

    The learning rate of a run is then the base's, carried by the plan.

    Attributes:
        law: A depth law by name.
        width: "mup" or "none".
        base: Size at which the plan changes nothing.
    """

    law: str
    base: Size
    width: Literal["mup", "none"] = "none"


@dataclass(frozen=True)
class Budget:
    """How long every run trains; its loss is the mean over all steps."""

    num_steps: int
    batch_size: int


class Network(Protocol):
    """Makes models of any size; hashable, picklable, and its `repr` says all that it does."""

    def __hash__(self) -> int:
        """Equal networks have equal hashes, in every process."""
        ...

    def build(self, **size: int) -> nn.Module:
        """A model with PyTorch's own initialization, drawn from the global random numbers."""
        ...

    def inputs(self, **size: int) -> tuple[Any, ...]:
        """Example inputs of that model, the same at every call."""
        ...


class Initialization(Protocol):
    """Sets the parameters of a fresh model; hashable, picklable, its `repr` says all it does."""

    def apply_(self, model: nn.Module, graph: Graph, *, family: Family, seed: int) -> None:
        """Set the parameters, in place.

        Args:
            model: Fresh from the network's factory.
            graph: Its graph.
            family: What it belongs to: data, optimizer and budget, for one that learns from them.
            seed: Of all that is drawn.
        """
        ...


@dataclass(frozen=True)
class Family:
    """One network at several sizes, all else fixed.

    Attributes:
        name: Unique in its study; names its runs in the store (with ':' for '/').
        group: Families of one group differ in the parametrization alone: a row of the regret table.
        network: Makes the model and its example inputs.
        data: What it is trained on.
        optimizer: With what.
        budget: How long, and what counts as loss.
        sizes: Sizes that are tuned, in this order.
        bases: Sizes from which rates are transferred, smallest first; a rule takes the first one,
            two or three.
        targets: Sizes to which they are transferred.
        search: How a size is tuned.
        seeds: Of initialization and batch order.
        initialization: What the parameters are set to.
        parametrization: None for one learning rate for all parameters.
        axes: What exponents are fitted in; the first is the axis of the figure.
        rules: Names of the transfer rules that are tried; None for all that apply.

    Raises:
        TrialError: A base or target is not among the sizes, or a base is missing.
    """

    name: str
    group: str
    network: Network
    data: Data
    optimizer: OptimizerChoice
    budget: Budget
    sizes: tuple[Size, ...]
    search: Search
    seeds: tuple[int, ...]
    initialization: Initialization
    bases: tuple[Size, ...] = ()
    targets: tuple[Size, ...] = ()
    parametrization: Parametrization | None = None
    axes: tuple[Axis, ...] = ("effective-depth",)
    rules: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        strangers = [s for s in (*self.bases, *self.targets) if s not in self.sizes]
        if strangers or (self.targets and not self.bases):
            raise TrialError(
                f"family {self.name!r} with bases {self.bases} and targets {self.targets}",
                "bases and targets among its sizes, a base where there are targets",
                "mend the declaration",
            )

    @property
    def settings(self) -> dict[str, str]:
        """All that tells this family's runs from another's, as text."""
        return {
            "network": repr(self.network),
            "data": repr(self.data),
            "optimizer": repr(self.optimizer),
            "initialization": repr(self.initialization),
            "parametrization": repr(self.parametrization),
        }


@dataclass(frozen=True)
class CriterionFamily:
    """Networks whose eta* is that of the criterion: S(eta*) = 1 for the first SGD step [JE].

    The optimum of a size is eta* = M^(-1/2), M the mean of the seeds' mean-square updates; where
    a sweep's record has the lowest loss, this one has the criterion's value, 1.

    Attributes:
        family: Network, initialization, sizes, seeds, axes; the batch is the first
            `budget.batch_size` training examples. Nothing is trained.
        weights: What the step changes and which pre-activations count: all, or the hidden weights
            and the outputs of all layers but the last.
    """

    family: Family
    weights: Literal["all", "hidden"] = "all"

    @property
    def name(self) -> str:
        """The family's."""
        return self.family.name


AnyFamily = Family | CriterionFamily
"""What a study is made of."""


@dataclass(frozen=True)
class Study:
    """An experiment at one scale.

    Attributes:
        name: As the command line takes it.
        title: One line.
        papers: Keys and numbers of the papers whose claims it looks at.
        scale: See `Scale`.
        families: What is run.
        claims: What the papers say of it.
        notes: What a reader must know of the protocol.

    Raises:
        TrialError: Two families share a name, or a claim is about a family that is not there.
    """

    name: str
    title: str
    papers: tuple[str, ...]
    scale: Scale
    families: tuple[AnyFamily, ...]
    claims: tuple[Claim, ...] = ()
    notes: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        names = [family.name for family in self.families]
        spoken = {name for claim in self.claims for name in (claim.family, claim.against) if name}
        if len(set(names)) < len(names) or not spoken <= set(names):
            raise TrialError(
                f"study {self.name!r} with families {names} and claims about {sorted(spoken)}",
                "each name once, and claims about families of the study",
                "mend the declaration",
            )


def options(**values: Any) -> Options:
    """Keyword arguments as a declaration holds them.

    Args:
        **values: Names and hashable values.

    Returns:
        Sorted (name, value) pairs.

    Example:
        >>> options(momentum=0.9)
        (('momentum', 0.9),)
    """
    return tuple(sorted(values.items()))


def ladder(depths: Iterable[int], **fixed: int) -> tuple[Size, ...]:
    """Sizes that differ in depth.

    Args:
        depths: Values of the argument `depth`.
        **fixed: Further arguments, the same at all sizes.

    Returns:
        A size for each depth.

    Example:
        >>> ladder([2, 4])
        ((('depth', 2),), (('depth', 4),))
    """
    return tuple(size(depth=depth, **fixed) for depth in depths)


def far_sizes(
    sizes: tuple[Size, ...], *, argument: str = "depth", least: float = 4.0
) -> tuple[Size, ...]:
    """Sizes at least so many times larger than the first.

    Args:
        sizes: The first is the base.
        argument: What is compared.
        least: Least ratio.

    Returns:
        Those sizes, in order.

    Example:
        >>> far_sizes(ladder([1, 2, 4, 8]))
        ((('depth', 4),), (('depth', 8),))
    """
    values: list[Mapping[str, int]] = [dict(one) for one in sizes]
    first = values[0][argument]
    return tuple(
        one for one, value in zip(sizes, values, strict=True) if value[argument] >= least * first
    )
