"""Rows -> tables, figures and one HTML file that loads nothing. Imports no torch."""

from rcsd.evaluation.report.benchmarks import BenchmarkPanel, benchmark_figure
from rcsd.evaluation.report.html import FIGURES, figure_svg, svg_of, write_report
from rcsd.evaluation.report.page import (
    Arm,
    CriterionShares,
    Curve,
    Difference,
    Estimate,
    HeadroomRow,
    Relation,
    ReportPage,
    Sample,
    SampleAnswer,
    SampleCriterion,
)
from rcsd.evaluation.report.tables import Outcome, terminal_table

__all__ = [
    "FIGURES",
    "Arm",
    "BenchmarkPanel",
    "CriterionShares",
    "Curve",
    "Difference",
    "Estimate",
    "HeadroomRow",
    "Outcome",
    "Relation",
    "ReportPage",
    "Sample",
    "SampleAnswer",
    "SampleCriterion",
    "benchmark_figure",
    "figure_svg",
    "svg_of",
    "terminal_table",
    "write_report",
]
