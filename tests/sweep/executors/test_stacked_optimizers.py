"""Stacked optimizers do to each run what its own optimizer does alone."""

import pytest
import torch
from torch import nn

from etastar.sweep.executors import stacked_optimizer
from etastar.sweep.executors.stacked_optimizers import stack_optimizers

SGD, Adam, AdamW = torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW
OPTIMIZERS = {
    "momentum": lambda params, lr: SGD(params, lr, momentum=0.9, dampening=0.2, weight_decay=lr),
    "nesterov": lambda params, lr: SGD(params, lr, momentum=0.9, nesterov=True),
    "adam": lambda params, lr: Adam(params, lr, betas=(0.8, 1 - lr), weight_decay=0.1),
    "adamw": lambda params, lr: AdamW(params, lr, weight_decay=0.5),
}
LRS = (0.01, 0.02, 0.04)


@pytest.mark.parametrize("as_list", [False, True])
@pytest.mark.parametrize("part", [1, 9, 2**16])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_each_run_is_updated_as_it_is_alone(name, part, as_list, monkeypatch):
    monkeypatch.setattr(stacked_optimizer, "_PART", part)
    generator = torch.Generator().manual_seed(0)
    models = [nn.Linear(2, 2).double() for _ in LRS]
    optimizers = [
        OPTIMIZERS[name](model.parameters(), lr) for model, lr in zip(models, LRS, strict=True)
    ]
    stacked = stack_optimizers(optimizers, models)
    params = {
        key: torch.stack([model.state_dict()[key] for model in models])
        for key in ("weight", "bias")
    }
    for step in range(4):
        grads = {
            key: torch.randn(param.shape, generator=generator, dtype=param.dtype)
            for key, param in params.items()
        }
        if step == 1:
            grads["bias"] = None
        for index, (model, optimizer) in enumerate(zip(models, optimizers, strict=True)):
            for key, param in model.named_parameters():
                param.grad = None if grads[key] is None else grads[key][index].clone()
            optimizer.step()
        if as_list:
            grads = {key: grad if grad is None else list(grad) for key, grad in grads.items()}
        stacked.step(params, grads)
    for index, model in enumerate(models):
        for key, param in model.named_parameters():
            torch.testing.assert_close(params[key][index], param.detach(), rtol=1e-12, atol=0)
