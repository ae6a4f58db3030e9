"""What people see of results: one page with everything in it, and figures."""

from __future__ import annotations

from etastar.report.page import write_report
from etastar.report.paper_figure import save_figure
from etastar.report.plotly_figure import figure

__all__ = ["figure", "save_figure", "write_report"]
