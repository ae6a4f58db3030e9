"""A plan as a table: one row for each group of equal hyperparameters."""

from __future__ import annotations

import io
from collections import Counter
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from etastar.naming import name_template

if TYPE_CHECKING:
    from collections.abc import Iterable

    from etastar.transfer.plan import TransferPlan
    from etastar.transfer.record import GroupPlan

__all__ = ["plan_table", "plan_text"]


def plan_table(plan: TransferPlan) -> Table:
    """The table of a plan, for Rich.

    Args:
        plan: Any plan.

    Returns:
        One row per group: parameters, each law's multiplier of the learning rate, the factor on
        the initialization, learning rate, weight decay, epsilon.
    """
    table = Table(title=_title(plan), caption="\n".join(plan.notes) or None, title_justify="left")
    for heading in ("group", "parameters", *(f"{law} lr x" for law, _ in _factors(plan))):
        table.add_column(heading, overflow="fold")
    for heading in ("init x", "lr", "weight decay", "eps"):
        table.add_column(heading, justify="right")
    for group in plan.groups:
        table.add_row(*_row(plan, group))
    return table


def _title(plan: TransferPlan) -> str:
    depths = f"effective depth {plan.base_depth} to {plan.target_depth}"
    return f"{plan.law}, {plan.optimizer.name}, {depths}, lr {plan.base_lr:g} to {plan.lr:g}"


def _factors(plan: TransferPlan) -> tuple[tuple[str, float], ...]:
    return plan.groups[0].factors


def _row(plan: TransferPlan, group: GroupPlan) -> list[str]:
    numbers = [f"{factor:.4g}" for _, factor in group.factors]
    init = ", ".join(f"{value:.4g}" for value in group.init)
    eps = "default" if group.eps is None else f"{group.eps:.4g}"
    if plan.optimizer.eps is None:
        eps = "-"
    label = f"{group.name} ({group.optimizer})" if plan.optimizer.update == "muon" else group.name
    decay = f"{group.weight_decay:.4g}"
    return [label, compressed(group.parameters), *numbers, init, f"{group.lr:.6g}", decay, eps]


def compressed(names: Iterable[str]) -> str:
    r"""Names with the indices left open, and how often each occurs.

    Args:
        names: Dotted names of parameters.

    Returns:
        One line per template.

    Example:
        >>> compressed(["blocks.0.weight", "blocks.1.weight", "head.bias"])
        'blocks.*.weight (2)\nhead.bias'
    """
    counts = Counter(name_template(name) for name in names)
    lines = [f"{template} ({n})" if n > 1 else template for template, n in counts.items()]
    return "\n".join(lines)


def plan_text(plan: TransferPlan, *, width: int = 160) -> str:
    """The table of a plan as plain text.

    Args:
        plan: Any plan.
        width: Characters in a line.

    Returns:
        Text without colours, for a log or `print`.
    """
    text = io.StringIO()
    Console(file=text, width=width, color_system=None).print(plan_table(plan))
    return text.getvalue().rstrip("\n")
