"""The Trainer of Hugging Face under a plan: groups, one rescaling, checked schedule, plan file."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etastar.errors import MissingExtraError, OptimizerError, PlanError
from etastar.integrations.combined import CombinedOptimizer
from etastar.integrations.comparing import compare_groups
from etastar.optimizers import optimizer_class, optimizer_kind
from etastar.transfer.plan import TransferPlan
from etastar.transfer.plan_on_model import PlannedModel
from etastar.transfer.schedule import check_schedule

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer

_WHAT_TO_DO = "leave it out of TrainingArguments, or make the plan for it"


def plan_trainer(trainer: Any, plan: TransferPlan, *, from_checkpoint: bool = False) -> Any:
    """Let a trainer train under a plan.

    Its optimizer gets the plan's groups, `plan.lr`'s first (that rate is logged); what its
    `get_decay_parameter_names` leaves out does not decay. A fresh model is rescaled now, or each
    time that `model_init` makes one; a checkpoint that is resumed replaces the weights. When
    training begins, optimizer and schedule are compared with the plan, and every checkpoint gets
    the plan as `plan.json`.

    Args:
        trainer: A `transformers.Trainer`, or one derived from it, before `train`; changed in place.
        plan: Of its model. For Muon, `optim` is that of the AdamW beside it.
        from_checkpoint: The model's weights come from a checkpoint of a model that had the plan's
            initialization: they are not rescaled.

    Returns:
        The trainer.

    Raises:
        PlanError: The trainer has an optimizer already, its arguments contradict the plan, its
            `optim` is of another kind than the plan's, or DeepSpeed's file brings an optimizer or a
            scheduler; or the model is another than the plan's. Nothing was changed.
        MissingExtraError: transformers is not installed.

    Example:
        >>> from transformers import Trainer  # doctest: +SKIP
        >>> trainer = plan_trainer(Trainer(model, arguments, train_dataset=rows), plan)
        ... # doctest: +SKIP
        >>> trainer.train()  # doctest: +SKIP
    """
    made = _Making(trainer, plan, from_checkpoint)
    made.require_agreement()
    callback = made.callback()
    if not from_checkpoint:
        made.rescale_(trainer.model)
        fresh = trainer.call_model_init
        trainer.call_model_init = lambda trial=None: made.rescale_(fresh(trial))
    trainer.create_optimizer = made.create_optimizer
    trainer.add_callback(callback)
    return trainer


class _Making:
    """Makes and watches the optimizer of one trainer."""

    def __init__(self, trainer: Any, plan: TransferPlan, from_checkpoint: bool) -> None:
        self.trainer, self.plan, self.from_checkpoint = trainer, plan, from_checkpoint
        self.groups: list[dict[str, Any]] = []

    def require_agreement(self) -> None:
        """Refuse what would flatten the groups, or be overruled without a word."""
        args, plan = self.trainer.args, self.plan
        if self.trainer.optimizer is not None:
            raise PlanError(
                "a trainer with an optimizer",
                "one that makes its optimizer itself",
                "leave `optimizers` out, and call plan_trainer before train",
            )
        for name, planned in _settings(plan).items():
            value, default = getattr(args, name), type(args).__dataclass_fields__[name].default
            if value != default and not any(math.isclose(value, one) for one in planned):
                tuned = ", ".join(f"{one:g}" for one in planned) or "none"
                raise PlanError(f"{name}={value:g}", f"{name} as tuned: {tuned}", _WHAT_TO_DO)
        config = getattr(getattr(args, "hf_deepspeed_config", None), "config", {})
        for part in {"optimizer", "scheduler"} & config.keys():
            raise PlanError(
                f"a DeepSpeed file with its own {part}, which knows no groups",
                "the trainer's own optimizer and scheduler",
                f"leave {part!r} out of that file",
            )
        self._class_and_settings()
        PlannedModel.match(plan.parameters, self.trainer.model)

    def _class_and_settings(self) -> tuple[Any, dict[str, Any]]:
        """What `optim` names; of a plan for Muon, of the AdamW beside it."""
        trainer, kind = self.trainer, self.plan.optimizer.fallback or self.plan.optimizer
        chosen: Any = trainer.optimizer_cls_and_kwargs
        if chosen is None:
            chosen = trainer.get_optimizer_cls_and_kwargs(trainer.args, trainer.model)
        try:
            found = optimizer_kind(chosen[0])
        except OptimizerError:
            found = None
        wanted = (kind.update, kind.decoupled_weight_decay)
        cls = f"{chosen[0].__module__}:{chosen[0].__qualname__}"
        if cls not in (kind.source or "").split() and (
            found is None or (found.update, found.decoupled_weight_decay) != wanted
        ):
            raise PlanError(
                f"optim={str(getattr(trainer.args.optim, 'value', trainer.args.optim))!r}, "
                f"which is {cls}",
                f"the optimizer {kind.name!r} ({kind.source}): the plan's rates are for no other",
                "choose that optim, or make the plan for this one (optimizer_like declares it)",
            )
        return chosen[0], dict(chosen[1])

    def rescale_(self, model: nn.Module) -> nn.Module:
        """Multiply a fresh model's weights by the plan's factors, unless they hold them."""
        planned = PlannedModel.match(self.plan.parameters, model)
        try:
            planned.require_rescaled()
        except PlanError:
            self.plan.rescale_(model)
        return model

    def create_optimizer(self, model: nn.Module | None = None) -> Optimizer:
        """In place of the trainer's own."""
        trainer = self.trainer
        if trainer.optimizer is None:
            trainer.optimizer = self._made(trainer.model if model is None else model)
        found: Optimizer = trainer.optimizer
        return found

    def _made(self, model: nn.Module) -> Optimizer:
        cls, settings = self._class_and_settings()
        base, kind = self.plan.base, self.plan.optimizer
        names = ("lr", "betas", "eps")  # the groups', or the optimizer's defaults as in the plan
        settings = {key: value for key, value in settings.items() if key not in names}
        if kind.fallback is None:
            groups = self._groups(model, None)
            made: Optimizer = cls(groups, lr=base.lr, **settings)
            self.groups = [{**group} for group in groups]  # the optimizer's own are scheduled
            return made
        matrices = self._groups(model, kind.name)
        others = self._groups(model, kind.fallback.name)
        muon_class: Any = optimizer_class(kind)
        muon = muon_class(matrices, lr=base.lr, **kind.shape_setting)
        adamw = cls(others, lr=base.aux_lr or base.lr, **settings)
        self.groups = [{**group} for group in matrices + others]
        return CombinedOptimizer(muon, adamw)

    def _groups(self, model: nn.Module, kind: str | None) -> list[dict[str, Any]]:
        decaying = set(self.trainer.get_decay_parameter_names(model))
        named = dict(model.named_parameters())
        kept = [p for name, p in named.items() if name not in decaying]
        own: list[dict[str, Any]] = [
            {"params": [p for name, p in named.items() if name in decaying]},
            {"params": kept, "weight_decay": 0.0, "name": "no decay"},
        ]
        groups = self.plan.param_groups(
            model,
            groups=own if self.plan.base.weight_decay else None,
            kind=kind,
            from_checkpoint=self.from_checkpoint,
        )
        return sorted(groups, key=lambda group: not math.isclose(group["lr"], self.plan.lr))

    def callback(self) -> Any:
        """Compares when training begins, and writes the plan beside each checkpoint."""
        try:
            from transformers import TrainerCallback
        except ModuleNotFoundError as error:
            raise MissingExtraError("transformers", "hf") from error
        making = self

        class KeepPlan(TrainerCallback):  # type: ignore[misc]  # untyped
            def on_train_begin(self, args: Any, state: Any, control: Any, **parts: Any) -> None:
                compare_groups([parts["optimizer"]], making.groups, making.trainer.model)
                check_schedule(parts["lr_scheduler"])

            def on_save(self, args: Any, state: Any, control: Any, **parts: Any) -> None:
                folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
                if state.is_world_process_zero and folder.is_dir():
                    making.plan.save(folder / "plan.json")

        return KeepPlan()


def _settings(plan: TransferPlan) -> dict[str, tuple[float, ...]]:
    """What arguments of the trainer may be, beside their defaults."""
    base = plan.base
    betas = base.betas or (plan.optimizer.fallback or plan.optimizer).betas or ()
    eps = base.eps or (plan.optimizer.fallback or plan.optimizer).eps
    return {
        "learning_rate": (base.lr, *([base.aux_lr] if base.aux_lr else [])),
        "weight_decay": (base.weight_decay,),
        "adam_beta1": betas[:1],
        "adam_beta2": betas[1:],
        "adam_epsilon": (eps,) if eps else (),
    }
