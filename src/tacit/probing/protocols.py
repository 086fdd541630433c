"""Protocols of evaluation: named, versioned values. `knn/k=20,t=0.07@1` says all that a number depends on."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Literal

from tacit.core.errors import UnknownNameError

__all__ = ["DEFAULT", "PUBLISHED", "Protocol", "Published", "protocol"]

_VERSION = {
    "knn": 1,
    "linear": 1,
    "logistic": 1,
    "sgd": 1,
    "ridge": 1,
    "attentive": 1,
}  # rises whenever a probe's numbers change
_TEXT = {
    "linear": (
        "multinomial logistic regression on features standardised by training statistics; L2 penalty from 1e-6 .. 10 chosen on "
        "held-out training samples (5 stratified folds up to 5000 samples, one fold of a fifth beyond; penalty 0.1 where a class "
        "has one sample), refitted on all of train"
    ),
    "logistic": (
        "multinomial logistic regression in float64 on features as they are (DINOv2, arXiv 2304.07193); C (weight of the sum of losses "
        "beside half the squared weights) from 45 values 1e-6 .. 1e5, chosen on a tenth of each class of train (1 where a class has one "
        "sample), refitted on all of train with at most 1000 iterations"
    ),
    "sgd": (
        "linear heads by SGD with momentum 0.9, 30 epochs, batch 256, cosine to zero, on features standardised by training "
        "statistics; rate (1e-3 .. 30) and decay (0 .. 1e-3) chosen on a held-out fifth of train, refitted on all of train"
    ),
    "attentive": (
        "one learned query reads all tokens of the frozen encoder by cross-attention (4 heads or the most that divide the width), then a "
        "linear map; AdamW, 20 epochs, batch 256, rate 3e-4 .. 3e-3 chosen on a held-out fifth of train and the probe trained anew on all"
    ),
    "ridge": (
        "least squares on one-hot labels of features standardised by training statistics; penalty 1e-6 .. 1e3 chosen by exact "
        "leave-one-out accuracy on train (1 where a class has one sample)"
    ),
}


@dataclass(frozen=True)
class Protocol:
    """How features are turned into predictions. It learns from all of train, `per_class` labels of each class, or `percent` % of them."""

    probe: Literal["knn", "linear", "logistic", "sgd", "ridge", "attentive"]
    per_class: int | None = None
    k: int = 20
    temperature: float = 0.07
    percent: float | None = None

    @property
    def name(self) -> str:
        """The name that reads back equal, for example 'linear/5-per-class@1'."""
        few = f"{self.per_class}-per-class" if self.per_class else f"{self.percent:g}%" if self.percent else ""
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
        if self.percent:
            how += f"; {self.percent:g} % of the labels of each class, drawn anew for each seed and the same for every model"
        return how

    @property
    def drawn(self) -> bool:
        """Whether the outcome depends on the seed beyond the choice of settings: several seeds then give its spread."""
        return self.per_class is not None or self.percent is not None


@dataclass(frozen=True)
class Published:
    """The linear evaluation of a paper's code, by its name and version: one linear map by descent, its numbers as published.

    rates: base rates for 256 samples a step, scaled by batch / 256; of several heads trained together the best on a held-out fifth of
    train is refitted (DINOv2's code chooses on the validation set). steps: updates in all, or None for `epochs`. norm: a batch norm
    without scale and shift before the map. features: 'pooled'; of a ViT also 'last4', class tokens of the last four blocks, 'mean', the
    class token and the mean patch of the last block, or 'grid', of one and of four blocks with and without that mean, the best on the
    held-out fifth. Networks without blocks give their pooled features.
    cached: on features of the evaluation view, without the random crops and mirrors of the code; then the name says so.
    """

    paper: str
    rates: tuple[float, ...]
    batch: int
    epochs: int = 100
    steps: int | None = None
    optimizer: Literal["sgd", "lars"] = "sgd"
    decay: float = 0.0
    warmup: int = 0  # epochs
    per_epoch: bool = False  # whether the rate changes once an epoch
    norm: bool = False
    nesterov: bool = False
    features: Literal["pooled", "last4", "mean", "grid"] = "pooled"
    version: int = 1
    source: str = ""
    cached: bool = True
    probe: str = "published"

    @property
    def name(self) -> str:
        """For example 'vicreg/linear,cached@1'."""
        return f"{self.paper}/linear{',cached' if self.cached else ''}@{self.version}"

    @property
    def drawn(self) -> bool:
        """All labels are used."""
        return False

    @property
    def text(self) -> str:
        """What is done, for reports."""
        rates = f"base rate {self.rates[0]:g}"
        if len(self.rates) > 1:
            rates = f"{len(self.rates)} heads of base rates {self.rates[0]:g} .. {self.rates[-1]:g}"
        length = f"{self.steps} steps" if self.steps else f"{self.epochs} epochs"
        momentum = f"{self.optimizer}, momentum 0.9{' (Nesterov)' if self.nesterov else ''}"
        return (
            f"linear evaluation of {self.source}: {momentum}, {rates} for 256, batch {self.batch} (or all of a smaller train), {length}, "
            f"weight decay {self.decay:g}, cosine to zero{' by epoch' if self.per_epoch else ''}"
            + (f", {self.warmup} epochs of warm-up" if self.warmup else "")
            + (", batch norm without scale and shift" if self.norm else "")
            + _READS[self.features]
            + ("; on features of the evaluation view, without its random crops and mirrors" if self.cached else "")
        )


_READS = {
    "pooled": "",
    "last4": ", class tokens of the last four blocks",
    "mean": ", class token and mean patch of the last block",
    "grid": ", class tokens of the last block or the last four, with or without the mean patch: four times as many heads",
}
_DINOV2_RATES = (1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1)
_LINEAR = (
    Published("dino", (1e-3,), 1024, per_epoch=True, features="last4", source="DINO, arXiv 2104.14294, ViT-S"),
    Published("dino-base", (1e-3,), 1024, per_epoch=True, features="mean", source="DINO, arXiv 2104.14294, ViT-B"),
    Published(
        "dinov2", _DINOV2_RATES, 1024, steps=12500, features="grid", version=2, source="DINOv2, arXiv 2304.07193"
    ),
    Published("vicreg", (0.3,), 256, decay=1e-6, per_epoch=True, source="VICReg, arXiv 2105.04906"),
    Published("mae", (0.1,), 16384, 90, optimizer="lars", warmup=10, norm=True, source="MAE, arXiv 2111.06377"),
    Published("simclr", (0.1,), 4096, 90, nesterov=True, version=2, source="SimCLR, arXiv 2002.05709"),
)
# Names of papers for what has a name of its own here too.
_SAME = {
    "dino/knn@1": "knn/k=20,t=0.07@1",
    "dinov2/knn@1": "knn/k=20,t=0.07@1",
    "dinov2/logistic@1": "logistic/all@1",
    "instdisc/knn@1": "knn/k=200,t=0.1@1",
}
PUBLISHED = {how.name: how for base in _LINEAR for how in (base, replace(base, cached=False))}
_LATEST = {name.partition("@")[0]: how for name, how in PUBLISHED.items()}

DEFAULT = ("knn/k=20,t=0.07@1", "linear/all@1")


def protocol(name: str | Protocol | Published) -> Protocol | Published:
    """Read a protocol's name; the version may be left out. An old version or a misspelt name says what is known."""
    if isinstance(name, Protocol | Published):
        return name
    stem, _, asked = name.partition("@")
    if stem in _LATEST:
        if asked and name != _LATEST[stem].name:
            raise UnknownNameError(
                f"protocol {name!r} asks for version {asked}, this is version {_LATEST[stem].version}: use {_LATEST[stem].name!r}"
            )
        return _LATEST[stem]
    name = _SAME.get(name if asked else f"{name}@1", name)
    found = re.fullmatch(r"(\w+)/([^@]*?)(?:@(\d+))?", name)
    probe, settings, version = found.groups() if found else ("", "", None)
    read = _read(probe, settings) if probe in _VERSION else None
    if read is None:
        raise UnknownNameError(
            f"no protocol named {name!r}. Known forms: knn/k=20,t=0.07@1, knn/k=5,t=0.07,10-per-class@1, linear/all@1, "
            "linear/5-per-class@1, linear/1%@1, and logistic, sgd, ridge and attentive like linear; of papers: "
            f"{', '.join([*_SAME, *PUBLISHED])}."
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
        few = re.fullmatch(_FEW, settings)
        per_class, percent = _few(few, 1) if few else (None, None)
        return Protocol(probe, per_class, percent=percent) if per_class or percent else None  # type: ignore[arg-type]
    found = re.fullmatch(rf"k=([1-9]\d*),t=(inf|\d+\.?\d*(?:e-?\d+)?)(?:,{_FEW})?", settings)
    if not found or not float(found[2]) > 0:
        return None
    per_class, percent = _few(found, 3)
    if (found[3] or found[4]) and not (per_class or percent):
        return None
    return Protocol("knn", per_class, int(found[1]), float(found[2]), percent)


_FEW = r"(?:([1-9]\d*)-per-class|(\d+\.?\d*)%)"


def _few(found: re.Match[str], first: int) -> tuple[int | None, float | None]:
    """Labels per class or percent of the labels, from two groups of which at most one matched."""
    per_class, percent = found[first], found[first + 1]
    return (int(per_class) if per_class else None), (float(percent) if percent and 0 < float(percent) <= 100 else None)
