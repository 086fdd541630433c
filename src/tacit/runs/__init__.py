"""From a recipe to a result: train, judge, probe, sweep, demo. The public functions that the verbs call."""

from tacit.runs.check import check
from tacit.runs.evaluate import demo, probe
from tacit.runs.jobs import launch
from tacit.runs.judge import judge
from tacit.runs.report import report
from tacit.runs.sweep import sweep
from tacit.runs.train import train
from tacit.runs.weights import embed, weights_export, weights_import, weights_list

__all__ = [
    "check",
    "demo",
    "embed",
    "judge",
    "launch",
    "probe",
    "report",
    "sweep",
    "train",
    "weights_export",
    "weights_import",
    "weights_list",
]
