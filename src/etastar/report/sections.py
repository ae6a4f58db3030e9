"""From a result, or a file that holds one, to its section: a result is what its JSON has."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from etastar.errors import EtastarError, FitError, ReportError
from etastar.formatting import Shown, json_numbers
from etastar.graph import Graph
from etastar.report import measured_sections, plan_sections, sweep_sections
from etastar.report.charts import Panel, Section
from etastar.report.drawing import drawn_nodes
from etastar.sources.libraries import SOURCES
from etastar.sources.model_spec import capture_spec
from etastar.sources.stored_optima import fit_store, read_store
from etastar.sweep import SweepResult
from etastar.sweep.storage.connection import shown_location
from etastar.transfer import TransferPlan

_Build = Callable[[Mapping[str, Any]], Section]

_KINDS: tuple[tuple[frozenset[str], _Build], ...] = tuple(
    (frozenset(keys.split()), build)
    for keys, build in (
        ("plan optima stop", sweep_sections.tune_section),
        ("optima trials", sweep_sections.sweep_section),
        ("optima without_optimum exponent", sweep_sections.fit_section),
        ("intercept exponent lrs", sweep_sections.law_section),
        ("rules", sweep_sections.rules_section),
        ("groups target_depth law", plan_sections.plan_section),
        ("effective_depth path path_count", plan_sections.depth_section),
        ("exponents points", measured_sections.scan_section),
        ("eta_star layers", measured_sections.update_section),
        ("axes num_steps", measured_sections.coordinate_section),
    )
)
"""What the JSON of each kind of result has, the first that fits first."""

_EXPECTED = "a plan, depth report or graph, measurement, scan, coordinate check, sweep, fit, tuning"


def section_of(result: object) -> Section:
    """The section of one result.

    That is what a function of the package returned, a graph, or the plain data of its JSON; a
    section passes through.

    Raises:
        ReportError: It is nothing that is known.

    Example:
        >>> from etastar.fit import fit_power_law
        >>> section_of(fit_power_law([2, 8], [1.0, 0.125])).facts["exponent"]
        'exponent -1.500'
    """
    if isinstance(result, Section):
        return result
    if isinstance(result, Graph):
        network = drawn_nodes(result)
        return replace(section_of(result.depth()), network=network)
    data = _data(result)
    for keys, build in _KINDS:
        if data is not None and keys <= set(data):
            return _built(build, data, result)
    if isinstance(result, Shown):
        rows = tuple((line,) for line in str(result).splitlines())
        return Section(type(result).__name__, panels=(Panel(("",), rows),))
    raise ReportError(
        f"a {type(result).__name__}" + (f" with {sorted(data)[:8]}" if data else ""),
        _EXPECTED,
        "give what a function of etastar returned, or JSON that a command printed",
    )


def _data(result: object) -> Mapping[str, Any] | None:
    """Plain data as a command prints it; of a tuning, with its runs."""
    if isinstance(result, Mapping):
        return result
    if not isinstance(result, Shown):
        return None
    sweep = getattr(result, "sweep", None)
    runs = sweep.as_dict() if isinstance(sweep, SweepResult) else {}
    found: Mapping[str, Any] = json_numbers({**runs, **result.as_dict()})
    return found


def _built(build: _Build, data: Mapping[str, Any], result: object) -> Section:
    try:
        section = build(data)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        if isinstance(result, Shown):
            raise
        raise ReportError(
            f"data of a result in which {type(error).__name__}: {error}",
            "JSON as a command of this version prints it",
            "run the command again with --json",
        ) from error
    graph = getattr(result, "graph", None) or getattr(getattr(result, "plan", None), "graph", None)
    return section if graph is None else replace(section, network=drawn_nodes(graph))


def sections_of(
    source: str, *, name: str = "sweep", settings: dict[str, Any] | None = None
) -> tuple[Section, ...]:
    """The sections of what a text names: one, or of a store whose optima allow a fit, two.

    Args:
        source: A plan file, JSON that a command printed, a sweep's store (path or URL), or a model
            of a package (`zoo:gpt`), whose network is drawn.
        name: Of the sweep in a store.
        settings: Settings of a model.

    Raises:
        ReportError: There is no such file, or it holds no result.
        EtastarError: A plan, a store or a model cannot be read.
    """
    if source.partition(":")[0] in SOURCES and not Path(source).exists():
        section = section_of(capture_spec(source, settings))
        return (replace(section, origin=source),)
    if "://" in source:
        return _stored(source, name, shown_location(source))
    path = Path(source)
    if not path.is_file():
        raise ReportError(
            f"{source!r}, which is no file",
            "a plan file, JSON that a command printed, a sweep's store, or zoo:NAME, hf:NAME ...",
            "check the path",
        )
    written = datetime.fromtimestamp(path.stat().st_mtime, tz=timezone.utc)
    origin = f"{path.name}, written {written:%Y-%m-%d %H:%M} UTC"
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:  # a journal: an object on each line
        return _stored(source, name, origin)
    if not isinstance(data, dict):
        return (section_of(data),)
    is_plan = "format_version" in data
    section = section_of(TransferPlan.load(path) if is_plan else data)
    return (replace(section, origin=origin),)


def _stored(source: str, name: str, origin: str) -> tuple[Section, ...]:
    """The runs of a store as the sweep they are of, and the fit through its optima."""
    sections = [section_of(read_store(source, name=name).sweep)]
    with suppress(FitError):  # of one depth, or of sizes without one, there is no line
        data = fit_store(source, name=name).as_dict()
        deepest = max(data["optima"], key=lambda one: float(one["depth"]))
        with suppress(EtastarError):  # a model of no package is not built, and has no prior
            planned = fit_store(source, name=name, target=deepest["size"]).plan
            data["prior"] = None if planned is None else planned.prior
        sections.append(section_of(data))
    return tuple(replace(section, origin=origin) for section in sections)
