"""The drawings of the concept pages: `python docs/images/draw.py` writes them anew."""

from __future__ import annotations

import math
from pathlib import Path

HERE = Path(__file__).parent
INK, FAINT, MARK = "#1f2937", "#9ca3af", "#2563eb"


def text(x: float, y: float, words: str, *, color: str = INK, size: int = 13) -> str:
    """A centred line of text."""
    words = words.replace("&", "&amp;").replace("<", "&lt;")
    return f'<text x="{x:g}" y="{y:g}" fill="{color}" font-size="{size}">{words}</text>'


def box(x: float, y: float, words: str, *, color: str = INK, width: float = 64) -> str:
    """A box around a word, centred."""
    return (
        f'<rect x="{x - width / 2:g}" y="{y - 15:g}" width="{width:g}" height="30" rx="5" '
        f'fill="#fff" stroke="{color}"/>' + text(x, y + 4.5, words)
    )


def line(*points: tuple[float, float], color: str = INK, width: float = 1.5, dash: str = "") -> str:
    """A line through points."""
    path = " ".join(f"{x:.4g},{y:.4g}" for x, y in points)
    dashed = f' stroke-dasharray="{dash}"' if dash else ""
    return (
        f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="{width:g}"{dashed}/>'
    )


def plus(x: float, y: float, *, color: str = INK) -> str:
    """A residual addition."""
    circle = f'<circle cx="{x:g}" cy="{y:g}" r="11" fill="#fff" stroke="{color}"/>'
    return circle + text(x, y + 5, "+", size=16)


def drawing(title: str, height: int, *parts: str) -> str:
    """An SVG of 640 pixels."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 640 {height}" role="img" '
        f'font-family="sans-serif" text-anchor="middle">\n<title>{title}</title>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def effective_depth() -> str:
    """A chain, and a residual network with its shortest path."""
    chain = [line((20, 40), (520, 40), color=MARK, width=4)]
    chain += [box(x, 40, f"layer {n}") for n, x in enumerate((90, 210, 330, 450), 1)]
    chain += [text(580, 45, "depth 4", color=MARK)]
    y, parts = 120, [line((20, 120), (520, 120), color=MARK, width=4), box(70, 120, "stem")]
    for start in (130, 300):
        branch = line((start, y), (start, y + 60), (start + 130, y + 60), (start + 130, y))
        layers = [box(start + at, y + 60, "layer", width=48) for at in (38, 94)]
        parts += [branch, *layers, plus(start + 130, y, color=MARK)]
    parts += [box(485, y, "head", color=MARK), text(580, y + 5, "depth 4", color=MARK)]
    return drawing("Effective depth", 205, *chain, *parts)


def streams() -> str:
    """A stream with two branches, and the trunk."""
    y = 60
    parts = [line((20, y), (620, y), color=MARK, width=4), box(70, y, "stem")]
    for n, start in enumerate((130, 320), 1):
        parts += [
            line((start, y), (start, y + 75), (start + 150, y + 75), (start + 150, y)),
            box(start + 30, y + 75, "norm", width=44),
            box(start + 75, y + 75, "inner", width=42),
            box(start + 120, y + 75, "last", color=MARK, width=40),
            plus(start + 150, y, color=MARK),
            text(start + 75, y + 112, f"branch {n} of K = 2", color=FAINT),
        ]
    parts += [box(525, y, "norm", width=50), box(590, y, "head", width=50)]
    parts += [text(305, 25, "the stream", color=MARK), text(70, 25, "trunk", color=FAINT)]
    return drawing("Streams and branches", 190, *parts, text(560, 25, "trunk", color=FAINT))


def multipliers() -> str:
    """A layer behind a factor, and the layer that trains alike."""
    left = [line((20, 45), (280, 45)), box(105, 45, "V"), box(205, 45, "x m", color=MARK)]
    right = [line((370, 45), (620, 45)), box(495, 45, "W = m V", color=MARK, width=90)]
    words = [text(150, 95, "forward edited, rate as at the base"), text(325, 51, "=", size=26)]
    words += [text(495, 95, "forward untouched,"), text(495, 113, "std, rate, eps, decay changed")]
    return drawing("Multipliers", 130, *left, *right, *words)


def curve(function: object, *, color: str = INK, dash: str = "", width: float = 2) -> str:
    """A function of 0 to 1 with values of 0 to 1, on the axes."""
    points = [(80 + 4.8 * n, 200 - 170 * function(n / 100)) for n in range(101)]
    return line(*[p for p in points if 20 <= p[1] <= 205], color=color, dash=dash, width=width)


def axes(below: str, beside: str) -> list[str]:
    """Two axes and what they show."""
    return [line((80, 20), (80, 205), (580, 205)), text(330, 230, below), text(40, 110, beside)]


def criterion() -> str:
    """S against the rate at two depths."""
    parts = axes("learning rate (log)", "S (log)")
    parts += [curve(lambda x: 1.3 * x - 0.35, color=FAINT), curve(lambda x: 1.3 * x - 0.1)]
    parts += [line((80, 115), (580, 115), color=MARK, dash="5 4"), text(600, 119, "S = 1", size=12)]
    for x, name in ((0.6 / 1.3, "deep"), (0.85 / 1.3, "shallow")):
        at = 80 + 480 * x
        parts += [line((at, 115), (at, 205), color=MARK, dash="2 3")]
        parts += [text(at, 105, f"eta* {name}", color=MARK, size=12)]
    return drawing("The maximal-update criterion", 245, *parts)


def regret() -> str:
    """Loss against the rate, with a transferred rate beside the best one."""

    def loss(x: float) -> float:
        return 0.15 + 2.2 * (x - 0.45) ** 2 + (40 * (x - 0.75) ** 3 if x > 0.75 else 0)

    parts = [*axes("learning rate (log)", "loss"), curve(loss)]
    lowest = 200 - 170 * loss(0.45)
    for x, name in ((0.45, "best"), (0.7, "transferred")):
        at, height = 80 + 480 * x, 200 - 170 * loss(x)
        parts += [line((at, height), (at, 205), color=FAINT, dash="3 3")]
        parts += [f'<circle cx="{at:g}" cy="{height:.4g}" r="5" fill="{MARK}"/>']
        parts += [text(at + (45 if x > 0.5 else -20), height - 12, name, size=12)]
    at = 80 + 480 * 0.7
    parts += [line((296, lowest), (at, lowest), color=MARK, dash="2 3")]
    parts += [line((at, lowest), (at, 200 - 170 * loss(0.7)), color=MARK, width=4)]
    parts += [text(at + 35, lowest - 6, "regret", color=MARK)]
    return drawing("Regret", 245, *parts)


def default_choice() -> str:
    """Densities of the exponent from three sources, and their product."""
    sources = ((0.45, 0.17, "families"), (0.62, 0.11, "tuned sizes"), (0.5, 0.22, "criterion"))
    weights = [1 / width**2 for _, width, _ in sources]
    centre = sum(w * c for w, (c, _, _) in zip(weights, sources, strict=True)) / sum(weights)
    parts = axes("exponent of the best rate over depth", "")

    def bell(at: float, width: float) -> object:
        return lambda x: 0.085 / width * math.exp(-((x - at) ** 2) / (2 * width**2))

    for (at, width, name), x in zip(sources, (0.2, 0.78, 0.86), strict=True):
        parts += [curve(bell(at, width), color=FAINT)]
        y = 200 - 170 * bell(at, width)(x)
        parts += [text(80 + 480 * x + (18 if x > 0.5 else -28), y - 8, name, size=12)]
    parts += [curve(bell(centre, sum(weights) ** -0.5), color=MARK, width=3)]
    parts += [text(80 + 480 * centre, 24, "posterior", color=MARK)]
    return drawing("The default choice", 245, *parts)


DRAWINGS = (effective_depth, streams, multipliers, criterion, regret, default_choice)

if __name__ == "__main__":
    for made in DRAWINGS:
        (HERE / f"{made.__name__}.svg").write_text(made())
