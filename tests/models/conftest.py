"""Networks are drawn from the global random numbers: the same ones for every test."""

import pytest
import torch


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)
