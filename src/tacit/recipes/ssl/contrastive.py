"""Contrastive methods at about 32 pixels: every view finds its partner among the others."""

from __future__ import annotations

from tacit.core.recipe import Recipe
from tacit.core.spec import Spec
from tacit.recipes._cifar import TWIN, asymmetric, cifar, ema, lars, mlp, sgd, symmetric, weak


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


def supcon() -> Recipe:
    """SupCon (arXiv 2004.11362) for images of about 32 pixels with labels: ResNet-18, the CIFAR settings of solo-learn.

    Aim on CIFAR-10 after 1,000 epochs: 93.82 % online linear top-1 (solo-learn's table, whose loss sums partners inside the logarithm;
    here it is the paper's L_out). The one recipe that reads labels: `system.labels=label` names them.
    """
    objective = Spec("objective", "supcon", temperature=0.1)
    return cifar(objective, mlp(2048, 256), labels="label", views=symmetric(), optim=lars(0.4, 1e-5))
