"""A plan on a real model: its parameters, their groups, and the factors on initial weights.

The factors are applied once, and before training it is checked that they were. A user's own
parameter groups keep their ratios and keys.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from etastar.applied import Applied, digest_of, recall, remember, require_writable
from etastar.errors import PlanError
from etastar.formatting import first_few
from etastar.graph.isolation import require_plain_execution
from etastar.laws import Width
from etastar.naming import canonical_modules, canonical_parameters
from etastar.optimizers import OPTIMIZERS, OptimizerKind
from etastar.transfer.plan_record import GroupPlan, ParamPlan, group_parameters
from etastar.typed import require_number


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
        """Find the plan's parameters in a model; refused where names, shapes or ties differ."""
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
        problems += _differences(planned, actual)
        if problems:
            raise PlanError(
                f"a model that differs from the plan: {first_few(problems, 6)}",
                "the network that the plan was made for",
                "make a plan for this network with plan_transfer",
            )
        return cls(model, entries, {entry.name: actual[entry.name] for entry in entries})

    def optimizer_groups(
        self, groups: Sequence[GroupPlan], *, weight_decay: bool
    ) -> list[dict[str, Any]]:
        """Parameter groups for a torch optimizer, which takes a weight decay or not.

        They have `params`, `lr`, and `weight_decay`, `eps` and `betas` where the optimizer needs
        them, and `name`, `lr_multiplier` and `optimizer_kind`, which optimizers carry along. Frozen
        parameters are left out.
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

    def groups_within(
        self,
        groups: Iterable[Mapping[str, Any]],
        entries: Sequence[ParamPlan],
        *,
        rates: Mapping[str, float],
        defaults: Mapping[str, OptimizerKind],
    ) -> list[dict[str, Any]]:
        """Split every group of a user's own where the plan's settings differ within it.

        lr(parameter) = lr of the plan x lr of the group / tuned lr; weight decay, epsilon and betas
        are the group's where it has them, times the plan's factors. A parameter in no group of the
        user's is in none of those that are made. `rates` has the learning rate at the base by the
        name of the optimizer's kind, `defaults` the kind whose epsilon and betas need not be named.
        """
        names = {id(value): name for name, value in self.parameters.items()}
        wanted = {entry.name: entry for entry in entries}
        seen: set[str] = set()
        made: list[dict[str, Any]] = []
        for number, own in enumerate(groups):
            if not isinstance(own, Mapping) or "params" not in own:
                given = f"group {number} given as {type(own).__name__}"
                raise _refused(given, "a dict with params")
            members = []
            for name in map(names.get, map(id, _tensors(own["params"]))):
                if name is None or name in seen:
                    what = f"{name!r} again" if name else "what is no tensor of the plan"
                    raise _refused(
                        f"group {number} with {what}", "each parameter of the model once"
                    )
                seen.add(name)
                if name in wanted and self.parameters[name].requires_grad:
                    members.append(_with_own(wanted[name], own, rates[wanted[name].optimizer]))
            if members:
                made += self._split(members, own, rates, defaults)
        return made

    def _split(
        self,
        members: Sequence[ParamPlan],
        own: Mapping[str, Any],
        rates: Mapping[str, float],
        defaults: Mapping[str, OptimizerKind],
    ) -> Iterator[dict[str, Any]]:
        # what a group names is named again, also where it is the optimizer's default
        named: dict[str, Any] = {key: None for key in ("eps", "betas") if key in own}
        kinds = {name: replace(kind, **named) for name, kind in defaults.items()}
        kept = {key: value for key, value in own.items() if key != "param_names"}
        for group in group_parameters(members, defaults=kinds):
            one = replace(group, lr_multiplier=group.lr / rates[group.optimizer])
            takes_decay = kinds[group.optimizer].weight_decay is not None
            (settings,) = self.optimizer_groups([one], weight_decay=takes_decay)
            if "name" in own:
                settings["name"] = f"{own['name']}: {settings['name']}"
            yield {**kept, **settings}

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

        Those named in `without` hold their factors already.
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
        """
        scaled = {entry.name: self.parameters[entry.name] for entry in self._scaled}
        written = {n: p for n, p in scaled.items() if p.requires_grad or p.is_meta}
        require_writable(written, error=PlanError)

    def require_unscaled(self) -> None:
        """Refuse weights that already hold what the factors bring, by a plan or `initialize_`."""
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
        if trained := self._trained_norm():
            raise PlanError(
                f"a model that was trained: gains and biases of the norm {trained!r} differ",
                "freshly initialized weights, whose norms are constant: the factors count once",
                "rescale before a checkpoint is loaded; where loaded weights are trained on, plan "
                "with init='keep'; if these norms were drawn so, say it with redrawn=True",
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

    def _trained_norm(self) -> str | None:
        """A norm with trained parameters, each of which differs from element to element.

        Before training gains and biases are constant, or the gains alone were drawn.
        """
        gains = (entry.name for entry in self.entries if entry.role == "norm")
        norms = [name.removesuffix(".weight") for name in gains if name.endswith(".weight")]
        varies: dict[str, list[bool]] = {norm: [] for norm in norms}
        for name, value in self.parameters.items():
            norm = name.rpartition(".")[0]
            if norm in varies and value.requires_grad:
                known = not (value.is_meta or hasattr(value, "device_mesh"))
                varies[norm].append(known and bool((value != value.flatten()[0]).any()))
        return next((norm for norm, found in varies.items() if found and all(found)), None)

    def require_rescaled(self) -> None:
        """Refuse weights that are not known to hold the factors which the rates belong to."""
        values = ((self.parameters[e.name].detach(), e.gain_offset) for e in self._trained)
        if not any(value.is_meta or (value + offset).any() for value, offset in values):
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


def _differences(
    planned: Mapping[str, ParamPlan], actual: Mapping[str, nn.Parameter]
) -> Iterator[str]:
    """Shapes and ties of what both have."""
    first: dict[int, str] = {}
    for name, entry in planned.items():
        if name not in actual or entry.name not in actual:
            continue
        found = actual[name]
        other = first.setdefault(id(found), entry.name)
        if tuple(found.shape) != entry.shape:
            yield f"{name!r} has shape {tuple(found.shape)}, in the plan {entry.shape}"
        elif found is not actual[entry.name]:
            yield f"{name!r} is tied to {entry.name!r} in the plan and not in the model"
        elif other != entry.name:
            yield f"{name!r} is tied to {other!r} in the model and not in the plan"


def _tensors(params: Any) -> list[Any]:
    """What a group's `params` hold: a tensor, several, or pairs of name and tensor."""
    several = [params] if isinstance(params, torch.Tensor) else list(params)
    return [one[1] if isinstance(one, tuple) and len(one) == 2 else one for one in several]


def _with_own(entry: ParamPlan, own: Mapping[str, Any], rate: float) -> ParamPlan:
    """The entry with a group's own settings at the base, times the plan's factors."""
    factors = [one for _, one in entry.factors]
    given = {
        key: require_number(key, own[key], error=PlanError, owner="a group")
        for key in ("lr", "weight_decay", "eps")
        if key in own and getattr(entry, key) is not None
    }
    changed: dict[str, Any] = {
        key: value * math.prod(getattr(one, key) for one in factors) for key, value in given.items()
    }
    if "lr" in given:
        changed["lr"] = entry.lr * given["lr"] / rate
    if "betas" in own and entry.betas is not None:
        pairs = zip(own["betas"], *(one.betas for one in factors), strict=True)
        scaled = [(beta, math.prod(by)) for beta, *by in pairs]
        changed["betas"] = tuple(b if by == 1 else 1 - (1 - b) * by for b, by in scaled)
    return replace(entry, **changed)


def _refused(received: str, expected: str) -> PlanError:
    return PlanError(received, expected, "give groups of this model as its optimizer takes them")
