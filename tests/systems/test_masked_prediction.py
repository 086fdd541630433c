"""Masked prediction: every configuration trains, the loss is what it says, the teacher follows, what means nothing is refused."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from tacit.core.errors import DataError, RecipeError
from tacit.core.spec import Spec
from tacit.core.values import Batch, Facts, View
from tacit.systems.masked_prediction import MaskedPrediction

IMAGES, CLIPS = Facts(channels=2, shape=(16, 16)), Facts(channels=2, shape=(4, 16, 16))
TINY = {"patch": 4, "width": 24, "heads": 2, "depth": 2, "mlp_ratio": 2.0}
BARE = {"pooling": "mean", "class_token": False}
PLAIN = {"jitter": 0.0, "saturation": 0.0, "hue": 0.0, "grey": 0.0, "blur": 0.0}


def part_of(role, kind, **settings):
    return Spec(role, kind, **settings)


def small(**settings):
    return Spec("masked-predictor", "transformer", **{"width": 16, "depth": 1, "heads": 2, **settings})


def build(facts, masks, *, encoder=None, truncate="random", n=6, copies=1, **system):
    """A system and a batch of its views."""
    tubelet = 2 if len(facts.shape) == 3 else None
    view = Spec("view", "clip", size=16) if tubelet else Spec("view", "image", size=16, **PLAIN)
    views = Spec(
        "views", "context-target", view=view, masks=masks, patch=4, tubelet=tubelet, truncate=truncate, copies=copies
    )
    views = views.resolve().build(facts)
    torch.manual_seed(0)
    own = {"predictor": small(), **system}
    spec = Spec(
        "system",
        "masked-prediction",
        encoder=Spec("encoder", "vit", tubelet=tubelet, **TINY, **(encoder or BARE)),
        **own,
    )
    raw = torch.randint(0, 256, (n, *(2, *facts.shape)), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    return spec.resolve().build(views.facts), views(Batch({"image": View(raw)}, torch.arange(n)), 0, 0)


RANDOM = (Spec("mask", "random", ratio=0.75),)
BLOCKS = (Spec("mask", "multi-block", min_keep=0),)
CUBES = (Spec("mask", "multi-block-3d", blocks=2), Spec("mask", "multi-block-3d", blocks=1, scale=(0.5, 0.5)))
METHODS = {
    "mae": (IMAGES, RANDOM, {"encoder": {}, "target": Spec("target", "pixels"), "distance": "l2"}),
    "simmim": (
        IMAGES, (Spec("mask", "random", ratio=0.5, unit=2),),
        {"predictor": Spec("masked-predictor", "linear"), "hidden": "replaced", "target": Spec("target", "pixels", standardise=False)},
    ),
    "data2vec": (IMAGES, (Spec("mask", "inverse-block"),), {"target": Spec("target", "teacher", layers=2), "copies": 3}),
    "ijepa": (IMAGES, BLOCKS, {}),
    "vjepa": (CLIPS, CUBES, {"distance": "l1", "predictor": small(mask_tokens=2), "mask_tokens": "each"}),
    "vjepa2": (
        CLIPS, CUBES,
        {"distance": "l1", "encoder": {**BARE, "positions": "rope"}, "predictor": small(mask_tokens=10, positions="rope"), "spread": 0.1},
    ),
}  # fmt: skip


@pytest.mark.parametrize("truncate", ["first", "random", "none", "packed"])
@pytest.mark.parametrize("name", METHODS)
def test_every_method_gives_a_finite_loss_and_a_gradient_to_all_that_learns(name, truncate):
    facts, masks, settings = METHODS[name]
    system, batch = build(facts, masks, truncate=truncate, **settings)
    terms = system(batch, 0.0)
    terms["loss"].backward()
    learning = [
        (key, p)
        for key, p in system.named_parameters()
        if p.requires_grad and not key.startswith("predictor.mask_tokens")
    ]
    assert math.isfinite(float(terms["loss"].detach()))
    assert [key for key, p in learning if p.grad is None or not p.grad.isfinite().all() or not p.grad.any()] == []
    tokens = [p.grad is not None for key, p in system.named_parameters() if key.startswith("predictor.mask_tokens")]
    assert sum(tokens) == {"simmim": 0, "vjepa": 2}.get(name, 1)
    grouped = [p for group in system.groups() for p in group["params"]]
    assert {id(p) for p in grouped} == {id(p) for p in system.parameters() if p.requires_grad} and len(grouped) == len(
        set(map(id, grouped))
    )


def test_the_loss_is_zero_where_the_prediction_is_the_target_and_known_where_it_is_zero():
    """Normalised Gaussian features: E|h| = sqrt(2 / pi) = 0.798 for a predictor that says 0 (channels are many here)."""
    system, batch = build(CLIPS, CUBES, distance="l1", encoder={**BARE})
    gaussian = F.layer_norm(torch.randn(6, 32, 4096, generator=torch.Generator().manual_seed(0)), (4096,))
    system.target.forward = lambda x: gaussian
    for factor, expected in ((0.0, math.sqrt(2 / math.pi)), (1.0, 0.0), (3.0, 2 * math.sqrt(2 / math.pi))):

        def predict(x, context, target, factor=factor, **_):
            return factor * gaussian.gather(1, target.flatten(1)[:, :, None].expand(-1, -1, 4096)).unflatten(
                1, target.shape[1:]
            )

        system.predict = predict
        assert float(system(batch, 0.0)["loss"]) == pytest.approx(expected, rel=0.01, abs=1e-7)


@pytest.mark.parametrize(("distance", "value"), [("l1", 3.0), ("l2", 9.0), ("smooth-l1", 2.5)])
def test_distances_are_their_formulas(distance, value):
    system, _ = build(IMAGES, RANDOM, distance=distance, encoder={**BARE})
    error = system._error(torch.zeros(1, 1, 2, 4), torch.full((1, 1, 2, 4), 3.0))
    assert error.tolist() == [[[value, value]]]


def test_masks_count_alike_whatever_their_tokens():
    system, batch = build(CLIPS, CUBES, distance="l1", encoder={**BARE})
    terms = system(batch, 0.0)
    assert batch.views["image"].how["target.0"].shape[2] != batch.views["image"].how["target.1"].shape[2]
    torch.testing.assert_close(terms["loss"].detach(), (terms["mask.0"] + terms["mask.1"]) / 2)


@pytest.mark.parametrize("positions", ["rope", "sincos"])
@pytest.mark.parametrize("token", [False, True])
def test_a_packed_batch_gives_the_losses_and_gradients_of_a_padded_one(positions, token):
    encoder = {**BARE, "positions": positions, "class_token": token}
    found = []
    for truncate in ("none", "packed"):
        torch.manual_seed(0)
        system, batch = build(CLIPS, CUBES, truncate=truncate, distance="l1", encoder=encoder)
        terms = system.loss(batch, 0.0)
        found.append((terms, torch.autograd.grad(terms["loss"], [p for p in system.parameters() if p.requires_grad])))
        lengths = [batch.views["image"].how[f"lengths.{i}"] for i in range(2)]
    assert any(len(set(rows[:, 0].tolist())) > 1 for rows in lengths)  # rows of unequal length
    (padded, there), (packed, here) = found
    for name, term in padded.items():
        torch.testing.assert_close(packed[name], term, rtol=1e-5, atol=1e-6)
    for a, b in zip(here, there, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("truncate", ["none", "packed"])
def test_without_a_cut_the_loss_of_a_batch_is_the_mean_of_its_samples_without_fillings(truncate):
    """The official cut makes the loss depend on the batch of a device; with fillings, which nothing may read, it does not."""
    system, batch = build(CLIPS, CUBES, truncate=truncate, distance="l1", encoder={**BARE, "positions": "rope"})
    for p in (p for p in system.parameters() if p.ndim > 1):
        p.data.mul_(4)  # tokens heed each other, as after training
    view = batch.views["image"]

    def alone(row):
        how = {name: value[row : row + 1] for name, value in view.how.items()}
        for name in ("context.0", "context.1"):
            how[name] = how[name][:, how[name][0] >= 0]
        return system(Batch({"image": View(view.data[row : row + 1], how)}, batch.ids[row : row + 1]), 0.0)["loss"]

    assert any((view.how[name] < 0).any() for name in ("context.0", "context.1"))
    each = torch.stack([alone(row) for row in range(6)])
    torch.testing.assert_close(system(batch, 0.0)["loss"], each.mean(), rtol=1e-5, atol=0)


def test_hidden_pixels_cannot_reach_the_prediction():
    """Change what is hidden: predictions stay, bit for bit; change what is seen: they move."""
    for name in ("mae", "ijepa", "vjepa", "simmim"):
        facts, masks, settings = METHODS[name]
        system, batch = build(facts, masks, truncate="first", **settings)
        system.eval()
        x, how = batch.views["image"].data, batch.views["image"].how
        hidden = how["hidden.0"].reshape(6, 1, *([2, 4, 4] if facts is CLIPS else [4, 4]))
        for axis, times in enumerate((2, 4, 4) if facts is CLIPS else (4, 4), start=2):
            hidden = hidden.repeat_interleave(times, dim=axis)
        noise = 100 * torch.randn(x.shape)
        with torch.no_grad():
            first, second, third = (
                system.predict(one, how["context.0"], how["target.0"])
                for one in (x, torch.where(hidden, noise, x), torch.where(hidden, x, noise))
            )
        assert torch.equal(first, second) and not torch.allclose(first, third), name


def test_pixels_are_the_patches_in_raster_order_standardised_each_by_itself(rng):
    system, _ = build(CLIPS, CUBES, target=Spec("target", "pixels", standardise=False), encoder={**BARE})
    x = torch.randn(2, 2, 4, 16, 16, generator=rng)
    patches = system.target(x)
    assert patches.shape == (2, 32, 2 * 4 * 4 * 2) and system.target.dim == 64
    cut = x[1, :, 2:4, 4:8, 8:12]  # tubelet 1, row 1, column 2
    torch.testing.assert_close(patches[1, 16 + 4 + 2], cut.permute(1, 2, 3, 0).flatten())
    system.target.standardise = True
    found = system.target(x)
    torch.testing.assert_close(found.mean(dim=-1), torch.zeros(2, 32), rtol=0, atol=1e-5)
    torch.testing.assert_close(found.var(dim=-1), torch.ones(2, 32), rtol=0, atol=1e-4)


def test_targets_of_a_teacher_are_normalised_and_carry_no_gradient(rng):
    for layers in (1, 2):
        system, _ = build(IMAGES, BLOCKS, target=Spec("target", "teacher", layers=layers), encoder={**BARE})
        h = system.target(torch.randn(2, 2, 16, 16, generator=rng))
        assert not h.requires_grad and not any(p.requires_grad for p in system.target.parameters())
        torch.testing.assert_close(h.mean(dim=-1), torch.zeros(2, 16), rtol=0, atol=1e-5)
        if layers == 1:
            torch.testing.assert_close(h.var(dim=-1, correction=0), torch.ones(2, 16), rtol=0, atol=1e-3)


def test_centred_targets_do_not_hold_what_all_tokens_of_a_sample_share(rng):
    """One row added to all tokens, the bias of what makes them, changes the targets; with `centred` it does not."""
    x = torch.randn(2, 2, 16, 16, generator=rng)
    for layers, centred in ((1, False), (1, True), (2, False), (2, True)):
        target = Spec("target", "teacher", layers=layers, centred=centred)
        target = build(IMAGES, BLOCKS, target=target, encoder={**BARE})[0].target
        before = target(x)
        with torch.no_grad():
            makes = target.encoder.norm if layers == 1 else target.encoder.blocks[-1].mlp.fc2
            makes.bias.add_(3 * torch.randn(len(makes.bias), generator=rng))
        moved = float((target(x) - before).abs().max())
        assert moved < 1e-4 if centred else moved > 0.3


def test_a_teacher_follows_geometrically():
    """k steps with a still student: teacher_k = student + m^k (teacher_0 - student)."""
    system, _ = build(IMAGES, BLOCKS, target=Spec("target", "teacher", momentum=0.9, final=0.9), encoder={**BARE})
    student, teacher = system.encoder.norm.weight, system.target.encoder.norm.weight
    with torch.no_grad():
        student.fill_(3.0)
    for step in range(5):
        system.after_step(step / 5)
    torch.testing.assert_close(teacher, 3.0 + 0.9**5 * (torch.ones_like(teacher) - 3.0))


@pytest.mark.parametrize(
    ("settings", "points"),
    [
        ({"momentum": 0.996, "final": 1.0}, {0.0: 0.996, 0.5: 0.998, 1.0: 1.0}),
        ({"momentum": 0.998, "final": 1.0, "stretch": 1.25}, {0.0: 0.998, 1.0: 0.9996}),  # V-JEPA never gets to 1
        ({"momentum": 0.99, "final": 1.0, "path": "cosine"}, {0.0: 0.99, 0.5: 0.995, 1.0: 1.0}),
        ({"momentum": 0.99925, "final": 0.99925}, {0.3: 0.99925}),
    ],
)
def test_momentum_goes_the_published_ways(settings, points):
    system, _ = build(IMAGES, BLOCKS, target=Spec("target", "teacher", **settings), encoder={**BARE})
    for progress, value in points.items():
        assert system.target.momentum_now(progress) == pytest.approx(value, abs=1e-12)


def test_the_energy_is_low_where_the_hidden_part_goes_on_as_predicted():
    system, batch = build(CLIPS, CUBES, distance="l1", encoder={**BARE})
    x = batch.views["image"].data
    hidden = torch.arange(16, 32)
    with torch.no_grad():
        energy = system.energy(x, hidden, x)
        wanted = system.target(x)[:, 16:]
        predicted = system.predict(x, torch.arange(16).expand(6, -1), hidden.expand(6, 1, -1))[:, 0]
    torch.testing.assert_close(energy, (predicted - wanted).abs().mean(dim=(1, 2)))
    with pytest.raises(RecipeError, match="predicts hidden tokens: pass their ids as the action"):
        system.energy(x, None, x)


def test_a_mask_for_other_tokens_and_a_batch_without_masks_are_refused():
    system, batch = build(IMAGES, RANDOM, encoder={**BARE})
    coarse, _ = build(IMAGES, RANDOM, encoder={**BARE, "drop_path": 0.0})
    coarse.encoder = Spec("encoder", "vit", **{**TINY, **BARE, "patch": 8}).resolve().build(IMAGES)
    with pytest.raises(
        DataError,
        match=r"made for 16 tokens a sample and the encoder makes 4: give the views and the encoder the same patch",
    ):
        coarse(batch, 0.0)
    with pytest.raises(DataError, match=r"needs masks with the view.*use views=context-target"):
        system(Batch({"image": View(batch.views["image"].data)}, batch.ids), 0.0)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (
            {"target": part_of("target", "teacher", momentum=1.0)},
            "with momentum 1 never moves from the first weights: take a momentum below 1",
        ),
        (
            {"target": part_of("target", "teacher", momentum=0.9, final=0.8)},
            "follows ever more slowly, found momentum=0.9 above final=0.8",
        ),
        (
            {"hidden": "replaced"},
            "predictor 'transformer' with hidden='replaced': a linear map has only the encoder's own tokens",
        ),
        ({"predictor": part_of("masked-predictor", "linear")}, "predictor 'linear' with hidden='dropped'"),
        (
            {"mask_tokens": "each"},
            "gives every mask a token of its own, and the predictor has one: set predictor.mask_tokens",
        ),
    ],
)
def test_what_means_nothing_is_refused(settings, sentence):
    with pytest.raises(RecipeError, match=sentence):
        Spec("system", "masked-prediction", **settings).resolve()


def test_an_encoder_without_tokens_and_too_many_layers_are_refused():
    with pytest.raises(
        RecipeError, match="hides tokens from its encoder, and 'convnet' has none to hide: take encoder=vit"
    ):
        MaskedPrediction(IMAGES, encoder=Spec("encoder", "convnet").resolve())
    with pytest.raises(RecipeError, match="averages layers=3 blocks, the encoder has 2: take fewer"):
        build(IMAGES, BLOCKS, target=Spec("target", "teacher", layers=3), encoder={**BARE})


@pytest.mark.compile
def test_the_loss_compiles_without_graph_breaks():
    facts, masks, settings = METHODS["vjepa2"]
    system, batch = build(facts, masks, **settings)
    found = torch.compile(lambda one: system.loss(one, 0.0)["loss"], backend="eager", fullgraph=True)(batch)
    torch.testing.assert_close(found, system.loss(batch, 0.0)["loss"])
