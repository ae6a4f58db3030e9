"""Standardized images."""

import torch

from etastar.datasets.dataset import standardize_images


def test_each_channel_is_scaled_by_the_training_parts_own_statistics():
    generator = torch.Generator().manual_seed(0)
    scale = torch.tensor([1.0, 5.0])[:, None, None]
    train = 3 + scale * torch.randn(50, 2, 4, 4, generator=generator)
    test = 3 + scale * torch.randn(7, 2, 4, 4, generator=generator)
    scaled, scaled_test = standardize_images(train, test)
    std, mean = torch.std_mean(scaled, dim=(0, 2, 3), correction=0)
    torch.testing.assert_close(mean, torch.zeros(2), atol=1e-5, rtol=0)
    torch.testing.assert_close(std, torch.ones(2))
    joint, _ = standardize_images(train, torch.cat([train, test]))
    torch.testing.assert_close(joint, scaled)
    torch.testing.assert_close(standardize_images(train, train[:7])[1], scaled[:7])
    assert scaled_test.shape == test.shape


def test_a_constant_channel_becomes_zero():
    scaled, _ = standardize_images(torch.full((2, 1, 2, 2), 7.0), torch.full((1, 1, 2, 2), 7.0))
    assert torch.equal(scaled, torch.zeros(2, 1, 2, 2))
