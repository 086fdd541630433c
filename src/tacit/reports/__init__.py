"""Result tables with intervals, plots, self-contained HTML. May import what lies below."""

from tacit.reports.compare import Comparison, RunSummary, Sweep, compare
from tacit.reports.fields import FieldPictures, Films, Lines, line_frames
from tacit.reports.gallery import Neighbours, Pairs
from tacit.reports.layers import Answer, LayerCurves
from tacit.reports.numbers import Difference, Result
from tacit.reports.page import Report, verdict, write_report
from tacit.reports.pictures import unnormalise
from tacit.reports.sections import Card, Code, Curves, LowShot, Map, Note, Spectrum
from tacit.reports.table import Scores, Table

__all__ = [
    "Answer",
    "Card",
    "Code",
    "Comparison",
    "Curves",
    "Difference",
    "FieldPictures",
    "Films",
    "LayerCurves",
    "Lines",
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
    "line_frames",
    "unnormalise",
    "verdict",
    "write_report",
]
