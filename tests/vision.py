"""Run a script beside `.vision`, in a process of its own: `python tests/vision.py script.py ...`.

The torchvision in `.vision` may be built for another torch: its operators are declared here, so
that timm imports it. `transformers` must not meet it. Other code calls
`declare_operators` before it imports them.
"""

import runpy
import sys
from pathlib import Path

import torch

ROOT = Path(__file__).parents[1]

_SAMPLING = ("roi_align", "roi_pool", "ps_roi_align", "ps_roi_pool", "deform_conv2d")


def declare_operators():
    """Put `.vision` on the path, and declare what torchvision's own build would bring."""
    sys.path.append(str(ROOT / ".vision"))
    library = torch.library.Library("torchvision", "DEF")
    backward = [f"_{name}_backward" for name in _SAMPLING]
    for name in (*_SAMPLING, *backward, "nms", "qnms", "qroi_align"):
        library.define(f"{name}(Tensor x) -> Tensor")
    sys.modules[__name__].library = library  # declared for as long as it lives


if __name__ == "__main__":
    declare_operators()
    del sys.argv[0]
    runpy.run_path(sys.argv[0], run_name="__main__")
