"""What the recipes for ImageNet share: its size, ViTs, and views with the published probabilities."""

from __future__ import annotations

from tacit.core.recipe import Recipe
from tacit.core.spec import Spec

SAMPLES = 1_281_167


def imagenet(system: Spec, *, views: Spec, optim: Spec, epochs: float, batch: int, clip: float | None = None) -> Recipe:
    """A run of so many epochs; the digits stand in for ImageNet: `data=folder data.path=ILSVRC2012`."""
    steps = round(epochs * (SAMPLES // batch))
    data = Spec("source", "digits", channels=3)
    return Recipe(system=system, data=data, views=views, optim=optim, steps=steps, batch=batch, clip=clip)


def view(size: int, scale: tuple[float, float], **changes: object) -> Spec:
    """A bicubic crop with BYOL's colours: jitter 0.8 of 0.4, 0.4, 0.2, 0.1, grey 0.2, mirrored half of the time."""
    base = Spec(
        "view", "image", size=size, scale=scale, interpolation="bicubic", flip=0.5,
        jitter=0.8, brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1, grey=0.2, blur=0.0, solarise=0.0,
    )  # fmt: skip
    return base.change(**changes)


def asymmetric(scale: tuple[float, float] = (0.08, 1.0)) -> Spec:
    """The pair of BYOL, Barlow Twins and MoCo v3: one view always blurred, the other a tenth of the time, and solarised a fifth."""
    first = view(224, scale, blur=1.0)
    return Spec("views", "pair", first=first, second=first.change(blur=0.1, solarise=0.2))


def weak() -> Spec:
    """Both views alike as in MoCo v2 and SimSiam: a fifth of the area or more, strong saturation, blurred half of the time."""
    return Spec("views", "pair", first=view(224, (0.2, 1.0), interpolation="bilinear", saturation=0.4, blur=0.5))


def swav_crops() -> Spec:
    """Two crops of 224 and six of 96 with SimCLR's colours: SwAV, DeepCluster-v2."""
    colours = {"brightness": 0.8, "contrast": 0.8, "saturation": 0.8, "hue": 0.2, "blur": 0.5}
    first, small = view(224, (0.14, 1.0), **colours), view(96, (0.05, 0.14), **colours)
    return Spec("views", "multi-crop", first=first, local=small, locals=6)


def crops(large: tuple[float, float], small: tuple[float, float], count: int) -> dict[str, object]:
    """The large and small crops of DINO and what follows it: 224 and 96 pixels, blur 1.0, 0.1 and 0.5, the second solarised a fifth."""
    return {
        "first": view(224, large, blur=1.0),
        "second": view(224, large, blur=0.1, solarise=0.2),
        "local": view(96, small, blur=0.5),
        "locals": count,
    }


def adamw(lr: float, *, warmup: float, start: float = 0.0, final: float) -> Spec:
    """AdamW as for DINO's ViTs: weight decay from 0.04 to 0.4."""
    schedule = Spec("schedule", "cosine", warmup=warmup, start=start, final=final)
    return Spec("optimizer", "adamw", lr=lr, weight_decay=0.04, final_weight_decay=0.4, schedule=schedule)


def lars(
    lr: float, weight_decay: float, *, warmup: float, start: float = 0.0, final: float = 0.0, **settings: object
) -> Spec:
    """LARS as in the codes of VICReg and SwAV."""
    schedule = Spec("schedule", "cosine", warmup=warmup, start=start, final=final)
    return Spec(
        "optimizer", "lars", lr=lr, weight_decay=weight_decay, definition="vicreg", schedule=schedule, **settings
    )


def sgd(lr: float, weight_decay: float) -> Spec:
    """Gradient descent with momentum 0.9 and half a cosine to zero, without warm-up."""
    schedule = Spec("schedule", "cosine", warmup=0.0)
    return Spec("optimizer", "sgd", lr=lr, weight_decay=weight_decay, schedule=schedule)


def resnet() -> Spec:
    """ResNet-50."""
    return Spec("encoder", "resnet", depth=50, stem="imagenet")


def vit(**changes: object) -> Spec:
    """ViT-S/16 with learned positions, which small crops resample."""
    return Spec("encoder", "vit", **{"size": "small", "patch": 16, "positions": "learned", **changes})
