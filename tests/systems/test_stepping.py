"""Time-stepping: losses in closed form, roll-outs, conditions that are what they say, a frozen encoder, running moments."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tacit.core.errors import DataError, RecipeError
from tacit.core.spec import Spec
from tacit.core.values import Batch, Facts, View
from tacit.models import store
from tacit.systems.conditioning import Standardise
from tacit.systems.stepping import nmse

STEPPER = Spec("stepper", "fno", width=4, modes=2, depth=1, last=4)


def facts(frames=5):
    return Facts(channels=1, shape=(frames, 8), action_dim=2)


def system(frames=5, **settings):
    torch.manual_seed(0)
    return Spec("system", "time-stepping", **{"stepper": STEPPER, "history": 1, "horizon": 2, **settings}).build(
        facts(frames)
    )


def batch(frames=5, n=6):
    torch.manual_seed(1)
    u = torch.randn(n, 1, frames, 8)
    context = View(torch.randn(n, 3, 8, 8))
    known = {"viscosity": torch.rand(n).double(), "drag": torch.rand(n)}
    return Batch({"window": View(u), "context": context}, torch.arange(n), action=torch.rand(n, 2), facts=known)


class Doubles(nn.Module):
    """The next frames are the last one doubled, then doubled again."""

    def forward(self, history, condition=None, action=None):
        return torch.cat([2 * history[:, :, -1:], 4 * history[:, :, -1:]], 2)


def doubling(frames):
    return torch.randn(3, 1, 1, 8) * 2.0 ** torch.arange(frames).reshape(1, 1, -1, 1)


def with_doubles(made):
    made.stepper = Doubles()
    return made


def test_a_stepper_that_knows_the_law_has_no_loss_and_rolls_out_exactly():
    made, u = with_doubles(system(frames=7, unroll="through")), doubling(7)
    given = Batch({"window": View(u)}, torch.arange(3), action=torch.zeros(3, 2))
    assert float(made.loss(given, 0.0)["loss"]) == 0
    torch.testing.assert_close(made.roll(u[:, :, :1], 3, None, None), u[:, :, 1:])


def test_the_square_loss_sums_frames_and_fields_and_averages_space_and_samples():
    made = with_doubles(system())
    u = doubling(3)
    wrong = torch.cat([u, torch.zeros(3, 1, 2, 8)], 2)
    wrong[:, :, 1:3] += 0.5
    given = Batch({"window": View(wrong)}, torch.arange(3), action=torch.zeros(3, 2))
    assert float(made.loss(given, 0.0)["loss"]) == pytest.approx(2 * 0.25)


def test_nmse_of_zero_is_one_and_of_the_truth_zero():
    target = torch.randn(4, 1, 3, 8)
    assert torch.equal(nmse(torch.zeros_like(target), target), torch.ones(4))
    assert torch.equal(nmse(target, target), torch.zeros(4))


def test_change_adds_to_the_last_frame():
    made, u = system(predict="change"), torch.randn(2, 1, 1, 8)
    for p in made.stepper.fc2.parameters():
        nn.init.zeros_(p)
    assert torch.equal(made.step(u, None, torch.zeros(2, 2)), u.expand(-1, -1, 2, -1))


def test_pushforward_learns_from_its_own_faulty_history_without_a_gradient_through_it():
    made, u = system(unroll="pushforward"), batch()
    seen = []
    made.stepper.register_forward_pre_hook(lambda m, given: seen.append((given[0].clone(), torch.is_grad_enabled())))
    for seed in range(8):
        torch.manual_seed(seed)
        made.loss(u, 0.0)
    calls = [grad for _, grad in seen]
    assert False in calls and calls.count(True) == 8  # one call that learns in each step
    learns = [history for history, grad in seen if grad]
    window = u.views["window"].data
    true = [torch.equal(h, window[:, :, :1]) for h in learns]
    assert True in true and False in true
    assert not any(torch.equal(h, window[:, :, 2:3]) for h in learns)


@pytest.mark.parametrize("kind", ["none", "coefficient", "representation", "untrained"])
def test_the_condition_is_what_it_says(kind, tmp_path):
    spec, own = Spec("encoder", "convnet", widths=(4, 5)), Facts(channels=3, shape=(8, 8))
    encoder = spec.build(own)
    for p in encoder.parameters():
        nn.init.normal_(p)
    path = store.export(spec, own, encoder, tmp_path / "encoder")
    made = system(
        condition=kind, coefficients=("viscosity", "drag"), representation=str(path), standardise=False
    ).train()
    given = batch()
    c = made.condition(given)
    if kind == "none":
        assert c is None
    elif kind == "coefficient":
        torch.testing.assert_close(c, torch.stack([given.facts["viscosity"].float(), given.facts["drag"]], 1))
    else:
        trained = encoder.eval()(given.views["context"].data).pooled
        assert c.shape == (6, 5) and torch.allclose(c, trained, atol=1e-6) == (kind == "representation")
        assert torch.equal(made.condition(given), c)
        assert not made.condition.encoder.training and not any(
            p.requires_grad for p in made.condition.encoder.parameters()
        )
        learning = {id(p) for group in made.groups() for p in group["params"]}
        assert not learning & {id(p) for p in made.condition.encoder.parameters()}
    made.loss(given, 0.0)["loss"].backward()


def test_a_bottleneck_narrows_the_condition():
    made = system(condition="coefficient", coefficients=("viscosity", "drag"), bottleneck=1)
    assert made.condition(batch()).shape == (6, 1) and made.stepper.ports.condition == 1


def test_running_moments_are_those_of_all_samples_whatever_the_batches():
    torch.manual_seed(0)
    z = 1000 + torch.randn(90, 3) * torch.tensor([1.0, 10.0, 0.0])
    scale = Standardise(3)
    for part in z.split((50, 7, 33)):
        scale(part)
    found = scale.eval()(z)
    torch.testing.assert_close(found[:, :2].mean(0), torch.zeros(2), atol=2e-3, rtol=0)
    torch.testing.assert_close(found[:, :2].std(0, correction=0), torch.ones(2), atol=2e-3, rtol=0)
    assert torch.equal(found[:, 2], torch.zeros(90))
    assert torch.equal(scale(z[:5]), found[:5])


def test_what_does_not_fit_is_refused(tmp_path):
    with pytest.raises(RecipeError, match=r"a window of 6 frames is not history=1 and whole windows of horizon=2"):
        system(frames=6)
    with pytest.raises(RecipeError, match=r"unroll='through' needs more than one window to roll over"):
        system(frames=3, unroll="through")
    with pytest.raises(
        RecipeError, match=r"representation: condition='untrained' needs the folder of a run or of an export"
    ):
        Spec("system", "time-stepping", condition="untrained").resolve()
    with pytest.raises(RecipeError, match=r"coefficients: condition='coefficient' needs the name of at least one fact"):
        Spec("system", "time-stepping", condition="coefficient", coefficients=()).resolve()
    with pytest.raises(DataError, match=r"coefficients: the data know no 'buoyancy'; they know drag, viscosity"):
        system(condition="coefficient", coefficients=("buoyancy",)).condition(batch())
    head = store.export(Spec("head", "mlp"), 4, Spec("head", "mlp").build(4), tmp_path / "head")
    with pytest.raises(DataError, match=r"holds the head 'mlp': a representation comes from an encoder"):
        system(condition="representation", representation=str(head))
    spec, own = Spec("encoder", "convnet", widths=(4,)), Facts(channels=2, shape=(8, 8))
    path = store.export(spec, own, spec.build(own), tmp_path / "two")
    made = system(condition="representation", representation=str(path))
    with pytest.raises(DataError, match=r"reads 2 channels, views.context gives \[6, 3, 8, 8\]"):
        made.condition(batch())
    with pytest.raises(DataError, match=r"a representation is made from the view 'context', and there is none"):
        made.condition(Batch({"window": batch().views["window"]}, torch.arange(6)))
