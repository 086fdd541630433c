"""The world model: roll-outs equal the equations done by hand, gradients flow where they should, bad input is refused."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tacit.core.errors import DataError, RecipeError
from tacit.core.protocols import Imagines, Predicts, System
from tacit.core.spec import Spec
from tacit.core.values import Batch, Facts, Features, View
from tacit.systems.world_model import WorldModel

FACTS = Facts(channels=2, shape=(6, 9, 9), action_dim=2)
PERCEPTRON = Spec("encoder", "perceptron", hidden=(16,), width=8)


def make(facts=FACTS, **settings):
    torch.manual_seed(0)
    given = {"encoder": PERCEPTRON, "inverse": Spec("inverse", "mlp", hidden=(16,)), "steps": 4, **settings}
    return Spec("system", "world-model", **given).build(facts)


def clips(rng, n=5, t=6, a=2):
    return Batch(
        {"image": View(torch.randn(n, 2, t, 9, 9, generator=rng))}, torch.arange(n), torch.randn(n, t, a, generator=rng)
    )


class Adds(nn.Module):
    """z' = z + B a: a world whose dynamics are known."""

    context, lead = 1, 0

    def __init__(self, matrix):
        super().__init__()
        self.matrix = nn.Parameter(matrix)

    def forward(self, states, actions):
        return states + actions @ self.matrix.T


class Sees(nn.Module):
    """The picture's first numbers are the state."""

    def __init__(self, dim):
        super().__init__()
        self.dim, self.scale = dim, nn.Parameter(torch.ones(()))

    def forward(self, x, keep=None):
        return Features(self.scale * x.flatten(1)[:, : self.dim])


def linear(rng, t=7, dim=4):
    """A system that is perfect for z' = z + B a, and clips of that world."""
    matrix = torch.randn(dim, 2, generator=rng)
    actions = torch.randn(3, t, 2, generator=rng)
    start = torch.randn(3, 1, dim, generator=rng)
    states = torch.cat([start, start + (actions @ matrix.T).cumsum(1)[:, :-1]], 1)
    pictures = torch.zeros(3, 2, t, 9, 9)
    pictures[:, 0, :, 0, :dim] = states
    system = make(
        norm="none", inverse=None, similarity=0.0, regulariser=Spec("regulariser", "vc", variance=0.0, covariance=0.0)
    )
    system.encoder, system.predictor, system.dim = Sees(dim), Adds(matrix), dim
    return system, Batch({"image": View(pictures)}, torch.arange(3), actions), states


def test_it_has_the_methods_that_others_ask_for():
    system = make()
    assert isinstance(system, System) and isinstance(system, Predicts) and isinstance(system, Imagines)


def test_the_published_sizes():
    """EB-JEPA counts 1,426,096 for the encoder, 793,600 for the GRU with the shared norm, 328,706 for inverse dynamics."""
    system = Spec("system", "world-model").build(Facts(channels=2, shape=(17, 65, 65), action_dim=2))
    count = {name: sum(p.numel() for p in child.parameters()) for name, child in system.named_children()}
    assert count["encoder"] == 1_426_096 and count["inverse"] == 328_706
    assert count["predictor"] + sum(p.numel() for p in system.encoder.norm.parameters()) == 793_600
    assert sum(p.numel() for p in system.parameters()) == 2_547_378


def test_a_roll_out_is_the_equation_done_step_by_step(rng):
    system, batch = make(), clips(rng)
    z = system.encode(batch.views["image"].data)
    for i in range(6):
        torch.testing.assert_close(z[:, i], system.encoder(batch.views["image"].data[:, :, i]).pooled)
    y = z[:, 0]
    rolled = system.unroll(z, batch.action, 5)
    torch.testing.assert_close(rolled[:, 0], y)
    for i in range(5):
        _, h = system.predictor.rnn(batch.action[None, :, i], y[None])  # torch's own cell
        y = system.encoder.norm(h[0])
        torch.testing.assert_close(rolled[:, i + 1], y)
    torch.testing.assert_close(system.imagine(z[:, 0], batch.action[:, :5]), rolled[:, 1:])


def test_the_loss_is_the_sum_of_its_written_terms(rng):
    system, batch = make(similarity=3.0, inverse_weight=0.5), clips(rng)
    found = system(batch, 0.0)
    z, a = system.encode(batch.views["image"].data), batch.action
    y = system.unroll(z, a, 4)
    rows = z.flatten(0, 1)
    covariance = torch.cov(rows.T)
    off = covariance - covariance.diag().diag()
    hinge = (1 - (rows.var(0) + 1e-4).sqrt()).relu().mean()
    inverse = (system.inverse(z[:, :-1], z[:, 1:]) - a[:, :-1]).square().mean()
    by_step = torch.stack([(y[:, i] - z[:, i]).square().mean() for i in range(1, 5)])
    expected = {
        "prediction": by_step.mean(),
        "similarity": 3.0 * (z[:, 1:] - z[:, :-1]).square().mean(),
        "inverse": 0.5 * inverse,
        "variance": 16.0 * hinge,
        "covariance": 8.0 * off.square().sum() / (8 * 7),
    }
    for name, term in expected.items():
        torch.testing.assert_close(found[name], term, msg=name)
    torch.testing.assert_close(found["loss"], sum(expected.values()))


def test_a_perfect_model_of_a_linear_world_has_no_error_and_no_energy(rng):
    system, batch, states = linear(rng)
    torch.testing.assert_close(system.unroll(states, batch.action, 6), states)
    assert system(batch, 0.0)["loss"] < 1e-10
    x = batch.views["image"].data
    assert system.energy(x[:, :, 0], batch.action[:, 0], x[:, :, 1]).max() < 1e-10
    assert system.energy(x[:, :, 1], batch.action[:, 1:4], x[:, :, 4]).max() < 1e-10
    assert system.energy(x[:, :, 0], batch.action[:, 0] + 1, x[:, :, 1]).min() > 1e-3
    for y in system.unroll_every(states, batch.action, 3):
        torch.testing.assert_close(y, states)


def test_a_planner_finds_the_way_in_an_imagined_linear_world(rng):
    from tacit.planning import CEM, goal_energy

    system, _, states = linear(rng)
    goal = states[:, :1] + (torch.tensor([[[1.0, -2.0]]]) @ system.predictor.matrix.T)
    cost = goal_energy(system.imagine, states[:, 0], goal[:, 0])
    plan = CEM(samples=200, elites=20, iterations=20).plan(cost, torch.zeros(3, 4, 2), torch.Generator().manual_seed(0))
    torch.testing.assert_close(plan.actions.sum(1), torch.tensor([[1.0, -2.0]]).expand(3, 2), atol=0.02, rtol=0)


def test_roll_outs_from_every_frame_agree_with_roll_outs_from_one(rng):
    """After i iterations, what began at frame s is the i-step roll-out from s."""
    system, batch = make(), clips(rng)
    z = system.encode(batch.views["image"].data)
    for i, y in enumerate(system.unroll_every(z, batch.action, 3), start=1):
        for s in range(6 - i):
            alone = system.unroll(z[:, s:], batch.action[:, s:], i)
            torch.testing.assert_close(y[:, s + i], alone[:, i])


def test_official_means_count_the_known_frames(rng):
    batch = clips(rng)
    correct, official = (make(starts="every", compat=c)(batch, 0.0)["prediction"] for c in ("correct", "official"))
    torch.testing.assert_close(official, correct * 5 / 6)


def test_the_encoder_learns_through_the_target_unless_it_is_detached(rng):
    batch = clips(rng)
    slopes = {}
    for target in ("live", "detached"):
        system = make(target=target, similarity=0.0, inverse=None, steps=1)
        z, a = system._clips(batch)
        z = z.detach().requires_grad_()
        system.prediction_error(z, a).backward()
        slopes[target] = z.grad
    assert slopes["live"][:, 1].abs().max() > 0 and slopes["detached"][:, 1].abs().max() == 0
    torch.testing.assert_close(slopes["live"][:, 0], slopes["detached"][:, 0])


def test_the_gradient_of_a_roll_out_is_that_of_finite_differences(rng):
    system = make(steps=3).double()
    batch = clips(rng, n=2, t=4)
    z = system.encode(batch.views["image"].data.double()).detach().requires_grad_()
    assert torch.autograd.gradcheck(lambda s: system.prediction_error(s, batch.action.double()), (z,))


def test_a_frozen_encoder_stays_as_it_is(rng):
    system = make(frozen=True, regulariser=None, inverse=None, norm="own").train()
    assert not system.encoder.training and system.predictor.training
    before = {name: p.clone() for name, p in system.encoder.named_parameters()}
    optimizer = torch.optim.SGD([p for g in system.groups() for p in g["params"]], lr=0.1)
    system(clips(rng), 0.0)["loss"].backward()
    optimizer.step()
    assert all(torch.equal(p, before[name]) for name, p in system.encoder.named_parameters())
    assert all(p.grad is None for p in system.encoder.parameters())


def test_a_projector_of_the_state_changes_its_width_and_one_of_the_loss_does_not(rng):
    head, batch = Spec("head", "mlp", widths=(12, 5)), clips(rng)
    state = make(projector=head, projects="state", norm="none")
    assert state.imagine(torch.zeros(3, 5), torch.zeros(3, 2, 2)).shape == (3, 2, 5)
    loss = make(projector=head)
    assert loss.imagine(torch.zeros(3, 8), torch.zeros(3, 2, 2)).shape == (3, 2, 8)
    assert loss.project(batch.views["image"].data).shape == (5, 5)
    for system in (state, loss):
        system(batch, 0.0)["loss"].backward()
        assert all(p.grad is not None for p in system.parameters())


def test_steps_lower_the_loss(rng):
    system, batch = make(), clips(rng, n=16)
    optimizer, losses = torch.optim.Adam(system.parameters(), lr=3e-3), []
    for _ in range(30):
        terms = system(batch, 0.0)
        optimizer.zero_grad()
        terms["loss"].backward()
        optimizer.step()
        losses.append(terms["loss"].item())
    assert losses[-1] < 0.8 * losses[0]


def test_groups_name_every_parameter_once():
    system = make()
    named = [p for group in system.groups() for p in group["params"]]
    assert len({id(p) for p in named}) == len(named) == len(list(system.parameters()))


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (
            {"encoder": Spec("encoder", "convnet", widths=(4, 6))},
            "norm: encoder 'convnet' has no final norm to share with the predictor: set norm=own or none",
        ),
        (
            {"regulariser": None},
            "system: without a regulariser every state collapses to one point: choose vc or sigreg, or set frozen=true",
        ),
        (
            {"projector": Spec("head", "identity"), "projects": "state"},
            "system: norm='tied' shares the encoder's norm, and the projector stands behind it: set norm=own or none",
        ),
        ({"state": "tokens"}, "system: inverse dynamics compare pooled states: set state=pooled or inverse=null"),
    ],
)
def test_compositions_that_mean_nothing_are_refused(settings, sentence):
    with pytest.raises(RecipeError) as caught:
        make(**settings)
    assert str(caught.value) == sentence


def test_bad_batches_are_refused(rng):
    system, batch = make(), clips(rng)
    x = batch.views["image"].data
    cases = {
        "system 'world-model' needs 5 frames a clip for steps=4, found 3: lengthen the clips (data.frames) or lower system.steps": Batch(
            {"image": View(x[:, :, :3])}, batch.ids, batch.action
        ),
        "system 'world-model' was built for actions of 2 numbers, this batch has 3": Batch(
            batch.views, batch.ids, torch.zeros(5, 6, 3)
        ),
        "system 'world-model' was built for actions of 2 numbers, this batch has none": Batch(batch.views, batch.ids),
        "system 'world-model' learns from clips [n c t h w] of one size: take a source of clips": Batch(
            {"image": View(x[:, :, 0])}, batch.ids, batch.action
        ),
    }
    for sentence, given in cases.items():
        with pytest.raises(DataError) as caught:
            system(given, 0.0)
        assert str(caught.value) == sentence
    with pytest.raises(DataError) as caught:
        system.imagine(torch.zeros(2, 8), torch.zeros(2, 3, 5))
    assert str(caught.value) == "this world model was trained on actions of 2 numbers, these have 5"
    with pytest.raises(DataError) as caught:
        system.unroll(torch.zeros(2, 6, 8), torch.zeros(2, 3, 2), 4)
    assert str(caught.value) == (
        "a roll-out of 4 steps needs 4 actions, these clips have 3: lengthen the clips or lower system.steps"
    )


def test_data_without_actions_have_no_gru():
    with pytest.raises(RecipeError) as caught:
        WorldModel(Facts(channels=2, shape=(6, 9, 9)), encoder=PERCEPTRON)
    assert str(caught.value) == (
        "dynamics 'gru' moves a state by an action, and the data have none: take a source with actions"
    )
