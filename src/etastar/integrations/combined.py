"""Several optimizers as one, for trainers that hold one: Muon, and AdamW beside it."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import Any

import torch
from torch.optim import Optimizer

from etastar.errors import OptimizerError


class CombinedOptimizer(Optimizer):
    """Optimizers of disjoint parameters as one object, which schedulers and trainers take.

    Groups and state are the optimizers' own, in their order; one `state_dict` holds both. The
    `lr_multiplier` of each becomes that over the first one's tuned rate, so that one schedule is
    checked for all.

    Args:
        *optimizers: Made of a plan's groups; the first one's rate is what trainers log.

    Raises:
        OptimizerError: Fewer than one, no optimizer, or a group is added later.

    Example:
        >>> matrix, bias = torch.nn.Parameter(torch.eye(2)), torch.nn.Parameter(torch.ones(2))
        >>> muon, adamw = torch.optim.Muon([matrix], lr=0.02), torch.optim.AdamW([bias], lr=0.003)
        >>> [group["lr"] for group in CombinedOptimizer(muon, adamw).param_groups]
        [0.02, 0.003]
    """

    def __init__(self, *optimizers: Optimizer) -> None:
        if not optimizers or not all(isinstance(one, Optimizer) for one in optimizers):
            raise OptimizerError(
                f"{', '.join(type(one).__name__ for one in optimizers) or 'nothing'} to combine",
                "optimizers, each with parameters of its own",
                "call CombinedOptimizer(muon, adamw)",
            )
        super().__init__([group for one in optimizers for group in one.param_groups], {})
        # what schedulers' floors are relative to
        self.defaults["lr"] = optimizers[0].defaults["lr"]
        self.optimizers = optimizers
        tuned = self.param_groups[0]["lr"] / self.param_groups[0].get("lr_multiplier", 1.0)
        for group in self.param_groups:
            if "lr_multiplier" in group:
                group["lr_multiplier"] = group["lr"] / tuned
        for one in optimizers:
            self.state.update(one.state)
        self._share()

    def _share(self) -> None:
        """Hand groups and state to the optimizers that step."""
        groups = iter(self.param_groups)
        for one in self.optimizers:
            one.state = self.state
            one.param_groups = list(islice(groups, len(one.param_groups)))

    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Step each of them; the loss of the closure, which is evaluated once, or None."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for one in self.optimizers:
            one.step()
        return loss

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Refused: which of the optimizers the group is for is not known."""
        if hasattr(self, "optimizers"):
            raise OptimizerError(
                "a further group for a CombinedOptimizer",
                "groups that its optimizers have",
                "add it to one of the optimizers, and combine them again",
            )
        super().add_param_group(param_group)

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "optimizers": self.optimizers}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._share()
