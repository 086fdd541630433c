"""Video and language: a frozen encoder before a language model, in stages, as published and small enough for one core.

Stage by stage: train the first, then name its run folder in the next: `tacit train language.clips_answers system.start=RUN`.
"""

from __future__ import annotations

from tacit.core.recipe import Checks, Machine, Recipe
from tacit.core.spec import Spec


def clips_captions() -> Recipe:
    """First stage on generated clips: the bridge learns to describe them to a language model that is held; a minute on one core.

    No published number. A language model with first weights is of little use when held; with one of your own,
    `system.language.folder=FOLDER`, this is the stage that teaches it to see.
    """
    base = clips_answers()
    return base.change(
        system=base.system.change(trains="bridge"), data=base.data.change(about="caption"), steps=200,
        optim=base.optim.change(schedule=Spec("schedule", "cosine", warmup=0.03)),
    )  # fmt: skip


def clips_answers() -> Recipe:
    """Questions about generated clips: direction, digit, count and place, answered by a small new language model on a frozen encoder.

    No published number. Expected after 1,000 steps: 75 % (69 to 80) of 256 test answers right, the most frequent answer 24 %. By question:
    docs/video-planning.md. `tacit evaluate RUN`.
    """
    encoder = Spec(
        "encoder",
        "vit",
        patch=8,
        tubelet=2,
        width=64,
        depth=2,
        heads=2,
        mlp_ratio=4.0,
        pooling="mean",
        class_token=False,
        positions="rope",
    )
    return Recipe(
        system=Spec(
            "system", "video-language", encoder=encoder, bridge=Spec("bridge", "mlp"),
            language=Spec("language", "causal", width=96, depth=2, heads=4, hidden=256),
        ),
        data=Spec("source", "clip-questions", count=20_000, shapes=1, ground=(0.5, 0.5)),
        views=Spec("views", "trajectories"),
        optim=Spec("optimizer", "adamw", lr=2e-3, weight_decay=0.01, schedule=Spec("schedule", "cosine", warmup=0.05)),
        steps=1000,
        batch=64,
        clip=1.0,
        checks=Checks(log_every=20, judge_every=0, save_every=200),
    )  # fmt: skip


def vjepa2_captions() -> Recipe:
    """V-JEPA 2 aligned with a language model (arXiv 2506.09985, section 5), the controlled form, first stage: captions, the bridge alone.

    Aim after all stages with Llama-3.1-8B: PerceptionTest 84.0, MVP 44.5, TempCompass 76.9, TemporalBench 36.7, TOMATO 40.3 % (the
    authors' table). `system.weights=FOLDER` of the encoder, `system.language.folder=Qwen2-7B-Instruct`, `data=video-questions
    data.path=FILE.jsonl`. AdamW without decay, 1e-5 on a cosine, batch 256. Go on with `language.vjepa2_answers`.
    """
    encoder = Spec(
        "encoder", "vit", size="large", patch=16, tubelet=2, pooling="mean", class_token=False, positions="rope", compat="official",
        init="rescaled",
    )  # fmt: skip
    return Recipe(
        system=Spec("system", "video-language", encoder=encoder, bridge=Spec("bridge", "attentive", pool=4), trains="bridge"),
        data=Spec("source", "clip-questions", about="caption", frames=16, side=256, channels=3),
        views=Spec("views", "trajectories"),
        optim=Spec("optimizer", "adamw", lr=1e-5, weight_decay=0.0, schedule=Spec("schedule", "cosine", warmup=0.03)),
        steps=70_000,
        batch=256,
        checks=Checks(log_every=50, judge_every=0, save_every=1000),
        machine=Machine(precision="bf16"),
    )  # fmt: skip


def vjepa2_answers() -> Recipe:
    """The stages after `language.vjepa2_captions`: questions, bridge and language model learn, 5e-6 without a schedule.

    Aim: see there. `system.start=RUN` of the stage before; its stage 1.5 is captions with `system.trains=all` and the first stage's rate.
    """
    base = vjepa2_captions()
    return base.change(
        system=base.system.change(trains="all"), data=base.data.change(about="questions"),
        optim=base.optim.change(lr=5e-6, schedule=Spec("schedule", "constant", warmup=0.03)),
    )  # fmt: skip
