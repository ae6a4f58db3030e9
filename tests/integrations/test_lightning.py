"""Lightning's optimizers and schedulers against a plan, when training begins."""

import pytest
import torch
from torch import nn

from etastar.errors import PlanError, ScheduleError
from etastar.integrations.lightning import plan_callback
from etastar.transfer import TransferPlan, Tuned, plan_transfer, warmup_cosine

lightning = pytest.importorskip("lightning", reason="no dependency of the tests")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


def mlp(width):
    return nn.Sequential(nn.Linear(6, width), nn.Linear(width, width), nn.Linear(width, 3))


def normed(width):
    return nn.Sequential(nn.Linear(6, width), nn.LayerNorm(width), nn.Linear(width, 3))


def fit(make, configure, network="", folder=None):
    torch.manual_seed(0)
    example = torch.zeros(2, 6)
    base, net = make(8), make(32)
    plan = plan_transfer(
        Tuned((base, example), 0.01, weight_decay=0.1), (net, example), optimizer="adamw"
    )
    plan.rescale_(net)

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = net
            if network:
                self.other = nn.Linear(2, 2)

        def training_step(self, batch, _):
            return self.net(batch).square().mean()

        def configure_optimizers(self):
            optimizer, schedule = configure(plan, self)
            return [optimizer], [{"scheduler": schedule, "interval": "step"}]

    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = lightning.Trainer(
        max_steps=4,
        accelerator="cpu",
        callbacks=[plan_callback(plan, network=network)],
        default_root_dir=folder,
        **quiet,
    )
    trainer.fit(Module(), torch.utils.data.DataLoader(torch.randn(16, 6), 4))
    return plan, trainer


def planned(plan, module):
    optimizer = torch.optim.AdamW(plan.param_groups(module.net))
    return optimizer, warmup_cosine(optimizer, 4)


@pytest.mark.parametrize("network", ["", "net"])
@pytest.mark.parametrize("make", [mlp, normed])
def test_the_plans_groups_pass_and_the_plan_is_in_the_checkpoint(make, network, tmp_path):
    plan, trainer = fit(make, planned, network, tmp_path)
    trainer.save_checkpoint(tmp_path / "end.ckpt")
    saved = torch.load(tmp_path / "end.ckpt", weights_only=True)
    assert TransferPlan.from_json(saved["etastar_plan"]) == plan


def test_an_optimizer_of_no_plan_and_a_flattening_scheduler_are_refused(tmp_path):
    def bare(plan, module):
        optimizer = torch.optim.AdamW(module.parameters(), lr=0.01)
        return optimizer, warmup_cosine(optimizer, 4)

    def flat(plan, module):
        optimizer = torch.optim.AdamW(plan.param_groups(module))
        return optimizer, torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 4, eta_min=1e-3)

    with pytest.raises(PlanError, match="differs from the plan"):
        fit(mlp, bare, folder=tmp_path)
    with pytest.raises(ScheduleError, match="changes the ratios"):
        fit(mlp, flat, folder=tmp_path)
