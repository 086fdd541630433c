"""Protocols of evaluation: named, versioned values. `knn/k=20,t=0.07@1` says all that a number depends on."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from tacit.core.errors import UnknownNameError

__all__ = ["DEFAULT", "Protocol", "protocol"]

_VERSION = {"knn": 1, "linear": 1, "sgd": 1, "ridge": 1}  # rises whenever a probe's numbers change
_TEXT = {
    "linear": (
        "multinomial logistic regression on features standardised by training statistics; L2 penalty from 1e-6 .. 10 chosen on "
        "held-out training samples (5 stratified folds up to 5000 samples, one fold of a fifth beyond; penalty 0.1 where a class "
        "has one sample), refitted on all of train"
    ),
    "sgd": (
        "linear heads by SGD with momentum 0.9, 30 epochs, batch 256, cosine to zero, on features standardised by training "
        "statistics; rate (1e-3 .. 30) and decay (0 .. 1e-3) chosen on a held-out fifth of train, refitted on all of train"
    ),
    "ridge": (
        "least squares on one-hot labels of features standardised by training statistics; penalty 1e-6 .. 1e3 chosen by exact "
        "leave-one-out accuracy on train (1 where a class has one sample)"
    ),
}


@dataclass(frozen=True)
class Protocol:
    """How features are turned into predictions. `per_class` None learns from all of train, a number from that many per class."""

    probe: Literal["knn", "linear", "sgd", "ridge"]
    per_class: int | None = None
    k: int = 20
    temperature: float = 0.07

    @property
    def name(self) -> str:
        """The name that reads back equal, for example 'linear/5-per-class@1'."""
        few = f"{self.per_class}-per-class" if self.per_class else ""
        if self.probe == "knn":
            settings = f"k={self.k},t={self.temperature:g}" + (f",{few}" if few else "")
        else:
            settings = few or "all"
        return f"{self.probe}/{settings}@{_VERSION[self.probe]}"

    @property
    def text(self) -> str:
        """What is done, for reports."""
        if self.probe == "knn":
            how = f"vote of the {self.k} nearest training features by cosine, weight exp(cosine / {self.temperature:g})"
        else:
            how = _TEXT[self.probe]
        if self.per_class:
            how += f"; {self.per_class} labels per class, drawn anew for each seed and the same for every model"
        return how

    @property
    def drawn(self) -> bool:
        """Whether the outcome depends on the seed beyond the choice of settings: several seeds then give its spread."""
        return self.per_class is not None


DEFAULT = ("knn/k=20,t=0.07@1", "linear/all@1")


def protocol(name: str | Protocol) -> Protocol:
    """Read a protocol's name; the version may be left out. An old version or a misspelt name says what is known."""
    if isinstance(name, Protocol):
        return name
    found = re.fullmatch(r"(\w+)/([^@]*?)(?:@(\d+))?", name)
    probe, settings, version = found.groups() if found else ("", "", None)
    read = _read(probe, settings) if probe in _VERSION else None
    if read is None:
        raise UnknownNameError(
            f"no protocol named {name!r}. Known forms: knn/k=20,t=0.07@1, knn/k=5,t=0.07,10-per-class@1, linear/all@1, "
            "linear/5-per-class@1, and sgd and ridge like linear."
        )
    if version is not None and int(version) != _VERSION[probe]:
        raise UnknownNameError(
            f"protocol {name!r} asks for version {version}, this is version {_VERSION[probe]}: use {read.name!r}"
        )
    return read


def _read(probe: str, settings: str) -> Protocol | None:
    if probe != "knn":
        if settings == "all":
            return Protocol(probe)  # type: ignore[arg-type]
        few = re.fullmatch(r"([1-9]\d*)-per-class", settings)
        return Protocol(probe, int(few[1])) if few else None  # type: ignore[arg-type]
    found = re.fullmatch(r"k=([1-9]\d*),t=(inf|\d+\.?\d*(?:e-?\d+)?)(?:,([1-9]\d*)-per-class)?", settings)
    if not found or not float(found[2]) > 0:
        return None
    return Protocol("knn", int(found[3]) if found[3] else None, int(found[1]), float(found[2]))
