"""The criterion beside its slow twin in forward mode and float64."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from etastar.graph import capture_graph
from etastar.init import initialize_
from etastar.measure import measure_update
from etastar.models import build


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


def layers_of(name):
    layers = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Embedding)
    if name == "gpt2_of_transformers_with_dropout":
        from transformers.pytorch_utils import Conv1D

        return (*layers, Conv1D)
    return layers


@pytest.mark.parametrize("make_optimizer", [sgd, adam_eps])
@pytest.mark.parametrize("name", CASES)
def test_the_criterion_agrees_with_forward_mode(name, make_optimizer, forward_mode):
    model, batch, loss_fn, run, loss = CASES[name]()
    report = measure_update(
        model, batch, loss_fn, optimizer=make_optimizer, pre_activations="layers"
    )
    expected = forward_mode(model, run, loss, make_optimizer, layers_of(name))
    found = [layer.mean_square_update for layer in report.layers]
    assert found == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize("seed", [0, 2])
def test_a_small_readout_does_not_spoil_what_is_measured_of_the_layers_before_it(
    seed, forward_mode
):
    # its pre-activation is tiny beside its change; were the step short enough for that, it would be
    # lost in the rounding of the other weights
    x = torch.randn(1, 64, generator=torch.Generator().manual_seed(0))
    network = build("mlp", in_features=64, depth=32, width=512)
    initialize_(network, capture_graph(network, x), readout="mup", seed=seed)

    def run(model):
        return model(x.to(next(model.parameters()).dtype))

    report = measure_update(
        network, (x, None), lambda out, _: out.sum(), optimizer="sgd", pre_activations="layers"
    )
    expected = forward_mode(
        network, run, lambda out: out.sum(), lambda m: torch.optim.SGD(m.parameters(), lr=1.0)
    )
    assert report.mean_square_update == pytest.approx(sum(expected) / len(expected), rel=0.02)
