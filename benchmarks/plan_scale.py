"""Planning for the largest networks on the meta device: processor seconds and memory.

python benchmarks/plan_scale.py
"""

import resource
import subprocess
import sys
import time

import torch

NAMES = ("llama-70b", "llama-405b", "moe-256")


def network(name, *, small):
    """The network of that name, or its small sibling of the same family."""
    from transformers import (
        LlamaConfig,
        LlamaForCausalLM,
        Qwen3MoeConfig,
        Qwen3MoeForCausalLM,
    )

    layers, width, inner, heads = {
        "llama-70b": (80, 8192, 28672, 64),
        "llama-405b": (126, 16384, 53248, 128),
        "moe-256": (61, 7168, 18432, 128),
    }[name]
    if small:
        layers, width, inner, heads = 4, 512, 1024, 4
    sizes = {
        "vocab_size": 128256,
        "num_hidden_layers": layers,
        "hidden_size": width,
        "intermediate_size": inner,
        "num_attention_heads": heads,
        "num_key_value_heads": min(8, heads),
        "head_dim": 128,
    }
    if name != "moe-256":
        return LlamaForCausalLM(LlamaConfig(**sizes))
    experts = {"num_experts": 256, "num_experts_per_tok": 8, "moe_intermediate_size": inner // 9}
    return Qwen3MoeForCausalLM(Qwen3MoeConfig(**sizes, **experts))


def measure(name):
    """Plan, table, groups and JSON of one network."""
    import etastar

    example = {"input_ids": torch.zeros(1, 8, dtype=torch.long, device="meta")}
    with torch.device("meta"):
        base, target = network(name, small=True), network(name, small=False)
    start = time.process_time()
    plan = etastar.plan_transfer(
        etastar.Tuned((base, example), 0.003, weight_decay=0.1),
        (target, example),
        optimizer="adamw",
    )
    planned = time.process_time()
    text, table = plan.to_json(), str(plan)
    groups = plan.param_groups(target, from_checkpoint=True)
    ended = time.process_time()
    elements = sum(parameter.numel() for parameter in target.parameters())
    print(
        f"{name}: {elements / 1e9:.0f} B parameters in {len(plan.parameters)} tensors, "
        f"{len(groups)} groups; plan {planned - start:.1f} s, table, groups and JSON "
        f"({len(text) / 1e6:.1f} MB, {len(table.splitlines())} lines) {ended - planned:.2f} s; "
        f"peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GB"
    )


if __name__ == "__main__":
    if len(sys.argv) > 1:
        measure(sys.argv[1])
    else:
        for each in NAMES:
            subprocess.run([sys.executable, __file__, each], check=True)
