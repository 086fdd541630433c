"""Self-distillation of images and hidden patches: the loss written out, what the teacher sees, who moves when, what is refused."""

from __future__ import annotations

import copy

import pytest
import torch

from tacit.core.errors import DataError, RecipeError
from tacit.core.protocols import System
from tacit.core.spec import Spec
from tacit.core.values import Batch, Facts, View
from tacit.ops.prototypes import koleo

FACTS = Facts(channels=1, shape=(8, 8))
VIT = Spec("encoder", "vit", patch=2, width=8, heads=2, depth=2)
HEAD = Spec("head", "dino", hidden=6, bottleneck=4, prototypes=7, deviation=0.5)
DINO = Spec("objective", "dino", target_temperature=0.2)
SINKHORN = DINO.change(balance="sinkhorn")


def make(**changes):
    torch.manual_seed(0)
    settings = {
        "encoder": VIT,
        "projector": HEAD,
        "objective": DINO,
        "patch_objective": DINO,
        "teacher": Spec("teacher", "ema", momentum=0.9),
    }
    return Spec("system", "self-distillation", **{**settings, **changes}).build(FACTS)


def batch(rng, names=("a", "b", "local0"), n=6, share=0.5):
    views = {}
    for name in names:
        size = 4 if name.startswith("local") else 8
        data = torch.randn(n, 1, size, size, generator=rng)
        hidden = torch.rand(n, 16, generator=rng) < 0.4
        hidden[int(n * share) :] = False
        views[name] = View(data, {} if name.startswith("local") else {"mask": hidden})
    return Batch(views, torch.arange(n))


def cross_entropy(s, t):
    return -(t * torch.log_softmax(s / 0.1, dim=-1)).sum(dim=-1)


@pytest.mark.parametrize("shared", [True, False])
def test_the_loss_is_its_equation(rng, shared):
    system = make(spread=0.1, patch_projector=None if shared else HEAD).eval()
    given = batch(rng)
    seen, known = {}, {}
    for name, view in given.views.items():
        mask = view.how.get("mask")
        seen[name] = system.encoder(view.data, mask=mask, token=system.mask_token)
        known[name] = system.teacher.encoder(view.data)
    z = {name: system.projector(one.pooled) for name, one in seen.items()}
    t = {name: torch.softmax(system.projector(one.pooled) / 0.2, dim=1) for name, one in known.items()}
    pairs = [("a", "b"), ("b", "a"), ("local0", "a"), ("local0", "b")]
    image = sum(cross_entropy(z[u], t[v]).mean() for u, v in pairs) / 4
    head = system.projector if shared else system.patch_projector
    patch = 0.0
    for name in "ab":
        mask = given.views[name].how["mask"]
        for i in range(6):
            for k in mask[i].nonzero()[:, 0]:
                s = head(seen[name].tokens[i, k][None])
                target = torch.softmax(head(known[name].tokens[i, k][None]) / 0.2, dim=1)
                patch += cross_entropy(s, target)[0] / mask[i].sum() / 12
    terms = system(given, 0.5)
    torch.testing.assert_close(terms["image"], image)
    torch.testing.assert_close(terms["patch"], patch)
    torch.testing.assert_close(terms["spread"], 0.1 * (koleo(seen["a"].pooled) + koleo(seen["b"].pooled)))
    torch.testing.assert_close(terms["loss"], terms["image"] + terms["patch"] + terms["spread"])


def test_it_has_the_methods_of_a_system_and_judges_before_the_prototypes(rng):
    system, x = make().eval(), torch.randn(3, 1, 8, 8, generator=rng)
    assert isinstance(system, System)
    assert system.embed(x).pooled.shape == (3, 8)
    torch.testing.assert_close(system.project(x).norm(dim=1), torch.ones(3))


def test_what_lies_under_a_mask_does_not_reach_the_student(rng):
    """Changing hidden pixels changes the targets, not what the student makes of the view."""
    system, given = make().eval(), batch(rng, ("a", "b"), share=1.0)
    view = given.views["a"]
    mask = view.how["mask"].view(6, 1, 4, 4).repeat_interleave(2, 2).repeat_interleave(2, 3)
    other = torch.where(mask, torch.randn(view.data.shape, generator=rng), view.data)
    features = [system.encoder(x, mask=view.how["mask"], token=system.mask_token).tokens for x in (view.data, other)]
    torch.testing.assert_close(*features)
    changed = Batch({**given.views, "a": View(other, view.how)}, given.ids)
    assert system(given, 0.5)["patch"] != system(changed, 0.5)["patch"]


def test_without_hidden_patches_it_is_dino(rng):
    system, given = make(), batch(rng, share=0.0)
    other = Spec(
        "system", "joint-embedding", encoder=VIT, projector=HEAD, objective=DINO, teacher=Spec("teacher", "ema")
    ).build(FACTS)
    other.encoder.load_state_dict(system.encoder.state_dict())
    other.projector.load_state_dict(system.projector.state_dict())
    other.teacher.load_state_dict(
        {name.replace("projector.image", "projector"): tensor for name, tensor in system.teacher.state_dict().items()}
    )
    terms = system(given, 0.5)
    torch.testing.assert_close(terms["loss"], other(given, 0.5)["loss"])
    assert terms["patch"].item() == 0.0 and bool(system.patch_objective.centre.numel() == 0)


def test_the_teacher_gets_no_gradient_and_both_heads_follow(rng):
    system, given = make(patch_projector=HEAD), batch(rng)
    before = copy.deepcopy(system.teacher.state_dict())
    optimizer = torch.optim.SGD([p for group in system.groups() for p in group["params"]], lr=0.5)
    losses = []
    for step in range(8):
        loss = system(given, 0.5)["loss"]
        optimizer.zero_grad()
        loss.backward()
        assert all(p.grad is None for p in system.teacher.parameters())
        optimizer.step()
        system.after_step(0.5 + step / 100)
        losses.append(loss.item())
    assert min(losses[2:]) < losses[0]
    after = system.teacher.state_dict()
    for name in ("encoder.blocks.0.attn.qkv.weight", "projector.image.mlp.0.weight", "projector.patch.mlp.0.weight"):
        assert not torch.equal(before[name], after[name])
    assert bool(system.mask_token.grad.any())


def test_centres_of_images_and_of_patches_are_kept_apart_in_train_mode_alone(rng):
    system, given = make(), batch(rng)
    system.eval()(given, 0.5)
    assert not len(system.objective.centre) and not len(system.patch_objective.centre)
    system.train()(given, 0.5)
    hidden = torch.cat([given.views[name].how["mask"].flatten() for name in "ab"])
    tokens = torch.cat([system.teacher.encoder(given.views[name].data).tokens.flatten(0, 1) for name in "ab"])
    scores = system.teacher.projector["image"](tokens[hidden])
    torch.testing.assert_close(system.patch_objective.centre, 0.1 * scores.mean(dim=0))
    assert not torch.allclose(system.objective.centre, system.patch_objective.centre)


def test_targets_of_patches_are_balanced_by_sinkhorn_over_hidden_patches(rng):
    system = make(objective=SINKHORN, patch_objective=SINKHORN.change(iterations=50))
    taken = []
    target = system.patch_objective.target

    def watched(*given):
        taken.append(target(*given))
        return taken[-1]

    system.patch_objective.target = watched
    system(batch(rng), 0.5)
    mass = taken[0].sum(dim=0)
    torch.testing.assert_close(mass, torch.full_like(mass, len(taken[0]) / 7), rtol=0.02, atol=0.02)


def test_rates_fall_by_the_layer():
    system = make(layer_decay=0.5, patch_rate=0.2)
    names = {id(p): name for name, p in system.named_parameters()}
    rates = {names[id(p)]: group["scale"] for group in system.groups() for p in group["params"]}
    assert rates["encoder.blocks.1.attn.qkv.weight"] == 0.5
    assert rates["encoder.blocks.0.norm1.weight"] == 0.25
    assert rates["encoder.cls_token"] == rates["mask_token"] == 0.125
    assert rates["encoder.patch_embed.proj.weight"] == pytest.approx(0.025)
    assert rates["encoder.norm.weight"] == rates["projector.mlp.0.weight"] == 1.0
    assert len(rates) == sum(p.requires_grad for p in system.parameters())
    assert {group["scale"] for group in make().groups()} == {1.0}


REFUSED = {
    "no patches": (
        {"encoder": Spec("encoder", "convnet", widths=(4,))},
        "system 'self-distillation' hides patches, and encoder 'convnet' has none: set encoder=vit, or use system 'joint-embedding' "
        "with objective 'dino'",
    ),
    "a twin": (
        {"teacher": Spec("teacher", "twin")},
        "system 'self-distillation' needs a teacher that sees whole views beside the student's, found teacher=twin: set teacher=ema",
    ),
    "another rule": (
        {"patch_objective": Spec("objective", "swav")},
        "patch_objective: system 'self-distillation' compares by the rule of objective 'dino', found 'swav': set patch_objective=dino",
    ),
    "patches without prototypes": (
        {"patch_projector": Spec("head", "mlp", widths=(4, 4))},
        "patch_projector: patches are compared by scores of prototypes, and head 'mlp' ends in none: take dino",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_means_nothing_is_refused_in_a_sentence(case):
    settings, sentence = REFUSED[case]
    with pytest.raises(RecipeError) as caught:
        make(**settings)
    assert str(caught.value).endswith(sentence)


def test_views_without_masks_or_with_others_are_refused(rng):
    system, given = make(), batch(rng, ("a", "b"))
    with pytest.raises(DataError) as caught:
        system(Batch({name: View(view.data) for name, view in given.views.items()}, given.ids), 0.0)
    assert str(caught.value) == (
        "system 'self-distillation' needs to know which patches of view 'a' are hidden, and the views do not say: use views=masked with "
        "masks=blocks"
    )
    few = {name: View(view.data, {"mask": view.how["mask"][:, :4]}) for name, view in given.views.items()}
    with pytest.raises(DataError) as caught:
        system(Batch(few, given.ids), 0.0)
    assert str(caught.value) == (
        "the views hide some of 4 patches, and the encoder cuts 16: set views.patch to the encoder's patch"
    )
