"""The duality of contrastive and non-contrastive learning at small scale: one projector, one optimiser, four losses (arXiv 2206.02574)."""

from __future__ import annotations

from tacit.core.recipe import Recipe
from tacit.core.spec import Spec
from tacit.recipes._cifar import mlp
from tacit.recipes._digits import adamw, digits, view

_HIDDEN = 1024  # of the projector, both hidden layers; the paper has 8192


def _small(objective: Spec, width: int = 512, lr: float = 3e-3) -> Recipe:
    """Coloured letters on black, a network that sees a whole letter, and a projector of two wide layers and one of `width`.

    A ground of its own in every picture would be in both views, and would be learnt in the letter's place (docs/methods.md).
    """
    letters = Spec("source", "glyphs", count=3000, background=(0.0, 0.0), gradient=(0.0, 0.0))
    look = view(size=32, hue=0.5, brightness=0.6, grey=0.1, noise=0.0)
    encoder = Spec("encoder", "convnet", widths=(8, 16, 32, 64, 128))
    base = digits(objective, mlp(_HIDDEN, _HIDDEN, width), optim=adamw(lr), encoder=encoder)
    return base.change(data=letters, views=Spec("views", "pair", first=look))


def simclr() -> Recipe:
    """SimCLR with VICReg's projector, the temperature to be tuned: `system.objective.temperature`, `optim.lr`.

    The paper's tuned ImageNet settings are temperature 0.15 and LARS at base rate 0.5. On ImageNet (ResNet-50, 100 epochs) tuned SimCLR
    reaches 68.5 and VICReg 68.1 at 2048 dimensions; no number on letters is published.
    """
    return _small(Spec("objective", "simclr", temperature=0.15))


def vicreg() -> Recipe:
    """VICReg: `system.objective.covariance`, `optim.lr`.

    On ImageNet 68.1 at 2048 dimensions with hidden layers of 8192 (arXiv 2206.02574); no number on letters is published.
    """
    return _small(Spec("objective", "vicreg"))


def vicreg_exp() -> Recipe:
    """VICReg with SimCLR's log-sum-exp over covariances: `system.objective.temperature`, `optim.lr`.

    On ImageNet 68.0 at 2048 dimensions (arXiv 2206.02574); no number on letters is published.
    """
    return _small(Spec("objective", "vicreg-exp"))


def vicreg_ctr() -> Recipe:
    """VICReg turned to contrast samples: `system.objective.temperature`, `optim.lr`.

    On ImageNet 67.9 at 2048 dimensions (arXiv 2206.02574); no number on letters is published.
    """
    return _small(Spec("objective", "vicreg-ctr"))
