"""Thirty networks that people have, tiny, each at any depth: (model, inputs) by name and depth.

torchvision's and timm's lie beside the environment (see Makefile) and are imported where they are
asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

__all__ = ["BESIDE", "HERE", "build_network"]

Built = tuple[nn.Module, dict[str, torch.Tensor] | tuple[torch.Tensor, ...]]
_WIDTH = 64


def _tokens(number: int = 128, length: int = 16, batch: int = 4) -> torch.Tensor:
    return torch.randint(3, number, (batch, length), generator=torch.Generator().manual_seed(0))


def _image(size: int = 32, batch: int = 4) -> torch.Tensor:
    return torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(0))


def _transformers(cls: str, config: str, layers: str, **settings: Any) -> Callable[[int], Built]:
    """A model class of transformers from a tiny configuration, whose depth is `layers`."""

    def build(depth: int) -> Built:
        import transformers

        sizes = {"vocab_size": 128, "tie_word_embeddings": False, **settings}
        inputs = sizes.pop("inputs", None)
        sizes.update(dict.fromkeys(layers.split(), depth))
        made = getattr(transformers, config)(**{k: v for k, v in sizes.items() if v is not None})
        model = getattr(transformers, cls)(made).eval()
        return model, {"input_ids": _tokens()} if inputs is None else inputs()

    return build


def _llama_like(cls: str, config: str, **settings: Any) -> Callable[[int], Built]:
    return _transformers(
        cls, config, "num_hidden_layers", hidden_size=_WIDTH, intermediate_size=2 * _WIDTH,
        num_attention_heads=4, num_key_value_heads=2, pad_token_id=0, **settings,
    )  # fmt: skip


def _encoder(cls: str, config: str, **settings: Any) -> Callable[[int], Built]:
    return _transformers(
        cls, config, "num_hidden_layers", hidden_size=_WIDTH, intermediate_size=2 * _WIDTH,
        num_attention_heads=4, **settings,
    )  # fmt: skip


def _pixels(size: int = 32) -> Callable[[], dict[str, torch.Tensor]]:
    return lambda: {"pixel_values": _image(size)}


def _seq2seq() -> dict[str, torch.Tensor]:
    return {"input_ids": _tokens(), "decoder_input_ids": _tokens(length=8)}


class _LowRank(nn.Module):
    """A frozen layer and a low-rank update that starts at zero."""

    def __init__(self, layer: nn.Module, rank: int = 4) -> None:
        super().__init__()
        rows, columns = layer.weight.shape
        self.base = layer.requires_grad_(False)
        self.lora_A = nn.Linear(rows, rank, bias=False)
        self.lora_B = nn.Linear(rank, columns, bias=False)
        nn.init.zeros_(self.lora_B.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.base(x) + 2 * self.lora_B(self.lora_A(x))


def _lora_gpt2(depth: int) -> Built:
    model, inputs = HERE["gpt2"](depth)
    model.requires_grad_(False)
    for block in model.transformer.h:
        block.attn.c_attn = _LowRank(block.attn.c_attn)
    return model, inputs


class _UNet(nn.Module):
    """Levels of convolutions down and transposed ones up, skips joined."""

    def __init__(self, depth: int, channels: int = 32) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, channels, 3, padding=1)
        make = nn.ModuleList
        self.down = make(nn.Conv2d(channels, channels, 4, 2, 1) for _ in range(depth))
        self.up = make(nn.ConvTranspose2d(channels, channels, 4, 2, 1) for _ in range(depth))
        self.join = make(nn.Conv2d(2 * channels, channels, 3, padding=1) for _ in range(depth))
        self.last = nn.Conv2d(channels, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x, skips = F.relu(self.first(x)), []
        for down in self.down:
            skips.append(x)
            x = F.relu(down(x))
        for up, join in zip(self.up, self.join, strict=True):
            x = F.relu(join(torch.cat([F.relu(up(x)), skips.pop()], 1)))
        return self.last(x)


class _DiTBlock(nn.Module):
    """A Transformer block whose norms and gates come from a condition, which starts at zero."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(width, 4, batch_first=True)
        self.mlp = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )
        self.modulation = nn.Linear(width, 6 * width)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(self, x: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        parts = self.modulation(F.silu(c))[:, None].chunk(6, -1)
        h = F.layer_norm(x, x.shape[-1:]) * (1 + parts[0]) + parts[1]
        x = x + parts[2] * self.attention(h, h, h, need_weights=False)[0]
        h = F.layer_norm(x, x.shape[-1:]) * (1 + parts[3]) + parts[4]
        return x + parts[5] * self.mlp(h)


class _DiT(nn.Module):
    def __init__(self, depth: int, width: int = _WIDTH) -> None:
        super().__init__()
        self.patch, self.condition = nn.Linear(12, width), nn.Linear(8, width)
        self.blocks = nn.ModuleList(_DiTBlock(width) for _ in range(depth))
        self.last = nn.Linear(width, 12)

    def forward(self, x: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        x, c = self.patch(x), self.condition(c)
        for block in self.blocks:
            x = block(x, c)
        return self.last(F.layer_norm(x, x.shape[-1:]))


class _ReZero(nn.Module):
    def __init__(self, depth: int, width: int = _WIDTH) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(32, width), nn.Linear(width, 8)
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.gains = nn.ParameterList(nn.Parameter(torch.zeros(())) for _ in range(depth))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        for layer, gain in zip(self.layers, self.gains, strict=True):
            x = x + gain * torch.relu(layer(x))
        return self.last(x)


def _resnet(depth: int) -> Built:
    from torchvision.models.resnet import BasicBlock, ResNet

    return ResNet(BasicBlock, [depth, 1, 1, 1], num_classes=10), (_image(64),)


def _densenet(depth: int) -> Built:
    from torchvision.models import DenseNet

    return DenseNet(16, (depth, 2), 16, num_classes=10), (_image(64),)


def _vit(depth: int) -> Built:
    from torchvision.models import VisionTransformer

    return VisionTransformer(32, 8, depth, 4, _WIDTH, 2 * _WIDTH, num_classes=10), (_image(),)


def _swin(depth: int) -> Built:
    from torchvision.models import SwinTransformer

    return SwinTransformer([2, 2], 32, [2, depth], [2, 4], [4, 4], num_classes=10), (_image(),)


def _convnext(depth: int) -> Built:
    from torchvision.models.convnext import CNBlockConfig, ConvNeXt

    stages = [CNBlockConfig(32, 64, depth), CNBlockConfig(64, None, 1)]
    return ConvNeXt(stages, num_classes=10), (_image(64),)


def _mobilenet(depth: int) -> Built:
    from torchvision.models.mobilenetv3 import InvertedResidualConfig, MobileNetV3

    stages = [
        InvertedResidualConfig(16, 3, 16, 16, True, "RE", 2, 1, 1.0),
        InvertedResidualConfig(16, 3, 72, 24, False, "RE", 2, 1, 1.0),
        *(InvertedResidualConfig(24, 5, 96, 24, True, "HS", 1, 1, 1.0) for _ in range(depth)),
    ]
    return MobileNetV3(stages, 128, num_classes=10), (_image(64),)


def _timm(name: str, **settings: Any) -> Callable[[int], Built]:
    def build(depth: int) -> Built:
        import timm

        made = {key: value(depth) if callable(value) else value for key, value in settings.items()}
        size = made.get("img_size", 64)
        return timm.create_model(name, num_classes=10, **made), (_image(size),)

    return build


_TIED = {"tie_word_embeddings": True}
_GPT2: dict[str, Any] = {"n_embd": _WIDTH, "n_head": 4, "n_positions": 32}

HERE: dict[str, Callable[[int], Built]] = {
    "gpt2": _transformers("GPT2LMHeadModel", "GPT2Config", "n_layer", **_GPT2),
    "gpt2, tied": _transformers(
        "GPT2LMHeadModel", "GPT2Config", "n_layer", **_GPT2, **_TIED
    ),
    "lora on gpt2": _lora_gpt2,
    "llama": _llama_like("LlamaForCausalLM", "LlamaConfig"),
    "gemma": _llama_like("GemmaForCausalLM", "GemmaConfig", head_dim=16, **_TIED),
    "gemma2": _llama_like("Gemma2ForCausalLM", "Gemma2Config", head_dim=16, **_TIED),
    "qwen3": _llama_like("Qwen3ForCausalLM", "Qwen3Config", head_dim=16),
    "mixtral": _llama_like("MixtralForCausalLM", "MixtralConfig", num_local_experts=4),
    "phi": _encoder("PhiForCausalLM", "PhiConfig"),
    "gptneox": _encoder("GPTNeoXForCausalLM", "GPTNeoXConfig"),
    "bloom": _transformers("BloomForCausalLM", "BloomConfig", "n_layer", hidden_size=64, n_head=4),
    "bert": _encoder("BertForMaskedLM", "BertConfig", max_position_embeddings=32),
    "roberta": _encoder("RobertaForMaskedLM", "RobertaConfig", max_position_embeddings=32),
    "t5": _transformers(
        "T5ForConditionalGeneration", "T5Config", "num_layers num_decoder_layers", d_model=_WIDTH,
        d_kv=16, d_ff=2 * _WIDTH, num_heads=4, inputs=_seq2seq, **_TIED,
    ),
    "bart": _transformers(
        "BartForConditionalGeneration", "BartConfig", "encoder_layers decoder_layers",
        d_model=_WIDTH, encoder_attention_heads=4, decoder_attention_heads=4, encoder_ffn_dim=128,
        decoder_ffn_dim=128, max_position_embeddings=32, inputs=_seq2seq,
    ),
    "mamba": _transformers(
        "MambaForCausalLM", "MambaConfig", "num_hidden_layers", hidden_size=_WIDTH, state_size=4
    ),
    "vit (transformers)": _encoder(
        "ViTForImageClassification", "ViTConfig", vocab_size=None, image_size=32, patch_size=8,
        inputs=_pixels(),
    ),
    "dinov2": _encoder(
        "Dinov2ForImageClassification", "Dinov2Config", vocab_size=None, image_size=32,
        patch_size=8, mlp_ratio=2, inputs=_pixels(),
    ),
    "resnet (transformers)": lambda depth: _transformers(
        "ResNetForImageClassification", "ResNetConfig", "", vocab_size=None, embedding_size=16,
        hidden_sizes=[16, 32], depths=[depth, 1], layer_type="basic", inputs=_pixels(),
    )(depth),
    "u-net": lambda depth: (_UNet(depth), (_image(64),)),
    "dit": lambda depth: (_DiT(depth), (torch.randn(4, 16, 12), torch.randn(4, 8))),
    "rezero": lambda depth: (_ReZero(depth), (torch.randn(64, 32),)),
}  # fmt: skip

_TIMM = {
    "img_size": 32, "patch_size": 8, "depth": lambda depth: depth, "embed_dim": 64, "num_heads": 4
}  # fmt: skip

BESIDE: dict[str, Callable[[int], Built]] = {
    "resnet": _resnet,
    "densenet": _densenet,
    "vit": _vit,
    "swin": _swin,
    "convnext": _convnext,
    "mobilenetv3": _mobilenet,
    "timm vit": _timm("vit_tiny_patch16_224", **_TIMM),
    "timm deit3": _timm("deit3_small_patch16_224", **_TIMM),
    "timm cait": _timm("cait_xxs24_224", **_TIMM),
}  # fmt: skip


def build_network(name: str, depth: int) -> Built:
    """A network by name.

    Args:
        name: A key of `HERE` or `BESIDE`.
        depth: Number of blocks, or of levels.

    Returns:
        The model, and inputs as keywords or in order.
    """
    torch.manual_seed(0)
    return {**HERE, **BESIDE}[name](depth)
