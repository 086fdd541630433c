"""From a recipe to a result: train, judge, probe, sweep, demo. The public functions that the verbs call."""

from tacit.runs.checking import check
from tacit.runs.evaluate import demo, probe
from tacit.runs.jobs import launch
from tacit.runs.judging import judge
from tacit.runs.reporting import report
from tacit.runs.sweeping import sweep
from tacit.runs.training import train
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
