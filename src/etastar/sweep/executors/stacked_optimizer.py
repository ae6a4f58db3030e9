"""One optimizer per run, applied to stacked parameters: what all kinds share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

__all__ = ["Group", "StackedOptimizer"]

_PART = 2**16
"""Empirical: numbers of a parameter that are updated at once, 256 KiB in single precision."""


@dataclass
class Group:
    """Settings that some parameters share: each option's value in every run.

    Attributes:
        values: (runs,), by option.
        used: Options that are not zero in all runs.
    """

    values: dict[str, Tensor]
    used: frozenset[str]

    @classmethod
    def of(cls, options: Mapping[str, tuple[float, ...]]) -> Group:
        """A group of these settings.

        Args:
            options: Each option's value in every run.

        Returns:
            The group.

        Example:
            >>> sorted(Group.of({"lr": (0.1, 0.2), "momentum": (0.0, 0.0)}).used)
            ['lr']
        """
        values = {key: torch.tensor(each, dtype=torch.float64) for key, each in options.items()}
        return cls(values, frozenset(key for key, each in options.items() if any(each)))


class StackedOptimizer(ABC):
    """One optimizer per run, applied to parameters stacked along dimension 0.

    Args:
        settings: Of each parameter by name: each option's value in every run.
    """

    options: tuple[str, ...]

    def __init__(self, settings: Mapping[str, Mapping[str, tuple[float, ...]]]) -> None:
        groups = {tuple(options.items()): Group.of(options) for options in settings.values()}
        self._groups = {name: groups[tuple(of.items())] for name, of in settings.items()}
        self._state: dict[str, tuple[Tensor, ...]] = {}
        self._steps = dict.fromkeys(settings, 0)

    @torch.no_grad()
    def step(
        self, params: Mapping[str, Tensor], grads: Mapping[str, Tensor | Sequence[Tensor] | None]
    ) -> None:
        """Update stacked parameters in place; one without a gradient stays as it is.

        Args:
            params: Stacked parameters by name, (runs, ...).
            grads: Their gradients, stacked or one for each run; None where the loss does not
                depend on a parameter.
        """
        numbers: dict[tuple[int, int, torch.dtype], dict[str, Tensor]] = {}
        for name, group in self._groups.items():
            grad, param = grads[name], params[name]
            if grad is None:
                continue
            self._steps[name] += 1
            key = (id(group), self._steps[name], param.dtype)
            if key not in numbers:
                found = self._numbers(group, self._steps[name])
                numbers[key] = {option: values.to(param) for option, values in found.items()}
            if name not in self._state:
                self._state[name] = self._fresh(group, param)
            columns = {
                option: values.view(-1, *[1] * (param.ndim - 1))
                for option, values in numbers[key].items()
            }
            for part in _parts(param):
                self._update(
                    group,
                    {option: column[part] for option, column in columns.items()},
                    tuple(state[part] for state in self._state[name]),
                    param[part],
                    _taken(grad, part),
                )

    def keep(self, runs: Tensor) -> None:
        """Go on with some of the runs only.

        Args:
            runs: Their indices.
        """
        for group in {id(group): group for group in self._groups.values()}.values():
            group.values = {key: values[runs.cpu()] for key, values in group.values.items()}
        self._state = {
            name: tuple(each[runs] for each in state) for name, state in self._state.items()
        }

    @abstractmethod
    def _numbers(self, group: Group, step: int) -> dict[str, Tensor]:
        """What `_update` needs, a number per run, from the settings; float64."""

    @abstractmethod
    def _fresh(self, group: Group, param: Tensor) -> tuple[Tensor, ...]:
        """The state of a stacked parameter before its first step."""

    @abstractmethod
    def _update(
        self,
        group: Group,
        columns: Mapping[str, Tensor],
        state: tuple[Tensor, ...],
        param: Tensor,
        grad: Tensor,
    ) -> None:
        """One step of one stacked parameter, or of a part of its runs."""


def _parts(stack: Tensor) -> list[slice]:
    """Runs to be updated together: few enough for a processor's cache to hold what is made."""
    runs = stack.shape[0]
    together = max(1, _PART * runs // max(1, stack.numel())) if stack.device.type == "cpu" else runs
    return [slice(start, start + together) for start in range(0, runs, together)]


def _taken(grad: Tensor | Sequence[Tensor], part: slice) -> Tensor:
    if isinstance(grad, torch.Tensor):
        return grad[part]
    return torch.stack(list(grad[part]))
