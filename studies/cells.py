"""Random directed acyclic cells of convolutions, pooling and skips, repeated."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from etastar.errors import ModelSpecError
from etastar.models.feedforward import ActivationName, Padding, activation_module
from etastar.typed import require_number, require_type

EdgeOp = Literal["zero", "skip", "conv1x1", "conv3x3", "avgpool"]
"""What an edge does to the tensor it carries; `zero` is no edge."""

NODES = 4
"""Of a cell, its input and its output among them."""
EDGES: tuple[tuple[int, int], ...] = tuple(
    (source, node) for node in range(NODES) for source in range(node)
)
"""(from, to) of every possible edge, in the order in which a cell is written."""


@dataclass(frozen=True)
class CellPlan:
    """The edges of one cell that lie on a way from its input (node 0) to its output (node 3).

    Attributes:
        ops: Operation of each edge, in the order of `EDGES`; `zero` where there is none.

    Example:
        >>> CellPlan(("conv3x3", "zero", "skip", "skip", "zero", "conv1x1")).text
        'conv3x3,zero,skip,skip,zero,conv1x1'
    """

    ops: tuple[EdgeOp, ...]

    @property
    def edges(self) -> dict[tuple[int, int], EdgeOp]:
        """The operation of every edge that is there, by (from, to)."""
        return {e: op for e, op in zip(EDGES, self.ops, strict=True) if op != "zero"}

    @property
    def text(self) -> str:
        """The form that `cell(edges=...)` takes."""
        return ",".join(self.ops)


def cell_plan(cell_seed: int = 0, *, edges: str = "") -> CellPlan:
    """A random cell, or the one that is written out.

    Each of the six edges is drawn uniformly from the five operations, again from the start until a
    convolution lies on a way from input to output; edges on no such way are left out.

    Args:
        cell_seed: Seed of the drawing, 0 or more.
        edges: Six operations separated by commas, edges 0-1, 0-2, 1-2, 0-3, 1-3, 2-3; "" to draw.

    Returns:
        The cell.

    Raises:
        ModelSpecError: The seed or an operation is not accepted, or no convolution is on a way.

    Example:
        >>> cell_plan(0).text == cell_plan(0).text, cell_plan(1) == cell_plan(2)
        (True, False)
    """
    if isinstance(cell_seed, bool) or not isinstance(cell_seed, int) or cell_seed < 0:
        raise ModelSpecError(f"cell_seed={cell_seed!r}", "an integer of 0 or more", "change it")
    if edges:
        return _written(edges)
    random = Random(cell_seed)
    while True:
        plan = _pruned(tuple(random.choice(get_args(EdgeOp)) for _ in EDGES))
        if _has_convolution(plan):
            return plan


def _written(edges: str) -> CellPlan:
    ops = tuple(part.strip() for part in edges.split(","))
    known = get_args(EdgeOp)
    plan = CellPlan(()) if len(ops) != len(EDGES) or set(ops) - {*known} else _pruned(ops)
    if not plan.ops or not _has_convolution(plan):
        raise ModelSpecError(
            f"edges={edges!r}",
            f"{len(EDGES)} of {', '.join(known)}, with a convolution on a way to the output",
            "write edges 0-1, 0-2, 1-2, 0-3, 1-3, 2-3 separated by commas, or leave edges out",
        )
    return plan


def _has_convolution(plan: CellPlan) -> bool:
    return any(op.startswith("conv") for op in plan.ops)


def _pruned(ops: tuple[str, ...]) -> CellPlan:
    """The cell without the edges that lie on no way from input to output."""
    present = [edge for edge, op in zip(EDGES, ops, strict=True) if op != "zero"]
    forward, backward = {0}, {NODES - 1}
    for source, node in present:
        if source in forward:
            forward.add(node)
    for source, node in reversed(present):
        if node in backward:
            backward.add(source)
    kept: list[EdgeOp] = []
    for (source, node), op in zip(EDGES, ops, strict=True):
        kept.append(op if source in forward and node in backward else "zero")  # type: ignore[arg-type]
    return CellPlan(tuple(kept))


class Cell(nn.Module):
    """Node i is the sum of its edges' outputs; the cell's output is its last node."""

    def __init__(
        self,
        plan: CellPlan,
        width: int,
        *,
        padding: Padding,
        activation: str,
        batch_norm: bool,
        bias: bool,
    ) -> None:
        super().__init__()
        self.edges = plan.edges
        self.ops = nn.ModuleDict()
        for (source, node), op in self.edges.items():
            if op == "avgpool":
                module: nn.Module = nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)
            elif op == "skip":
                module = nn.Identity()
            else:
                kernel = int(op[-1])
                conv = _same_conv(width, width, kernel, padding=padding, bias=bias)
                module = nn.Sequential(activation_module(activation), conv)
                if batch_norm:
                    module.append(nn.BatchNorm2d(width))
            self.ops[f"{source}to{node}"] = module

    def forward(self, x: Tensor) -> Tensor:
        """The output (batch, width, height, width in pixels) of the cell."""
        values: dict[int, Tensor] = {0: x}
        for source, node in self.edges:
            value = self.ops[f"{source}to{node}"](values[source])
            values[node] = values[node] + value if node in values else value
        return values[NODES - 1]


class CellNetwork(nn.Module):
    """`head(mean(phi(cells(stem(x)))))`; made by `cell`."""

    def __init__(
        self, stem: nn.Conv2d, cells: list[Cell], *, num_classes: int, activation: str, bias: bool
    ) -> None:
        super().__init__()
        self.stem = stem
        self.cells = nn.ModuleList(cells)
        self.activation = activation_module(activation)
        self.head = nn.Linear(stem.out_channels, num_classes, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (batch, classes) of images (batch, channels, height, width in pixels)."""
        x = self.stem(x)
        for one in self.cells:
            x = one(x)
        logits: Tensor = self.head(self.activation(x).mean((-2, -1)))
        return logits


def _same_conv(
    in_channels: int, out_channels: int, kernel_size: int, *, padding: Padding, bias: bool
) -> nn.Module:
    """A convolution that keeps the size of its input."""
    return nn.Conv2d(
        *(in_channels, out_channels, kernel_size),
        padding=kernel_size // 2,
        padding_mode=padding,
        bias=bias,
    )


def cell(
    depth: int = 3,
    width: int = 16,
    *,
    in_channels: int = 1,
    image_size: int = 8,
    num_classes: int = 10,
    cell_seed: int = 0,
    edges: str = "",
    padding: Padding = "zeros",
    activation: str = "relu",
    batch_norm: bool = False,
    bias: bool = True,
) -> CellNetwork:
    """A stack of one random cell, of constant width and image size; the cell decides the depth.

    Four nodes; each edge between two of them is zero, skip, conv1x1, conv3x3 or avgpool (3x3), a
    convolution being activation, convolution and, if asked for, BatchNorm. The search space is that
    of NAS-Bench-201 (arXiv 2001.00326), without its stages of growing width.

    Args:
        depth: Number of cells.
        width: Channels everywhere.
        in_channels: Channels of the input.
        image_size: Height and width in pixels; only example inputs depend on it.
        num_classes: Outputs.
        cell_seed: Seed that draws the cell, the same one for every place.
        edges: The cell written out, see `cell_plan`; "" to draw it.
        padding: "zeros" or "circular".
        activation: One of `etastar.models.feedforward.ActivationName`.
        batch_norm: Whether a BatchNorm follows each convolution of a cell.
        bias: Whether the layers have biases.

    Returns:
        The network with PyTorch's own initialization.

    Raises:
        ModelSpecError: A size is no positive integer, or an option is unknown.

    Example:
        >>> import torch
        >>> cell(2, 8, cell_seed=3)(torch.zeros(2, 1, 8, 8)).shape
        torch.Size([2, 10])
    """
    sizes = {"depth": depth, "width": width, "in_channels": in_channels}
    for name, size in {**sizes, "image_size": image_size, "num_classes": num_classes}.items():
        require_number(name, size, error=ModelSpecError, least=1, whole=True)
    require_type("padding", padding, Padding)
    require_type("activation", activation, ActivationName)
    plan = cell_plan(cell_seed, edges=edges)
    stem = _same_conv(in_channels, width, 3, padding=padding, bias=bias)
    cells = [
        Cell(plan, width, padding=padding, activation=activation, batch_norm=batch_norm, bias=bias)
        for _ in range(depth)
    ]
    assert isinstance(stem, nn.Conv2d)
    return CellNetwork(stem, cells, num_classes=num_classes, activation=activation, bias=bias)


def cell_inputs(*, in_channels: int = 1, image_size: int = 8, **_: Any) -> tuple[Tensor]:
    """A batch of two inputs for `cell` with the same arguments; the same at every call.

    Args:
        in_channels: Channels of the input.
        image_size: Height and width in pixels.
        **_: Arguments of `cell` on which inputs do not depend.

    Returns:
        One tensor of shape (2, in_channels, image_size, image_size).

    Example:
        >>> cell_inputs(depth=3)[0].shape
        torch.Size([2, 1, 8, 8])
    """
    shape = (2, in_channels, image_size, image_size)
    return (torch.randn(shape, generator=torch.Generator().manual_seed(0)),)
