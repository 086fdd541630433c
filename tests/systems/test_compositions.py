"""Compositions that no paper has: every objective with every kind of encoder, head and teacher trains, or is refused in a sentence."""

from __future__ import annotations

import itertools

import pytest
import torch

from tacit.core.errors import RecipeError
from tacit.core.parts import find, parts
from tacit.core.spec import Spec
from tacit.core.values import Batch, Facts, View

FACTS = Facts(channels=1, shape=(8, 8))
ENCODERS = {
    "resnet": Spec("encoder", "resnet", depth=18, stem="cifar", width=0.0626),
    "vit": Spec("encoder", "vit", patch=4, width=8, heads=2, depth=1),
    "convnet": Spec("encoder", "convnet", widths=(4, 6)),
}
HEADS = {
    "mlp": Spec("head", "mlp", widths=(8, 5)),
    "dino": Spec("head", "dino", hidden=8, bottleneck=4, prototypes=7, norm="batch"),
    "prototypes": Spec("head", "prototypes", widths=(8, 4), prototypes=7),
}
TEACHERS = {"none": None, "ema": Spec("teacher", "ema", momentum=0.9), "twin": Spec("teacher", "twin")}
SMALL = {
    "moco": {"keys": 16},
    "nnclr": {"support": 16},
    "deepcluster": {"prototypes": (4, 3), "memory": 16},
    "w-mse": {"sub_batch": 8},
    "lejepa": {"directions": 16},
    "visreg": {"slices": 17},
}
KINDS = [part.kind for part in parts("objective") if part.target.startswith("tacit.")]


def system(kind, encoder, head, teacher):
    torch.manual_seed(0)
    labels = "label" if "labels" in getattr(find("objective", kind), "wants", ()) else ""
    return Spec(
        "system",
        "joint-embedding",
        encoder=ENCODERS[encoder],
        projector=HEADS[head],
        objective=Spec("objective", kind, **SMALL.get(kind, {})),
        teacher=TEACHERS[teacher],
        labels=labels,
    ).build(FACTS)


def should_work(kind, head, teacher):
    """What the page on methods says of compositions."""
    objective = find("objective", kind)
    scores = getattr(objective, "reads", "embeddings") == "scores"
    needs = hasattr(objective, "remember")
    supervised = "labels" in getattr(objective, "wants", ())
    return (head != "mlp") == scores and (teacher != "none" or not needs) and (teacher == "none" or not supervised)


@pytest.mark.parametrize("kind", KINDS)
def test_every_composition_trains_a_step_or_is_refused(kind, rng):
    views = {name: View(torch.randn(16, 1, 8, 8, generator=rng)) for name in "ab"}
    batch = Batch(views, torch.arange(16), facts={"label": torch.arange(16) % 3})
    for encoder, head, teacher in itertools.product(ENCODERS, HEADS, TEACHERS):
        case = f"{kind} on {encoder} with {head} and teacher {teacher}"
        if not should_work(kind, head, teacher):
            with pytest.raises(RecipeError) as caught:
                system(kind, encoder, head, teacher)
            assert len(str(caught.value)) > 60 and ": " in str(caught.value), f"{case}: no sentence with a way out"
            continue
        made = system(kind, encoder, head, teacher)
        learning = [p for group in made.groups() for p in group["params"]]
        optimizer = torch.optim.SGD(learning, lr=1e-3)
        before = [p.detach().clone() for p in learning]
        for progress in (0.0, 0.5):
            loss = made(batch, progress)["loss"]
            assert bool(loss.isfinite()), case
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            made.after_step(progress)
        assert all(bool(p.isfinite().all()) for p in learning), case
        moved = sum(not torch.equal(p, old) for p, old in zip(learning, before, strict=True))
        assert moved > len(learning) / 2, case


@pytest.mark.parametrize("kind", ["simclr", "vicreg", "barlow-twins"])
def test_masked_views_need_an_encoder_with_tokens(kind, rng):
    """`View.keep`: a ViT computes the visible patches alone, a convolutional network says that it cannot."""
    x = torch.randn(16, 1, 8, 8, generator=rng)
    views = {"a": View(x), "b": View(x, keep=torch.tensor([[0, 2]]).expand(16, -1))}
    batch = Batch(views, torch.arange(16))
    assert bool(system(kind, "vit", "mlp", "none")(batch, 0.0)["loss"].isfinite())
    with pytest.raises(RecipeError) as caught:
        system(kind, "convnet", "mlp", "none")(batch, 0.0)
    assert str(caught.value) == (
        "encoder 'convnet' sees whole images and cannot drop tokens: leave `keep` out, or use encoder 'vit'"
    )
