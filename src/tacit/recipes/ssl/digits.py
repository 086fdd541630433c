"""Every method on the embedded digits, at most a minute on one core: that it trains and helps, not what it reaches on photographs.

`data=glyphs` runs the same on coloured letters that the package draws.
"""

from __future__ import annotations

from tacit.core.recipe import Checks, Recipe
from tacit.core.spec import Spec
from tacit.recipes._cifar import TWIN, ema, mlp
from tacit.recipes._digits import BATCH, VIT, digits, head, masked


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


def supcon_digits() -> Recipe:
    """SupCon on the digits, with their labels."""
    return digits(Spec("objective", "supcon", temperature=0.1), mlp(256, 128), labels="label")


def dcl_digits() -> Recipe:
    """DCL on the digits, temperature 0.2."""
    return digits(Spec("objective", "dcl", temperature=0.2), mlp(256, 128))


def moco_v2_digits() -> Recipe:
    """MoCo v2 on the digits: 1,024 keys, a teacher of momentum 0.99."""
    return digits(Spec("objective", "moco", temperature=0.2, keys=1024), mlp(256, 128), teacher=ema(0.99, 0.999))


def moco_v3_digits() -> Recipe:
    """MoCo v3 on the digits, temperature 0.2."""
    objective = Spec("objective", "moco-v3", temperature=0.2)
    return digits(objective, mlp(256, 128, last="fixed-norm"), predictor=mlp(256, 128), teacher=ema(0.99))


def nnclr_digits() -> Recipe:
    """NNCLR on the digits: 1,024 earlier embeddings."""
    objective = Spec("objective", "nnclr", temperature=0.2, support=1024)
    return digits(objective, mlp(256, 128, last="norm"), predictor=mlp(256, 128), teacher=TWIN)


def byol_digits() -> Recipe:
    """BYOL on the digits: a teacher of momentum 0.98, the best of four on held-out training digits."""
    return digits(Spec("objective", "byol"), mlp(256, 128), predictor=mlp(256, 128), teacher=ema(0.98))


def simsiam_digits() -> Recipe:
    """SimSiam on the digits."""
    return digits(
        Spec("objective", "simsiam"), mlp(512, 512, 512, last="fixed-norm"), predictor=mlp(64, 512, last="bias"),
        predictor_rate="constant", teacher=TWIN,
    )  # fmt: skip


def dino_digits() -> Recipe:
    """DINO on the digits: 128 prototypes, batch norms in the head, which keep a short run from settling on one direction.

    The target's temperature is 0.01, the best of four on held-out training digits; the published 0.04 belongs to long runs.
    """
    return digits(Spec("objective", "dino", target_temperature=0.01), head(128), teacher=ema(0.99))


def msn_digits() -> Recipe:
    """MSN's criterion on the digits, without its masks: 64 prototypes, targets at temperature 0.02.

    So short a run learns nothing from masked patches of 4 x 4: a small ViT falls below its untrained self. The masks are in `ssl.msn`.
    """
    objective = Spec("objective", "msn", balance="sinkhorn", sharpening=0.2)
    return digits(objective, head(64), teacher=ema(0.99))


def swav_digits() -> Recipe:
    """SwAV on the digits: 64 prototypes, still for a tenth of the run, a queue of 512 embeddings from a third of it on.

    The codes' temperature is 0.02: at the published 0.05 the codes of few samples are no sharper than what is predicted of them, the
    prediction becomes uniform (loss log 64) and the embedding shrinks below the untrained one.
    """
    objective = Spec("objective", "swav", code_temperature=0.02, queue=512, queue_from=1 / 3)
    return digits(objective, Spec("head", "prototypes", widths=(256, 128), prototypes=64, still=0.1), teacher=TWIN)


def deepcluster_digits() -> Recipe:
    """DeepCluster-v2 on the digits: three clusterings into 64, made anew after every epoch."""
    objective = Spec("objective", "deepcluster", prototypes=(64, 64, 64), memory=11 * BATCH)
    return digits(objective, mlp(256, 128, last="bias"), teacher=TWIN)


def ibot_digits() -> Recipe:
    """iBOT on the digits: a small ViT, one head for images and patches, targets at temperature 0.02, momentum 0.99."""
    objective = Spec("objective", "dino", target_temperature=0.02)
    return digits(
        objective, head(128), kind="self-distillation", encoder=VIT, patch_objective=objective, teacher=ema(0.99), views=masked()
    )  # fmt: skip


def dinov2_digits() -> Recipe:
    """DINOv2's combination on the digits: a small ViT, heads of their own, KoLeo, Sinkhorn-Knopp at temperature 0.02."""
    objective = Spec("objective", "dino", target_temperature=0.02, balance="sinkhorn")
    return digits(
        objective, head(128), kind="self-distillation", encoder=VIT, patch_projector=head(128), patch_objective=objective,
        teacher=ema(0.97), views=masked(), spread=0.1,
    )  # fmt: skip


def vicregl_digits() -> Recipe:
    """VICRegL on the digits: the cells of the 4 x 4 maps, eight matches."""
    objective = Spec("objective", "vicreg", covariance=0.5)
    return digits(
        objective, mlp(256, 256, 256), kind="dense-embedding", local_projector=mlp(128, 128), local_objective=objective,
        matches=(8, 4),
    )  # fmt: skip


def barlow_twins_digits() -> Recipe:
    """Barlow Twins on the digits."""
    return digits(Spec("objective", "barlow-twins", scale=0.1), mlp(256, 256, 256))


def vibcreg_digits() -> Recipe:
    """VIbCReg on the digits."""
    return digits(Spec("objective", "vibcreg"), mlp(256, 256, 256))


def wmse_digits() -> Recipe:
    """W-MSE on the digits: 64 features whitened 128 samples at a time."""
    return digits(Spec("objective", "w-mse"), mlp(256, 64))


def mmcr_digits() -> Recipe:
    """MMCR on the digits."""
    return digits(Spec("objective", "mmcr"), mlp(256, 128))


def lejepa_digits() -> Recipe:
    """LeJEPA on the digits."""
    return digits(Spec("objective", "lejepa"), mlp(256, 256, 64))


def tico_digits() -> Recipe:
    """TiCo on the digits."""
    return digits(Spec("objective", "tico"), mlp(256, 128), teacher=ema(0.99))


def emp_digits() -> Recipe:
    """EMP-SSL's criterion on two views of the digits."""
    return digits(Spec("objective", "emp"), mlp(256, 128))


def frossl_digits() -> Recipe:
    """FroSSL on the digits."""
    return digits(Spec("objective", "frossl"), mlp(256, 128))


def visreg_digits() -> Recipe:
    """VISReg on the digits."""
    return digits(Spec("objective", "visreg"), mlp(256, 256, 64))


def spectral_contrastive_digits() -> Recipe:
    """The spectral contrastive loss on the digits."""
    return digits(Spec("objective", "spectral-contrastive"), mlp(256, 128))


def alignment_uniformity_digits() -> Recipe:
    """Alignment and uniformity on the digits."""
    return digits(Spec("objective", "alignment-uniformity"), mlp(256, 128))
