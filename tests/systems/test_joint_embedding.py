from __future__ import annotations

import copy

import pytest
import torch

from tacit.core.errors import CheckpointError, DataError, RecipeError
from tacit.core.protocols import Predicts, System
from tacit.core.ranks import ALONE
from tacit.core.spec import Spec
from tacit.core.values import Batch, Facts, View
from tacit.systems.joint_embedding import JointEmbedding, pairs_of

FACTS = Facts(channels=1, shape=(8, 8))


def make(objective=None, **settings):
    torch.manual_seed(0)
    return Spec(
        "system",
        "joint-embedding",
        encoder=Spec("encoder", "convnet", widths=(4, 6)),
        projector=Spec("head", "mlp", widths=(8, 5)),
        objective=Spec("objective", "simclr") if objective is None else objective,
        **settings,
    ).build(FACTS)


def batch(rng, names=("a", "b"), n=6, **facts):
    sizes = {name: 4 if name.startswith("local") else 8 for name in names}
    views = {name: View(torch.randn(n, 1, size, size, generator=rng)) for name, size in sizes.items()}
    return Batch(views, torch.arange(n), facts=facts)


def test_it_has_the_methods_of_a_system():
    system = make()
    assert isinstance(system, System) and isinstance(system, Predicts)


def test_the_defaults_are_a_complete_recipe():
    resolved = Spec("system", "joint-embedding").resolve()
    kinds = [resolved[name].kind for name in ("encoder", "projector", "objective")]
    assert kinds == ["resnet", "mlp", "vicreg"]


@pytest.mark.parametrize("kind", ["simclr", "vicreg"])
def test_the_loss_is_the_objective_of_the_projected_views(rng, kind):
    system, given = make(Spec("objective", kind)), batch(rng)
    terms = system(given, 0.3)
    z = [system.projector(system.encoder(given.views[name].data).pooled) for name in "ab"]
    expected = system.objective(*z)
    assert terms.keys() == expected.keys()
    for name in terms:
        torch.testing.assert_close(terms[name], expected[name])
    torch.testing.assert_close(system.loss(given, 0.3, ALONE), terms)


def test_steps_lower_the_loss(rng):
    system, given = make(), batch(rng)
    optimizer = torch.optim.Adam(system.parameters(), lr=1e-2)
    losses = []
    for step in range(15):
        terms = system(given, step / 15)
        optimizer.zero_grad()
        terms["loss"].backward()
        optimizer.step()
        system.after_step(step / 15)
        losses.append(terms["loss"].item())
    assert losses[-1] < losses[0] - 0.3


def test_labels_never_reach_the_loss(rng):
    class Forbidden(dict):
        def __getitem__(self, name):
            raise AssertionError("the loss read batch.facts")

        get = __iter__ = items = values = keys = __getitem__

    given = batch(rng)
    make()(Batch(given.views, given.ids, facts=Forbidden(label=given.ids)), 0.0)


def test_more_views_are_the_mean_over_pairs(rng):
    system, given = make(Spec("objective", "vicreg")).eval(), batch(rng, ("a", "b", "c"))
    z = {name: system.project(view.data) for name, view in given.views.items()}
    pairs = [system.objective(z[u], z[v])["loss"] for u, v in (("a", "b"), ("a", "c"), ("b", "c"))]
    torch.testing.assert_close(system(given, 0.0)["loss"], sum(pairs) / 3)


def test_local_views_meet_only_global_ones(rng):
    """Two global and L local views make 2 L + 1 pairs."""
    names = ("a", "b", "local0", "local1", "local2")
    pairs = pairs_of(names)
    assert len(pairs) == 2 * 3 + 1 and ("local0", "local1") not in pairs
    assert bool(make()(batch(rng, names), 0.0)["loss"].isfinite())  # local crops are smaller


def test_the_order_of_views_does_not_matter(rng):
    system, given = make().eval(), batch(rng, ("a", "b", "c"))
    turned = Batch({name: given.views[name] for name in "cab"}, given.ids)
    torch.testing.assert_close(system(given, 0.0)["loss"], system(turned, 0.0)["loss"])


@pytest.mark.parametrize("views", [(), ("image",), ("local0", "local1")])
def test_a_batch_without_pairs_is_refused(rng, views):
    with pytest.raises(DataError) as caught:
        make()(batch(rng, views), 0.0)
    assert str(caught.value) == (
        "system 'joint-embedding' needs at least two views, one of them global; "
        f"found {', '.join(views) or 'none'}: use views that make 'a' and 'b'"
    )


def test_images_of_several_sizes_are_refused(rng):
    ragged = View([torch.rand(1, 8, 8), torch.rand(1, 9, 8)])
    with pytest.raises(DataError) as caught:
        make()(Batch({"a": ragged, "b": ragged}, torch.arange(2)), 0.0)
    assert str(caught.value) == (
        "system 'joint-embedding' needs the images of view 'a' in one tensor, found a list of 2 sizes: "
        "crop or resize them to one size in the views"
    )


@pytest.mark.parametrize("kind", ["simclr", "vicreg"])
def test_the_energy_is_a_symmetric_distance(rng, kind):
    system = make(Spec("objective", kind)).eval()
    x, y = torch.randn(2, 6, 1, 8, 8, generator=rng)
    energy = system.energy(x, None, y)
    assert energy.shape == (6,) and bool((energy > 0).all())
    torch.testing.assert_close(energy, system.energy(y, None, x))
    assert system.energy(x, None, x).abs().max() < 1e-6


def test_training_lowers_the_energy_of_partners_below_that_of_strangers(rng):
    system = make(Spec("objective", "simclr", temperature=0.5))
    x = torch.randn(16, 1, 8, 8, generator=rng)
    optimizer = torch.optim.Adam(system.parameters(), lr=1e-2)
    for _ in range(30):
        noise = 0.2 * torch.randn(2, *x.shape, generator=rng)
        terms = system(Batch({"a": View(x + noise[0]), "b": View(x + noise[1])}, torch.arange(16)), 0.0)
        optimizer.zero_grad()
        terms["loss"].backward()
        optimizer.step()
    system.eval()
    assert system.energy(x, None, x + 0.2).mean() < system.energy(x, None, x.roll(1, 0)).mean()


def test_an_action_is_refused(rng):
    x = torch.randn(2, 1, 8, 8, generator=rng)
    with pytest.raises(RecipeError) as caught:
        make().energy(x, torch.zeros(2, 3), x)
    assert str(caught.value) == (
        "system 'joint-embedding' predicts nothing from an action: its energy compares two views. "
        "Pass action=None, or use a system that predicts"
    )


def test_an_objective_without_an_energy_falls_back_to_the_mean_squared_difference(rng):
    system = make().eval()
    x, y = torch.randn(2, 6, 1, 8, 8, generator=rng)
    expected = (system.project(x) - system.project(y)).square().mean(1)
    system.objective = torch.nn.Identity()
    torch.testing.assert_close(system.energy(x, None, y), expected)


def test_groups_hold_every_parameter_once_and_spare_vectors_and_tokens():
    torch.manual_seed(0)
    vit = Spec("encoder", "vit", patch=4, width=8, heads=2, depth=1, positions="learned")
    system = JointEmbedding(
        FACTS, encoder=vit, projector=Spec("head", "mlp", widths=(8, 5)), objective=Spec("objective", "vicreg")
    )
    groups = list(system.groups())
    grouped = [p for group in groups for p in group["params"]]
    assert len(grouped) == len({id(p) for p in grouped}) == len(list(system.parameters()))
    names = {id(p): name for name, p in system.named_parameters()}
    decayed = {names[id(p)] for group in groups if group["decay"] for p in group["params"]}
    assert decayed == {
        "encoder.patch_embed.proj.weight",
        *(f"encoder.blocks.0.{layer}.weight" for layer in ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")),
        "projector.0.weight",
        "projector.3.weight",
    }
    assert all(group["scale"] == 1.0 for group in groups)


def test_frozen_parameters_are_in_no_group():
    system = make()
    system.encoder.requires_grad_(False)
    frozen = {id(p) for p in system.encoder.parameters()}
    assert not any(id(p) in frozen for group in system.groups() for p in group["params"])


def test_embed_is_the_encoder_and_project_goes_on(rng):
    system = make().eval()
    x = torch.randn(3, 1, 8, 8, generator=rng)
    assert torch.equal(system.embed(x).pooled, system.encoder(x).pooled)
    assert system.embed(x).pooled.shape == (3, 6) and system.project(x).shape == (3, 5)


def test_the_state_restores_the_system_bit_for_bit(rng):
    system, given = make(Spec("objective", "vicreg")), batch(rng)
    system(given, 0.0)
    state = copy.deepcopy(system.state_dict())
    torch.manual_seed(9)
    other = Spec("system", "joint-embedding", **_settings(Spec("objective", "vicreg"))).build(FACTS)
    other.load_state_dict(state)
    assert torch.equal(system(given, 0.0)["loss"], other(given, 0.0)["loss"])


def _settings(objective):
    return {
        "encoder": Spec("encoder", "convnet", widths=(4, 6)),
        "projector": Spec("head", "mlp", widths=(8, 5)),
        "objective": objective,
    }


def test_the_encoder_can_start_from_a_file(tmp_path):
    torch.manual_seed(7)
    start = Spec("encoder", "convnet", widths=(4, 6)).build(FACTS)
    torch.save(start.state_dict(), tmp_path / "start.pth")
    system = make(weights=str(tmp_path / "start.pth"))
    assert torch.equal(system.encoder.stages[0][0].weight, start.stages[0][0].weight)
    with pytest.raises(CheckpointError, match=r"gone\.pth: there is no such file"):
        make(weights=str(tmp_path / "gone.pth"))


def test_two_processes_give_the_gradient_of_the_joined_batch(two_processes):
    """The whole system under DDP: `forward` is `loss`."""
    assert two_processes["system"]["gradient"] < 1e-10
    assert two_processes["system"]["loss"] < 1e-12
