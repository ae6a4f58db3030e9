"""The Transformers: gpt, vit."""

import pytest
import torch
from torch import nn

from etastar.errors import ModelSpecError
from etastar.models import build

TOKENS = torch.randint(256, (2, 32), generator=torch.Generator().manual_seed(1))


def attention_by_formula(attn, x, *, causal):
    B, T, D = x.shape
    q, k, v = attn.qkv(x).split(D, dim=-1)
    heads = [part.view(B, T, attn.num_heads, -1).transpose(1, 2) for part in (q, k, v)]
    scores = heads[0] @ heads[1].transpose(-1, -2) / heads[0].shape[-1] ** 0.5
    if causal:
        scores = scores.masked_fill(torch.ones(T, T).triu(1).bool(), float("-inf"))
    mixed = scores.softmax(-1) @ heads[2]
    return attn.proj(mixed.transpose(1, 2).reshape(B, T, D))


def stream_by_formula(model, x, *, causal, parallel, multiplier):
    for block in model.blocks:
        normed = block.ln1(x)
        attention = multiplier * attention_by_formula(block.attn, normed, causal=causal)
        if not parallel:
            normed = block.ln2(x + attention)
        inside = torch.nn.functional.gelu(block.mlp.fc(normed))
        x = x + attention + multiplier * block.mlp.proj(inside)
    return model.norm(x)


@pytest.mark.parametrize("parallel", [False, True])
@pytest.mark.parametrize("multiplier", [1.0, 0.5])
def test_gpt_is_its_formula(parallel, multiplier):
    model = build("gpt", depth=2, width=32, parallel=parallel, branch_multiplier=multiplier)
    x = model.embedding.weight[TOKENS] + model.position.weight
    stream = stream_by_formula(model, x, causal=True, parallel=parallel, multiplier=multiplier)
    torch.testing.assert_close(model(TOKENS), stream @ model.head.weight.T, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("parallel", [False, True])
def test_vit_is_its_formula(parallel):
    model = build("vit", depth=2, width=32, parallel=parallel, branch_multiplier=0.5)
    images = torch.randn(2, 1, 8, 8)
    patches = images.unfold(2, 2, 2).unfold(3, 2, 2).reshape(2, 16, 4)
    x = patches @ model.patches.weight.flatten(1).T + model.patches.bias + model.position
    stream = stream_by_formula(model, x, causal=False, parallel=parallel, multiplier=0.5)
    torch.testing.assert_close(model(images), model.head(stream.mean(1)), atol=1e-4, rtol=1e-4)


def test_gpt_sees_no_later_token():
    model = build("gpt")
    changed = TOKENS.clone()
    changed[:, 20] = (changed[:, 20] + 1) % 256
    before, after = model(TOKENS), model(changed)
    torch.testing.assert_close(before[:, :20], after[:, :20])
    assert (before[:, 20:] - after[:, 20:]).abs().amax(-1).min() > 1e-4


def test_gpt_reads_shorter_texts_and_refuses_longer_ones():
    model = build("gpt", context=32)
    torch.testing.assert_close(model(TOKENS[:, :7]), model(TOKENS)[:, :7])
    with pytest.raises(ModelSpecError, match="tokens of length 33"):
        model(torch.zeros(1, 33, dtype=torch.int64))


def test_a_tied_head_shares_the_table():
    tied, untied = build("gpt", tied=True), build("gpt")
    assert tied.head.weight is tied.embedding.weight
    assert untied.head.weight is not untied.embedding.weight
    assert "head.weight" not in dict(tied.named_parameters())


@pytest.mark.parametrize("name", ["gpt", "vit"])
def test_without_affine_no_norm_has_parameters(name):
    norms = [m for m in build(name, affine=False).modules() if isinstance(m, nn.LayerNorm)]
    assert len(norms) == 2 * 2 + 1
    assert all(norm.weight is None for norm in norms)
    assert build(name).blocks[0].ln1.weight is not None


@pytest.mark.parametrize("name", ["gpt", "vit"])
def test_parallel_branches_read_one_norm(name):
    model = build(name, depth=3, parallel=True)
    assert sum(isinstance(m, nn.LayerNorm) for m in model.modules()) == 3 + 1


@pytest.mark.parametrize("name", ["gpt", "vit"])
def test_heads_grow_in_number_with_width(name):
    assert [build(name, width=width).blocks[0].attn.num_heads for width in (16, 64)] == [1, 4]
    assert build(name, width=64, head_width=8).blocks[0].attn.num_heads == 8
