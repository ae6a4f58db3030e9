# pip install etastar; python nanogpt.py --steps 30
"""A nanoGPT on the source of Python's own library: tune 2 blocks, train 6 at the planned rate."""

import argparse

import torch
from torch import nn
from torch.nn import functional as F

import etastar
from etastar.datasets import load


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.fc, self.out = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x):  # heads of 16, more of them as the width grows
        q, k, v = self.qkv(self.norm1(x)).unflatten(-1, (3, -1, 16)).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.proj(mixed.transpose(1, 2).flatten(2))
        return x + self.out(F.gelu(self.fc(self.norm2(x))))


def gpt(depth, width):
    torch.manual_seed(0)
    blocks = [Block(width) for _ in range(depth)]
    return nn.Sequential(
        nn.Embedding(256, width), *blocks, nn.LayerNorm(width), nn.Linear(width, 256, bias=False)
    )


def train(model, groups, text, steps, lr=1e-3):
    optimizer, losses = torch.optim.AdamW(groups, lr=lr, weight_decay=0.1), []
    for inputs, targets in text.batches(0, 8, steps):
        loss = F.cross_entropy(model(inputs).flatten(0, 1), targets.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=300)
    steps, example = parser.parse_args().steps, torch.zeros(1, 32, dtype=torch.long)
    text, final = load("stdlib-text", num_bytes=100_000, context=32), {}
    for lr in (0.001, 0.004, 0.016):  # a coarse sweep; `etastar tune` does this with intervals
        small = gpt(2, 32)
        final[lr] = train(small, small.parameters(), text, steps, lr)[-1]
    tuned = etastar.Tuned((gpt(2, 32), example), min(final, key=final.get), weight_decay=0.1)
    big = gpt(6, 64)
    plan = etastar.plan_transfer(tuned, (big, example), optimizer="adamw")
    print(plan)
    plan.rescale_(big)
    losses = train(big, plan.param_groups(big), text, steps)
    print(f"loss {losses[0]:.3f} to {losses[-1]:.3f}")
