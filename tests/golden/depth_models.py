"""Factories of the networks in depth_cases.json: each returns the model and its example inputs."""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Tensor, nn

Case = tuple[nn.Module, Any]

TINY = {"vocab_size": 64, "attn_implementation": "sdpa"}


def chain() -> Case:
    widths = [4, 8, 6, 8, 5, 7, 8, 3]
    layers: list[nn.Module] = []
    for fan_in, fan_out in itertools.pairwise(widths):
        layers += [nn.Linear(fan_in, fan_out), nn.ReLU()]
    return nn.Sequential(*layers), (torch.zeros(2, 4),)


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.a = nn.Linear(width, width)
        self.b = nn.Linear(width, width)

    def forward(self, v: Tensor) -> Tensor:
        return v + self.b(torch.relu(self.a(self.norm(v))))


def residual_mlp(blocks: int = 3) -> Case:
    stream = [Block(4) for _ in range(blocks)]
    return nn.Sequential(nn.Linear(3, 4), *stream, nn.Linear(4, 2)), (torch.zeros(2, 3),)


def residual_mlp_200() -> Case:
    return residual_mlp(200)


class Shortcut(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.layer = nn.Linear(width, width)

    def forward(self, v: Tensor) -> Tensor:
        return v + torch.relu(self.layer(v))


def residual_1000() -> Case:
    with torch.device("meta"):
        stream = [Shortcut(4) for _ in range(1000)]
        model = nn.Sequential(nn.Linear(3, 4), *stream, nn.Linear(4, 2))
    return model, (torch.zeros(2, 3),)


class Dense(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.convs = nn.ModuleList(nn.Conv2d(4 + 2 * i, 2, 3, padding=1) for i in range(6))
        self.head = nn.Linear(16 * 64, 5)

    def forward(self, x: Tensor) -> Tensor:
        features = [self.stem(x)]
        for conv in self.convs:
            features.append(conv(torch.relu(torch.cat(features, 1))))
        return self.head(torch.cat(features, 1).flatten(1))


def dense_block() -> Case:
    return Dense(), (torch.zeros(1, 3, 8, 8),)


class Inception(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.branches = nn.ModuleList(
            [
                nn.Conv2d(4, 4, 1),
                nn.Sequential(nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 3, padding=1)),
                nn.Sequential(
                    nn.Conv2d(4, 4, 1),
                    nn.Conv2d(4, 4, 3, padding=1),
                    nn.Conv2d(4, 4, 3, padding=1),
                ),
                nn.Sequential(nn.MaxPool2d(3, 1, 1), nn.Conv2d(4, 4, 1)),
            ]
        )
        self.head = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head(torch.cat([b(x) for b in self.branches], 1).mean((2, 3)))


def inception() -> Case:
    return Inception(), (torch.zeros(1, 3, 8, 8),)


def _two_convs(fan_in: int, fan_out: int) -> nn.Sequential:
    first, second = nn.Conv2d(fan_in, fan_out, 3, padding=1), nn.Conv2d(fan_out, fan_out, 3, 1, 1)
    return nn.Sequential(first, nn.ReLU(), second, nn.ReLU())


class UNet(nn.Module):
    def __init__(self, *, concatenate: bool) -> None:
        super().__init__()
        self.concatenate = concatenate
        wide = 2 if concatenate else 1
        self.down1, self.down2 = _two_convs(3, 4), _two_convs(4, 8)
        self.middle = _two_convs(8, 16)
        self.up2, self.merge2 = nn.ConvTranspose2d(16, 8, 2, 2), _two_convs(8 * wide, 8)
        self.up1, self.merge1 = nn.ConvTranspose2d(8, 4, 2, 2), _two_convs(4 * wide, 4)
        self.out = nn.Conv2d(4, 2, 1)
        self.pool = nn.MaxPool2d(2)

    def _join(self, skip: Tensor, up: Tensor) -> Tensor:
        return torch.cat([skip, up], 1) if self.concatenate else skip + up

    def forward(self, x: Tensor) -> Tensor:
        one = self.down1(x)
        two = self.down2(self.pool(one))
        x = self.middle(self.pool(two))
        x = self.merge2(self._join(two, self.up2(x)))
        return self.out(self.merge1(self._join(one, self.up1(x))))


def unet_concatenated() -> Case:
    return UNet(concatenate=True), (torch.zeros(1, 3, 16, 16),)


def unet_added() -> Case:
    return UNet(concatenate=False), (torch.zeros(1, 3, 16, 16),)


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(10, 4)
        self.lstm = nn.LSTM(4, 6, num_layers=3, batch_first=True)
        self.head = nn.Linear(6, 10)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.lstm(self.table(tokens))[0])


def lstm() -> Case:
    return Recurrent(), (torch.zeros(2, 5, dtype=torch.long),)


class SelfAttention(nn.Module):
    def __init__(self, value_dim: int | None) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.widen = value_dim

    def forward(self, x: Tensor) -> Tensor:
        return self.attention(x, x, x)[0]


class SplitAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, kdim=6, vdim=6, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        narrow = x[..., :6]
        return self.attention(x, narrow, narrow)[0]


def attention_packed() -> Case:
    return SelfAttention(None), (torch.zeros(2, 5, 8),)


def attention_split() -> Case:
    return SplitAttention(), (torch.zeros(2, 5, 8),)


def _encoder(*, norm_first: bool) -> Case:
    layer = nn.TransformerEncoderLayer(
        8, 2, dim_feedforward=16, batch_first=True, norm_first=norm_first
    )
    return nn.TransformerEncoder(layer, 4, enable_nested_tensor=False), (torch.zeros(2, 5, 8),)


def encoder_pre_ln() -> Case:
    return _encoder(norm_first=True)


def encoder_post_ln() -> Case:
    return _encoder(norm_first=False)


def _tokens() -> dict[str, Tensor]:
    return {"input_ids": torch.zeros(1, 6, dtype=torch.long)}


def gpt2() -> Case:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(n_layer=4, n_embd=16, n_head=2, n_positions=8, **TINY)
    return GPT2LMHeadModel(config), _tokens()


def llama() -> Case:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        **TINY,
    )
    return LlamaForCausalLM(config), _tokens()


def llama_70b_shape() -> Case:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        hidden_size=8192,
        intermediate_size=28672,
        num_hidden_layers=80,
        num_attention_heads=64,
        num_key_value_heads=8,
        vocab_size=32000,
    )
    with torch.device("meta"):
        return LlamaForCausalLM(config), _tokens()


def gptj() -> Case:
    from transformers import GPTJConfig, GPTJForCausalLM

    config = GPTJConfig(n_layer=4, n_embd=16, n_head=2, n_positions=8, rotary_dim=4, vocab_size=64)
    return GPTJForCausalLM(config), _tokens()


def bert() -> Case:
    from transformers import BertConfig, BertForMaskedLM

    config = BertConfig(
        hidden_size=16,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=8,
        **TINY,
    )
    return BertForMaskedLM(config), _tokens()


def vit() -> Case:
    from transformers import ViTConfig, ViTForImageClassification

    config = ViTConfig(
        hidden_size=16,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=16,
        patch_size=8,
    )
    return ViTForImageClassification(config), {"pixel_values": torch.zeros(1, 3, 16, 16)}


def hf_resnet() -> Case:
    from transformers import ResNetConfig, ResNetForImageClassification

    config = ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16, 32], depths=[2, 1, 1], layer_type="basic"
    )
    return ResNetForImageClassification(config), {"pixel_values": torch.zeros(1, 3, 64, 64)}


def convnextv2() -> Case:
    from transformers import ConvNextV2Config, ConvNextV2ForImageClassification

    config = ConvNextV2Config(hidden_sizes=[8, 8, 8, 8], depths=[1, 2, 2, 1])
    return ConvNextV2ForImageClassification(config), {"pixel_values": torch.zeros(1, 3, 64, 64)}


def torchvision_resnet(name: str) -> Case:
    import torchvision

    return getattr(torchvision.models, name)(), (torch.zeros(2, 3, 64, 64),)


def resnet18() -> Case:
    return torchvision_resnet("resnet18")


def resnet50() -> Case:
    return torchvision_resnet("resnet50")


def timm_model(name: str, size: int = 64) -> Case:
    import timm

    return timm.create_model(name), (torch.zeros(2, 3, size, size),)


def timm_resnet18() -> Case:
    return timm_model("resnet18")


def timm_vit_tiny() -> Case:
    return timm_model("vit_tiny_patch16_224", 224)


def timm_mixer() -> Case:
    return timm_model("mixer_s32_224", 224)
