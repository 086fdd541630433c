"""Masked prediction on images: hide most of a picture and predict its pixels (MAE, SimMIM) or its features (data2vec, I-JEPA).

The digits stand in for data of your own, `data=folder data.path=...`. The small versions, `_digits`, train in a minute or two on one core.
"""

from __future__ import annotations

from collections.abc import Sequence

from tacit.core.recipe import Checks, Recipe
from tacit.core.spec import Spec

_IMAGENET = 1_281_167  # training samples


def mae() -> Recipe:
    """MAE (arXiv 2111.06377) as published for ImageNet: ViT-B/16, 800 epochs at batch 4096.

    Aim: 83.3 % top-1 fine-tuned after 800 epochs, 68.0 % linear after 1,600 (the authors' tables).
    """
    batch = 4096
    return _imagenet(
        Spec(
            "system", "masked-prediction",
            encoder=Spec("encoder", "vit", size="base"),
            predictor=Spec("masked-predictor", "transformer", width=512, depth=8, heads=16),
            target=Spec("target", "pixels"),
            distance="l2",
        ),
        (Spec("mask", "random", ratio=0.75),),
        _crop(scale=(0.2, 1.0), interpolation="bicubic", flip=0.5),
        batch=batch, epochs=800, lr=1.5e-4 * batch / 256, decay=0.05, warm=40, betas=(0.9, 0.95),
    )  # fmt: skip


def simmim() -> Recipe:
    """SimMIM (arXiv 2111.09886) as published for ImageNet: ViT-B/16, 800 epochs at batch 2048.

    Aim: 83.8 % top-1 fine-tuned, 56.7 % linear (the authors' table).
    """
    return _imagenet(
        Spec(
            "system", "masked-prediction",
            encoder=Spec("encoder", "vit", size="base", pooling="mean", class_token=False),
            predictor=Spec("masked-predictor", "linear"),
            target=Spec("target", "pixels", standardise=False),
            hidden="replaced",
            distance="l1",
        ),
        (Spec("mask", "random", ratio=0.6, unit=2),),
        _crop(scale=(0.67, 1.0), flip=0.5),
        batch=2048, epochs=800, lr=4e-4, decay=0.05, warm=20,
    )  # fmt: skip


def data2vec() -> Recipe:
    """data2vec 2 (arXiv 2212.07525) for ImageNet: ViT-B/16, the average of the top ten blocks, 16 masks of each image.

    Aim: 84.5 % top-1 fine-tuned (the authors' table, whose decoder is six convolutions; here it is two attention blocks).
    """
    return _imagenet(
        Spec(
            "system", "masked-prediction",
            encoder=Spec("encoder", "vit", size="base"),
            predictor=Spec("masked-predictor", "transformer", width=384, depth=2, heads=6),
            target=Spec("target", "teacher", momentum=0.9998, final=0.99999, layers=10),
            distance="l2",
        ),
        (Spec("mask", "inverse-block", ratio=0.8),),
        _crop(scale=(0.3, 1.0), interpolation="bicubic", flip=0.5),
        batch=256, epochs=75, lr=1e-3, decay=0.05, warm=10, betas=(0.9, 0.98), copies=16,
    )  # fmt: skip


def ijepa() -> Recipe:
    """I-JEPA (arXiv 2301.08243) as published for ImageNet: ViT-H/14, 300 epochs at batch 2048.

    Aim: 79.3 % linear top-1 (the authors' table). Masks and positions are the published ones, compat='official'.
    """
    encoder = Spec(
        "encoder", "vit", size="huge", patch=14, pooling="mean", class_token=False, init="normal", compat="official"
    )
    predictor = Spec("masked-predictor", "transformer", depth=12, width=384, heads=16, init="normal", compat="official")
    return _imagenet(
        Spec(
            "system", "masked-prediction", encoder=encoder, predictor=predictor, distance="smooth-l1",
            target=Spec("target", "teacher", momentum=0.996, final=1.0),
        ),
        (Spec("mask", "multi-block", compat="official"),),
        _crop(scale=(0.3, 1.0)),
        batch=2048, epochs=300, lr=1e-3, start=2e-4, final=1e-6, decay=0.04, final_decay=0.4, warm=40, patch=14,
        truncate="first",
    )  # fmt: skip


def mae_digits() -> Recipe:
    """MAE on the digits: three of four patches hidden, half a minute on one core."""
    return _digits((Spec("mask", "random", ratio=0.75),), target=Spec("target", "pixels"), distance="l2")


def simmim_digits() -> Recipe:
    """SimMIM on the digits: six of ten patches replaced by a token, half a minute on one core."""
    return _digits(
        (Spec("mask", "random", ratio=0.6),), target=Spec("target", "pixels", standardise=False), distance="l1",
        predictor=Spec("masked-predictor", "linear"), hidden="replaced",
    )  # fmt: skip


def data2vec_digits() -> Recipe:
    """data2vec on the digits: the average of the top two blocks of a teacher, two masks of each image, a minute on one core."""
    target = Spec("target", "teacher", momentum=0.996, final=1.0, layers=2)
    return _digits((Spec("mask", "inverse-block", ratio=0.7),), target=target, distance="l2", copies=2)


def ijepa_digits() -> Recipe:
    """I-JEPA on the digits: four blocks predicted in feature space from the rest of a 4 x 4 grid, a minute on one core."""
    target = Spec("target", "teacher", momentum=0.996, final=1.0)
    masks = (Spec("mask", "multi-block", scale=(0.15, 0.25), min_keep=0),)
    return _digits(masks, target=target, distance="smooth-l1")


def _crop(**changes: object) -> Spec:
    """A crop and perhaps a mirror, no colours: what masked modelling uses."""
    plain = {"jitter": 0.0, "saturation": 0.0, "hue": 0.0, "grey": 0.0, "blur": 0.0, "flip": 0.0}
    return Spec("view", "image", **{"size": 224, **plain, **changes})


def _imagenet(
    system: Spec, masks: Sequence[Spec], view: Spec, *, batch: int, epochs: int, lr: float, decay: float, warm: int,
    start: float = 0.0, final: float = 0.0, final_decay: float | None = None, betas: tuple[float, float] = (0.9, 0.999),
    copies: int = 1, patch: int = 16, truncate: str = "random",
) -> Recipe:  # fmt: skip
    """Rates, warm-up and length in the units of the papers: lr of the whole batch, epochs of ImageNet."""
    schedule = Spec("schedule", "cosine", warmup=warm / epochs, start=start / lr, final=final / lr)
    return Recipe(
        system=system,
        data=Spec("source", "digits", channels=3),
        views=Spec(
            "views", "context-target", view=view, masks=tuple(masks), copies=copies, patch=patch, truncate=truncate
        ),
        optim=Spec(
            "optimizer",
            "adamw",
            lr=lr,
            weight_decay=decay,
            final_weight_decay=final_decay,
            betas=betas,
            schedule=schedule,
        ),
        steps=epochs * (_IMAGENET // batch),
        batch=batch,
        checks=Checks(log_every=50, judge_every=1000, save_every=5000),
    )


def _digits(
    masks: Sequence[Spec], *, target: Spec, distance: str, predictor: Spec | None = None, hidden: str = "dropped", copies: int = 1,
) -> Recipe:  # fmt: skip
    """Digits at 16 pixels. Rotary positions: added ones are longer than the embedding of so few pixels and drown it in the targets."""
    encoder = Spec(
        "encoder", "vit", patch=4, width=64, depth=3, heads=2, mlp_ratio=4.0, pooling="mean", class_token=False,
        positions="rope",
    )  # fmt: skip
    small = Spec("masked-predictor", "transformer", width=32, depth=2, heads=2, positions="rope")
    view = _crop(size=16, scale=(0.6, 1.0))
    return Recipe(
        system=Spec(
            "system", "masked-prediction", encoder=encoder, predictor=predictor or small, target=target,
            hidden=hidden, distance=distance,
        ),
        data=Spec("source", "digits"),
        views=Spec("views", "context-target", view=view, masks=tuple(masks), copies=copies, patch=4),
        optim=Spec("optimizer", "adamw", lr=1e-3, weight_decay=0.05, schedule=Spec("schedule", "cosine", warmup=0.1)),
        steps=800,
        batch=64,
        checks=Checks(log_every=10, judge_every=100, save_every=400),
    )  # fmt: skip
