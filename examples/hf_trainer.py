# pip install "etastar[hf]"; python hf_trainer.py --steps 20
"""The Trainer of Hugging Face with the groups of a plan; from configurations, no download."""

import argparse
import tempfile

import torch
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments

import etastar
from etastar.datasets import load
from etastar.integrations.transformers import plan_trainer

parser = argparse.ArgumentParser()
parser.add_argument("--steps", type=int, default=200)
steps = parser.parse_args().steps


def llama(depth, width):
    heads = width // 16
    config = LlamaConfig(
        num_hidden_layers=depth,
        hidden_size=width,
        intermediate_size=2 * width,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        vocab_size=256,
        max_position_embeddings=64,
        initializer_range=0.02 * (64 / width) ** 0.5,  # so that variance follows 1 / width
    )
    return LlamaForCausalLM(config)


torch.manual_seed(0)
example = {"input_ids": torch.zeros(1, 32, dtype=torch.long)}
tuned = etastar.Tuned((llama(3, 32), example), lr=0.003, weight_decay=0.1)  # tuned on the small one
big = llama(8, 64)
plan = etastar.plan_transfer(tuned, (big, example), optimizer="adamw")
print(plan)

text = load("stdlib-text", num_bytes=200_000, context=32).train_inputs
rows = [{"input_ids": row, "labels": row} for row in text]
with tempfile.TemporaryDirectory() as folder:
    arguments = TrainingArguments(
        folder,
        max_steps=steps,
        per_device_train_batch_size=8,
        lr_scheduler_type="cosine",
        warmup_steps=steps // 10,
        logging_steps=max(1, steps // 10),
        save_strategy="no",
        report_to=[],
        max_grad_norm=0,  # clipping by norm would see other gradients than at the base
        disable_tqdm=True,
        use_cpu=not torch.cuda.is_available(),
    )
    trainer = plan_trainer(Trainer(big, arguments, train_dataset=rows), plan)
    trainer.train()
losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
print(f"loss {float(losses[0]):.3f} to {float(losses[-1]):.3f}")
