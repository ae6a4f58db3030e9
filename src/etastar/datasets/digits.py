"""Handwritten digits, 8 x 8 pixels, as scikit-learn ships them."""

from __future__ import annotations

import torch

from etastar.datasets.dataset import Dataset
from etastar.datasets.scaling import standardize_images
from etastar.errors import ModelSpecError

__all__ = ["load_digits"]

NUM_DIGITS = 10


def load_digits(*, num_test: int = 360, seed: int = 0) -> Dataset:
    """1,797 grey images of ten digits; nothing is downloaded.

    Args:
        num_test: Examples kept for the test part (a fifth by default).
        seed: Of the split; not of the batches.

    Returns:
        Images (examples, 1, 8, 8) with mean 0 and standard deviation 1 over the training part.

    Raises:
        ModelSpecError: The test part would be empty or leave nothing to train on.

    Example:
        >>> data = load_digits()
        >>> data.train_inputs.shape, data.num_classes
        (torch.Size([1437, 1, 8, 8]), 10)

    Source: UCI's Optical Recognition of Handwritten Digits, E. Alpaydin and C. Kaynak, 1998.
    """
    from sklearn.datasets import load_digits as read_digits

    raw = read_digits()
    images = torch.from_numpy(raw.images).float().unsqueeze(1)
    labels = torch.from_numpy(raw.target).long()
    if not 1 <= num_test < len(images):
        raise ModelSpecError(
            f"num_test={num_test}", f"from 1 to {len(images) - 1}", "change num_test"
        )
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    test, train = order[:num_test], order[num_test:]
    train_inputs, test_inputs = standardize_images(images[train], images[test])
    return Dataset(
        "digits",
        "classification",
        NUM_DIGITS,
        train_inputs,
        labels[train],
        test_inputs,
        labels[test],
    )
