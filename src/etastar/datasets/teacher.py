"""A synthetic task: the outputs of a random network."""

from __future__ import annotations

from typing import Literal, get_args

import torch

from etastar.datasets.dataset import Dataset
from etastar.errors import ModelSpecError

__all__ = ["load_teacher"]

TeacherTask = Literal["classification", "regression"]


def load_teacher(
    *,
    task: TeacherTask = "classification",
    in_features: int = 64,
    num_classes: int = 10,
    num_train: int = 4096,
    num_test: int = 512,
    teacher_width: int = 64,
    seed: int = 0,
) -> Dataset:
    """Normal inputs and what a random two-layer tanh network makes of them.

    y = V tanh(W x), the variances of both weights 1 / fan_in, scaled to mean 0 and standard
    deviation 1 of each output over the training part; the class is the largest of them.

    Args:
        task: "classification" (the largest output) or "regression" (all outputs).
        in_features: Numbers in an input.
        num_classes: Outputs of the teacher.
        num_train: Training examples.
        num_test: Test examples.
        teacher_width: Hidden units of the teacher.
        seed: Of inputs and teacher.

    Returns:
        Inputs (examples, in_features); targets (examples,) or (examples, num_classes).

    Raises:
        ModelSpecError: The task is unknown or a size is not positive.

    Example:
        >>> data = load_teacher(task="regression", num_train=100)
        >>> data.train_targets.shape
        torch.Size([100, 10])
    """
    sizes = (in_features, num_classes, num_train, num_test, teacher_width)
    if task not in get_args(TeacherTask) or min(sizes) < 1:
        raise ModelSpecError(
            f"teacher with task={task!r}, sizes {sizes}",
            "task 'classification' or 'regression', sizes of 1 or more",
            "change the task or the sizes",
        )
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(num_train + num_test, in_features, generator=generator)
    hidden_weight = torch.randn(in_features, teacher_width, generator=generator)
    output_weight = torch.randn(teacher_width, num_classes, generator=generator)
    hidden = torch.tanh(inputs @ hidden_weight / in_features**0.5)
    outputs = hidden @ output_weight / teacher_width**0.5
    std, mean = torch.std_mean(outputs[:num_train], dim=0, correction=0)
    outputs = (outputs - mean) / std.masked_fill(std == 0, 1.0)
    targets = outputs.argmax(1) if task == "classification" else outputs
    n = num_train
    return Dataset("teacher", task, num_classes, inputs[:n], targets[:n], inputs[n:], targets[n:])
