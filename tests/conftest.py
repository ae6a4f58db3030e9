"""Settings of all tests: one thread, and the same Hypothesis examples at every run of CI."""

import os

import torch
from hypothesis import settings

torch.set_num_threads(1)

settings.register_profile("developer", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "developer")
