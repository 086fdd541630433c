"""World models: encode, roll forward under actions, keep the states spread; then plan in them."""

from __future__ import annotations

from tacit.core.recipe import Checks, Recipe
from tacit.core.spec import Spec
from tacit.recipes.latents import noisy

_CLIPS = 100_000  # an epoch of EB-JEPA's Two Rooms


def two_rooms() -> Recipe:
    """EB-JEPA's action-conditioned world model on Two Rooms (arXiv 2602.03604): IMPALA encoder, GRU, 12 epochs of 100,000 new clips.

    Aim: 97 % success on random layouts with MPPI, 96 % with CEM, 98 % on a fixed wall (20 episodes, criterion eb-jepa); without the
    variance term 47 %, covariance 46 %, time similarity 61 %, inverse dynamics 1 %. 20 million frames: for a GPU, or two to three
    hours of two cores with matrix units for bf16 and `data.frames=9`, which reached 95 % (89 to 98) over 100 episodes planned with
    `horizon=50`, and on the fixed wall (`data.layout=eb-jepa`) 100 % (98 to 100) over 200.
    The public code clips the gradients of encoder and predictor apart, here their joint norm is clipped.
    """
    return Recipe(
        system=Spec(
            "system",
            "world-model",
            encoder=Spec("encoder", "impala"),
            predictor=Spec("dynamics", "gru"),
            regulariser=Spec("regulariser", "vc", variance=16.0, covariance=8.0),
            inverse=Spec("inverse", "mlp"),
            steps=8,
            similarity=12.0,
            inverse_weight=1.0,
        ),
        data=Spec("source", "rooms", count=_CLIPS, fresh=True),
        views=Spec("views", "rooms"),
        optim=Spec(
            "optimizer", "adamw", lr=1e-3, weight_decay=1e-5,
            schedule=Spec("schedule", "cosine", warmup=0.1, start=1e-8, final=0.01),
        ),
        steps=12 * (_CLIPS // 384),
        batch=384,
        clip=2.0,
    )  # fmt: skip


def two_rooms_small() -> Recipe:
    """Two Rooms on a laptop: EB-JEPA's fixed wall (column 32, door at row 18), a perceptron in place of IMPALA, pictures of 32 x 32.

    Aim for the full model: 98 % success on this wall (20 episodes, criterion eb-jepa); the straight line to the goal reaches 38 %. This
    recipe reached 98 % (93 to 99) over 100 episodes, after three to four minutes of training. 128 features, windows of 9 frames. Inverse
    dynamics weigh 2, the other end of the published sweep.
    """
    base = two_rooms()
    return base.change(
        system=base.system.change(
            encoder=Spec("encoder", "perceptron", hidden=(512, 512), width=128), inverse_weight=2.0
        ),
        data=Spec("source", "rooms", count=20_000, frames=9, layout="eb-jepa"),
        views=Spec("views", "rooms", shrink=2),
        optim=base.optim.change(schedule=Spec("schedule", "cosine", warmup=0.05, final=0.01)),
        steps=2000,
        batch=128,
        checks=Checks(log_every=50, judge_every=1000, save_every=250, keep=10),
    )


def two_rooms_small_random() -> Recipe:
    """Two Rooms on a laptop with walls that differ from clip to clip: IMPALA on pictures of 32 x 32.

    Aim for the full model, with eight times the arithmetic a clip: 97 %. Half a million clips where that sees 1.2 million; about an
    hour on one busy core. docs/results.md has what it reached.
    """
    base = two_rooms_small()
    return base.change(
        system=base.system.change(encoder=Spec("encoder", "impala", width=128)),
        data=base.data.change(layout="random"),
        steps=4000,
        checks=Checks(log_every=50, judge_every=1000, save_every=500, keep=10),
    )


def pldm() -> Recipe:
    """PLDM (arXiv 2502.14819) on Two Rooms with the fixed wall: variance over time, statistics of first frames, 15 steps.

    Aim: 97.8 +- 0.7 % success on good data (criterion pldm), 34.4 % where no trajectory passes the door; without variance 13.4 %,
    covariance 29.2 %, time similarity 71.0 %, inverse dynamics 98.0 %. 3 million transitions, two epochs. AdamW without decay
    stands for Adam.
    """
    base = two_rooms()
    vc = Spec("regulariser", "vc", variance=3.9843, covariance=6.9238, over_time=0.24535, frames="first")
    return base.change(
        system=base.system.change(
            regulariser=vc,
            similarity=0.74242,
            inverse=Spec("inverse", "mlp", hidden=(512,)),
            inverse_weight=1.072,
            steps=15,
        ),
        data=Spec("source", "rooms", count=_CLIPS, crossing=0.6, layout="pldm"),
        optim=Spec("optimizer", "adamw", lr=7e-4, weight_decay=0.0, schedule=Spec("schedule", "cosine", warmup=0.1)),
        steps=2 * (3_000_000 // 16 // 64),
        batch=64,
        clip=None,
    )


def lewm() -> Recipe:
    """LeWM (arXiv 2603.19312) on Two Rooms: class token of a tiny ViT, heads with batch norm, causal transformer, SIGReg alone.

    Aim: 87 % success on its own two-room world (224 pixels, other dynamics), which users reproduce at 10 to 40 %; none is published for
    this one. Patches of 13 pixels cut the 65 x 65 pictures as patches of 14 cut 224 x 224.
    """
    return Recipe(
        system=Spec(
            "system", "world-model",
            encoder=Spec("encoder", "vit", patch=13, size="tiny"),
            projector=Spec("head", "mlp", widths=(2048, 192), last="bias"), projects="state",
            predictor=Spec("dynamics", "causal-transformer", condition="adaln", action_width=192),
            regulariser=Spec("regulariser", "sigreg"), inverse=None, similarity=0.0, norm="none", steps=1, starts="every",
        ),
        data=Spec("source", "rooms", count=_CLIPS, frames=4),
        views=Spec("views", "rooms"),
        optim=Spec("optimizer", "adamw", lr=5e-5, weight_decay=1e-3, schedule=Spec("schedule", "cosine", warmup=0.05)),
        steps=100 * (_CLIPS // 128),
        batch=128,
        clip=1.0,
    )  # fmt: skip


def dino_wm() -> Recipe:
    """DINO-WM (arXiv 2411.04983) on Two Rooms: patch tokens of a frozen DINOv2 ViT-S/14, causal transformer, no regulariser.

    Aim: 96 % on its wall world (distance below 4.5 at any replan). `system.weights=FILE` gives the encoder its weights (timm's names, at
    196 pixels); without them it is random, and frozen. Needs `pip install 'tacit[vision]'`. Its proprioception and its rates of the action
    map apart from the predictor's are not modelled.
    """
    return Recipe(
        system=Spec(
            "system", "world-model",
            encoder=Spec("encoder", "timm", name="vit_small_patch14_dinov2"), frozen=True, state="tokens",
            predictor=Spec("dynamics", "causal-transformer"),
            regulariser=None, inverse=None, similarity=0.0, norm="none", target="detached", steps=1, starts="every",
        ),
        data=Spec("source", "rooms", count=_CLIPS, frames=4),
        views=Spec("views", "rooms-colour"),
        optim=Spec("optimizer", "adamw", lr=5e-4, weight_decay=0.01, schedule=Spec("schedule", "constant")),
        steps=100 * (_CLIPS // 32),
        batch=32,
    )  # fmt: skip


def latent_rooms() -> Recipe:
    """Latent actions on Two Rooms with the actions hidden: four noisy numbers, smoothed pixels predicted; a minute on a laptop.

    No published number. The same as `latents.noisy`, where the other constraints are.
    """
    return noisy()


def moving_digits() -> Recipe:
    """EB-JEPA's video model on moving digits: full-resolution residual encoder, residual U-net, 4 iterations from every frame.

    Aim on Moving MNIST after 50 epochs: 0.607 mean average precision of the digits' places (std 10, cov 100), 0.259 to 0.525 for other
    coefficients. `data=moving-digits-file data.path=mnist_test_seq.npy`; digits made from embedded scans stand in. AdamW without decay
    stands for Adam.
    """
    return Recipe(
        system=Spec(
            "system", "world-model",
            encoder=Spec("encoder", "residual-map"), state="tokens",
            predictor=Spec("dynamics", "residual-unet"), projector=Spec("head", "mlp", widths=(64, 64)),
            regulariser=Spec("regulariser", "vc", variance=10.0, covariance=100.0),
            inverse=None, similarity=0.0, norm="none", steps=4, starts="every",
        ),
        data=Spec("source", "moving-digits", count=18_000),
        views=Spec("views", "moving-digits"),
        optim=Spec("optimizer", "adamw", lr=1e-3, weight_decay=0.0, schedule=Spec("schedule", "constant")),
        steps=50 * (18_000 // 64),
        batch=64,
    )  # fmt: skip


def moving_digits_small() -> Recipe:
    """Moving digits on a laptop: frames of 32 x 32, a U-net of 12 channels, 400 steps of 16 clips.

    No published number at this size. `benchmarks/moving_digits.py` goes through the nine coefficients of the published table (std and cov
    1, 10, 100: mAP 0.259 to 0.607) and prints the same table.
    """
    base = moving_digits()
    return base.change(
        system=base.system.change(predictor=Spec("dynamics", "residual-unet", hidden=12)),
        data=Spec("source", "moving-digits", count=2000),
        views=Spec("views", "moving-digits", shrink=2),
        steps=400,
        batch=16,
        checks=Checks(log_every=50, judge_every=0, save_every=200),
    )


def image_vicreg() -> Recipe:
    """EB-JEPA's image model (arXiv 2602.03604) with VICReg: ResNet-18, 300 epochs of CIFAR-10 at batch 256, std 1, cov 80.

    Aim: 90.12 % linear top-1 at its best (projector 2048-1024, cov 100), 84.90 % over runs that do not collapse. The weights are given in
    VICReg's own units: variances are summed over views there, covariances divided by d (d - 1). `data=cifar data.path=...`. The public
    ResNet pads its first convolution by 2.
    """
    objective = Spec("objective", "vicreg", invariance=1.0, variance=2.0, covariance=80.0 / 2047)
    return _image(objective, Spec("head", "mlp", widths=(2048, 2048, 2048), last="bias"))


def image_sigreg() -> Recipe:
    """EB-JEPA's image model with SIGReg, weight 10, projector 2048-128.

    Aim: 91.02 % linear top-1 on CIFAR-10 at its best, 89.22 % over runs that do not collapse. `data=cifar data.path=...`
    """
    return _image(Spec("objective", "bcs"), Spec("head", "mlp", widths=(2048, 2048, 128), last="bias"))


def image_vit() -> Recipe:
    """EB-JEPA's image model with a ViT-S of patch 8 under VICReg: batch 512, 100 epochs, std 25, cov 1.

    No number of these settings is known to us. `data=cifar data.path=...`
    """
    objective = Spec("objective", "vicreg", invariance=1.0, variance=50.0, covariance=1.0 / 2047)
    base = _image(objective, Spec("head", "mlp", widths=(2048, 2048, 2048), last="bias"))
    encoder = Spec("encoder", "vit", patch=8, size="small", positions="learned")
    return base.change(system=base.system.change(encoder=encoder), steps=100 * (50_000 // 512), batch=512)


def _image(objective: Spec, projector: Spec) -> Recipe:
    encoder = Spec("encoder", "resnet", depth=18, stem="cifar")
    view = Spec(
        "view", "image", size=32, scale=(0.2, 1.0), flip=0.5,
        jitter=0.8, brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1, grey=0.2, blur=0.0, solarise=0.1,
    )  # fmt: skip
    return Recipe(
        system=Spec("system", "joint-embedding", encoder=encoder, projector=projector, objective=objective),
        data=Spec("source", "digits", channels=3),
        views=Spec("views", "pair", first=view),
        optim=Spec(
            "optimizer", "lars", lr=0.3, weight_decay=1e-4, eta=0.02, definition="bolts", clip=True,
            schedule=Spec("schedule", "cosine", warmup=10 / 300, start=1e-4),
        ),
        steps=300 * (50_000 // 256),
        batch=256,
    )  # fmt: skip
