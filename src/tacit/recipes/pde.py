"""Representations of differential equations by their Lie symmetries (arXiv 2307.05432)."""

from __future__ import annotations

from tacit.core.recipe import Checks, Recipe
from tacit.core.spec import Spec

_SET = 10_000  # trajectories of the paper's sets on a line
_SMOKE = 26_624  # of its smoke set
_EPOCHS = 100
_WAVES = {"stored": 40, "start": "velocity", "waves": 5, "highest": 4}


def kdv() -> Recipe:
    """Korteweg-de Vries as published: 10,000 trajectories of 256 x 128, ResNet-18, VICReg, 100 epochs.

    Aim (recalled from arXiv 2307.05432): NMSE 0.033 +- 0.004 for coefficients of the start, 0.102 +- 0.007 supervised. The paper
    regresses the single waves of the start; here the targets are the amplitudes of its modes, which the field determines.
    """
    world = Spec("world", "kdv", points=128, frames=512, stored=256, substeps=4)
    views = _line("kdv", length=128.0, time=1.0, crop=(128, 64))
    return _published(_made(world, _SET, 2000), views, samples=_SET, batch=32)


def ks() -> Recipe:
    """Kuramoto-Sivashinsky as published: 10,000 trajectories of 256 x 128, ResNet-18, VICReg, 100 epochs.

    Aim (recalled from arXiv 2307.05432): NMSE 0.042 +- 0.002 for coefficients of the start, 0.117 +- 0.009 supervised.
    """
    world = Spec("world", "ks", points=128, frames=512, stored=256)
    views = _line("ks", length=64.0, time=1.0, scale=0.0, crop=(128, 64))
    return _published(_made(world, _SET, 2000), views, samples=_SET, batch=32)


def burgers() -> Recipe:
    """Burgers as published: 10,000 exact trajectories of 448 x 224, viscosity 0.001 to 0.007, ResNet-18, VICReg, 100 epochs.

    Aim (recalled from arXiv 2307.05432): relative error of the viscosity 0.97 +- 0.04 %, 1.18 +- 0.07 % supervised. The start is
    that of LPSDA, whose size is proportional to the viscosity, so that its mean square alone tells most of it.
    """
    world = Spec("world", "burgers", points=224, frames=448, stored=448, viscosity=(0.001, 0.007))
    views = _line("burgers", length=6.283185307179586, time=1.0, projective=0.01, crop=(224, 112))
    return _published(_made(world, _SET, 2000), views, samples=_SET, batch=32)


def navier_stokes() -> Recipe:
    """Buoyant smoke as published: 26,624 trajectories of 56 x 128 x 128, crops of 16 frames, ResNet-18, VICReg, 100 epochs.

    Aim (recalled from arXiv 2307.05432): squared error of the buoyancy 0.0038 +- 0.0001, 0.0078 +- 0.0018 supervised; always
    answering the mean has 0.0075. Strengths and crop are those of the released code. Trajectories are made when they are asked
    for, 0.1 s each; `memory` holds 2,000 of them.
    """
    data = _made(Spec("world", "smoke"), _SMOKE, 1664, memory=24_000)
    return _published(data, Spec("views", "lie-plane"), samples=_SMOKE, batch=64)


def kdv_small() -> Recipe:
    """Korteweg-de Vries in minutes on one core: 2,000 trajectories of 40 x 96, a small convolutional network.

    No published number. Aim: the amplitudes of the start's modes from features with less error than from the untrained encoder
    and, with few labels, than from supervised training; docs/pde.md says what was measured. The scaling symmetry changes the
    very amplitudes that are asked for, so it is left out; all domains are alike, so that two views of a trajectory have its waves
    in common and nothing else that tells it from others.
    """
    world = Spec(
        "world", "kdv", length=64.0, horizon=40.0, jitter=0.0, points=96, frames=80, stored=40, waves=5, substeps=4
    )
    views = _line("kdv", length=64.0, time=1.0, galilei=0.2, scale=0.0, crop=(32, 64), unit=(1.0, 32.0, 20.0))
    return _small(_made(world, 2000, 500), views)


def ks_small() -> Recipe:
    """Kuramoto-Sivashinsky in minutes on one core: 2,000 trajectories of 40 x 96, viscosity 0.6 to 1.4, crops of 16 x 48.

    No published number. Expected: 0.02 to 0.04 of the variance of the viscosity unexplained with 10 to 50 labels, with 10 less than
    supervised training leaves (0.13), always less than simple statistics and the untrained encoder (docs/pde.md). The field is
    chaotic and crops are small, so that two of them rarely see the same and have the viscosity in common.
    """
    world = Spec(
        "world", "ks", length=48.0, horizon=80.0, jitter=0.0, points=96, frames=80, stored=40, viscosity=(0.6, 1.4),
        substeps=10, method="etdrk4",
    )  # fmt: skip
    views = _line("ks", length=48.0, time=1.0, galilei=0.4, scale=0.0, crop=(16, 48), unit=(1.0, 24.0, 20.0))
    return _small(_made(world, 2000, 500), views)


def burgers_small() -> Recipe:
    """Burgers in minutes on one core: 2,000 exact trajectories of 40 x 64, viscosity 0.02 to 0.2, crops of 16 x 32.

    No published number. The start does not depend on the viscosity, which must be read from how steep and how quickly the field
    fades. Aim: the viscosity from 50 labels with less error than from the untrained encoder; docs/pde.md has the numbers.
    """
    world = Spec(
        "world", "burgers", horizon=4.0, points=64, frames=50, stored=40, viscosity=(0.02, 0.2), start="velocity",
        waves=10, highest=7,
    )  # fmt: skip
    views = _line(
        "burgers", length=6.283185307179586, time=0.2, galilei=0.2, projective=0.02, crop=(16, 32), unit=(1.0, 3.0, 2.0)
    )
    return _small(_made(world, 2000, 500), views)


def navier_stokes_small() -> Recipe:
    """Buoyant smoke in minutes on one core: 1,000 trajectories of 28 x 32 x 32 with the published scheme and strengths.

    No published number. Aim: the buoyancy from features with less error than from the untrained encoder; ridge on simple
    statistics is a strong baseline here, docs/pde.md has the numbers.
    """
    world = Spec("world", "smoke", points=32, frames=28, warmup=8)
    return _small(
        _made(world, 1000, 400), Spec("views", "lie-plane", crop=(8, 32, 32), unit=(16.0, 20.0, 0.5)), steps=600
    )


def mixed_small() -> Recipe:
    """KdV, Kuramoto-Sivashinsky and Burgers in one encoder, in minutes on one core: 3,000 trajectories of 40 x 96.

    No published number. The views are the symmetries that the three share: shifts, boosts.
    """
    worlds = (
        Spec("world", "kdv", length=64.0, horizon=40.0, points=96, frames=80, stored=40, waves=5, substeps=4),
        Spec("world", "ks", length=48.0, horizon=40.0, points=96, frames=160, stored=40, viscosity=(0.6, 1.4)),
        Spec("world", "burgers", length=48.0, horizon=40.0, points=96, frames=50, viscosity=(0.2, 2.0), **_WAVES),
    )
    data = Spec("source", "pde-mixed", worlds=worlds, count=3000, held_out=900)
    views = _line("ks", length=48.0, time=1.0, galilei=0.2, scale=0.0, crop=(32, 64), unit=(1.0, 24.0, 20.0))
    return _small(data, views)


def _line(equation: str, **settings: object) -> Spec:
    return Spec("views", "lie-line", equation=equation, **settings)


def _small(data: Spec, views: Spec, *, steps: int = 800) -> Recipe:
    """The same training with a small convolutional network, a rate that warms up and falls, and fewer steps."""
    encoder = Spec("encoder", "convnet", widths=(16, 32, 64, 128))
    optim = Spec("optimizer", "adamw", lr=1e-3, weight_decay=1e-6, schedule=Spec("schedule", "cosine", warmup=0.05))
    return _recipe(data, views, encoder=encoder, projector=256, optim=optim, steps=steps, batch=64)


def _made(world: Spec, count: int, held_out: int, **settings: object) -> Spec:
    return Spec("source", "pde", world=world, count=count, held_out=held_out, **settings)


def _published(data: Spec, views: Spec, *, samples: int, batch: int) -> Recipe:
    """ResNet-18, projector of three layers, AdamW 3e-4 at a constant rate, 100 epochs."""
    encoder = Spec("encoder", "resnet", depth=18, stem="imagenet", zero_init=False)
    optim = Spec("optimizer", "adamw", lr=3e-4, weight_decay=1e-6, schedule=Spec("schedule", "constant"))
    steps = _EPOCHS * (samples // batch)
    return _recipe(data, views, encoder=encoder, projector=512, optim=optim, steps=steps, batch=batch)


def _recipe(data: Spec, views: Spec, *, encoder: Spec, projector: int, optim: Spec, steps: int, batch: int) -> Recipe:
    """A joint embedding under VICReg 25/25/1, whose loss is that of the released code."""
    return Recipe(
        system=Spec(
            "system",
            "joint-embedding",
            encoder=encoder,
            projector=Spec("head", "mlp", widths=(projector,) * 3),
            objective=Spec("objective", "vicreg"),
        ),
        data=data,
        views=views,
        optim=optim,
        steps=steps,
        batch=batch,
        checks=Checks(judge_every=200, save_every=500),
    )
