"""Latent actions: what was done, inferred from pictures alone, under each constraint of the literature, where the truth is known.

All share the states (pixels of 16 x 16, smoothed), the forward model (one moved layer a channel) and the inverse dynamics (differences at
every shift), so that they differ in the bottleneck alone.
"""

from __future__ import annotations

from tacit.core.recipe import Checks, Recipe
from tacit.core.spec import Spec

_STEPS = 600


def noisy() -> Recipe:
    """Latent actions on Two Rooms, variational: four noisy numbers a step, minutes on a laptop (LAWM, arXiv 2601.05230).

    No published number. `tacit evaluate RUN` reads the true action from the latents; `tacit capacity latents.noisy
    system.bottleneck.beta=...` goes through the strengths.
    """
    return _rooms(Spec("bottleneck", "noisy", width=4, beta=1e-4))


def sparse() -> Recipe:
    """Latent actions on Two Rooms, sparse: an l1 price on numbers that keep their spread (LAWM, arXiv 2601.05230).

    No published number. The price is weighed down to the scale of the prediction error of smoothed pixels.
    """
    return _rooms(Spec("bottleneck", "sparse", width=4, l1=0.05, weight=1e-3))


def vq() -> Recipe:
    """Latent actions on Two Rooms, one of 64 codes that learn by gradient (VQ-VAE, arXiv 1711.00937).

    No published number.
    """
    return _rooms(Spec("bottleneck", "vq", width=4, codes=64, update="gradient"))


def nsvq() -> Recipe:
    """Latent actions on Two Rooms, one of 64 codes behind noise of the length of the error (NSVQ, 10.1109/ACCESS.2022.3168670).

    No published number. A third of the others' rate: where latents run ahead of the codes, the noise is as large as they are, and the
    forward model learns for good that nothing moves.
    """
    return _slower(_rooms(Spec("bottleneck", "vq", width=4, codes=64, update="noise", patience=5)))


def ema() -> Recipe:
    """Latent actions on Two Rooms, one of 64 codes that follow their means and are reset when unused (LAWM's discrete form).

    No published number.
    """
    return _rooms(Spec("bottleneck", "vq", width=4, codes=64, update="ema"))


def lapo() -> Recipe:
    """LAPO's latent (arXiv 2312.10812) on Two Rooms: 8 codes of 16 numbers out of 64, moving averages with decay 0.999.

    No published number for this world (Procgen there). It has two codebooks of four slots, a third frame in the inverse dynamics, and
    IMPALA and a U-net for networks; the bottleneck is what is taken over.
    """
    return _rooms(Spec("bottleneck", "vq", width=16, codes=64, slots=8, decay=0.999, commitment=0.05))


def lapa() -> Recipe:
    """LAPA's latent (arXiv 2410.11758) on Two Rooms: four codes out of 8, 32 numbers each, NSVQ.

    No published number for this world (robot video there). Unused codes are replaced after a fixed patience, there on a schedule.
    """
    return _slower(_rooms(Spec("bottleneck", "vq", width=32, codes=8, slots=4, update="noise", patience=10)))


def adaworld() -> Recipe:
    """AdaWorld's latent (arXiv 2503.18938) on Two Rooms: 32 noisy numbers, beta 2e-4 on the divergence summed over them.

    No published number for this world. There a spatio-temporal transformer of 16 blocks predicts pixels.
    """
    return _rooms(Spec("bottleneck", "noisy", width=32, beta=2e-4))


def known_rooms() -> Recipe:
    """The twin of the latent recipes on Two Rooms that is told the true actions: what planning through a controller is read beside.

    No published number. The same states and forward model; `tacit plan LATENT rooms --beside RUN`.
    """
    return _known(noisy())


def wall() -> Recipe:
    """Latent actions between states that are learned with them: Two Rooms with one fixed wall, the world model of `worlds.two_rooms_small`.

    No published number. Where the wall is always the same a state has nothing to hold but the dot, so that no recorded action is needed to
    keep it (PLDM without inverse dynamics: 98 % on a fixed wall), and its distance to the goal's can be planned by, as that of smoothed
    pixels cannot. Latents of eight steps are rolled out; `tacit plan RUN rooms --beside` a run of `latents.known_wall`.
    """
    twin = known_wall()
    return twin.change(
        system=Spec(
            "system", "latent-action",
            world=twin.system, bottleneck=Spec("bottleneck", "noisy", width=4, beta=1e-3), inverse=Spec("inverse", "mlp"),
        ),
    )  # fmt: skip


def known_wall() -> Recipe:
    """The twin of `latents.wall` that is told the true actions: `worlds.two_rooms_small` without inverse dynamics.

    No published number of this size (PLDM's with inverse dynamics off: 98 %).
    """
    from tacit.recipes.worlds import two_rooms_small  # here: worlds takes `noisy` from this module

    base = two_rooms_small()
    return base.change(system=base.system.change(inverse=None))


def camera() -> Recipe:
    """Latent actions of a moving camera over a canvas of digits, variational; the true motion is known to the judge alone.

    No published number. Minutes on a laptop.
    """
    base = _rooms(Spec("bottleneck", "noisy", width=4, beta=1e-4))
    inside = base.system["world"].change(
        encoder=Spec("encoder", "pixels", blur=1.0), predictor=Spec("dynamics", "kernel", channels=1, reach=2)
    )
    return base.change(
        system=base.system.change(world=inside, inverse=Spec("inverse", "shift", channels=1, reach=2)),
        data=Spec("source", "camera", count=20_000, frames=4),
        views=Spec("views", "trajectories"),
    )


def known_camera() -> Recipe:
    """The twin of `latents.camera` that is told the true motion.

    No published number.
    """
    return _known(camera())


def tokens() -> Recipe:
    """Latent actions between states of tokens: patches of pixels, attention for the inverse dynamics, frame-causal AdaLN forward model.

    No published number. The shape of LAWM's model at a size for a laptop, without its encoder; slower to learn than `latents.noisy`.
    """
    base = noisy()
    world = base.system["world"].change(
        encoder=Spec("encoder", "pixels", blur=1.0, patch=4),
        state="tokens",
        predictor=Spec(
            "dynamics", "causal-transformer", frames=3, depth=2, heads=4, head_width=16, hidden=128, dropout=0.0,
            condition="adaln", action_width=32,
        ),
    )  # fmt: skip
    attention = Spec("inverse", "attention")
    return base.change(system=base.system.change(world=world, inverse=attention), steps=2000, batch=64)


def lawm() -> Recipe:
    """LAWM (arXiv 2601.05230) on Two Rooms: tokens of a frozen ViT, 128 noisy numbers, frame-causal AdaLN transformer. For a GPU.

    No published number for this world. `system.world.weights=FILE` gives the encoder its weights; there V-JEPA 2 on web video, Muon, and
    a forward model of 24 blocks. Needs `pip install 'tacit[vision]'`.
    """
    base = noisy()
    world = base.system["world"].change(
        encoder=Spec("encoder", "timm", name="vit_small_patch14_dinov2"),
        state="tokens",
        predictor=Spec("dynamics", "causal-transformer", condition="adaln", action_width=384),
    )
    return base.change(
        system=base.system.change(
            world=world,
            bottleneck=Spec("bottleneck", "noisy", width=128, beta=5e-5),
            inverse=Spec("inverse", "attention", width=384, depth=4, heads=6),
        ),
        data=Spec("source", "rooms", count=100_000, frames=4),
        views=Spec("views", "rooms-colour"),
        optim=Spec(
            "optimizer", "adamw", lr=6.25e-4, weight_decay=0.04, schedule=Spec("schedule", "cosine", warmup=0.1)
        ),
        steps=30_000,
        batch=32,
    )


def _rooms(bottleneck: Spec) -> Recipe:
    world = Spec(
        "system", "world-model",
        encoder=Spec("encoder", "pixels", blur=1.0), frozen=True, predictor=Spec("dynamics", "kernel", channels=2, reach=1),
        regulariser=None, inverse=None, similarity=0.0, norm="none", steps=1, starts="every",
    )  # fmt: skip
    return Recipe(
        system=Spec(
            "system", "latent-action",
            world=world, bottleneck=bottleneck, inverse=Spec("inverse", "shift", channels=2, reach=1),
        ),
        data=Spec("source", "rooms", count=20_000, frames=4),
        views=Spec("views", "rooms", shrink=4),
        optim=Spec("optimizer", "adamw", lr=3e-3, weight_decay=1e-5, schedule=Spec("schedule", "cosine", warmup=0.05)),
        steps=_STEPS,
        batch=128,
        clip=2.0,
        checks=Checks(log_every=50, judge_every=0, save_every=500),
    )  # fmt: skip


def _slower(latent: Recipe) -> Recipe:
    return latent.change(optim=latent.optim.change(lr=1e-3))


def _known(latent: Recipe) -> Recipe:
    return latent.change(system=latent.system["world"])
