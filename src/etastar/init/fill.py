"""Apply an initialization to a model, in place, with a generator of its own."""

from __future__ import annotations

import copy
import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import nn
from torch.nn.utils import parametrize

from etastar.applied import Applied, recall, remember, require_writable
from etastar.errors import InitError, cause_of
from etastar.formatting import first_few
from etastar.graph.capture import require_module
from etastar.graph.dag import Graph
from etastar.graph.isolation import require_plain_execution
from etastar.init.init_plan import plan_initialization
from etastar.init.schemes import InitReport, InitSettings, ParamInit, Readout, ResidualRule, Scheme
from etastar.measure.batch import plain_modes
from etastar.naming import canonical_modules, canonical_parameters

_MOST_NAMES = 5
_VARIANCE_TOLERANCE = 1e-3


def initialize_(
    model: nn.Module,
    graph: Graph,
    *,
    scheme: Scheme = "he",
    residual: ResidualRule = "all",
    readout: Readout = "standard",
    seed: int = 0,
    exclude: str | Sequence[str] = (),
    only: str | Sequence[str] = (),
) -> InitReport:
    """Set every parameter of a model, in place, so that its signals are stable over depth.

    Var[W] = g(phi) / fan_in, with g(phi) = 1 / E[phi(z)^2] measured on the operations through
    which the layer's input came; on a residual branch times 1 / K [AM]. Biases become zero, norm
    gains one (the form 1 + w: w zero). The draw of a parameter depends on `seed` and its name
    alone, and is the same on every device. Initialize before sharding (FSDP).

    Parameters that no rule covers (frozen, unused, recurrent, layer scales, tables inside the
    network, time constants) are kept, and the report says so. So is what was set on purpose:
    weights and norm gains that are zero (the second factor of an adapter, the end of a branch), and
    biases that are not drawn around zero (a prior, a forget gate, a step size).

    Chains of 50 layers without norms or skips: "he" holds for ReLU and other scale-free functions.
    With tanh its gradients vanish or explode, with GELU, SiLU and their like its signals too; there
    "edge-of-chaos" holds, which draws the biases as well and needs them (without, tanh fades like
    1 / depth, and GELU and SiLU have no critical point). In residual networks 1 / K holds for all.

    Args:
        model: The model, or a wrapped form of it.
        graph: `capture_graph` of the same model.
        scheme: "he", "in-degree" [CH] or "edge-of-chaos".
        residual: Branch weights that carry 1 / K: "all", "last" or "none".
        readout: Output weights: "standard", "mup" (1 / fan_in^2) or "zero" [TP5].
        seed: Seed of the generator; PyTorch's global one is neither read nor moved.
        exclude: Patterns of names to leave as they are, such as "*lora_*".
        only: Patterns of names to set, and no others.

    Returns:
        What was done to each parameter, and why.

    Raises:
        InitError: If the model's parameters are not those of the graph, or hold no memory, or an
            option is unknown, a pattern fits none, or an activation has no edge of chaos; nothing
            has been changed then.

    Example:
        >>> from etastar.graph.capture import capture_graph
        >>> model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
        >>> report = initialize_(model, capture_graph(model, torch.zeros(2, 8)))
        >>> [(e.name, e.action, round(e.gain, 6)) for e in report.entries if e.std]
        [('0.weight', 'normal', 1.0), ('2.weight', 'normal', 2.0)]

    Reference: docs/definitions.md, section 2; [AM], [CH], [TP5] table 3.
    """
    settings = InitSettings(scheme, residual, readout, seed, exclude, only)  # type: ignore[arg-type]
    require_plain_execution(error=InitError)
    require_module(model, error=InitError)
    if not isinstance(graph, Graph):
        raise InitError(
            f"a {type(graph).__name__} as graph",
            "the Graph of this model",
            "pass capture_graph(model, *example_inputs)",
        )
    parameters = canonical_parameters(model)
    # frozen ones are kept, whatever they are; but without memory nothing can be said of a model
    drawn = {n: p for n, p in parameters.items() if p.requires_grad or p.is_meta}
    require_writable(drawn, error=InitError)
    _check_same(parameters, graph)
    with plain_modes(error=InitError), torch.no_grad():
        known = recall(model)
        report = plan_initialization(
            graph,
            parameters=parameters,
            settings=settings,
            zero_readout=known is not None and known.readout == "zero",
        )
        modules = dict(canonical_modules(model))
        entries = [_applied(entry, modules, parameters, seed) for entry in report.entries]
    remember(model, Applied(residual, readout))  # a plan's factors must not count depth twice
    return replace(report, entries=tuple(entries))


def _check_same(parameters: Mapping[str, nn.Parameter], graph: Graph) -> None:
    """Refuse a model that is not the one of the graph, before anything is changed."""
    expected = {
        name: record.shape
        for first, record in graph.parameter_records.items()
        for name in (first, *record.aliases)
    }
    found = {name: tuple(parameter.shape) for name, parameter in parameters.items()}
    wrong = [
        f"{name}: {found.get(name, 'missing')} against {expected.get(name, 'missing')}"
        for name in dict.fromkeys((*expected, *found))
        if found.get(name) != expected.get(name)
    ]
    if wrong:
        raise InitError(
            "a model whose parameters differ from the graph's (model against graph): "
            + first_few(wrong, _MOST_NAMES),
            "the model that the graph was captured from",
            "capture the graph of this model, and pass that",
        )


def _applied(
    entry: ParamInit,
    modules: Mapping[str, nn.Module],
    parameters: Mapping[str, nn.Parameter],
    seed: int,
) -> ParamInit:
    if entry.action in ("kept", "follows"):
        return entry
    if entry.effective is not None:
        return _set_effective(entry, modules, seed)
    parameter = parameters[entry.name]
    if entry.action == "normal":
        parameter.copy_(_drawn(entry, parameter, seed))
    else:
        parameter.fill_(1.0 if entry.action == "one" else 0.0)
    return entry


def _drawn(entry: ParamInit, like: torch.Tensor, seed: int) -> torch.Tensor:
    """Normal values on the CPU, from a generator seeded by seed and name."""
    digest = hashlib.sha256(f"{seed}:{entry.effective or entry.name}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
    dtype = torch.float64 if like.dtype is torch.float64 else torch.float32
    values = torch.randn(like.shape, generator=generator, dtype=dtype)
    return (values * (entry.std or 0.0)).to(like.device, like.dtype)


def _set_effective(entry: ParamInit, modules: Mapping[str, nn.Module], seed: int) -> ParamInit:
    """Assign the effective weight through the parametrization, if it takes the variance."""
    path, _, tensor = (entry.effective or "").rpartition(".")
    if not parametrize.is_parametrized(modules[path], tensor):
        return replace(entry, action="kept", std=None, why="no parametrization could be found")
    # tried on a copy; power iterations run, and change buffers, in training alone
    module = copy.deepcopy(modules[path]).eval()
    values = _drawn(entry, getattr(module, tensor), seed)
    try:
        setattr(module, tensor, values)
        wanted, got = (float(t.double().square().mean()) for t in (values, getattr(module, tensor)))
        problem = f"its mean square came out as {got:.4g} instead of {wanted:.4g}"
    except Exception as error:  # of the parametrization's own code
        wanted, got, problem = 0.0, 0.0, cause_of(error)
    if wanted == 0 or not math.isclose(wanted, got, rel_tol=_VARIANCE_TOLERANCE):
        why = f"{entry.effective} cannot be given a variance: {problem}"
        return replace(entry, action="kept", std=None, why=why)
    modules[path].load_state_dict(module.state_dict())
    return replace(entry, why=f"{entry.why}, through {entry.effective}")
