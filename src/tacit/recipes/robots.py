"""World models of a robot's hand: V-JEPA 2-AC as published, and small enough for one core.

The simulated arm stands in for recordings of your own: data=droid data.path=INDEX.csv views=droid, or data=trajectories.
"""

from __future__ import annotations

from tacit.core.recipe import Checks, Machine, Recipe
from tacit.core.spec import Spec


def vjepa2_ac() -> Recipe:
    """V-JEPA 2-AC (arXiv 2506.09985) as published: 305 million parameters on the frozen ViT-g, 94,500 steps of 256 clips of DROID.

    Aim: on real arms, mean of two labs, 10 trials each: reach 100 %, grasp cup 65 and box 25 %, pick and place 80 and 65 % (the authors'
    table). 16 frames at 4 a second, 256 pixels. `system.weights=FOLDER` gives the encoder its weights (`tacit weights import`). Without
    mixed precision's loss scaling; DROID: data=droid data.path=INDEX.csv views=droid.
    """
    encoder = Spec(
        "encoder", "vit", size="giant22", patch=16, tubelet=2, pooling="mean", class_token=False, positions="rope", compat="official",
        init="rescaled",
    )  # fmt: skip
    slope = 4500 / 94_500
    return Recipe(
        system=Spec(
            "system", "action-conditioned", encoder=encoder, predictor=Spec("action-predictor", "block-causal"), rollout=2
        ),
        data=Spec("source", "arm", frames=16, side=256),
        views=Spec("views", "trajectories"),
        optim=Spec(
            "optimizer", "adamw", lr=4.25e-4, weight_decay=0.04,
            schedule=Spec("schedule", "trapezoid", warmup=slope, start=7.5 / 42.5, decay=slope),
        ),
        steps=94_500,
        batch=256,
        checks=Checks(log_every=50, judge_every=0, save_every=1500),
        machine=Machine(precision="bf16"),
    )  # fmt: skip


def arm_small() -> Recipe:
    """V-JEPA 2-AC on the simulated arm in minutes on one core: two blocks of 128 on the patches of a small frozen encoder, 48 pixels.

    No published number. The encoder is random unless `system.weights` names one: tokens of a random transformer
    still tell where the arm is. What was measured stands in docs/video-planning.md. Plan with it: `tacit plan RUN arm`.
    """
    encoder = Spec(
        "encoder",
        "vit",
        patch=12,
        tubelet=2,
        width=96,
        depth=3,
        heads=2,
        mlp_ratio=4.0,
        pooling="mean",
        class_token=False,
        positions="rope",
    )
    return Recipe(
        system=Spec(
            "system", "action-conditioned", encoder=encoder, rollout=2,
            predictor=Spec("action-predictor", "block-causal", width=128, depth=2, heads=4),
        ),
        data=Spec("source", "arm", episodes=300, frames=3, side=48),
        views=Spec("views", "trajectories"),
        optim=Spec(
            "optimizer", "adamw", lr=2e-3, weight_decay=0.04, schedule=Spec("schedule", "trapezoid", warmup=0.05, decay=0.3)
        ),
        steps=800,
        batch=32,
        clip=1.0,
        checks=Checks(log_every=20, judge_every=0, save_every=100),
    )  # fmt: skip
