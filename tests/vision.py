"""Run a script beside `.vision`, in a process of its own: `python tests/vision.py script.py ...`.

The torchvision in `.vision` may be built for another torch: its operators are declared here, so
that timm imports it. `transformers` must not meet it.
"""

import runpy
import sys
from pathlib import Path

import torch

sys.path.append(str(Path(__file__).parents[1] / ".vision"))
library = torch.library.Library("torchvision", "DEF")
operators = "nms roi_align roi_pool ps_roi_align ps_roi_pool deform_conv2d qnms qroi_align".split()
for name in operators:
    library.define(f"{name}(Tensor x) -> Tensor")
for name in operators[1:6]:
    library.define(f"_{name}_backward(Tensor x) -> Tensor")
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
