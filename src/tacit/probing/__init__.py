"""Quality with labels: linear, k-NN, low-shot. May import systems and what lies below."""

from tacit.probing.evaluation import Row, evaluate, summary
from tacit.probing.knn import Neighbours, knn
from tacit.probing.linear import Fitted, fit_logistic, fit_sgd
from tacit.probing.protocols import Protocol, protocol
from tacit.probing.records import Records, read_records, write_records
from tacit.probing.ridge import fit_ridge
from tacit.probing.subsets import low_shot

__all__ = [
    "Fitted",
    "Neighbours",
    "Protocol",
    "Records",
    "Row",
    "evaluate",
    "fit_logistic",
    "fit_ridge",
    "fit_sgd",
    "knn",
    "low_shot",
    "protocol",
    "read_records",
    "summary",
    "write_records",
]
