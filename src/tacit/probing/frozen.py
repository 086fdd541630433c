"""Evaluations of frozen video encoders as V-JEPA and V-JEPA 2 publish them: named, versioned values.

    vjepa2/16x2x3,step=4@1      16 frames, 2 segments of each video, 3 spatial views; 20 probes of four blocks trained at once
    vjepa/16x8x3,step=4@1       the same with V-JEPA's one probe of one block
    vjepa2/32x4x3,step=2,taps@1 tokens of four blocks of the encoder, 3 probes, 100 epochs (Diving48, Jester)
    vjepa2/image-16@1           images that stand still for 16 frames
    vjepa2/anticipation,start@1 EPIC-KITCHENS-100: which action comes one second later

Behind a comma: step=, fps=; epochs=, batch= change the length of the training; streamed: crops anew in each epoch instead of tokens kept
from the evaluation view; best: the best head on the test set, as published, where the rule is to choose it on held-out training videos.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from itertools import product
from typing import Literal

from tacit.core.errors import UnknownNameError
from tacit.models.attentive_grid import DECAYS, RATES

__all__ = ["Frozen", "frozen", "is_frozen"]

_PAPERS = ("vjepa", "vjepa2")
_IMAGE_PAIRS = (*product((5e-4, 1e-3, 1.5e-3, 2e-3), (5e-4, 1e-3, 2e-3, 4e-3, 8e-3)), (1e-3, 1e-3))
_FORMS = (
    "vjepa/16x8x3,step=4@1, vjepa2/16x2x3,step=4@1 (frames x segments x views), vjepa2/32x4x3,step=2,taps@1, vjepa/image-16@1, "
    "vjepa2/image-16@1, vjepa2/anticipation,start@1, vjepa2/anticipation,official@1; behind commas also fps=, epochs=, batch=, "
    "streamed, best"
)


@dataclass(frozen=True)
class Frozen:
    """One evaluation. pairs: rate and decay of each head trained at once. `anchor`: where a second of anticipation counts from."""

    paper: Literal["vjepa", "vjepa2"]
    task: Literal["video", "image", "anticipation"]
    frames: int
    segments: int = 1
    views: int = 1
    step: int | None = None
    fps: float | None = None
    taps: bool = False
    streamed: bool = False
    best: bool = False
    epochs: int = 20
    batch: int = 256
    anchor: Literal["start", "official"] = "start"

    @property
    def depth(self) -> int:
        """Blocks of a probe."""
        return 1 if self.paper == "vjepa" else 4

    @property
    def pairs(self) -> tuple[tuple[float, float], ...]:
        """Rate and weight decay of every head."""
        if self.paper == "vjepa":
            return ((1e-3, 0.001 if self.task == "image" else 0.01),)
        if self.task == "image":
            return _IMAGE_PAIRS
        if self.taps:
            return tuple((rate, 0.8) for rate in (1e-3, 3e-4, 1e-4))
        if self.task == "anticipation":
            return tuple(product(RATES, (1e-4, 1e-3, 1e-2, 1e-1)))
        return tuple(product(RATES, DECAYS))

    def rates(self, progress: float) -> list[float]:
        """The rates at a share of the training: half a cosine to 0, for images of V-JEPA 2 behind 5 epochs of warm-up from 2e-4."""
        warm = 5 / self.epochs if self.task == "image" and self.paper == "vjepa2" and self.epochs > 5 else 0.0
        if progress < warm:
            return [2e-4 + progress / warm * (rate - 2e-4) for rate, _ in self.pairs]
        return [rate * (1 + math.cos(math.pi * (progress - warm) / (1 - warm))) / 2 for rate, _ in self.pairs]

    def decays(self, progress: float) -> list[float]:
        """The weight decays: constant, but on half a cosine to 1e-6 for V-JEPA's probe and to 0 for the last of V-JEPA 2's on images."""
        share = (1 + math.cos(math.pi * progress)) / 2
        found = [decay for _, decay in self.pairs]
        if self.paper == "vjepa":
            return [1e-6 + share * (decay - 1e-6) for decay in found]
        if self.task == "image":
            found[-1] *= share
        return found

    @property
    def clip(self) -> float | None:
        """The largest norm of a head's gradient; V-JEPA 2 clips none."""
        return 1.0 if self.paper == "vjepa" else None

    @property
    def name(self) -> str:
        """The name that reads back equal."""
        plain = _plain(self.paper, self.task, self.taps)
        parts = {
            "video": f"{self.frames}x{self.segments}x{self.views}", "image": f"image-{self.frames}",
            "anticipation": f"anticipation,{self.anchor}",
        }[self.task]  # fmt: skip
        said = [f"step={self.step}"] if self.step is not None else []
        said += [f"fps={self.fps:g}"] if self.fps is not None else []
        said += [word for word in ("taps", "streamed", "best") if getattr(self, word)]
        said += [
            f"{word}={getattr(self, word)}"
            for word in ("epochs", "batch")
            if getattr(self, word) != getattr(plain, word)
        ]
        return f"{self.paper}/{','.join([parts, *said])}@1"

    @property
    def text(self) -> str:
        """What is done, for reports."""
        what = {
            "video": f"{self.segments} clips of {self.frames} frames a video, whose tokens stand side by side, {self.views} spatial views, "
            "softmax averaged over views",
            "image": f"images as clips of {self.frames} frames that are all the same",
            "anticipation": f"the next action of EPIC-KITCHENS-100 from {self.frames} frames at 8 a second that end 1 s before "
            + (
                "it starts"
                if self.anchor == "start"
                else "its stop (the released code; its paper says: before the start)"
            ),
        }[self.task]
        blocks = f"{self.depth} block{'s' if self.depth > 1 else ''}"
        heads = f"{len(self.pairs)} attentive probes of {blocks} trained at once on the frozen tokens"
        crops = "random crops anew each epoch" if self.streamed else "tokens of the central view, kept"
        chosen = (
            "the best on the test set is reported"
            if self.best
            else "the best on a held-out fifth of train is trained anew on all"
        )
        if len(self.pairs) == 1:
            chosen = "its one setting as published"
        return (
            f"{what}; {heads} by AdamW, {self.epochs} epochs, batch {self.batch} (or all of a smaller train), cosine to zero; {crops}, "
            f"without RandAugment and erasing; {chosen}"
        )

    @property
    def drawn(self) -> bool:
        """All labels are used."""
        return False


def _plain(paper: str, task: str, taps: bool) -> Frozen:
    """The published numbers of a task."""
    frames = 32 if task == "anticipation" else 16
    one = Frozen(paper, task, frames, taps=taps)  # type: ignore[arg-type]
    if taps:
        return replace(one, epochs=100, batch=128)
    return replace(one, batch={"video": 256, "image": 1024, "anticipation": 128}[task])


def is_frozen(name: object) -> bool:
    """Whether a protocol's name is meant to be one of these."""
    return isinstance(name, Frozen) or (isinstance(name, str) and name.partition("/")[0] in _PAPERS)


def frozen(name: str | Frozen) -> Frozen:
    """Read a protocol's name; the version may be left out."""
    if isinstance(name, Frozen):
        return name
    found = re.fullmatch(r"(vjepa2?)/(?:(\d+)x(\d+)x(\d+)|image-(\d+)|(anticipation))((?:,[^,@]+)*)(?:@1)?", name)
    if found is None:
        raise UnknownNameError(f"no protocol named {name!r}. Known forms: {_FORMS}.")
    paper, frames, segments, views, still, _, rest = found.groups()
    task = "video" if frames else "image" if still else "anticipation"
    words = rest.split(",")[1:]
    made = _plain(paper, task, "taps" in words)
    made = replace(made, frames=int(frames or still or made.frames), segments=int(segments or 1), views=int(views or 1))
    for word in words:
        key, _, value = word.partition("=")
        number = value if re.fullmatch(r"[1-9]\d*", value) else ""
        if word in ("taps", "streamed", "best"):
            made = replace(made, **{word: True})  # type: ignore[arg-type]
        elif task == "anticipation" and word in ("start", "official"):
            made = replace(made, anchor=word)  # type: ignore[arg-type]
        elif key in ("step", "epochs", "batch") and number:
            made = replace(made, **{key: int(number)})  # type: ignore[arg-type]
        elif key == "fps" and re.fullmatch(r"\d+\.?\d*", value) and float(value) > 0:
            made = replace(made, fps=float(value))
        else:
            raise UnknownNameError(f"protocol {name!r}: {word!r} says nothing here. Known forms: {_FORMS}.")
    wrong = "step and fps both say how far apart frames are" if made.step and made.fps else ""
    wrong = wrong or (f"{made.views} views; there may be 1 or 3" if made.views not in (1, 3) else "")
    wrong = wrong or (
        "V-JEPA has no taps, and anticipation takes the last layer"
        if made.taps and (paper == "vjepa" or task != "video")
        else ""
    )
    wrong = wrong or ("anticipation is V-JEPA 2's" if task == "anticipation" and paper == "vjepa" else "")
    if wrong:
        raise UnknownNameError(f"protocol {name!r}: {wrong}. Known forms: {_FORMS}.")
    return made
