"""Joint embedding of images: two views of one image must meet, and the embeddings must stay spread."""

from __future__ import annotations

from tacit.core.recipe import Checks, Recipe
from tacit.core.spec import Spec

_SAMPLES_CIFAR = 50_000


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
    """VICReg for images of about 32 pixels, own or CIFAR: ResNet-18, the CIFAR settings of solo-learn (1,000 epochs of 50,000)."""
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
        data=Spec("source", "digits"),
        views=Spec("views", "pair", first=view),
        optim=Spec("optimizer", "lars", lr=0.3, weight_decay=1e-4, schedule=Spec("schedule", "cosine", warmup=0.01)),
        steps=1000 * (_SAMPLES_CIFAR // 256),
        batch=256,
    )
