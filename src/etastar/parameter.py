"""What a law may know of a parameter (shape, role, place in the graph), and of all blocks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Role = Literal["input", "hidden", "output", "norm", "bias", "embedding"]
"""Place of a parameter in the network, from the graph alone.

`input`: weight of a layer that reads nothing but data; `output`: weight of a layer that no other
weight layer reads; `hidden`: any other weight, also one that acts on learned queries; `embedding`:
a table that is looked up or added (positions, a class token); `norm`: a gain, whatever its shape;
`bias`: any other vector, the shift of a norm included.
"""

LayerType = Literal["linear", "convolution", "embedding", "recurrent"]


@dataclass(frozen=True)
class AttentionPart:
    """What a parameter does in an attention.

    Attributes:
        head_size: Size of a head of queries and keys.
        scale: Constant factor of the program on the scores, 1 / sqrt(head_size) or another.
        makes: "queries" for what a factor on the scores can sit on; "several" where one weight
            makes them with keys or values, or a norm without gain follows.
        repeats: Of what makes keys or values, heads of queries for each head of these.
    """

    head_size: int
    scale: float
    makes: Literal["queries", "keys or values", "several"]
    repeats: int = 1


@dataclass(frozen=True)
class ParamInfo:
    """One parameter as laws, schemes and plans see it.

    Attributes:
        name: Canonical dotted name; of a tied parameter, the first name.
        shape: Shape of the parameter.
        role: See `Role`.
        fan_in: Terms summed into one output unit (1 for a looked-up table, a bias, a gain).
        fan_out: Output units that one input unit reaches (for a bias or gain: its size).
        layer_type: What the first weight layer that used it is; None for what none consumed.
        kernel_size: Spatial kernel of a convolution, else ().
        stream: Number of the residual stream that its branch adds to; None outside of branches. On
            nested branches that of the innermost: its variance carries 1/K of the sums that it
            enters first, and the weight that ends the outer branch is on no inner one.
        stream_additions: K, the number of residual additions of that stream; 0 outside.
        branch: Number of the residual addition, counted within the stream; None outside.
        branch_position: Fewest weight layers of the branch on a way to this one; None if not of a
            weight layer.
        branch_length: Weight layers on the longest way through the branch; 0 outside. Weights of a
            gate (a factor that was squashed or bent while the other was not) are on no such way.
        branch_last: True for the weight (and bias) of a layer whose output the addition sums.
        branch_scale: True for what scales the branch's output: weight and bias of its last layer,
            or gain and shift of a norm behind that. A branch multiplier sits there; a branch
            without such a parameter (its output is bent or normalized, or what it multiplies is no
            a (w + c) of the parameter w) cannot carry one.
        branch_fan: Number of branches that this addition sums (1 for `x + f(x)`); 0 outside.
        features_in: Features that a weight reads, each a width; of a grouped layer in one group. 0
            where the size is no width (the rank of an adapter), None where it is not known. Of a
            gain, what the readout reads whose direction it scales.
        features_out: Features that a weight makes, or that a bias, gain or table belongs to; 0
            where there are none (one number a layer, head, expert or class), None likewise.
        gain_offset: c of a gain that the network reads as a (w + c), 1 for `1 + w`; 0 for a plain
            one. A factor m on the gain makes w' = m (w + c) - c.
        affine: Whether a factor on all that makes a weight reaches it; not sure of one that is
            normalized, masked or bent, and so no a (w + c) of its parameter.
        own_multiplier: Constant factor that the network itself puts on what the parameter makes:
            1/L on branches, d0/d on logits, also where it stands before the layer.
        own_before: The part of it that stands before the layer.
        aliases: Other names of the same tensor (tied parameters).
        branches: Every branch that it lies on, the innermost first, as (stream, branch).
        attention: What it does in an attention; None where it does nothing there.
        no_decay: Whether the model itself marks it as without weight decay: `_no_weight_decay` or
            `_optim` of a parameter, `no_weight_decay` or `no_weight_decay_keywords` of a module.
    """

    name: str
    shape: tuple[int, ...]
    role: Role
    fan_in: int
    fan_out: int
    layer_type: LayerType | None = None
    kernel_size: tuple[int, ...] = ()
    stream: int | None = None
    stream_additions: int = 0
    branch: int | None = None
    branch_position: int | None = None
    branch_length: int = 0
    branch_last: bool = False
    branch_scale: bool = False
    branch_fan: int = 0
    features_in: int | None = None
    features_out: int | None = None
    gain_offset: float = 0.0
    affine: bool = True
    own_multiplier: float = 1.0
    own_before: float = 1.0
    aliases: tuple[str, ...] = ()
    branches: tuple[tuple[int, int], ...] = ()
    attention: AttentionPart | None = None
    no_decay: bool = False

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    @property
    def in_branch(self) -> bool:
        """Whether it lies on a residual branch."""
        return self.stream is not None

    @property
    def is_weight(self) -> bool:
        """Whether a weight layer contracts it (or looks it up)."""
        return self.role in ("input", "hidden", "output", "embedding")


@dataclass(frozen=True)
class NetworkFeatures:
    """What of a network's form decides how its best learning rate goes over depth.

    Attributes:
        structure: "chain": one path; "residual": branches that are added to a stream; "other".
        norm: Where it is normalized. Residual: "pre", a branch begins by normalizing the stream;
            "post", the stream itself is normalized after an addition; "inside", norms of a branch
            read what its layers made. Else "inside", between two layers. Or "none".
        batch_norm: Whether these norms are over the batch.
        scaled_branches: Whether a parameter of its own multiplies a branch's output (LayerScale,
            ReZero); the gain of a norm is none.
        branch_layers: Weight layers of a branch: 1, 2 for two or more; 0 without branches.
        convolutional: Whether a network without norms convolves: a branch that has a kernel of more
            than one position; without branches, a third of its weight layers. False with norms: no
            measured families tell such networks apart by it.
    """

    structure: Literal["chain", "residual", "other"]
    norm: Literal["none", "pre", "post", "inside"]
    batch_norm: bool
    scaled_branches: bool
    branch_layers: int
    convolutional: bool = field(default=False, kw_only=True)
