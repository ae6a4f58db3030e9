# pip install "etastar[lightning]"; python lightning_trainer.py --steps 60
"""Lightning: the plan's groups and a checked schedule in `configure_optimizers`."""

import argparse

import lightning
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import etastar
from etastar.datasets import load
from etastar.integrations.lightning import plan_callback
from etastar.models import build, example_inputs

parser = argparse.ArgumentParser()
parser.add_argument("--steps", type=int, default=200)
steps = parser.parse_args().steps


class Digits(lightning.LightningModule):
    def __init__(self, net, plan):
        super().__init__()
        self.net, self.plan, self.losses = net, plan, []

    def training_step(self, batch, _):
        inputs, targets = batch
        loss = nn.functional.cross_entropy(self.net(inputs), targets)
        self.losses.append(loss.item())
        return loss

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.plan.param_groups(self))  # looks inside: net alone
        schedule = etastar.warmup_cosine(optimizer, steps, warmup_steps=steps // 10)
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]


lightning.seed_everything(0)
example = example_inputs("vit")
small, big = build("vit", depth=3, width=32), build("vit", depth=6, width=64)
tuned = etastar.Tuned((small, example), lr=0.003, weight_decay=0.01)  # tuned on the small one
plan = etastar.plan_transfer(tuned, (big, example), optimizer="adamw")
print(plan)
plan.rescale_(big)

data = load("digits")
loader = DataLoader(TensorDataset(data.train_inputs, data.train_targets), 32, shuffle=True)
module = Digits(big, plan)
quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
checked = [plan_callback(plan)]  # refuses other groups, or a schedule that flattens them
trainer = lightning.Trainer(max_steps=steps, callbacks=checked, enable_model_summary=False, **quiet)
trainer.fit(module, loader)
print(f"loss {module.losses[0]:.3f} to {module.losses[-1]:.3f}")
