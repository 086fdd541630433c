"""From a recipe to a result: train, judge, probe, sweep, demo. The public functions that the verbs call."""

from tacit.runs.benchmarking import evaluate as evaluate_runs
from tacit.runs.checking import check
from tacit.runs.editions import edition_export, edition_import
from tacit.runs.evaluate import demo, finetune, layers, probe
from tacit.runs.jobs import launch
from tacit.runs.judging import judge
from tacit.runs.making import make_pde
from tacit.runs.reporting import report
from tacit.runs.suite import leakage
from tacit.runs.sweeping import sweep
from tacit.runs.training import train
from tacit.runs.weights import embed, weights_export, weights_import, weights_list

__all__ = [
    "check",
    "demo",
    "edition_export",
    "edition_import",
    "embed",
    "evaluate_runs",
    "finetune",
    "judge",
    "launch",
    "layers",
    "leakage",
    "make_pde",
    "probe",
    "report",
    "sweep",
    "train",
    "weights_export",
    "weights_import",
    "weights_list",
]
