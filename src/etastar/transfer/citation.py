"""BibTeX of the papers whose results a plan used."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from etastar.errors import PlanError
from etastar.transfer.plan import TransferPlan

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["PAPERS_OF_LAWS", "cite"]

_PAPERS: Final[Mapping[str, tuple[str, str, str, int]]] = MappingProxyType(
    {
        "WU": (
            "Wu, Shenxi and Zhang, Haosong and Ma, Xingjian and Bian, Shirui and Zhang, Yichi and "
            "Chen, Xi and Lin, Wei",
            "Hyperparameter Transfer Laws for Non-Recurrent Multi-Path Neural Networks",
            "2602.07494",
            2026,
        ),
        "AM": (
            "Zhang, Haosong and Wu, Shenxi and Zhang, Yichi and Lin, Wei",
            r"Arithmetic-Mean {$\mu$P} for Modern Architectures: A Unified Learning-Rate Scale for "
            "{CNNs} and {ResNets}",
            "2510.04327",
            2025,
        ),
        "JE": (
            "Jelassi, Samy and Hanin, Boris and Ji, Ziwei and Reddi, Sashank J. and "
            "Bhojanapalli, Srinadh and Kumar, Sanjiv",
            r"Depth Dependence of {$\mu$P} Learning Rates in {ReLU} {MLPs}",
            "2305.07810",
            2023,
        ),
        "CH": (
            "Chen, Wuyang and Wu, Junru and Wang, Zhangyang and Hanin, Boris",
            "Principled Architecture-aware Scaling of Hyperparameters",
            "2402.17440",
            2024,
        ),
        "TP5": (
            "Yang, Greg and Hu, Edward J. and Babuschkin, Igor and Sidor, Szymon and "
            "Liu, Xiaodong and Farhi, David and Ryder, Nick and Pachocki, Jakub and Chen, Weizhu "
            "and Gao, Jianfeng",
            "Tensor Programs {V}: Tuning Large Neural Networks via Zero-Shot Hyperparameter "
            "Transfer",
            "2203.03466",
            2022,
        ),
        "TP6": (
            "Yang, Greg and Yu, Dingli and Zhu, Chen and Hayou, Soufiane",
            "Tensor Programs {VI}: Feature Learning in Infinite-Depth Neural Networks",
            "2310.02244",
            2023,
        ),
        "CP": (
            "Dey, Nolan and Zhang, Bin Claire and Noci, Lorenzo and Li, Mufan and "
            "Bordelon, Blake and Bergsma, Shane and Pehlevan, Cengiz and Hanin, Boris and "
            "Hestness, Joel",
            "Don't be lazy: {CompleteP} enables compute-efficient deep transformers",
            "2505.01618",
            2025,
        ),
        "CDP": (
            r"Mlodozeniec, Bruno and Ablin, Pierre and B{\'e}thune, Louis and Busbridge, Dan and "
            "Klein, Michal and Ramapuram, Jason and Cuturi, Marco",
            "Completed Hyperparameter Transfer across Modules, Width, Depth, Batch and Duration",
            "2512.22382",
            2025,
        ),
        "SDE": (
            "Malladi, Sadhika and Lyu, Kaifeng and Panigrahi, Abhishek and Arora, Sanjeev",
            "On the {SDEs} and Scaling Rules for Adaptive Gradient Algorithms",
            "2205.10287",
            2022,
        ),
        "WA": (
            "Wang, Xi and Aitchison, Laurence",
            "How to set {AdamW}'s weight decay as you scale model and dataset size",
            "2405.13698",
            2024,
        ),
    }
)
"""Authors, title, arXiv number and year, by the keys of docs/definitions.md."""

PAPERS_OF_LAWS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "effective-depth": ("WU", "JE"),
        "path-sum": ("CH",),
        "structure": ("JE", "AM"),
        "depth-mup": ("TP6",),
        "complete-p": ("CP",),
        "batch-size": ("CDP", "SDE"),
        "duration": ("CDP",),
        "decay-timescale": ("WA",),
        "measured": ("JE", "AM"),
        "width": ("TP5", "CP"),
        "constant": (),
        "fitted": (),
    }
)
"""Keys of the papers that a law's docstring names as its source."""

_DEPTH, _BRANCH_INITIALIZATION = "WU", "AM"


def cite(plan: TransferPlan | None = None) -> str:
    """BibTeX of the papers that a plan used: its laws, its depth, and its initialization.

    Args:
        plan: A plan, as it was made or read from a file; None for every paper there is.

    Returns:
        One entry for each paper, with the keys of arXiv, in order of the first use. A law of your
        own is named in a comment, as its paper is not known here.

    Raises:
        PlanError: This is no plan.

    Example:
        >>> print(cite().splitlines()[0])
        @misc{arxiv.2602.07494,
    """
    if plan is None:
        return "\n".join(map(_entry, _PAPERS))
    if not isinstance(plan, TransferPlan):
        raise PlanError(
            f"a {type(plan).__name__} in place of a plan",
            "a TransferPlan, or nothing for every paper",
            "pass what plan_transfer returned, or TransferPlan.load(path)",
        )
    names = [law.name for law in plan.laws]
    keys = [_DEPTH, *(key for name in names for key in PAPERS_OF_LAWS.get(name, ()))]
    if plan.initialization.residual in ("all", "last"):
        keys.append(_BRANCH_INITIALIZATION)
    unknown = [f"% no paper is known for the law {n}\n" for n in names if n not in PAPERS_OF_LAWS]
    return "\n".join([*map(_entry, dict.fromkeys(keys)), *unknown])


def _entry(key: str) -> str:
    authors, title, number, year = _PAPERS[key]
    fields = {
        "author": authors,
        "title": title,
        "year": year,
        "eprint": number,
        "archiveprefix": "arXiv",
        "url": f"https://arxiv.org/abs/{number}",
    }
    lines = [f"  {name} = {{{value}}},\n" for name, value in fields.items()]
    return f"@misc{{arxiv.{number},\n{''.join(lines)}}}\n"
