"""Joint embedding of images: two views of one image must meet, and the embeddings must stay spread."""

from __future__ import annotations

from tacit.core.recipe import Checks, Recipe
from tacit.core.spec import Spec
from tacit.recipes._cifar import TWIN, adamw, asymmetric, cifar, ema, gentle, lars, mlp, pair, sgd, symmetric, weak

_IMAGENET = 1_281_167  # training samples


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
        optim=Spec("optimizer", "adamw", lr=5e-3, weight_decay=1e-4, schedule=Spec("schedule", "cosine", warmup=0.05)),
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
    return cifar(Spec("objective", "vicreg"), mlp(2048, 2048, 2048), views=gentle(), optim=lars(0.3, 1e-4))


def simclr() -> Recipe:
    """SimCLR for images of about 32 pixels, own or CIFAR-10: ResNet-18, the CIFAR settings of solo-learn.

    Aim on CIFAR-10 after 1,000 epochs: 90.74 % online linear top-1 (solo-learn's table).
    """
    objective = Spec("objective", "simclr", temperature=0.2)
    return cifar(objective, mlp(2048, 256), views=symmetric(), optim=lars(0.4, 1e-5))


def dcl() -> Recipe:
    """DCL (arXiv 2110.06848) with the settings of `ssl.simclr`: the positive leaves the denominator.

    No linear CIFAR number for these settings is known to us. lightly reports 84.4 % k-NN on CIFAR-10 (ResNet-18, 200 epochs, batch 128).
    """
    return cifar(Spec("objective", "dcl"), mlp(2048, 256), views=symmetric(), optim=lars(0.4, 1e-5))


def barlow_twins() -> Recipe:
    """Barlow Twins (arXiv 2103.03230) for images of about 32 pixels: ResNet-18, the CIFAR settings of solo-learn.

    Aim on CIFAR-10 after 1,000 epochs: 92.10 % online linear top-1 (solo-learn's table). The loss is scaled by 0.1, as there.
    """
    objective = Spec("objective", "barlow-twins", scale=0.1)
    return cifar(objective, mlp(2048, 2048, 2048), views=asymmetric(), optim=lars(0.3, 1e-4))


def vibcreg() -> Recipe:
    """VIbCReg (arXiv 2109.00783) for images of about 32 pixels: ResNet-18, the CIFAR settings of solo-learn.

    Aim on CIFAR-10 after 1,000 epochs: 91.18 % online linear top-1 (solo-learn's table).
    """
    return cifar(Spec("objective", "vibcreg"), mlp(2048, 2048, 2048), views=gentle(), optim=lars(0.3, 1e-4, clip=False))


def wmse() -> Recipe:
    """W-MSE (arXiv 2007.06346) for images of about 32 pixels: ResNet-18, 64 features whitened 128 samples at a time.

    Aim on CIFAR-10 after 1,000 epochs: 88.67 % online linear top-1 (solo-learn's table, whose default stops the gradient of one view;
    here it flows through both, as in the paper). AdamW stands for Adam.
    """
    views = pair(scale=(0.2, 1.0), brightness=0.8, contrast=0.8, saturation=0.8, hue=0.2)
    return cifar(Spec("objective", "w-mse"), mlp(1024, 64), views=views, optim=adamw(2e-3, 1e-6))


def mmcr() -> Recipe:
    """MMCR (arXiv 2303.03307) with the published projector (8192, 512) and the other settings of `ssl.simclr`.

    No CIFAR number for these settings is known to us.
    """
    return cifar(Spec("objective", "mmcr"), mlp(8192, 512), views=symmetric(), optim=lars(0.4, 1e-5))


def lejepa() -> Recipe:
    """LeJEPA (arXiv 2511.08544) on two views of about 32 pixels: ResNet-18, the published optimiser.

    No CIFAR number for these settings is known to us. stable-pretraining reports 87.1 % linear on Imagenette (ViT-S/16, 200 epochs). The
    published views are two large and six small crops: `views=multi-crop`.
    """
    views = pair(scale=(0.3, 1.0), blur=0.5, solarise=0.2)
    return cifar(Spec("objective", "lejepa"), mlp(2048, 2048, 512), views=views, optim=adamw(5e-4, 5e-4, final=0.001))


def byol() -> Recipe:
    """BYOL (arXiv 2006.07733) for images of about 32 pixels: ResNet-18, the CIFAR settings of solo-learn.

    Aim on CIFAR-10 after 1,000 epochs: 92.58 % online linear top-1 (solo-learn's table).
    """
    return cifar(
        Spec("objective", "byol"), mlp(4096, 256), predictor=mlp(4096, 256), teacher=ema(0.99),
        views=asymmetric(), optim=lars(1.0, 1e-5),
    )  # fmt: skip


def simsiam() -> Recipe:
    """SimSiam (arXiv 2011.10566) for images of about 32 pixels: ResNet-18, the CIFAR settings of solo-learn.

    Aim on CIFAR-10 after 1,000 epochs: 90.51 % online linear top-1 (solo-learn's table). The predictor keeps its peak rate.
    """
    return cifar(
        Spec("objective", "simsiam"), mlp(2048, 2048, 2048, last="fixed-norm"), predictor=mlp(512, 2048, last="bias"),
        predictor_rate="constant", teacher=TWIN, views=weak(), optim=sgd(0.5, 1e-5),
    )  # fmt: skip


def moco_v2() -> Recipe:
    """MoCo v2 (arXiv 2003.04297) in both directions for images of about 32 pixels: ResNet-18, solo-learn's CIFAR settings.

    Aim on CIFAR-10 after 1,000 epochs: 92.94 % online linear top-1 (solo-learn's table, "MoCo v2+").
    """
    return cifar(
        Spec("objective", "moco", temperature=0.2, keys=32768), mlp(2048, 256), teacher=ema(0.99, 0.999),
        views=weak(), optim=sgd(0.3, 1e-4),
    )  # fmt: skip


def moco_v3() -> Recipe:
    """MoCo v3 (arXiv 2104.02057) for images of about 32 pixels: ResNet-18, the CIFAR settings of solo-learn.

    Aim on CIFAR-10 after 1,000 epochs: 93.10 % online linear top-1 (solo-learn's table).
    """
    return cifar(
        Spec("objective", "moco-v3", temperature=0.2), mlp(4096, 256, last="fixed-norm"), predictor=mlp(4096, 256),
        teacher=ema(0.99), views=asymmetric(), optim=lars(0.3, 1e-6),
    )  # fmt: skip


def nnclr() -> Recipe:
    """NNCLR (arXiv 2104.14548) for images of about 32 pixels: ResNet-18, the CIFAR settings of solo-learn.

    Aim on CIFAR-10 after 1,000 epochs: 91.88 % online linear top-1 (solo-learn's table).
    """
    return cifar(
        Spec("objective", "nnclr", temperature=0.2, support=65536), mlp(2048, 2048, 256, last="norm"),
        predictor=mlp(4096, 256), teacher=TWIN, views=asymmetric(), optim=lars(0.4, 1e-5),
    )  # fmt: skip


def dino() -> Recipe:
    """DINO (arXiv 2104.14294) on two views of about 32 pixels: ResNet-18, the CIFAR settings of solo-learn.

    Aim on CIFAR-10 after 1,000 epochs: 89.52 % online linear top-1 (solo-learn's table). The target's temperature rises to 0.07
    over 50 epochs, the prototypes learn from the second epoch on, the gradient is not clipped.
    """
    objective = Spec("objective", "dino", target_temperature=0.07, warmup=50 / 1000)
    return cifar(
        objective, Spec("head", "dino", prototypes=4096, still=1 / 1000), teacher=ema(0.9995),
        views=asymmetric(), optim=lars(0.3, 1e-6),
    )  # fmt: skip


def swav() -> Recipe:
    """SwAV (arXiv 2006.09882) on two views of about 32 pixels: ResNet-18, the CIFAR settings of solo-learn without its queue.

    Aim on CIFAR-10 after 1,000 epochs: 89.17 % online linear top-1 (solo-learn's table, with a queue of 3,840 embeddings). The
    prototypes learn from the third epoch on.
    """
    return cifar(
        Spec("objective", "swav"), Spec("head", "prototypes", widths=(2048, 128), prototypes=3000, still=2 / 1000),
        teacher=TWIN, views=symmetric(), optim=lars(0.6, 1e-6),
    )  # fmt: skip


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
