"""The transfer plan: hyperparameters of every parameter, keyed by name."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from etastar.applied import recall
from etastar.errors import PlanError
from etastar.formatting import Shown, interval, number
from etastar.graph import Graph
from etastar.init import initialize_
from etastar.init.schemes import InitReport
from etastar.optimizers import (
    OPTIMIZERS,
    OptimizerKind,  # needed at run time, to decode plan files
)
from etastar.transfer import plan_file
from etastar.transfer.plan_on_model import PlannedModel
from etastar.transfer.plan_record import (
    ROUNDING,
    BaseRecord,  # the same
    GroupPlan,
    InitializationRecord,
    LawRecord,
    ParamPlan,
    PlanView,
    group_parameters,
)

if TYPE_CHECKING:
    from torch import nn

_FOLLOWED = {"batch-size": "batch size", "duration": "steps"}
"""What a law of training follows, which need not be the same at base and target."""


@dataclass(frozen=True)
class TransferPlan(Shown):
    """Hyperparameters for the target network; made by `plan_transfer`.

    It holds names and numbers only, so that it can be printed, compared, saved and refused before
    anything is changed, and works on any copy of the network.

    Attributes:
        laws: The laws applied, the width rule among them, with their options.
        optimizer: Kind of the optimizer.
        base: What was tuned: depth, learning rate and further settings of the base.
        target_depth: Effective depth of the target.
        parameters: One entry for each parameter.
        notes: What the plan could not do, or did on the caller's word.
        initialization: The initialization at which its laws are at home.
        lr_interval: 95% predictive interval of the target's best value of `lr`: the error of the
            tuned rates, and what is not known of the exponent. None where the law says none.
        why: Two sentences on why this law was chosen; "" where it was named.
        format_version: Version of the plan file's format.
        graph: The target's graph, for `initialize_`; not compared and not saved.
        prior: Mean and standard deviation of d log(lr) / d log(effective depth) as "auto" expects
            it without multipliers and tuned rates; None of another law. Not saved either.

    Raises:
        PlanError: There is no parameter, a name stands twice, or numbers contradict each other.
    """

    laws: tuple[LawRecord, ...]
    optimizer: OptimizerKind
    base: BaseRecord
    target_depth: int
    parameters: tuple[ParamPlan, ...]
    notes: tuple[str, ...] = ()
    initialization: InitializationRecord = field(default_factory=InitializationRecord)
    lr_interval: tuple[float, float] | None = None
    why: str = ""
    format_version: int = plan_file.FORMAT_VERSION
    graph: Graph | None = field(default=None, compare=False, repr=False)
    prior: tuple[float, float] | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        for problem in self._problems():
            raise PlanError(
                f"a plan with {problem}",
                "a plan as plan_transfer makes it",
                "correct the settings it was made with, or make the plan again",
            )

    def _problems(self) -> Iterator[str]:
        if not self.parameters:
            yield "no parameter"
        names = Counter(name for p in self.parameters for name in (p.name, *p.aliases))
        yield from (f"{name!r} twice" for name, count in names.items() if count > 1)
        if self.target_depth < 0:
            yield f"a target of depth {self.target_depth}"
        if self.lr_interval is not None and not 0 < self.lr_interval[0] <= self.lr_interval[1]:
            yield f"lr_interval={self.lr_interval}"
        rates = self._rates()
        for entry in self.parameters:
            if entry.optimizer not in rates:
                yield f"the optimizer {entry.optimizer!r} of {entry.name!r}"
            elif not math.isclose(
                entry.lr, rates[entry.optimizer] * entry.lr_multiplier, rel_tol=ROUNDING
            ):
                yield f"lr={entry.lr} of {entry.name!r}, which is not the base's times its factors"
            elif self.optimizer.decoupled_weight_decay and entry.lr * entry.weight_decay >= 1:
                yield (
                    f"lr x weight decay = {entry.lr * entry.weight_decay:.3g} of {entry.name!r}: "
                    "one step would remove the weight"
                )

    def _rates(self) -> dict[str, float]:
        """Learning rate at the base by the name of the optimizer's kind."""
        rates = {self.optimizer.name: self.base.lr}
        if self.optimizer.fallback is not None:
            rates[self.optimizer.fallback.name] = self.base.aux_lr or self.base.lr
        return rates

    @property
    def law(self) -> str:
        """The laws with their options, joined by " x "."""
        return " x ".join(str(law) for law in self.laws)

    @property
    def groups(self) -> tuple[GroupPlan, ...]:
        """Parameters merged where all hyperparameters are equal."""
        return group_parameters(self.parameters, defaults=self._defaults())

    def _defaults(self) -> dict[str, OptimizerKind]:
        """For each optimizer the kind whose epsilon and betas a group need not name."""
        defaults = {}
        for kind in filter(None, (self.optimizer, self.optimizer.fallback)):
            known = OPTIMIZERS.get(kind.name, kind)  # an instance's own settings are no defaults
            # what was asked for is named also where it is the optimizer's default
            defaults[kind.name] = dataclasses.replace(
                known,
                eps=known.eps if self.base.eps is None else None,
                betas=known.betas if self.base.betas is None else None,
            )
        return defaults

    @property
    def lr(self) -> float:
        """Learning rate of the hidden weights (of most of their elements, where they differ).

        Of those whose initial values no law multiplies, where there are any: at the end of a branch
        a multiplier changes the rate too. Of a plan for Muon, of those that Muon updates.
        """
        own = [p for p in self.parameters if p.optimizer == self.optimizer.name]
        hidden = [p for p in own if p.role == "hidden"] or own or list(self.parameters)
        hidden = [p for p in hidden if p.init == 1] or hidden
        elements: Counter[float] = Counter()
        for entry in hidden:
            elements[entry.lr] += torch.Size(entry.shape).numel()
        return max(elements, key=lambda lr: elements[lr])

    def param_groups(
        self,
        model: nn.Module,
        *,
        groups: Iterable[Mapping[str, Any]] | None = None,
        kind: str | None = None,
        from_checkpoint: bool = False,
    ) -> list[dict[str, Any]]:
        """Parameter groups for an ordinary torch optimizer.

        Args:
            model: The target network, or a copy of it; also wrapped by DDP, `torch.compile`, or a
                module that holds nothing else to train, of Lightning for example.
            groups: Groups of your own, for the base: they keep their further keys, and their
                settings relative to what was tuned (a head at ten times the rate); the plan splits
                them where it has to. What is in none of them is left out.
            kind: For a plan for Muon, which of its two optimizers: "muon" for `torch.optim.Muon`,
                "adamw" for the `torch.optim.AdamW` that updates everything else.
            from_checkpoint: The weights come from a checkpoint of a model that had the plan's
                initialization, or from a copy of one that was trained. What this process did to a
                model, and its untrained copies, is known without.

        Returns:
            Groups with lr, weight decay, and epsilon and betas where they are not the optimizer's
            default; tied parameters once, frozen ones left out. Each group carries a `name`, its
            `lr_multiplier` and its `optimizer_kind`, which `check_schedule` reads.

        Raises:
            PlanError: The model's names or shapes differ from the plan's, `kind` is missing, the
                plan multiplies the initialization and the model was never rescaled, or `groups`
                hold what is no parameter of the model, or one twice.

        Example:
            >>> from etastar.transfer import Tuned, plan_transfer
            >>> net = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Linear(3, 1))
            >>> size = (net, torch.zeros(1, 2))
            >>> plan = plan_transfer(Tuned(size, 0.1), size, optimizer="sgd")
            >>> optimizer = torch.optim.SGD(plan.param_groups(net))
            >>> [group["lr"] for group in optimizer.param_groups]
            [0.1]
        """
        kinds = list(dict.fromkeys(p.optimizer for p in self.parameters))
        if kind not in kinds and not (kind is None and self.optimizer.fallback is None):
            own = self.optimizer.name
            raise PlanError(
                f"kind={kind!r} for a plan with the optimizers {', '.join(kinds)}",
                f"kind: one of {', '.join(map(repr, kinds))}",
                f'make two optimizers: Muon(plan.param_groups(model, kind="{own}")) and '
                'torch.optim.AdamW(plan.param_groups(model, kind="adamw"))',
            )
        planned = PlannedModel.match(self.parameters, model)
        if not from_checkpoint:
            planned.require_rescaled()
        if groups is not None:
            entries = [entry for entry in self.parameters if kind in (None, entry.optimizer)]
            return planned.groups_within(
                groups, entries, rates=self._rates(), defaults=self._defaults()
            )
        return planned.optimizer_groups(
            [group for group in self.groups if kind in (None, group.optimizer)],
            weight_decay=self.optimizer.weight_decay is not None,
        )

    def initialize_(
        self, model: nn.Module, *, seed: int = 0, graph: Graph | None = None
    ) -> InitReport:
        """Give a model the stabilizing initialization and the laws' factors, together.

        `initialize_` with the residual rule that fits the laws (1 / K on the branches, or none
        where a law scales the branches itself), then the factors; what `rescale_` does is done.
        Refused for a rate that was tuned under another initialization, the networks' own: there
        `rescale_` on the fresh model is what the plan needs.

        Args:
            model: The target network; changed in place. Before sharding, and not on "meta".
            seed: Seed of the draw.
            graph: `capture_graph` of the model, for a plan that was loaded from a file.

        Returns:
            What was drawn, and why, before the factors.

        Raises:
            PlanError: The model's names or shapes differ from the plan's, there is no graph, or the
                base had an initialization of its own; nothing was changed.
            InitError: See `etastar.initialize_`; nothing was changed.
        """
        planned = PlannedModel.match(self.parameters, model)
        graph, residual = graph or self.graph, self.initialization.residual
        if residual == "own":
            raise PlanError(
                "initialize_ for a rate that was tuned under the network's own initialization",
                "one initialization at the base and at the target",
                "call plan.rescale_(model) on a fresh model; or give the base etastar.initialize_ "
                "before it is tuned (in another process: plan_transfer(..., init='stabilized'))",
            )
        if graph is None:
            raise PlanError(
                "a plan without the target's graph: it was read from a file, or made from records",
                "the graph of the model that is to be initialized",
                "call plan.initialize_(model, graph=capture_graph(model, *inputs)), or initialize "
                "the model yourself and call plan.rescale_(model)",
            )
        planned.require_writable()
        known = recall(model)
        report = initialize_(model, graph, residual=residual, seed=seed)
        kept = {entry.name for entry in report.entries if entry.action == "kept"}
        once = kept if known is not None and known.rescaled is not None else set()
        planned.rescale_(without=once)
        return report

    def rescale_(self, model: nn.Module, *, redrawn: bool = False) -> None:
        """Multiply freshly initialized parameters by the plan's factors; once.

        For an initialization of your own; to be called right after it, on whole weights or on their
        shards, before training and loading of checkpoints. The initialization must not already hold
        what the laws bring: variance proportional to 1 / fan_in of every weight, the readout
        included, and no factor for depth beside a law with a branch multiplier. What this process
        applied is known, and weights are taken for loaded ones where a norm was trained; what else
        an earlier process did to them, or code of your own, is not. Frozen parameters, as the base
        of adapters, stay as they are.

        Args:
            model: The target network; changed in place. At the base size nothing is touched.
            redrawn: The weights of a model that was rescaled were drawn anew since, by other means
                than `initialize_`; or they look trained and are not.

        Raises:
            PlanError: The model's names or shapes differ from the plan's, or its weights hold the
                factors already, or were trained; nothing was changed.
        """
        planned = PlannedModel.match(self.parameters, model)
        if not redrawn:
            planned.require_unscaled()
        planned.rescale_()

    def as_dict(self) -> dict[str, Any]:
        """What is printed, and every parameter's entry, as plain data; a plan file is `to_json`."""
        return {
            "base_depth": self.base.depth,
            "target_depth": self.target_depth,
            "law": self.law,
            "optimizer": self.optimizer.name,
            "lr": self.lr,
            "lr_interval": self.lr_interval,
            "prior": self.prior,
            "why": self.why,
            "initialization": dataclasses.asdict(self.initialization),
            "groups": [dataclasses.asdict(group) for group in self.groups],
            "parameters": [dataclasses.asdict(entry) for entry in self.parameters],
            "notes": list(self.notes),
        }

    def to_json(self) -> str:
        """The plan as JSON text, numbers exact."""
        kept = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.compare}
        return json.dumps(kept, default=dataclasses.asdict, indent=1, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str, *, source: str = "a plan") -> TransferPlan:
        """The plan that `to_json` wrote.

        Args:
            text: JSON text.
            source: Where it came from, for messages.

        Returns:
            An equal plan, without the target's graph.

        Raises:
            PlanError: Corrupt, or of another format version.
        """
        return plan_file.decode(cls, text, source=source)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the plan as JSON, at once or not at all.

        Args:
            path: The file; replaced if it exists.

        Raises:
            PlanError: The file cannot be written.
        """
        plan_file.write_text(path, self.to_json())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> TransferPlan:
        """Read a plan that `save` wrote.

        Args:
            path: The file.

        Returns:
            An equal plan.

        Raises:
            PlanError: Unreadable, corrupt, or of another format version.
        """
        return cls.from_json(plan_file.read_text(path), source=f"plan file {str(path)!r}")

    def __rich__(self) -> PlanView:
        change = f"lr {number(self.base.lr)} -> {number(self.lr)}"
        if self.base.aux_lr is not None:
            change += f" ({self.optimizer.name}), beside it from {number(self.base.aux_lr)}"
        if self.lr_interval is not None:
            change += f" (95%: {interval(*self.lr_interval)})"
        depths = f"effective depth {self.base.depth} -> {self.target_depth}"
        eps = {entry.name: entry.eps for entry in self.parameters}
        groups = self.groups
        return PlanView(
            title=(
                f"{self.law}, {self.optimizer.name}",
                f"{depths}, {change}",
                *([self.why] if self.why else []),
            ),
            groups=groups,
            eps=tuple(eps[group.parameters[0]] for group in groups),
            notes=self.notes,
            followed=frozenset(_FOLLOWED[law.name] for law in self.laws if law.name in _FOLLOWED),
        )
