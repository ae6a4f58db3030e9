"""The criterion beside a slow twin: float64, hooks on modules, differences on the real step."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from etastar.measure import measure_update
from etastar.models import build

COUNTED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Embedding)


def outputs(model, run, counted):
    found = []
    handles = [
        module.register_forward_hook(lambda _m, _i, out: found.append(out.detach().clone()))
        for name, module in model.named_modules()
        if isinstance(module, counted) and "wpe" not in name and "position" not in name
    ]
    with torch.no_grad():
        run(model)
    for handle in handles:
        handle.remove()
    return found


def mean_squares(model, run, loss, make_optimizer, counted=COUNTED, h=1e-6):
    """Mean of (dz/d eta)^2 by layer, in float64."""
    buffers = copy.deepcopy(model).double()
    model = copy.deepcopy(model).double()
    before = [p.detach().clone() for p in model.parameters()]
    torch.manual_seed(0)
    loss(run(model)).backward()
    optimizer = make_optimizer(model)
    rate = optimizer.param_groups[0]["lr"]
    optimizer.step()
    moves = [(p.detach() - b) / rate for p, b in zip(model.parameters(), before, strict=True)]

    def at(step):
        other = copy.deepcopy(buffers)
        torch.manual_seed(0)
        with torch.no_grad():
            for p, b, u in zip(other.parameters(), before, moves, strict=True):
                p.copy_(b + step * u)
        return outputs(other, run, counted)

    return [float(((a - b) / (2 * h)).square().mean()) for a, b in zip(at(h), at(-h), strict=True)]


def sgd(model):
    return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01)


def adam_eps(model):
    # an epsilon above the rounding of the gradients, so that noise has no sign to normalize
    return torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1, eps=1e-4)


def images(shape, classes=10):
    torch.manual_seed(3)
    return torch.randn(8, *shape), torch.randint(classes, (8,))


CASES = {}


def case(function):
    CASES[function.__name__] = function
    return function


def classified(model, shape):
    inputs, targets = images(shape)
    return (
        model,
        (inputs, targets),
        F.cross_entropy,
        lambda m: m(inputs.to(next(m.parameters()).dtype)),
        lambda out: F.cross_entropy(out, targets),
    )


@case
def mlp():
    torch.manual_seed(0)
    model = nn.Sequential(
        *[m for _ in range(6) for m in (nn.Linear(32, 32), nn.ReLU())], nn.Linear(32, 10)
    )
    return classified(model, (32,))


@case
def cnn_with_batch_norm():
    torch.manual_seed(0)
    blocks = [
        m
        for _ in range(3)
        for m in (nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(inplace=True))
    ]
    model = nn.Sequential(nn.Conv2d(3, 8, 3), *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return classified(nn.Sequential(model, nn.Linear(8, 10)).train(), (3, 8, 8))


@case
def mlp_with_dropout():
    torch.manual_seed(0)
    layers = [m for _ in range(3) for m in (nn.Linear(16, 16), nn.Dropout(0.3), nn.Tanh())]
    return classified(nn.Sequential(*layers).train(), (16,))


def tokens(vocab=50, length=12):
    torch.manual_seed(5)
    return torch.randint(vocab, (4, length))


@case
def gpt_of_the_zoo():
    torch.manual_seed(0)
    model = build("gpt", depth=2, width=32, vocabulary=50, context=12)
    ids = tokens()

    def loss(logits, targets):
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten())

    return model, (ids, ids), loss, lambda m: m(ids), lambda out: loss(out, ids)


def hf_case(model):
    ids = tokens()
    return (
        model.train(),
        {"input_ids": ids, "labels": ids},
        None,
        lambda m: m(input_ids=ids, labels=ids),
        lambda out: out.loss,
    )


@case
def llama_of_transformers():
    transformers = pytest.importorskip("transformers")
    config = transformers.LlamaConfig(
        vocab_size=50, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=32,
        pad_token_id=None, attn_implementation="eager",
    )  # fmt: skip
    torch.manual_seed(0)
    return hf_case(transformers.LlamaForCausalLM(config))


@case
def gpt2_of_transformers_with_dropout():
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(
        vocab_size=50, n_embd=32, n_layer=2, n_head=4, n_positions=32, pad_token_id=None,
        bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    torch.manual_seed(0)
    return hf_case(transformers.GPT2LMHeadModel(config))


COUNTED_BY_HOOKS = {"gpt2_of_transformers_with_dropout": "Conv1D"}


def counted(name):
    if name in COUNTED_BY_HOOKS:
        from transformers.pytorch_utils import Conv1D

        return (*COUNTED, Conv1D)
    return COUNTED


@pytest.mark.parametrize("method", ["forward", "differences"])
@pytest.mark.parametrize("make_optimizer", [sgd, adam_eps])
@pytest.mark.parametrize("name", CASES)
def test_the_criterion_agrees_with_float64_differences(name, make_optimizer, method):
    model, batch, loss_fn, run, loss = CASES[name]()
    report = measure_update(
        model, batch, loss_fn, optimizer=make_optimizer, method=method, seeds=(0,)
    )
    expected = mean_squares(model, run, loss, make_optimizer, counted(name))
    found = [layer.mean_square_update for layer in report.layers]
    assert report.method == method
    assert found == pytest.approx(expected, rel=0.01)
