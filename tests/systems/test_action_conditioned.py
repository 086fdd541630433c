"""The action-conditioned world model on a frozen encoder."""

from __future__ import annotations

import pytest
import torch

from tacit.core.errors import DataError, RecipeError
from tacit.core.spec import Spec
from tacit.core.values import Batch, Facts, View
from tacit.ops.pose import moved
from tacit.systems.action_conditioned import Seen

FACTS = Facts(channels=3, shape=(5, 16, 16), action_dim=7)
ENCODER = Spec(
    "encoder",
    "vit",
    patch=8,
    tubelet=2,
    width=24,
    depth=1,
    heads=2,
    pooling="mean",
    class_token=False,
    positions="rope",
)
PREDICTOR = Spec("action-predictor", "block-causal", width=32, depth=2, heads=2)


def made(facts=FACTS, **settings):
    torch.manual_seed(0)
    return Spec("system", "action-conditioned", encoder=ENCODER, predictor=PREDICTOR, **settings).build(facts)


def batch(rng, n=3, t=5):
    state = torch.rand(n, t, 7, generator=rng)
    action = 0.1 * torch.randn(n, t, 7, generator=rng)
    return Batch(
        {"image": View(torch.randn(n, 3, t, 16, 16, generator=rng))}, torch.arange(n), action, {"state": state}
    )


def seen_of(system, given, t=3):
    z = system.encode(given.views["image"].data[:, :, :t])
    return Seen(z, given.facts["state"][:, :t], given.action[:, : t - 1])


def whole(system, seen, actions):
    """Roll out by the predictor on everything so far, again and again: what the published code does."""
    each = len(actions) // len(seen.z)
    z, a, s = (one.repeat_interleave(each, 0) for one in (seen.z, seen.actions, seen.states))
    found = []
    for action in actions.unbind(1):
        a = torch.cat([a, action.unsqueeze(1)], 1)
        following = system._settled(system.predictor(z, a, s)[:, -1:])
        z, s = torch.cat([z, following], 1), torch.cat([s, moved(s[:, -1], action).unsqueeze(1)], 1)
        found.append(following[:, 0])
    return torch.stack(found, 1)


def test_the_loss_is_the_sum_of_both_errors_written_out(rng):
    system, given = made(rollout=3), batch(rng)
    z, a, s = system.encode(given.views["image"].data), given.action, given.facts["state"]

    def p(y, n):
        return torch.nn.functional.layer_norm(system.predictor(y, a[:, :n], s[:, :n]), (24,))

    told = p(z[:, :4], 4)
    y2 = p(z[:, :1], 1)
    y3 = p(torch.cat([z[:, :1], y2], 1), 2)[:, -1:]
    y4 = p(torch.cat([z[:, :1], y2, y3], 1), 3)[:, -1:]
    terms = system.loss(given, 0.0)
    torch.testing.assert_close(terms["teacher"], (told - z[:, 1:]).abs().mean().detach())
    torch.testing.assert_close(terms["rollout"], (torch.cat([y2, y3, y4], 1) - z[:, 1:4]).abs().mean().detach())
    torch.testing.assert_close(terms["loss"].detach(), terms["teacher"] + terms["rollout"])
    torch.testing.assert_close(y2, told[:, :1])  # the first frame rolled out is the first one told


def test_the_published_loss_feeds_back_the_frame_after_the_next(rng):
    right, official, given = made(), made(compat="official"), batch(rng)
    official.load_state_dict(right.state_dict())
    z, a, s = right.encode(given.views["image"].data), given.action, given.facts["state"]
    third = right._settled(right.predictor(z[:, :2], a[:, :2], s[:, :2])[:, 1:])
    last = right._settled(right.predictor(torch.cat([z[:, :1], third], 1), a[:, :2], s[:, :2])[:, 1:])
    found = official.loss(given, 0.0)
    torch.testing.assert_close(found["rollout"], (torch.cat([third, last], 1) - z[:, 1:3]).abs().mean().detach())
    assert torch.equal(found["teacher"], right.loss(given, 0.0)["teacher"])
    assert found["rollout"] != right.loss(given, 0.0)["rollout"]


def test_states_are_normalised_tokens_of_single_frames(rng):
    system, x = made().train(), batch(rng).views["image"].data
    z = system.encode(x)
    assert z.shape == (3, 5, 4, 24)
    torch.testing.assert_close(z.mean(-1), torch.zeros(3, 5, 4), rtol=0, atol=1e-5)
    torch.testing.assert_close(z.var(-1, correction=0), torch.ones(3, 5, 4), rtol=0, atol=1e-2)
    torch.testing.assert_close(system.encode(x[:, :, 2]), z[:, 2])
    still = x[:, :, 2:3].expand(-1, -1, 2, -1, -1)
    torch.testing.assert_close(
        system._settled(system.encoder(still).tokens), z[:, 2]
    )  # one tubelet of the frame, twice


def test_only_the_predictor_learns(rng):
    system = made().train()
    system.loss(batch(rng), 0.0)["loss"].backward()
    assert all(p.grad is None for p in system.encoder.parameters()) and not system.encoder.training
    learning = {id(p) for group in system.groups() for p in group["params"]}
    assert learning == {id(p) for p in system.predictor.parameters()}
    assert all(p.grad is not None for p in system.predictor.parameters())


@torch.no_grad()
@pytest.mark.parametrize("context", [1, 3])
@pytest.mark.parametrize("over", ["last", "sum"])
def test_roll_outs_that_share_the_context_equal_those_that_do_not(rng, context, over):
    system, given = made().eval(), batch(rng)
    seen = seen_of(system, given, context)
    actions = 0.1 * torch.randn(3 * 7, 3, 7, generator=rng)
    expected = whole(system, seen, actions)
    torch.testing.assert_close(system.imagine(seen, actions), expected, rtol=0, atol=1e-5)
    goal = system.encode(given.views["image"].data[:, :, -1])
    y = expected[:, -1:] if over == "last" else expected
    energies = (y - goal.repeat_interleave(7, 0).unsqueeze(1)).abs().mean((1, 2, 3))
    for rows in (1000, 14, 7, 3):  # in however many pieces
        torch.testing.assert_close(
            system.goal_energy(seen, goal, over=over, rows=rows)(actions), energies, rtol=0, atol=1e-5
        )


@torch.no_grad()
def test_the_energy_of_a_picture_is_the_distance_of_what_was_imagined(rng):
    system, given = made().eval(), batch(rng)
    seen, y = seen_of(system, given), given.views["image"].data[:, :, 4]
    found = system.energy(seen, given.action[:, 2:4], y)
    torch.testing.assert_close(found, system.goal_energy(seen, system.encode(y))(given.action[:, 2:4]))
    assert found.shape == (3,)


def test_what_does_not_fit_is_refused(rng, tmp_path):
    with pytest.raises(
        DataError, match=r"takes actions of 7 numbers .*, these data have 2: for others take system=world-model"
    ):
        made(Facts(channels=3, shape=(5, 16, 16), action_dim=2))
    with pytest.raises(RecipeError, match="rollout=1 feeds nothing back: set rollout=2 or compat=correct"):
        made(rollout=1, compat="official")
    with pytest.raises(DataError, match="rollout=2 needs clips of 3 frames, found 2: lengthen them"):
        made().loss(batch(rng, t=2), 0.0)
    bare = batch(rng)
    with pytest.raises(DataError, match="needs the actions of a clip and the fact 'state'"):
        made().loss(Batch(bare.views, bare.ids, bare.action), 0.0)
    with pytest.raises(DataError, match="t frames have t states and t - 1 actions, found 2, 2 and 2"):
        Seen(torch.zeros(1, 2, 4, 24), torch.zeros(1, 2, 7), torch.zeros(1, 2, 7))


def test_the_encoder_comes_from_a_file_or_an_export(tmp_path):
    from tacit.models import store

    torch.manual_seed(1)
    facts = Facts(channels=3, shape=(2, 16, 16))
    encoder = ENCODER.build(facts)
    store.export(ENCODER, facts, encoder, tmp_path / "encoder")
    for place in (tmp_path / "encoder", tmp_path / "encoder" / "model.safetensors"):
        system = made(weights=str(place))
        assert all(torch.equal(v, encoder.state_dict()[k]) for k, v in system.encoder.state_dict().items())
