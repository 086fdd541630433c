"""What the recipes for images of about 32 pixels share: ResNet-18 for 1,000 epochs of CIFAR at batch 256, as in solo-learn."""

from __future__ import annotations

from tacit.core.recipe import Recipe
from tacit.core.spec import Spec

EPOCHS, SHORT, SAMPLES, BATCH = 1000, 200, 50_000, 256
_BY_EPOCHS = ("warmup", "queue_from", "still")  # settings that are shares of the run and are published as epochs


def cifar(
    objective: Spec, projector: Spec, *, views: Spec, optim: Spec, kind: str = "joint-embedding",
    encoder: Spec | None = None, **system: object,
) -> Recipe:  # fmt: skip
    """A system, by default around a ResNet-18 with the 3x3 stem; the digits stand in for data of your own."""
    encoder = encoder or Spec("encoder", "resnet", depth=18, stem="cifar")
    return Recipe(
        system=Spec("system", kind, encoder=encoder, projector=projector, objective=objective, **system),
        data=Spec("source", "digits", channels=3),
        views=views,
        optim=optim,
        steps=EPOCHS * (SAMPLES // BATCH),
        batch=BATCH,
    )


def short(recipe: Recipe) -> Recipe:
    """The same recipe for 200 epochs; what is counted in epochs (warm-up, prototypes at rest, a queue's start) stays as long."""
    parts = {name: _kept_epochs(getattr(recipe, name)) for name in ("system", "optim")}
    return recipe.change(steps=SHORT * (SAMPLES // BATCH), **parts)


def _kept_epochs(spec: Spec) -> Spec:
    changed: dict[str, object] = {}
    for name, value in spec.items():
        if isinstance(value, Spec):
            changed[name] = _kept_epochs(value)
        elif name in _BY_EPOCHS:
            changed[name] = min(1.0, value * EPOCHS / SHORT)
    return spec.change(**changed)


def mlp(*widths: int, **settings: object) -> Spec:
    """A projector or predictor."""
    return Spec("head", "mlp", widths=widths, **settings)


def symmetric() -> Spec:
    """Both views alike with strong colour: SimCLR, SwAV."""
    return Spec("views", "pair", first=view(brightness=0.8, contrast=0.8, saturation=0.8, hue=0.2, blur=0.5))


def weak() -> Spec:
    """Both views alike with weak colour: MoCo v2, SimSiam."""
    return Spec("views", "pair", first=view(saturation=0.4, blur=0.5))


def asymmetric() -> Spec:
    """The second view is solarised now and then, none is blurred: Barlow Twins, BYOL, DINO, MoCo v3, NNCLR."""
    return Spec("views", "pair", first=view(), second=view(solarise=0.2))


def gentle() -> Spec:
    """Both views alike, cropped less, solarised now and then: VICReg, VIbCReg."""
    return Spec("views", "pair", first=view(scale=(0.2, 1.0), solarise=0.1))


def pair(**changes: object) -> Spec:
    """Both views alike, with some settings of the common view changed."""
    return Spec("views", "pair", first=view(**changes))


def masked() -> Spec:
    """Two large views with blocks of 4 x 4 patches hidden, and four small ones."""
    return Spec(
        "views", "masked", patch=4, first=view(scale=(0.32, 1.0)), second=view(scale=(0.32, 1.0), solarise=0.2),
        local=view(size=16, scale=(0.05, 0.32)), locals=4,
    )  # fmt: skip


def view(**changes: object) -> Spec:
    """A crop of 32 pixels with BYOL's colours, without blur."""
    base = Spec(
        "view", "image", size=32, scale=(0.08, 1.0), flip=0.5,
        jitter=0.8, brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1, grey=0.2, blur=0.0, solarise=0.0,
    )  # fmt: skip
    return base.change(**changes)


def lars(lr: float, weight_decay: float, *, clip: bool = True) -> Spec:
    """LARS as in solo-learn on CIFAR: eta 0.02, local rates clipped, ten epochs of warm-up."""
    return Spec(
        "optimizer", "lars", lr=lr, weight_decay=weight_decay, eta=0.02, definition="bolts", clip=clip, schedule=cosine()
    )  # fmt: skip


def sgd(lr: float, weight_decay: float) -> Spec:
    """Gradient descent with momentum 0.9, ten epochs of warm-up."""
    return Spec("optimizer", "sgd", lr=lr, weight_decay=weight_decay, schedule=cosine())


def adamw(lr: float, weight_decay: float, *, final: float = 0.0) -> Spec:
    """AdamW, ten epochs of warm-up."""
    return Spec("optimizer", "adamw", lr=lr, weight_decay=weight_decay, schedule=cosine(final))


def decaying(lr: float) -> Spec:
    """AdamW with DINO's weight decay from 0.04 to 0.4, ten epochs of warm-up."""
    return Spec("optimizer", "adamw", lr=lr, weight_decay=0.04, final_weight_decay=0.4, schedule=cosine(1e-3))


def cosine(final: float = 0.0) -> Spec:
    """Ten epochs of warm-up, then half a cosine."""
    return Spec("schedule", "cosine", warmup=10 / EPOCHS, final=final)


def ema(momentum: float, final: float = 1.0) -> Spec:
    """A teacher that follows slowly."""
    return Spec("teacher", "ema", momentum=momentum, final=final)


TWIN = Spec("teacher", "twin")
VIT = Spec("encoder", "vit", patch=4, width=192, depth=9, heads=3, positions="learned")
