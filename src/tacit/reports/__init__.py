"""Result tables with intervals, plots, self-contained HTML. May import what lies below."""

from tacit.reports.compare import Comparison, RunSummary, Sweep, compare
from tacit.reports.gallery import Neighbours, Pairs
from tacit.reports.numbers import Difference, Result
from tacit.reports.page import Report, verdict, write_report
from tacit.reports.pictures import unnormalise
from tacit.reports.sections import Card, Code, Curves, LowShot, Map, Note, Spectrum
from tacit.reports.table import Scores, Table

__all__ = [
    "Card",
    "Code",
    "Comparison",
    "Curves",
    "Difference",
    "LowShot",
    "Map",
    "Neighbours",
    "Note",
    "Pairs",
    "Report",
    "Result",
    "RunSummary",
    "Scores",
    "Spectrum",
    "Sweep",
    "Table",
    "compare",
    "unnormalise",
    "verdict",
    "write_report",
]
