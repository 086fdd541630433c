"""What the recipes for the embedded digits share: 16 pixels, a small convolutional network, 300 steps of 128, under a minute on one core.

The pictures have three channels, so that the same recipe runs on coloured ones: `data=glyphs`.
"""

from __future__ import annotations

from tacit.core.recipe import Checks, Recipe
from tacit.core.spec import Spec

STEPS, BATCH, SIZE = 300, 128, 16


VIT = Spec("encoder", "vit", patch=4, width=96, depth=3, heads=3, pooling="mean")


def digits(objective: Spec, projector: Spec, *, optim: Spec | None = None, views: Spec | None = None, kind: str = "joint-embedding",
           encoder: Spec | None = None, clip: float | None = None, **system: object) -> Recipe:  # fmt: skip
    """A small joint embedding of the digits; the steps, the batch and the pictures are those of every method."""
    return Recipe(
        system=Spec(
            "system", kind, encoder=encoder or Spec("encoder", "convnet", widths=(16, 32, 128)),
            projector=projector, objective=objective, **system,
        ),
        data=Spec("source", "digits", channels=3),
        views=views or pair(),
        optim=optim or adamw(),
        steps=STEPS,
        batch=BATCH,
        clip=clip,
        checks=Checks(log_every=10, judge_every=50, save_every=100),
    )  # fmt: skip


def view(**changes: object) -> Spec:
    """A crop of half to all of the area, turned by up to 20 degrees, other colours, noise; not mirrored: a 2 is not an S."""
    base = Spec(
        "view", "image", size=SIZE, scale=(0.5, 1.0), flip=0.0, rotate=20.0,
        jitter=0.8, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.2, grey=0.2, blur=0.0, noise=0.1,
    )  # fmt: skip
    return base.change(**changes)


def pair() -> Spec:
    """Two views alike."""
    return Spec("views", "pair", first=view())


def masked(**settings: object) -> Spec:
    """Two views alike with patches of 4 hidden; small crops of so small pictures show too little to learn from in so short a run."""
    return Spec("views", "masked", first=view(), patch=4, **settings)


def head(prototypes: int) -> Spec:
    """DINO's head, narrow and with batch norms."""
    return Spec("head", "dino", hidden=256, bottleneck=64, prototypes=prototypes, norm="batch")


def adamw(lr: float = 3e-3, weight_decay: float = 1e-4) -> Spec:
    """AdamW with a short warm-up."""
    return Spec(
        "optimizer", "adamw", lr=lr, weight_decay=weight_decay, schedule=Spec("schedule", "cosine", warmup=0.05)
    )
