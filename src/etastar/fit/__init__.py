"""Optimum of one learning-rate curve, power law over sizes, regret of a transfer."""

from __future__ import annotations

from etastar.fit.optimum import Optimum, find_optimum
from etastar.fit.power_law import PowerLawFit, PowerLawPosterior, fit_power_law, power_law_posterior
from etastar.fit.regret import TransferRegret, transfer_regret

__all__ = [
    "Optimum",
    "PowerLawFit",
    "PowerLawPosterior",
    "TransferRegret",
    "find_optimum",
    "fit_power_law",
    "power_law_posterior",
    "transfer_regret",
]
