"""Which base parameter stands for which target parameter."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etastar.errors import PlanError
from etastar.parameter import ParamInfo
from etastar.transfer import match_parameters


def linear(name, fan_out, fan_in, role="hidden", **place):
    return ParamInfo(
        f"{name}.weight", (fan_out, fan_in), role, fan_in, fan_out, layer_type="linear", **place
    )


def convolution(name, fan_out, fan_in, role="hidden", kernel=3, **place):
    taps = kernel**2
    shape = (fan_out, fan_in, kernel, kernel)
    return ParamInfo(
        f"{name}.weight",
        shape,
        role,
        fan_in * taps,
        fan_out * taps,
        layer_type="convolution",
        kernel_size=(kernel, kernel),
        **place,
    )


def bias(name, size, **place):
    return ParamInfo(f"{name}.bias", (size,), "bias", 1, size, layer_type="linear", **place)


def chain(depth, width, inputs=6, outputs=10):
    """A Sequential: every other index is an activation, so that the head's index moves."""
    sizes = [inputs, *[width] * depth, outputs]
    roles = ["input", *["hidden"] * (depth - 1), "output"]
    infos = []
    for i, role in enumerate(roles):
        infos.append(linear(f"net.{2 * i}", sizes[i + 1], sizes[i], role))
        infos.append(bias(f"net.{2 * i}", sizes[i + 1]))
    return infos


def names(pairs):
    return {pair.target.name: pair.base.name for pair in pairs}


@settings(deadline=None)
@given(st.integers(1, 6), st.integers(1, 9), st.integers(11, 40), st.integers(11, 40))
def test_roles_decide_in_a_chain(base_depth, depth, base_width, width):
    pairs = match_parameters(chain(base_depth, base_width), chain(depth, width))
    for pair in pairs:
        assert pair.base.role == pair.target.role
        if pair.target.role == "hidden":
            assert pair.fan_in_ratio == pytest.approx(width / base_width)
            assert pair.units_ratio == pytest.approx(width / base_width)
        if pair.target.role == "output":
            assert pair.units_ratio == 1.0


@settings(deadline=None)
@given(st.integers(1, 8), st.integers(1, 50))
def test_a_network_corresponds_to_itself(depth, width):
    network = chain(depth, width)
    assert all(pair.base is pair.target for pair in match_parameters(network, network))


def test_a_bias_of_the_heads_index_is_hidden_in_a_deeper_chain():
    pairs = match_parameters(chain(2, 8), chain(4, 32))
    assert names(pairs)["net.8.weight"] == "net.4.weight"
    ratios = {pair.target.name: pair.units_ratio for pair in pairs}
    assert ratios["net.4.bias"] == 4.0
    assert ratios["net.8.bias"] == 1.0


def test_the_nearest_block_of_the_same_stage_stands_for_a_new_one():
    def stages(depths, width):
        return [
            convolution(f"stages.{s}.blocks.{b}.conv", width * 2**s, width * 2**s)
            for s, depth in enumerate(depths)
            for b in range(depth)
        ]

    found = names(match_parameters(stages([2, 2, 2], 8), stages([2, 9, 4], 16)))
    assert found["stages.1.blocks.8.conv.weight"] == "stages.1.blocks.1.conv.weight"
    assert found["stages.2.blocks.3.conv.weight"] == "stages.2.blocks.1.conv.weight"


def test_the_stage_counts_before_the_block():
    def stages(depths):
        return [
            linear(f"stages.{s}.blocks.{b}", 8, 8)
            for s, depth in enumerate(depths)
            for b in range(depth)
        ]

    found = names(match_parameters(stages([2, 2, 6]), stages([2, 9, 9])))
    assert found["stages.1.blocks.5.weight"] == "stages.1.blocks.1.weight"


def test_in_a_flat_chain_of_stages_sizes_decide():
    def flat(per_stage):
        channels = [16] * per_stage + [32] * per_stage
        infos = [convolution("net.0", 16, 3, "input")]
        sizes = [16, *channels]
        infos += [convolution(f"net.{i + 1}", sizes[i + 1], sizes[i]) for i in range(len(channels))]
        return [*infos, linear("head", 10, 32, "output")]

    for pair in match_parameters(flat(1), flat(3)):
        assert pair.base.shape == pair.target.shape


def staged(depth, width, stages=3):
    """One flat sequence of blocks (norm, convolution) whose width doubles from stage to stage."""
    infos, channels = [convolution("stem", width, 3, "input")], width
    for stage in range(stages):
        for place in range(depth):
            block, channels = f"blocks.{stage * depth + place}", width * 2**stage
            before = channels // 2 if place == 0 and stage else channels
            norm = ParamInfo(f"{block}.norm.weight", (before,), "norm", 1, before)
            convs = convolution(f"{block}.conv", channels, before)
            after = ParamInfo(f"{block}.last.weight", (channels,), "norm", 1, channels)
            infos += [norm, convs, after]
    return [*infos, linear("head", 10, channels, "output")]


@settings(deadline=None)
@given(
    st.integers(1, 5), st.integers(1, 5), st.sampled_from([8, 12, 16]), st.sampled_from([1, 2, 3])
)
def test_a_stage_of_a_flat_sequence_stands_for_itself_at_any_depth(base_depth, depth, width, wider):
    """Not for the stage whose blocks had its numbers in the base."""
    pairs = match_parameters(staged(base_depth, width), staged(depth, width * wider))
    for pair in pairs:
        ratios = {t / b for t, b in zip(pair.target.shape, pair.base.shape, strict=True)}
        assert ratios <= ({1, wider} if pair.target.ndim > 1 else {wider}), pair


def test_base_without_hidden_layers_is_read_from_sizes():
    pairs = match_parameters(chain(1, 8), chain(4, 32))
    hidden = [pair for pair in pairs if pair.target.role == "hidden"]
    assert len(hidden) == 3
    assert all(pair.base.shape == (8, 8) and pair.fan_in_ratio == 4.0 for pair in hidden)


def test_base_with_one_block_per_stage_is_read_from_sizes():
    def residual(depth, width):
        place = {"stream": 0, "stream_additions": depth}
        infos = [
            convolution("stem", width, 3, "input"),
            convolution("blocks.0.conv", width, width, branch=0, branch_position=0, **place),
        ]
        infos += [
            convolution(f"blocks.{i}.conv", width, width, branch=i, branch_position=1, **place)
            for i in range(1, depth)
        ]
        return [*infos, linear("head", 10, width, "output")]

    pairs = match_parameters(residual(1, 8), residual(6, 16))
    blocks = [pair for pair in pairs if pair.target.in_branch]
    assert len(blocks) == 6
    assert all(pair.fan_in_ratio == 2.0 and pair.stream_ratio == 6.0 for pair in blocks)


def test_a_longer_context_is_not_width():
    def transformer(width, context):
        table = ParamInfo(
            "position", (1, context, width), "embedding", 1, width, features_out=width
        )
        return [linear("stem", width, 5, "input"), table, linear("head", 10, width, "output")]

    found = {p.target.name: p for p in match_parameters(transformer(8, 50), transformer(32, 100))}
    assert found["position"].units_ratio == 4.0
    found = {p.target.name: p for p in match_parameters(transformer(8, 50), transformer(8, 100))}
    assert found["position"].units_ratio == 1.0


def test_widths_that_grow_apart_keep_the_same_names():
    """The feed-forward size of the target equals the stream's: sizes alone would mislead."""

    def transformer(depth, width, inner):
        blocks = [
            info
            for i in range(depth)
            for info in (
                linear(f"blocks.{i}.up", inner, width),
                linear(f"blocks.{i}.down", width, inner),
            )
        ]
        return [
            linear("stem", width, 5, "input"),
            *blocks,
            linear("head", 10, width, "output"),
        ]

    found = {
        pair.target.name: (pair.fan_in_ratio, pair.units_ratio)
        for pair in match_parameters(transformer(2, 64, 128), transformer(5, 128, 128))
    }
    assert found["blocks.4.up.weight"] == (2.0, 1.0)
    assert found["blocks.4.down.weight"] == (1.0, 2.0)


class TestDifferentArchitecture:
    def test_a_parameter_that_one_side_lacks_is_named(self):
        ours = [*chain(2, 8), linear("blocks.0.gate", 8, 8)]
        theirs = [*chain(2, 8), linear("blocks.0.up", 8, 8)]
        with pytest.raises(PlanError) as caught:
            match_parameters(ours, theirs)
        assert "'blocks.0.up.weight' only in the target" in str(caught.value)
        assert "'blocks.0.gate.weight' only in the base" in str(caught.value)

    def test_another_number_of_dimensions_is_refused(self):
        with pytest.raises(PlanError, match="different architecture"):
            match_parameters([linear("a", 8, 8)], [convolution("a", 8, 8)])

    def test_a_new_module_that_is_not_repeated_is_refused(self):
        with pytest.raises(PlanError, match=r"'extra\.weight' only in the target"):
            match_parameters(chain(2, 8), [*chain(2, 8), linear("extra", 8, 8)])

    def test_sizes_without_a_counterpart_are_refused(self):
        with pytest.raises(PlanError, match=r"new\.0\.weight"):
            match_parameters(chain(2, 8), [*chain(2, 8), linear("new.0", 77, 8)])


def test_blocks_that_are_attributes_correspond_over_depth():
    def blocks(depth, width):
        return [
            *(convolution(f"block{i}.conv{n}", width, width) for i in range(depth) for n in (1, 2)),
            *(convolution(f"layer_{i}", width, width) for i in range(1, 1 + depth)),
        ]

    found = names(match_parameters(blocks(2, 8), blocks(5, 16)))
    assert found["block4.conv2.weight"] == "block1.conv2.weight"
    assert found["block0.conv1.weight"] == "block0.conv1.weight"
    assert found["layer_5.weight"] == "layer_2.weight"


def test_a_stranger_is_named_as_it_is():
    large = [convolution(f"block{i}.conv", 8, 8) for i in range(4)]
    with pytest.raises(PlanError, match=r"'stranger3\.weight' only in the target"):
        match_parameters(large[:2], [*large, convolution("stranger3", 8, 8)])
