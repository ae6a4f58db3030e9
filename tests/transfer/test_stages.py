"""Which stage a parameter stands in, where widths were rounded and sizes cannot tell."""

import pytest

from etastar.errors import PlanError
from etastar.parameter import ParamInfo
from etastar.transfer import match_parameters


def rounded(channels):
    """To a multiple of eight, as networks with multipliers of width do."""
    return max(8, int(channels + 4) // 8 * 8)


def layer(name, made, read, kernel=1, role="hidden"):
    taps, shape = kernel**2, (made, read, kernel, kernel)
    rest = {"features_in": read, "features_out": made, "layer_type": "convolution"}
    return ParamInfo(
        name, shape, role, read * taps, made * taps, kernel_size=(kernel, kernel), **rest
    )


def gain(name, size):
    return ParamInfo(name, (size,), "norm", 1, size, features_out=size)


def inverted_bottlenecks(width, depths, name="blocks.{}.{}"):
    """Stages of blocks that widen six times, of rounded widths: mobile networks."""
    infos, read = [layer("stem.weight", rounded(32 * width), 3, 3, "input")], rounded(32 * width)
    for stage, (made, depth) in enumerate(zip((16, 24, 40, 80, 112), depths, strict=True)):
        for place in range(depth):
            block, made_here = name.format(stage, place), rounded(made * width)
            infos += [
                layer(f"{block}.expand.weight", 6 * read, read),
                gain(f"{block}.norm.weight", 6 * read),
                layer(f"{block}.depthwise.weight", 6 * read, 1, 3),
                layer(f"{block}.project.weight", made_here, 6 * read),
                gain(f"{block}.last.weight", made_here),
            ]
            read = made_here
    return [*infos, layer("head.weight", 10, read, role="output")]


def stage_of(name):
    return name.split(".")[1] if name.startswith("blocks") else name


@pytest.mark.parametrize("wider", [0.75, 1.0, 1.4, 2.0])
@pytest.mark.parametrize("depths", [(1, 2, 2, 3, 2), (1, 3, 3, 5, 4), (2, 3, 3, 5, 4)])
def test_a_stage_stands_for_itself_whatever_its_width_was_rounded_to(wider, depths):
    base = inverted_bottlenecks(0.5, (1, 2, 2, 3, 2))
    known = {info.name for info in base}
    for pair in match_parameters(base, inverted_bottlenecks(wider, depths)):
        assert stage_of(pair.base.name) == stage_of(pair.target.name) or pair.base.name not in known
        if pair.target.name in known:
            assert pair.base.name == pair.target.name


def test_a_network_of_the_same_names_corresponds_by_name():
    """Also where all blocks are in one list."""
    ours, theirs = (
        inverted_bottlenecks(width, (1, 2, 2, 3, 2), "blocks.{}{}") for width in (1.4, 0.5)
    )
    assert all(p.base.name == p.target.name for p in match_parameters(theirs, ours))


def test_new_blocks_of_a_stage_that_had_one_have_the_sizes_that_the_base_would_have():
    base, target = (
        inverted_bottlenecks(*size) for size in ((0.5, (1, 1, 1, 1, 1)), (1.0, (2, 2, 2, 2, 2)))
    )
    found = {p.target.name: p.base.shape for p in match_parameters(base, target)}
    assert found["blocks.4.1.expand.weight"] == (6 * 56, 56, 1, 1)
    assert found["blocks.4.1.norm.weight"] == (6 * 56,)
    assert found["blocks.4.1.project.weight"] == (56, 6 * 56, 1, 1)


@pytest.mark.parametrize("width", [0.25, 0.35, 0.5, 0.75, 1.0])
@pytest.mark.parametrize("wider", [0.5, 0.75, 1.0, 1.3, 1.4, 1.8, 2.0])
@pytest.mark.parametrize("depths", [(1, 1, 1, 1, 1), (1, 2, 2, 3, 1), (1, 1, 2, 1, 1)])
def test_the_only_block_of_a_stage_stands_for_others_rightly_or_not_at_all(width, wider, depths):
    """It narrows where they do not, and rounded widths may hide that."""
    deeper = tuple(depth + 1 for depth in depths)
    base, target = inverted_bottlenecks(width, depths), inverted_bottlenecks(wider, deeper)
    shapes = {info.name: info.shape for info in inverted_bottlenecks(width, deeper)}
    try:
        pairs = match_parameters(base, target)
    except PlanError:
        assert (width, wider) in {(0.5, 0.75), (1.0, 0.75)}
    else:
        assert {p.target.name: p.base.shape for p in pairs} == shapes


@pytest.mark.parametrize("kernel", [2, 4])
def test_a_kernel_is_no_width(kernel):
    """Of a chain widened as many times as a kernel is larger than another."""

    def chain(width, pairs):
        kernels = [kernel, 1] * pairs
        inner = [layer(f"{i + 1}.weight", width, width, k) for i, k in enumerate(kernels)]
        first, last = layer("0.weight", width, 3, 3, "input"), len(inner) + 1
        return [first, *inner, layer(f"{last}.weight", 10, width, role="output")]

    for pair in match_parameters(chain(16, 2), chain(16 * kernel, 4)):
        assert pair.base.kernel_size == pair.target.kernel_size
