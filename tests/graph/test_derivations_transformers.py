"""Paths derived by hand from the architecture: classes of transformers, tiny, at two depths.

A derivation is a polynomial, w a weight layer and a an addition: its terms are the paths by their
layers and additions. Queries, keys and values that three layers make are three ways, a packed layer
is one; what comes out of a gated layer comes through both of its factors.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch
from sympy import symbols

from etastar.graph import capture_graph

SOURCE = Path(__file__).parents[1] / "golden" / "thirty_networks.py"
spec = importlib.util.spec_from_file_location("derived_thirty_networks", SOURCE)
networks = importlib.util.module_from_spec(spec)
spec.loader.exec_module(networks)

w, a = symbols("w a")
FUSED = a + w**2 * a  # one layer for queries, keys and values, and the output's
SPLIT = a + 3 * w**2 * a
MLP = a + w**2 * a
GATED = a + 2 * w**2 * a  # gate and value, and the output's
TINY = {
    "hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2, "vocab_size": 64
}  # fmt: skip


def tokens(length=6):
    return {"input_ids": torch.ones(1, length, dtype=torch.long)}


def made(cls, config, inputs, **settings):
    import transformers

    model = getattr(transformers, cls)(getattr(transformers, config)(**settings))
    return model, inputs


def thirty(name):
    return lambda n: networks.build_network(name, n)


def encoder_decoder(n, feed_forward, source, ends):
    """The decoder's self-attention, queries from it, keys and values from the encoder."""
    memory = source * (SPLIT * feed_forward) ** n
    state = w
    for _ in range(n):
        state = state * SPLIT
        state = (state * (a + w * w * a) + memory * 2 * w * w * a) * feed_forward
    return state * ends


def detr(n):
    from transformers import ResNetConfig

    backbone = ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic",
        out_features=["stage2"],
    )  # fmt: skip
    return made(
        "DetrForObjectDetection", "DetrConfig", {"pixel_values": torch.zeros(1, 3, 32, 32)},
        use_timm_backbone=False, backbone=None, backbone_config=backbone, d_model=16, num_queries=5,
        encoder_layers=n, decoder_layers=n, encoder_attention_heads=2, decoder_attention_heads=2,
        encoder_ffn_dim=32, decoder_ffn_dim=32, use_pretrained_backbone=False,
    )  # fmt: skip


def detr_paths(n):
    """A small ResNet, a projection, then queries that nothing has made read the memory."""
    memory = w * MLP * (w * a + w**2 * a) * w * (SPLIT * MLP) ** n
    state = 2 * w * w * memory * MLP
    for _ in range(n - 1):
        state = state * SPLIT
        state = (state * (a + w * w * a) + memory * 2 * w * w * a) * MLP
    return state * w


def segformer(n):
    return made(
        "SegformerForSemanticSegmentation", "SegformerConfig",
        {"pixel_values": torch.zeros(1, 3, 32, 32)}, num_encoder_blocks=2, depths=[n, 1],
        sr_ratios=[2, 1], hidden_sizes=[8, 16], patch_sizes=[7, 3], strides=[4, 2],
        num_attention_heads=[1, 2], mlp_ratios=[2, 2], decoder_hidden_size=16,
    )  # fmt: skip


def segformer_paths(n):
    """Keys and values of the first stage are reduced by a convolution; the head joins both."""
    mixed = a + w**3 * a  # with a depthwise convolution between
    first = w * ((a + w * w * a + 2 * w * w * w * a) * mixed) ** n
    second = first * w * SPLIT * mixed
    return (first * w + second * w) * w * w


def clip(n):
    text = {**TINY, "num_hidden_layers": n, "max_position_embeddings": 8}
    vision = {**TINY, "num_hidden_layers": n, "image_size": 16, "patch_size": 8}
    inputs = {**tokens(), "pixel_values": torch.zeros(1, 3, 16, 16)}
    return made(
        "CLIPModel", "CLIPConfig", inputs, text_config=text, vision_config=vision, projection_dim=8
    )


def wav2vec2(n):
    model, inputs = made(
        "Wav2Vec2ForCTC", "Wav2Vec2Config", {"input_values": torch.zeros(1, 400)}, **TINY,
        num_hidden_layers=n, conv_dim=(8, 8), conv_kernel=(10, 3), conv_stride=(5, 2),
        num_feat_extract_layers=2, num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2,
        apply_spec_augment=False, layerdrop=0.5,
    )  # fmt: skip
    return model.train(), inputs


def falcon_h1(n):
    return made(
        "FalconH1ForCausalLM", "FalconH1Config", tokens(), **TINY, num_hidden_layers=n,
        num_key_value_heads=2, mamba_d_ssm=32, mamba_n_heads=4, mamba_d_head=8, mamba_n_groups=1,
        mamba_d_state=8, mamba_chunk_size=4, tie_word_embeddings=False,
    )  # fmt: skip


def plain(cls, config, inputs=None, *, layers="num_hidden_layers", **settings):
    inputs = tokens() if inputs is None else inputs
    return lambda n: made(cls, config, inputs, **{**TINY, **settings, layers: n})


MAMBA = ((w**2 * (1 + w + w**2)) * a + w) * w  # past and scan of the convolution's; the gate
HYBRID = ((w**2 + w) * a + w) * w  # the same, but steps come from the first layer, as the gate
LAYERS_ALONE = {"falcon-h1": lambda n: w * ((1 + w**3 + w**2 + 3 * w**2) * (1 + 2 * w**2)) ** n * w}

CASES: dict[str, Any] = {
    "gpt2 with low-rank updates": (
        thirty("lora on gpt2"),
        lambda n: w * ((a + (w + w**2) * a * w * a) * MLP) ** n * w,
        lambda n: 3 * n,
        lambda n: [2 * n],
    ),
    "gemma": (thirty("gemma"), lambda n: w * (SPLIT * GATED) ** n * w, None, None),
    "gemma2": (thirty("gemma2"), lambda n: w * (SPLIT * GATED) ** n * w, None, None),
    "granite": (
        plain("GraniteForCausalLM", "GraniteConfig", residual_multiplier=0.5),
        lambda n: w * (SPLIT * GATED) ** n * w,
        None,
        None,
    ),
    "mixtral": (
        thirty("mixtral"),
        lambda n: w * (SPLIT * (a + (w + w**2) * a)) ** n * w,
        None,
        None,
    ),
    "phi": (
        thirty("phi"),
        lambda n: w * (a + 4 * w**2 * a) ** n * w,
        lambda n: n,
        lambda n: [n],
    ),
    "gptneox": (
        thirty("gptneox"),
        lambda n: w * (a + 2 * w**2 * a) ** n * w,
        lambda n: n,
        lambda n: [n],
    ),
    "bloom": (thirty("bloom"), lambda n: w * (FUSED * MLP) ** n * w, None, None),
    "bert with all ids": (
        plain(
            "BertForMaskedLM",
            "BertConfig",
            {
                **tokens(),
                "token_type_ids": torch.zeros(1, 6, dtype=torch.long),
                "position_ids": torch.arange(6)[None],
            },
        ),
        lambda n: 3 * w * (SPLIT * MLP) ** n * w**2,
        None,
        None,
    ),
    "deberta": (
        plain(
            "DebertaV2ForMaskedLM", "DebertaV2Config", relative_attention=True,
            pos_att_type=["c2p", "p2c"], max_position_embeddings=16,
        ),
        lambda n: w * ((a + (2 * w * a + w) * w * a) * MLP) ** n * w**2,
        lambda n: 3 * n,
        lambda n: [2 * n],
    ),
    "albert": (
        plain("AlbertForMaskedLM", "AlbertConfig", embedding_size=8),
        lambda n: w * w * (SPLIT * MLP) ** n * w**2,
        None,
        None,
    ),
    "fnet": (
        plain("FNetForMaskedLM", "FNetConfig"),
        lambda n: w * w * (a * MLP) ** n * w**2,
        None,
        None,
    ),
    "t5": (
        thirty("t5"),
        lambda n: encoder_decoder(n, MLP, w, w),
        lambda n: 5 * n,
        lambda n: [2 * n, 3 * n],
    ),
    "bart": (
        thirty("bart"),
        lambda n: encoder_decoder(n, MLP, w, w),
        lambda n: 5 * n,
        lambda n: [2 * n, 3 * n],
    ),
    "whisper": (
        lambda n: made(
            "WhisperForConditionalGeneration", "WhisperConfig",
            {
                "input_features": torch.zeros(1, 8, 16),
                "decoder_input_ids": torch.ones(1, 4, dtype=torch.long),
            },
            vocab_size=64, num_mel_bins=8, d_model=16, encoder_layers=n, decoder_layers=n,
            encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=32,
            decoder_ffn_dim=32, max_source_positions=8, max_target_positions=8, pad_token_id=0,
            bos_token_id=1, eos_token_id=2, decoder_start_token_id=1,
        ),
        lambda n: encoder_decoder(n, MLP, w * w, w),
        lambda n: 5 * n,
        lambda n: [2 * n, 3 * n],
    ),
    "detr": (detr, detr_paths, lambda n: 5 * n, lambda n: [2, 2 * n, 3 * n - 2]),
    "segformer": (segformer, segformer_paths, lambda n: 2 * n + 2, lambda n: [2, 2 * n]),
    "clip": (
        clip,
        lambda n: 2 * w * (SPLIT * MLP) ** n * w,
        lambda n: 4 * n,
        lambda n: [2 * n, 2 * n],
    ),
    "wav2vec2": (
        wav2vec2,
        lambda n: w**2 * w * (a + w * a) * (SPLIT * MLP) ** n * w,
        lambda n: 2 * n + 1,
        lambda n: [2 * n + 1],
    ),
    "mamba": (
        thirty("mamba"),
        lambda n: w * (a + MAMBA * a) ** n * w,
        lambda n: 2 * n,
        lambda n: [1] * n + [n],
    ),
    "rwkv": (
        plain("RwkvForCausalLM", "RwkvConfig", attention_hidden_size=16, context_length=16),
        lambda n: w * (SPLIT * (a + (w + w**2) * a)) ** n * w,
        None,
        None,
    ),
    "falcon-h1": (
        falcon_h1,
        lambda n: w * ((a + (HYBRID + 3 * w**2) * a) * GATED) ** n * w,
        lambda n: 3 * n,
        None,  # what passes the scan has no operand to itself: no stream of its own
    ),
    "vit": (thirty("vit (transformers)"), lambda n: w * (SPLIT * MLP) ** n * w, None, None),
    "dinov2": (thirty("dinov2"), lambda n: w * (SPLIT * MLP) ** n * w, None, None),
}  # fmt: skip


@pytest.mark.parametrize("n", [2, 3])
@pytest.mark.parametrize("name", CASES)
def test_paths_and_streams_are_those_derived_by_hand(name, n, reads_as):
    build, paths, additions, streams = CASES[name]
    model, inputs = build(n)
    graph = capture_graph(model, **inputs)
    report = graph.depth()
    expected = reads_as(
        paths(n),
        additions=2 * n if additions is None else additions(n),
        layers=LAYERS_ALONE[name](n) if name in LAYERS_ALONE else None,
    )
    assert {name: getattr(report, name) for name in expected} == expected
    assert bool(report.recurrent) == (name == "albert")
    found = {(i.stream, i.stream_additions) for i in graph.parameters if i.in_branch}
    assert sorted(k for _, k in found) == sorted([2 * n] if streams is None else streams(n))
