"""Latent actions: the analytic cases of the reference, and the laws of each bottleneck."""

from __future__ import annotations

import pytest
import torch

from tacit.core.errors import DataError, RecipeError
from tacit.core.protocols import Imagines, Predicts, System
from tacit.core.spec import Spec
from tacit.core.values import Batch, Facts, View
from tacit.models.bottlenecks import Noisy, Quantised, Sparse

FACTS = Facts(channels=2, shape=(4, 9, 9), action_dim=2)
KINDS = [
    Spec("bottleneck", "free", width=3),
    Spec("bottleneck", "sparse", width=3),
    Spec("bottleneck", "noisy", width=3),
    Spec("bottleneck", "vq", width=3, codes=4),
    Spec("bottleneck", "vq", width=3, codes=4, update="noise"),
]


def world(**settings):
    encoder = Spec("encoder", "perceptron", hidden=(16,), width=8)
    given = {"encoder": encoder, "inverse": None, "similarity": 0.0, "steps": 1, "starts": "every", **settings}
    return Spec("system", "world-model", **given)


def make(bottleneck=KINDS[0], **settings):
    torch.manual_seed(0)
    return Spec(
        "system",
        "latent-action",
        world=world(**settings),
        bottleneck=bottleneck,
        inverse=Spec("inverse", "mlp", hidden=(16,)),
    ).build(FACTS)


def clips(rng, n=6, t=4):
    return Batch(
        {"image": View(torch.randn(n, 2, t, 9, 9, generator=rng))}, torch.arange(n), torch.randn(n, t, 2, generator=rng)
    )


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: f"{k.kind}-{k.get('update', '')}")
def test_every_bottleneck_trains_every_part(kind, rng):
    system, batch = make(kind), clips(rng)
    assert isinstance(system, System) and isinstance(system, Predicts) and isinstance(system, Imagines)
    terms = system(batch, 0.0)
    terms["loss"].backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in system.parameters())
    torch.testing.assert_close(terms["loss"], sum(v for k, v in terms.items() if k != "loss"))
    assert len({id(p) for g in system.groups() for p in g["params"]}) == len(list(system.parameters()))


def test_recorded_actions_are_never_read(rng):
    system, batch = make().eval(), clips(rng)
    blind = Batch(batch.views, batch.ids)
    torch.testing.assert_close(system(batch, 0.0), system(blind, 0.0))


def test_the_loss_is_that_of_the_world_model_under_the_inferred_latents(rng):
    system, batch = make().eval(), clips(rng)
    states = system.encode(batch.views["image"].data)
    z, _ = system.infer(states[:, :-1], states[:, 1:])
    padded = torch.cat([z, torch.zeros(6, 1, 3)], 1)
    expected = system.world.loss(Batch(batch.views, batch.ids, padded), 0.0)
    torch.testing.assert_close(system(batch, 0.0)["loss"], expected["loss"])


def test_codes_of_discrete_actions_reach_the_distortion_of_k_means():
    """s' = s + u with four values of u: four codes reach zero, two codes the best split in two."""
    torch.manual_seed(0)
    u = torch.tensor([[0.0, 0.0], [1.0, 0.0], [10.0, 0.0], [11.0, 0.0]])
    for codes, best in ((4, 0.0), (2, 0.25)):
        vq = Quantised(width=2, codes=codes, decay=0.8, patience=10)
        for _ in range(300):
            vq(u[torch.randint(4, (64,))])
        vq.eval()
        z, _ = vq(u)
        assert abs(float((z - u).square().sum(1).mean()) - best) < 0.02, codes


def test_a_code_that_nothing_chooses_is_set_where_a_latent_is():
    vq = Quantised(width=2, codes=3, patience=2)
    far = torch.tensor([[0.0, 0.0], [100.0, 0.0], [200.0, 0.0]])
    vq(far)
    torch.testing.assert_close(vq.codebook, far)  # codes begin at latents of the first batch
    raw = torch.tensor([[0.5, 0.0], [-0.5, 0.1]])
    for _ in range(2):
        vq(raw)
        assert vq.codebook.abs().max() > 90  # out of use, but not for `patience` steps yet
    vq(raw)
    assert vq.codebook.abs().max() < 1
    kept = vq.codebook.clone()
    vq.eval()
    vq(raw + 50)
    assert torch.equal(vq.codebook, kept)  # evaluation remembers nothing


def test_noise_substitution_keeps_the_distance_to_the_code():
    vq = Quantised(width=5, codes=4, update="noise")
    vq(torch.randn(7, 5))
    raw = torch.randn(7, 5)
    z, _ = vq(raw)
    code = vq.codebook[vq.nearest(raw)]
    torch.testing.assert_close((z - raw).norm(dim=1), (code - raw).norm(dim=1))


def test_the_divergence_has_its_closed_form():
    noisy = Noisy(width=2, beta=2.0)
    raw = torch.tensor([[1.0, -2.0, 0.0, 0.0]])
    torch.testing.assert_close(noisy(raw)[1]["divergence"], torch.tensor(2.0 * 0.5 * 5.0))
    assert noisy(torch.zeros(3, 4))[1]["divergence"] == 0
    noisy.eval()
    torch.testing.assert_close(noisy(raw)[0], raw[:, :2])


def test_the_sparse_price_is_the_written_sum():
    z = torch.randn(40, 6) * 0.3
    price = Sparse(width=6, l1=0.1, weight=2.0)(z)[1]["sparse"]
    off = torch.cov(z.T) - torch.cov(z.T).diag().diag()
    expected = (
        (6 - z.square().sum(1)).clamp_min(0).mean()
        + 0.1 * z.abs().sum(1).mean()
        + 0.1 * (1 - (z.var(0) + 1e-4).sqrt()).clamp_min(0).mean()
        + 0.001 * off.square().sum() / 30
        + 0.1 * z.mean(0).square().mean()
    )
    torch.testing.assert_close(price, 2 * expected)
    assert Sparse(width=6, compat="official")(z - 1e4)[1]["sparse"] < Sparse(width=6)(z - 1e4)[1]["sparse"]


@pytest.mark.parametrize(
    ("inside", "sentence"),
    [
        (
            {"inverse": Spec("inverse", "mlp")},
            "system: world.inverse: the inverse dynamics of latent actions are their own: set world.inverse=null",
        ),
        (
            {"state": "tokens"},
            "system: world.state: latents between states of tokens are inferred by attention: set inverse=attention or world.state=pooled",
        ),
    ],
)
def test_worlds_that_do_not_fit_are_refused(inside, sentence):
    with pytest.raises(RecipeError) as caught:
        make(**inside)
    assert str(caught.value) == sentence


def test_pictures_are_refused(rng):
    with pytest.raises(DataError) as caught:
        make()(Batch({"image": View(torch.zeros(2, 2, 9, 9))}, torch.arange(2)), 0.0)
    assert str(caught.value) == (
        "system 'latent-action' learns from clips [n c t h w] of at least two frames: take a source of clips"
    )
