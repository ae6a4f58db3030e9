"""A plan on a real model: its parameters, their groups, and the factors on initial weights.

The factors are applied once, and before training it is checked that they were.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from etastar.applied import Applied, digest_of, recall, remember, require_writable
from etastar.errors import PlanError
from etastar.graph.isolation import require_plain_execution
from etastar.laws import Width
from etastar.naming import canonical_modules, canonical_parameters
from etastar.optimizers import OPTIMIZERS
from etastar.transfer.plan_record import GroupPlan

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from etastar.optimizers import OptimizerKind
    from etastar.transfer.plan_record import ParamPlan

__all__ = ["PlannedModel", "group_parameters"]


def group_parameters(
    entries: Iterable[ParamPlan], *, defaults: Mapping[str, OptimizerKind]
) -> tuple[GroupPlan, ...]:
    """Merge parameters of equal hyperparameters, in the order of their first appearance.

    Args:
        entries: Entries of a plan.
        defaults: For each optimizer's name the kind whose epsilon and betas need not be named.

    Returns:
        The groups. Rates that differ by rounding alone (12 digits) are equal.
    """
    merged: dict[tuple[object, ...], list[ParamPlan]] = {}
    for entry in entries:
        merged.setdefault(_key(entry), []).append(entry)
    return tuple(
        _group(number, members, defaults[members[0].optimizer])
        for number, members in enumerate(merged.values())
    )


def _key(entry: ParamPlan) -> tuple[object, ...]:
    betas = entry.betas or ()
    numbers = (entry.lr, entry.lr_multiplier, entry.weight_decay, entry.eps, *betas)
    return entry.optimizer, *(None if n is None else f"{n:.12g}" for n in numbers)


def _group(number: int, members: Sequence[ParamPlan], default: OptimizerKind) -> GroupPlan:
    first = members[0]
    roles = dict.fromkeys(entry.role for entry in members)
    return GroupPlan(
        name=f"{number} {', '.join(roles)}",
        optimizer=first.optimizer,
        lr=first.lr,
        lr_multiplier=first.lr_multiplier,
        weight_decay=first.weight_decay,
        eps=None if first.eps == default.eps else first.eps,
        betas=None if first.betas == default.betas else first.betas,
        factors=tuple((law, factors.lr) for law, factors in first.factors),
        init=tuple(sorted({entry.init for entry in members})),
        parameters=tuple(entry.name for entry in members),
    )


@dataclass(frozen=True)
class PlannedModel:
    """A model beside the plan's entries for it.

    Attributes:
        model: The target network, also wrapped by DDP or `torch.compile`, or a copy of it; out of a
            module that holds it alone (`model.`).
        entries: Entries of a plan.
        parameters: The model's parameters by the plan's names, each tensor once.
    """

    model: nn.Module
    entries: Sequence[ParamPlan]
    parameters: Mapping[str, nn.Parameter]

    @classmethod
    def match(cls, entries: Sequence[ParamPlan], model: nn.Module) -> PlannedModel:
        """Find the plan's parameters in a model.

        Args:
            entries: See above.
            model: See above.

        Returns:
            Both, with the parameters.

        Raises:
            PlanError: Names, shapes or ties differ, which are named; or within a tracer of PyTorch.
        """
        require_plain_execution(error=PlanError)
        if not isinstance(model, nn.Module):
            raise PlanError(
                f"a {type(model).__name__} in place of the model",
                "a torch.nn.Module",
                "pass the network that the plan was made for",
            )
        planned = {alias: entry for entry in entries for alias in (entry.name, *entry.aliases)}
        model = _inside(model, planned.keys())
        actual = canonical_parameters(model)
        problems = [f"{name!r} is not in the plan" for name in actual if name not in planned]
        problems += [f"{name!r} is not in the model" for name in planned if name not in actual]
        for name, entry in planned.items():
            problems += _differences(name, entry, actual)
        problems += _unplanned_ties(entries, actual)
        if problems:
            shown = "; ".join(problems[:6])
            more = f"; and {len(problems) - 6} more" if len(problems) > 6 else ""
            raise PlanError(
                f"a model that differs from the plan: {shown}{more}",
                "the network that the plan was made for",
                "make a plan for this network with plan_transfer",
            )
        return cls(model, entries, {entry.name: actual[entry.name] for entry in entries})

    def optimizer_groups(
        self, groups: Sequence[GroupPlan], *, weight_decay: bool
    ) -> list[dict[str, Any]]:
        """Parameter groups for a torch optimizer.

        Args:
            groups: Groups of the plan.
            weight_decay: Whether the optimizer takes a weight decay.

        Returns:
            Groups with `params`, `lr`, and `weight_decay`, `eps` and `betas` where the optimizer
            needs them, and `name`, `lr_multiplier` and `optimizer_kind`, which optimizers carry
            along. Frozen parameters are left out.

        Raises:
            PlanError: Nothing is left to train.
        """
        made = []
        for group in groups:
            own = [self.parameters[name] for name in group.parameters]
            decay = group.weight_decay if weight_decay else None
            given = {"weight_decay": decay, "eps": group.eps, "betas": group.betas}
            settings = {
                "params": [parameter for parameter in own if parameter.requires_grad],
                "lr": group.lr,
                **{name: value for name, value in given.items() if value is not None},
                "name": group.name,
                "lr_multiplier": group.lr_multiplier,
                "optimizer_kind": group.optimizer,
                **(OPTIMIZERS[group.optimizer].group_keys if group.optimizer in OPTIMIZERS else {}),
            }
            made += [settings] if settings["params"] else []
        if not made:
            raise PlanError(
                "no parameter that requires a gradient",
                "a model with at least one",
                "set requires_grad before making the groups, or ask for the other optimizer's "
                "groups",
            )
        return made

    @property
    def _scaled(self) -> list[ParamPlan]:
        """Entries whose initial values the plan multiplies."""
        return [entry for entry in self.entries if entry.init != 1]

    @property
    def _trained(self) -> list[ParamPlan]:
        """Those of them that are trained: what is frozen, the base of adapters, stays as it is."""
        return [entry for entry in self._scaled if self.parameters[entry.name].requires_grad]

    @property
    def _digest(self) -> str:
        """Equal for plans that multiply the initialization by the same factors."""
        factors = sorted((e.name, f"{e.init:.12g}", e.gain_offset) for e in self._scaled)
        return hashlib.sha256(repr(factors).encode()).hexdigest()

    def rescale_(self, *, without: Collection[str] = ()) -> None:
        """Multiply the parameters by their factors, and remember that it was done.

        Args:
            without: Names of parameters that hold their factors already.

        Raises:
            PlanError: As `require_writable`; nothing was changed.
        """
        self.require_writable()
        known, before = recall(self.model) or Applied(), digest_of(self.model)
        with torch.no_grad():
            for entry in self._trained:
                if entry.name not in without:
                    value = self.parameters[entry.name].mul_(entry.init)
                    if entry.gain_offset:  # a gain is w + c, and so is what has to be multiplied
                        value.add_((entry.init - 1) * entry.gain_offset)
        if self._scaled:
            done = Applied(known.residual, known.readout, rescaled=self._digest)
            remember(self.model, done, before=before)

    def require_writable(self) -> None:
        """Refuse weights that the factors cannot be applied to, before any is changed.

        Nothing is written to frozen ones, which may be quantized.

        Raises:
            PlanError: One is on the meta device, of 8 bits, complex, or the like.
        """
        scaled = {entry.name: self.parameters[entry.name] for entry in self._scaled}
        written = {n: p for n, p in scaled.items() if p.requires_grad or p.is_meta}
        require_writable(written, error=PlanError)

    def require_unscaled(self) -> None:
        """Refuse weights that already hold what the factors bring.

        Raises:
            PlanError: They were rescaled before, or were initialized with a factor for depth or
                width that the plan brings too, or hold no memory.
        """
        if not self._scaled:
            return
        self.require_writable()
        known = recall(self.model) or Applied()
        if known.rescaled is not None:
            raise PlanError(
                "a model whose weights were rescaled by a plan before",
                "freshly initialized weights: the factors count once",
                "leave the second call out; after drawing the weights anew by other means than "
                "initialize_, say so with redrawn=True",
            )
        laws = {law for entry in self._scaled for law, own in entry.factors if own.init != 1}
        instead = "call plan.initialize_(model) in place of both, or "
        if known.residual in ("all", "last") and laws - {Width.name}:
            raise PlanError(
                f"a model that initialize_ gave 1/K on its branches (residual={known.residual!r}), "
                "for a law that scales the branches itself",
                "one of them: both together count depth twice",
                f"{instead}initialize_(..., residual='none')",
            )
        if known.readout == "mup" and Width.name in laws:
            raise PlanError(
                "a model that initialize_ gave the readout of muP (readout='mup'), for the width "
                "rule",
                "one of them: both together count width twice",
                f"{instead}leave readout='mup' out",
            )

    def require_rescaled(self) -> None:
        """Refuse weights that lack the factors which the plan's rates belong to.

        Raises:
            PlanError: It is not known here that they were rescaled by these factors.
        """
        if all(_is_zero(self.parameters[e.name], e.gain_offset) for e in self._trained):
            return
        rescaled = (recall(self.model) or Applied()).rescaled
        if rescaled == self._digest:
            return
        how = "never rescaled" if rescaled is None else "rescaled by other factors"
        first = self._scaled[0]
        raise PlanError(
            f"a model that was {how}, for a plan that multiplies the initialization of "
            f"{len(self._scaled)} parameters ({first.name!r} x {first.init:.3g}, ...)",
            "a model with the plan's initialization: the rates are for that network",
            "call plan.initialize_(model), or plan.rescale_(model) on your own fresh "
            "initialization; if the weights come from a checkpoint of such a model, "
            "param_groups(model, from_checkpoint=True)",
        )


def _inside(model: nn.Module, names: AbstractSet[str]) -> nn.Module:
    """The network of these names inside of a module that holds nothing else to train."""
    every = canonical_parameters(model).keys()
    if every != names:
        for path, module in canonical_modules(model):
            if not all(name.startswith(f"{path}.") for name in every):
                continue
            if canonical_parameters(module).keys() == names:
                return module
    return model


def _differences(name: str, entry: ParamPlan, actual: dict[str, nn.Parameter]) -> list[str]:
    if name not in actual or entry.name not in actual:
        return []
    if tuple(actual[name].shape) != entry.shape:
        return [f"{name!r} has shape {tuple(actual[name].shape)}, in the plan {entry.shape}"]
    if actual[name] is not actual[entry.name]:
        return [f"{name!r} is tied to {entry.name!r} in the plan and not in the model"]
    return []


def _unplanned_ties(entries: Sequence[ParamPlan], actual: dict[str, nn.Parameter]) -> list[str]:
    owner: dict[int, str] = {}
    problems = []
    for entry in (entry for entry in entries if entry.name in actual):
        other = owner.setdefault(id(actual[entry.name]), entry.name)
        if other != entry.name:
            problems.append(f"{entry.name!r} is tied to {other!r} in the model and not in the plan")
    return problems


def _is_zero(parameter: torch.Tensor, offset: float) -> bool:
    return not parameter.is_meta and not bool((parameter.detach() + offset).any())
