"""Canonical correlation and information at about 32 pixels: embeddings kept spread without contrasting samples."""

from __future__ import annotations

from tacit.core.recipe import Recipe
from tacit.core.spec import Spec
from tacit.recipes._cifar import adamw, asymmetric, cifar, gentle, lars, mlp, pair, symmetric


def vicreg() -> Recipe:
    """VICReg for images of about 32 pixels, own or CIFAR-10: ResNet-18, the CIFAR settings of solo-learn.

    Aim on CIFAR-10 after 1,000 epochs: 92.07 % online linear top-1 (solo-learn's table). The digits stand in for data of
    your own: `data=cifar data.path=...` or `data=folder data.path=...`.
    """
    return cifar(Spec("objective", "vicreg"), mlp(2048, 2048, 2048), views=gentle(), optim=lars(0.3, 1e-4))


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


def vicregl() -> Recipe:
    """VICRegL (arXiv 2210.01571) for images of about 32 pixels: `ssl.vicreg` and as much for the cells of the 4 x 4 maps.

    No CIFAR number for these settings is known to us. The published ones are those of `ssl.vicregl_imagenet`.
    """
    objective = Spec("objective", "vicreg", covariance=0.5)
    return cifar(
        objective, mlp(2048, 2048, 2048), kind="dense-embedding", local_projector=mlp(512, 512, 512),
        local_objective=objective, alpha=0.75, matches=(8, 4), views=gentle(), optim=lars(0.3, 1e-4),
    )  # fmt: skip
