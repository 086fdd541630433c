"""Self-distillation at about 32 pixels: a student follows a teacher that follows it, or itself."""

from __future__ import annotations

from tacit.core.recipe import Recipe
from tacit.core.spec import Spec
from tacit.recipes._cifar import (
    TWIN,
    VIT,
    asymmetric,
    cifar,
    decaying,
    ema,
    lars,
    masked,
    mlp,
    sgd,
    symmetric,
    view,
    weak,
)


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
    """SwAV (arXiv 2006.09882) on two views of about 32 pixels: ResNet-18, the CIFAR settings of solo-learn.

    Aim on CIFAR-10 after 1,000 epochs: 89.17 % online linear top-1 (solo-learn's table). A queue of 3,840 embeddings joins the balance from
    epoch 15 on; the prototypes learn from the third epoch on.
    """
    objective = Spec("objective", "swav", queue=3840, queue_from=15 / 1000)
    return cifar(
        objective, Spec("head", "prototypes", widths=(2048, 128), prototypes=3000, still=2 / 1000),
        teacher=TWIN, views=symmetric(), optim=lars(0.6, 1e-6),
    )  # fmt: skip


def deepcluster() -> Recipe:
    """DeepCluster-v2 (arXiv 2006.09882) on two views of about 32 pixels: ResNet-18, the CIFAR settings of solo-learn.

    Aim on CIFAR-10 after 1,000 epochs: 88.85 % online linear top-1 (solo-learn's table). Three clusterings into 3,000, made anew after
    every epoch; for other data set system.objective.memory to their number of samples.
    """
    objective = Spec("objective", "deepcluster", prototypes=(3000, 3000, 3000), memory=195 * 256)
    return cifar(objective, mlp(2048, 128, last="bias"), teacher=TWIN, views=symmetric(), optim=lars(0.6, 1e-6))


def msn() -> Recipe:
    """MSN (arXiv 2204.07141) on 32 pixels with patches of 4: a small ViT, one masked anchor and four small crops.

    No CIFAR number for these settings is known to us. The published ones are those of `ssl.msn_imagenet`.
    """
    views = Spec(
        "views", "masked", patch=4, masks="scattered", ratio=(0.15, 0.15), first=view(scale=(0.3, 1.0), saturation=0.4),
        local=view(size=16, scale=(0.05, 0.3), saturation=0.4), locals=4,
    )  # fmt: skip
    head = Spec("head", "dino", hidden=2048, bottleneck=256, prototypes=1024, norm="batch")
    recipe = cifar(
        Spec("objective", "msn", balance="sinkhorn"), head, teacher=ema(0.996), views=views, optim=decaying(1e-3),
        encoder=VIT,
    )  # fmt: skip
    return recipe.change(clip=3.0)


def ibot() -> Recipe:
    """iBOT (arXiv 2111.07832) on 32 pixels with patches of 4: a small ViT, one head for images and patches.

    No CIFAR number for these settings is known to us. The published ones are those of `ssl.ibot_imagenet`.
    """
    objective = Spec("objective", "dino", target_temperature=0.07, warmup=30 / 1000)
    head = Spec("head", "dino", prototypes=4096, gain="trained", still=1 / 1000)
    recipe = cifar(
        objective, head, kind="self-distillation", patch_objective=objective, teacher=ema(0.996), views=masked(),
        optim=decaying(5e-4), encoder=VIT,
    )  # fmt: skip
    return recipe.change(clip=3.0)


def dinov2() -> Recipe:
    """DINOv2's combination (arXiv 2304.07193) on 32 pixels with patches of 4: iBOT with a head of its own, KoLeo and Sinkhorn-Knopp.

    No CIFAR number for these settings is known to us. The published ones are those of `ssl.dinov2_imagenet`.
    """
    objective = Spec("objective", "dino", target_temperature=0.07, warmup=0.3, balance="sinkhorn")
    head = Spec("head", "dino", prototypes=4096, gain="trained", still=0.01)
    recipe = cifar(
        objective, head, kind="self-distillation", patch_projector=head, patch_objective=objective, teacher=ema(0.992),
        spread=0.1, views=masked(), optim=decaying(5e-4), encoder=VIT,
    )  # fmt: skip
    return recipe.change(clip=3.0)
