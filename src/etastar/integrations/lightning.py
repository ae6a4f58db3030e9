"""Lightning: optimizer and scheduler checked against a plan before the first step."""

from __future__ import annotations

from typing import Any

from etastar.errors import MissingExtraError
from etastar.integrations.comparing import compare_groups
from etastar.transfer.plan import TransferPlan
from etastar.transfer.schedule import check_schedule


def plan_callback(plan: TransferPlan, *, network: str = "") -> Any:
    """A callback that compares optimizers and schedulers with the plan when training begins.

    Every checkpoint holds the plan, as JSON text under "etastar_plan".

    Args:
        plan: Whose groups `configure_optimizers` is to use.
        network: Name of the planned network in the module ("net"); "" where it is the only thing
            to train.

    Returns:
        A `lightning.pytorch.Callback`. It raises PlanError where a parameter is in no group or has
        other settings than the plan's, and ScheduleError where a scheduler flattens the groups.

    Raises:
        MissingExtraError: Lightning is not installed.

    Example:
        >>> trainer = lightning.Trainer(callbacks=[plan_callback(plan)])  # doctest: +SKIP
    """
    try:
        from lightning.pytorch import Callback
    except ModuleNotFoundError as error:
        raise MissingExtraError("lightning", "lightning") from error

    class CheckPlan(Callback):  # type: ignore[misc]  # untyped
        def on_train_start(self, trainer: Any, pl_module: Any) -> None:
            model = pl_module.get_submodule(network)
            kinds = dict.fromkeys(entry.optimizer for entry in plan.parameters)
            groups = [
                group
                for kind in kinds
                for group in plan.param_groups(model, kind=kind, from_checkpoint=True)
            ]
            compare_groups(trainer.optimizers, groups, model)
            for config in trainer.lr_scheduler_configs:
                check_schedule(config.scheduler)

        def on_save_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: Any) -> None:
            checkpoint["etastar_plan"] = plan.to_json()

    return CheckPlan()
