"""The record that every data set is loaded into: images brought to one scale, text in windows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from etastar.errors import ModelSpecError

NUM_BYTES = 256

TaskKind = Literal["classification", "language modelling", "regression"]
"""What the targets are: class numbers, next tokens at every position, or real vectors."""


@dataclass(frozen=True, eq=False)
class Dataset:
    """Training and test examples in memory.

    Attributes:
        name: What `load` knows it by.
        task: See `TaskKind`.
        num_classes: Number of classes, of tokens, or of numbers in a regression target.
        train_inputs: (examples, ...), float, or integer tokens (examples, context).
        train_targets: (examples,) classes; (examples, context) tokens; (examples, numbers) floats.
        test_inputs: As `train_inputs`.
        test_targets: As `train_targets`.

    Raises:
        ModelSpecError: Inputs and targets differ in number, one part is empty, or the inputs of
            both parts differ in shape.
    """

    name: str
    task: TaskKind
    num_classes: int
    train_inputs: Tensor
    train_targets: Tensor
    test_inputs: Tensor
    test_targets: Tensor

    def __post_init__(self) -> None:
        for part, inputs, targets in (
            ("training", self.train_inputs, self.train_targets),
            ("test", self.test_inputs, self.test_targets),
        ):
            if len(inputs) != len(targets) or len(inputs) == 0:
                raise ModelSpecError(
                    f"data set {self.name!r} with {len(inputs)} {part} inputs and {len(targets)} "
                    "targets",
                    "as many targets as inputs, and at least one",
                    "ask for more examples or mend the data set",
                )
        shapes = [tuple(inputs.shape[1:]) for inputs in (self.train_inputs, self.test_inputs)]
        if shapes[0] != shapes[1]:
            raise ModelSpecError(
                f"data set {self.name!r} with training inputs {shapes[0]}, test inputs {shapes[1]}",
                "the same shape in both parts",
                "bring them to one size, or take another test part",
            )

    def batches(
        self, seed: int, batch_size: int, num_steps: int
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Training batches, epoch after epoch, each epoch in a new order.

        The order depends on the seed alone. What is left of an epoch when no whole batch fits is
        dropped. The first batches for fewer steps are those for more steps.

        Args:
            seed: Of the order.
            batch_size: Examples in a batch.
            num_steps: Number of batches.

        Returns:
            An iterator of (inputs, targets).

        Raises:
            ModelSpecError: A batch is larger than the training set, or a size is not positive.

        Example:
            >>> from etastar.datasets import load
            >>> data = load("digits")
            >>> [len(inputs) for inputs, _ in data.batches(0, 16, 3)]
            [16, 16, 16]
        """
        num_examples = len(self.train_inputs)
        if not (1 <= batch_size <= num_examples and num_steps >= 1):
            raise ModelSpecError(
                f"batch_size={batch_size}, num_steps={num_steps} on {self.name!r}",
                f"a batch_size from 1 to {num_examples} and one step or more",
                "change the batch size or the number of steps",
            )
        return self._batches(seed, batch_size, num_steps)

    def _batches(
        self, seed: int, batch_size: int, num_steps: int
    ) -> Iterator[tuple[Tensor, Tensor]]:
        generator = torch.Generator().manual_seed(seed)
        per_epoch = len(self.train_inputs) // batch_size
        for step in range(num_steps):
            place = step % per_epoch
            if place == 0:
                order = torch.randperm(len(self.train_inputs), generator=generator)
            chosen = order[place * batch_size : (place + 1) * batch_size]
            yield self.train_inputs[chosen], self.train_targets[chosen]


def image_dataset(
    name: str, num_classes: int, train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor]
) -> Dataset:
    """A classification of images (examples, channels, height, width), scaled channel by channel.

    Each channel of the training part has mean 0 and standard deviation 1, and the test part is
    scaled alike. A channel that is constant stays at 0.
    """
    mean = train[0].mean((0, 2, 3), keepdim=True)
    std = train[0].std((0, 2, 3), correction=0, keepdim=True)
    scale = std.masked_fill(std == 0, 1.0)
    scaled = ((images - mean) / scale for images in (train[0], test[0]))
    return Dataset(
        name, "classification", num_classes, next(scaled), train[1], next(scaled), test[1]
    )


def byte_windows(text: bytes, *, context: int) -> tuple[Tensor, Tensor]:
    """Windows that do not overlap, and the same shifted by one byte: (windows, context) integers.

    What does not fill a window is left out; a text that fills none is refused.

    Example:
        >>> inputs, targets = byte_windows(b"abcdef", context=2)
        >>> [bytes(row) for row in inputs.tolist()], [bytes(row) for row in targets.tolist()]
        ([b'ab', b'de'], [b'bc', b'ef'])
    """
    if not isinstance(context, int) or context < 1 or len(text) <= context:
        raise ModelSpecError(
            f"context={context!r} on a text of {len(text)} bytes",
            "a context of one byte or more, and a longer text",
            "change the context or give more text",
        )
    length = context + 1
    used = len(text) // length * length
    windows = torch.frombuffer(bytearray(text[:used]), dtype=torch.uint8)
    windows = windows.view(-1, length).long()
    return windows[:, :-1].contiguous(), windows[:, 1:].contiguous()


def hold_out_tenth(inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Every tenth example as test part, so that both parts come from the whole set.

    Returns:
        Training inputs and targets, test inputs and targets.

    Example:
        >>> windows = torch.arange(20)
        >>> hold_out_tenth(windows, windows)[2].tolist()
        [9, 19]
    """
    is_test = torch.arange(len(inputs)) % 10 == 9
    return inputs[~is_test], targets[~is_test], inputs[is_test], targets[is_test]
