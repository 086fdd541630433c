"""Quality with labels: linear, k-NN, low-shot, attentive, fine-tuning, several labels, leakage. May import systems and what lies below."""

from tacit.probing.attentive import FittedAttentive, fit_attentive
from tacit.probing.evaluation import Row, evaluate, summary
from tacit.probing.finetuning import FINETUNES, FineTune, NamedFineTune, finetune, layer_groups, named_finetune
from tacit.probing.knn import Neighbours, knn
from tacit.probing.layers import Cut, Layers, probe_layers
from tacit.probing.leakage import Leak, Leakage, find_leakage
from tacit.probing.linear import Fitted, fit_logistic, fit_sgd
from tacit.probing.logistic import fit_strengths
from tacit.probing.mlp import fit_mlp
from tacit.probing.multilabel import MultiLabelRow, average_precision, evaluate_multilabel, fit_multilabel
from tacit.probing.protocols import PUBLISHED, Protocol, Published, protocol
from tacit.probing.published import fit_published
from tacit.probing.records import Records, read_records, write_records
from tacit.probing.regression import (
    METRICS,
    Regression,
    RegressionRow,
    evaluate_regression,
    fit_regression,
    regression,
    regression_summary,
)
from tacit.probing.ridge import fit_ridge
from tacit.probing.simple import picture_statistics
from tacit.probing.subsets import low_shot, share
from tacit.probing.supervised import fit_supervised

__all__ = [
    "FINETUNES",
    "METRICS",
    "PUBLISHED",
    "Cut",
    "FineTune",
    "Fitted",
    "FittedAttentive",
    "Layers",
    "Leak",
    "Leakage",
    "MultiLabelRow",
    "NamedFineTune",
    "Neighbours",
    "Protocol",
    "Published",
    "Records",
    "Regression",
    "RegressionRow",
    "Row",
    "average_precision",
    "evaluate",
    "evaluate_multilabel",
    "evaluate_regression",
    "find_leakage",
    "finetune",
    "fit_attentive",
    "fit_logistic",
    "fit_mlp",
    "fit_multilabel",
    "fit_published",
    "fit_regression",
    "fit_ridge",
    "fit_sgd",
    "fit_strengths",
    "fit_supervised",
    "knn",
    "layer_groups",
    "low_shot",
    "named_finetune",
    "picture_statistics",
    "probe_layers",
    "protocol",
    "read_records",
    "regression",
    "regression_summary",
    "share",
    "summary",
    "write_records",
]
