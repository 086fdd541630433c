"""Joint embedding of images: two views of one image must meet, and the embeddings must stay spread."""

from __future__ import annotations

from tacit.core.recipe import Checks, Recipe
from tacit.core.spec import Spec

_CIFAR, _IMAGENET = 50_000, 1_281_167  # training samples


def vicreg_digits() -> Recipe:
    """VICReg on the 1,797 handwritten digits of scikit-learn, a minute on two cores: what `tacit demo` trains."""
    view = Spec(
        "view", "image", size=16, scale=(0.5, 1.0), flip=0.0, rotate=20.0,
        jitter=1.0, brightness=0.4, contrast=0.4, saturation=0.0, hue=0.0, grey=0.0, blur=0.0, noise=0.1,
    )  # fmt: skip
    return Recipe(
        system=Spec(
            "system",
            "joint-embedding",
            encoder=Spec("encoder", "convnet", widths=(32, 64, 128)),
            projector=Spec("head", "mlp", widths=(512, 512, 512)),
            objective=Spec("objective", "vicreg"),
        ),
        data=Spec("source", "digits"),
        views=Spec("views", "pair", first=view),
        optim=Spec("optimizer", "adamw", lr=2e-3, weight_decay=1e-4, schedule=Spec("schedule", "cosine", warmup=0.05)),
        steps=400,
        batch=256,
        checks=Checks(log_every=10, judge_every=20, save_every=200),
    )


def simclr_digits() -> Recipe:
    """SimCLR on the digits: the same views, encoder and steps as `ssl.vicreg_digits`, temperature 0.2."""
    base = vicreg_digits()
    return base.change(
        system=base.system.change(
            projector=Spec("head", "mlp", widths=(512, 128)),
            objective=Spec("objective", "simclr", temperature=0.2),
        )
    )


def vicreg() -> Recipe:
    """VICReg for images of about 32 pixels, own or CIFAR-10: ResNet-18, the CIFAR settings of solo-learn.

    Aim on CIFAR-10 after 1,000 epochs: 92.07 % online linear top-1 (solo-learn's table). The digits stand in for data of
    your own: `data=cifar data.path=...` or `data=folder data.path=...`.
    """
    view = Spec(
        "view", "image", size=32, scale=(0.2, 1.0), flip=0.5,
        jitter=0.8, brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1, grey=0.2, blur=0.0, solarise=0.1,
    )  # fmt: skip
    return Recipe(
        system=Spec(
            "system",
            "joint-embedding",
            encoder=Spec("encoder", "resnet", depth=18, stem="cifar"),
            projector=Spec("head", "mlp", widths=(2048, 2048, 2048)),
            objective=Spec("objective", "vicreg"),
        ),
        data=Spec("source", "digits", channels=3),
        views=Spec("views", "pair", first=view),
        optim=_lars(0.3, 1e-4, clip=True),
        steps=1000 * (_CIFAR // 256),
        batch=256,
    )


def simclr() -> Recipe:
    """SimCLR for images of about 32 pixels, own or CIFAR-10: ResNet-18, the CIFAR settings of solo-learn.

    Aim on CIFAR-10 after 1,000 epochs: 90.74 % online linear top-1 (solo-learn's table).
    """
    view = Spec(
        "view", "image", size=32, scale=(0.08, 1.0), flip=0.5,
        jitter=0.8, brightness=0.8, contrast=0.8, saturation=0.8, hue=0.2, grey=0.2, blur=0.5, solarise=0.0,
    )  # fmt: skip
    base = vicreg()
    return base.change(
        system=base.system.change(
            projector=Spec("head", "mlp", widths=(2048, 256)), objective=Spec("objective", "simclr", temperature=0.2)
        ),
        views=Spec("views", "pair", first=view),
        optim=_lars(0.4, 1e-5, clip=True),
    )


def vicreg_imagenet() -> Recipe:
    """VICReg as published for ImageNet (arXiv 2105.04906): ResNet-50, 1,000 epochs at batch 2048.

    Aim: 73.2 % linear top-1, 91.1 % top-5. `data=folder data.path=ILSVRC2012`, and `--devices` or several machines.
    """
    first = Spec(
        "view", "image", size=224, scale=(0.08, 1.0), interpolation="bicubic", flip=0.5,
        jitter=0.8, brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1, grey=0.2, blur=1.0, solarise=0.0,
    )  # fmt: skip
    return Recipe(
        system=Spec(
            "system",
            "joint-embedding",
            encoder=Spec("encoder", "resnet", depth=50, stem="imagenet"),
            projector=Spec("head", "mlp", widths=(8192, 8192, 8192)),
            objective=Spec("objective", "vicreg"),
        ),
        data=Spec("source", "digits", channels=3),
        views=Spec("views", "pair", first=first, second=first.change(blur=0.1, solarise=0.2)),
        optim=Spec(
            "optimizer",
            "lars",
            lr=_scaled(0.2, 2048),
            weight_decay=1e-6,
            definition="vicreg",
            schedule=Spec("schedule", "cosine", warmup=0.01, final=0.001),
        ),
        steps=1000 * (_IMAGENET // 2048),
        batch=2048,
    )


def simclr_imagenet() -> Recipe:
    """SimCLR as published for ImageNet (arXiv 2002.05709): ResNet-50, 1,000 epochs at batch 4096, temperature 0.1.

    Aim: 69.3 % linear top-1.
    """
    view = Spec(
        "view", "image", size=224, scale=(0.08, 1.0), interpolation="bicubic", flip=0.5,
        jitter=0.8, brightness=0.8, contrast=0.8, saturation=0.8, hue=0.2, grey=0.2, blur=0.5, solarise=0.0,
    )  # fmt: skip
    return Recipe(
        system=Spec(
            "system",
            "joint-embedding",
            encoder=Spec("encoder", "resnet", depth=50, stem="imagenet"),
            projector=Spec("head", "mlp", widths=(2048, 128)),
            objective=Spec("objective", "simclr", temperature=0.1),
        ),
        data=Spec("source", "digits", channels=3),
        views=Spec("views", "pair", first=view),
        optim=Spec(
            "optimizer",
            "lars",
            lr=_scaled(0.3, 4096),
            weight_decay=1e-6,
            definition="vicreg",
            schedule=Spec("schedule", "cosine", warmup=0.01),
        ),
        steps=1000 * (_IMAGENET // 4096),
        batch=4096,
    )


def _scaled(base: float, batch: int) -> float:
    """The linear rule of learning rates: base * batch / 256."""
    return base * batch / 256


def _lars(lr: float, weight_decay: float, *, clip: bool) -> Spec:
    """LARS as in solo-learn on CIFAR: eta 0.02, local rates clipped, ten epochs of warm-up."""
    schedule = Spec("schedule", "cosine", warmup=0.01)
    return Spec(
        "optimizer",
        "lars",
        lr=lr,
        weight_decay=weight_decay,
        eta=0.02,
        definition="bolts",
        clip=clip,
        schedule=schedule,
    )
