"""AdamW's step with a plan's groups against its step with one group, on a GPT of 12 layers.

    python benchmarks/optimizer_groups.py [--device cuda]

Both are stepped in turn, and the ratio is taken within each pair: other load meets both.
"""

import argparse
import statistics
import time

import torch

import etastar
from etastar.models import build, example_inputs


def clock(optimizer, device):
    """Seconds of one step."""
    if device == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    optimizer.step()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def main() -> None:
    """Print the median ratio of each form of AdamW, and its quartiles."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--width", type=int, default=768)
    parser.add_argument("--pairs", type=int, default=60)
    given = parser.parse_args()
    example = example_inputs("gpt")
    small, big = build("gpt", depth=4, width=64), build("gpt", depth=12, width=given.width)
    plan = etastar.plan_transfer(
        etastar.Tuned((small, example), 0.003, weight_decay=0.1), (big, example), optimizer="adamw"
    )
    plan.rescale_(big)
    big.to(given.device)
    for parameter in big.parameters():
        parameter.grad = torch.randn_like(parameter)
    elements = sum(parameter.numel() for parameter in big.parameters())
    print(f"{elements / 1e6:.0f} M parameters on {given.device}, {len(plan.groups)} groups")
    for form in ("foreach", "fused"):
        pair = [
            torch.optim.AdamW(plan.param_groups(big), **{form: True}),
            torch.optim.AdamW(big.parameters(), lr=1e-6, **{form: True}),
        ]
        ratios = []
        for number in range(given.pairs + 5):
            order = (0, 1) if number % 2 else (1, 0)
            seconds = {which: clock(pair[which], given.device) for which in order}
            ratios.append(seconds[0] / seconds[1])
        low, middle, high = statistics.quantiles(ratios[5:], n=4)
        print(f"{form}: {middle:.3f} of one group's time (quartiles {low:.3f} to {high:.3f})")


if __name__ == "__main__":
    main()
