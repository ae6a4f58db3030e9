"""The transfer plan: hyperparameters of every parameter, keyed by name."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from etastar.errors import PlanError
from etastar.optimizers import (
    OPTIMIZERS,
    OptimizerKind,  # needed at run time, to decode plan files
)
from etastar.transfer import storage
from etastar.transfer.grouping import group_parameters, located_parameters, optimizer_groups
from etastar.transfer.record import LawRecord, ParamPlan  # the same

if TYPE_CHECKING:
    import os

    from rich.table import Table
    from torch import nn

    from etastar.transfer.record import GroupPlan

__all__ = ["TransferPlan"]


@dataclass(frozen=True)
class TransferPlan:
    """Hyperparameters for the target network; made by `plan_transfer`.

    It holds names and numbers only, so that it can be printed, compared, saved and refused before
    anything is changed, and works on any copy of the network.

    Attributes:
        laws: The laws applied, the width rule among them, with their options.
        optimizer: Kind of the optimizer.
        base_lr: Learning rate tuned at the base.
        aux_lr: Learning rate tuned for what Muon does not update; None for other optimizers.
        weight_decay: Weight decay at the base.
        eps: Epsilon that the caller gave; None for the optimizer's default.
        base_depth: Effective depth of the base.
        target_depth: Effective depth of the target.
        parameters: One entry for each parameter.
        notes: What the plan could not do, or did on the caller's word.
        format_version: Version of the plan file's format.
    """

    laws: tuple[LawRecord, ...]
    optimizer: OptimizerKind
    base_lr: float
    aux_lr: float | None
    weight_decay: float
    eps: float | None
    base_depth: int
    target_depth: int
    parameters: tuple[ParamPlan, ...]
    notes: tuple[str, ...] = ()
    format_version: int = storage.FORMAT_VERSION

    @property
    def law(self) -> str:
        """The laws with their options, joined by " x "."""
        return " x ".join(str(law) for law in self.laws)

    @property
    def groups(self) -> tuple[GroupPlan, ...]:
        """Parameters merged where all hyperparameters are equal."""
        defaults: dict[str, float | None] = {n: kind.eps for n, kind in OPTIMIZERS.items()}
        defaults[self.optimizer.name] = self.optimizer.eps
        if self.eps is not None:
            defaults = dict.fromkeys(defaults)
        return group_parameters(self.parameters, default_eps=defaults)

    @property
    def lr(self) -> float:
        """Learning rate of the hidden weights (of most of their elements, where they differ)."""
        hidden = [p for p in self.parameters if p.role == "hidden"] or list(self.parameters)
        elements: dict[float, int] = {}
        for entry in hidden:
            size = torch.Size(entry.shape).numel()
            elements[entry.lr] = elements.get(entry.lr, 0) + size
        return max(elements, key=lambda lr: elements[lr])

    def param_groups(self, model: nn.Module, *, kind: str | None = None) -> list[dict[str, Any]]:
        """Parameter groups for an ordinary torch optimizer.

        Args:
            model: The target network, or a copy of it; also wrapped by DDP or `torch.compile`.
            kind: For a plan for Muon, which of its two optimizers: "muon" for `torch.optim.Muon`,
                "adamw" for the `torch.optim.AdamW` that updates everything else.

        Returns:
            Groups with lr, weight decay, and epsilon where it is not the optimizer's default; tied
            parameters once, frozen ones left out. Each group carries a `name`, and its
            `lr_multiplier`, which `check_schedule` reads.

        Raises:
            PlanError: The model's names or shapes differ from the plan's, or `kind` is missing.

        Example:
            >>> from etastar.transfer import plan_transfer
            >>> net = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Linear(3, 1))
            >>> size = (net, (torch.zeros(1, 2),))
            >>> plan = plan_transfer(size, size, lr=0.1, optimizer="sgd")
            >>> optimizer = torch.optim.SGD(plan.param_groups(net))
            >>> [group["lr"] for group in optimizer.param_groups]
            [0.1]
        """
        kinds = list(dict.fromkeys(p.optimizer for p in self.parameters))
        if kind not in kinds and not (kind is None and self.optimizer.update != "muon"):
            raise PlanError(
                f"kind={kind!r} for a plan with the optimizers {', '.join(kinds)}",
                f"kind: one of {', '.join(map(repr, kinds))}",
                'make two optimizers: torch.optim.Muon(plan.param_groups(model, kind="muon")) and '
                'torch.optim.AdamW(plan.param_groups(model, kind="adamw"))',
            )
        return optimizer_groups(
            [group for group in self.groups if kind in (None, group.optimizer)],
            parameters=located_parameters(self.parameters, model=model),
            weight_decay=self.optimizer.weight_decay is not None,
        )

    def rescale_(self, model: nn.Module) -> None:
        """Multiply freshly initialized parameters by the plan's factors; once.

        To be called right after initialization and before training, sharding and loading of
        checkpoints; a second call scales again. The initialization must not already hold what the
        laws bring: variance proportional to 1 / fan_in of every weight, the readout included, and
        no factor for depth beside a law with a branch multiplier.

        Args:
            model: The target network; changed in place. At the base size nothing is touched.

        Raises:
            PlanError: The model's names or shapes differ from the plan's; nothing was changed.
        """
        located = located_parameters(self.parameters, model=model)
        with torch.no_grad():
            for entry in self.parameters:
                if entry.init != 1.0:
                    located[entry.name].mul_(entry.init)

    def as_dict(self) -> dict[str, Any]:
        """The plan as plain data."""
        return dataclasses.asdict(self)

    def to_json(self) -> str:
        """The plan as JSON text, numbers exact."""
        return json.dumps(self.as_dict(), indent=1, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str, *, source: str = "a plan") -> TransferPlan:
        """The plan that `to_json` wrote.

        Args:
            text: JSON text.
            source: Where it came from, for messages.

        Returns:
            An equal plan.

        Raises:
            PlanError: Corrupt, or of another format version.
        """
        return storage.decode(cls, storage.parse_json(text, source=source), source=source)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the plan as JSON, at once or not at all.

        Args:
            path: The file; replaced if it exists.

        Raises:
            PlanError: The file cannot be written.
        """
        storage.write_text(path, self.to_json())

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
        return cls.from_json(storage.read_text(path), source=f"plan file {str(path)!r}")

    def __rich__(self) -> Table:
        from etastar.transfer.table import plan_table

        return plan_table(self)

    def __str__(self) -> str:
        from etastar.transfer.table import plan_text

        return plan_text(self)
