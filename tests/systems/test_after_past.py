"""Roll-outs from several frames: what samples share is computed once, and nothing changes by it."""

from __future__ import annotations

import pytest
import torch

from tacit.core.errors import DataError
from tacit.core.spec import Spec
from tacit.core.values import Facts
from tacit.systems.after_past import imagine_after

FACTS = Facts(channels=2, shape=(6, 8, 8), action_dim=2)


def make(state, predictor):
    torch.manual_seed(0)
    encoder = Spec("encoder", "pixels", patch=4 if state == "tokens" else 0)
    spec = Spec(
        "system", "world-model", encoder=encoder, frozen=True, state=state, predictor=predictor, regulariser=None, inverse=None,
        similarity=0.0, norm="none", steps=1, starts="every",
    )  # fmt: skip
    model = spec.build(FACTS).double().eval()
    for parameter in model.predictor.parameters():  # gates begin at zero, which would hide what the past says
        torch.nn.init.normal_(parameter, std=0.3)
    return model


TRANSFORMER = {"depth": 2, "heads": 2, "head_width": 8, "hidden": 16, "frames": 3, "action_width": 6}


@pytest.mark.parametrize("condition", ["concat", "adaln"])
@pytest.mark.parametrize("state", ["pooled", "tokens"])
@pytest.mark.parametrize("seen", [1, 2, 3, 5])
def test_shared_keys_and_values_change_nothing(condition, state, seen, rng):
    model = make(state, Spec("dynamics", "causal-transformer", condition=condition, **TRANSFORMER))
    past = model.encode(torch.randn(2, 2, seen, 8, 8, generator=rng).double())
    done = torch.randn(2, seen - 1, 2, generator=rng).double()
    actions = torch.randn(8, 4, 2, generator=rng).double()
    with torch.no_grad():
        shared, plain = (imagine_after(model, past, done, actions, share=s) for s in (True, False))
    torch.testing.assert_close(shared, plain, atol=1e-10, rtol=1e-10)
    assert shared.shape == (8, 4, *past.shape[2:])


def test_it_is_the_roll_out_of_the_model_where_one_frame_is_known_and_depends_on_the_past_where_more_are(rng):
    model = make("pooled", Spec("dynamics", "causal-transformer", **TRANSFORMER))
    past = model.encode(torch.randn(1, 2, 3, 8, 8, generator=rng).double())
    done, actions = torch.randn(1, 2, 2, generator=rng).double(), torch.randn(5, 3, 2, generator=rng).double()
    with torch.no_grad():
        alone = imagine_after(model, past[:, -1:], done[:, :0], actions)
        torch.testing.assert_close(alone, model.unroll(past[:, -1:].expand(5, -1, -1), actions, 3)[:, 1:])
        seen = imagine_after(model, past, done, actions)
        other = imagine_after(model, past.flip(1)[:, [1, 0, 2]], done, actions)
        z = torch.cat([past.expand(5, -1, -1), actions.new_zeros(5, 0, past.shape[2])], 1)
        once = model.follow(z, torch.cat([done.expand(5, -1, -1), actions[:, :1]], 1))[:, -1]
    torch.testing.assert_close(seen[:, 0], once)
    assert (seen - other).abs().max() > 1e-3 and (seen - alone).abs().max() > 1e-3


@pytest.mark.parametrize("condition", ["concat", "adaln"])
@pytest.mark.parametrize("state", ["pooled", "tokens"])
def test_a_frame_goes_through_the_predictor_once_while_the_window_grows(condition, state, rng, monkeypatch):
    model = make(state, Spec("dynamics", "causal-transformer", condition=condition, **TRANSFORMER))
    z = model.encode(torch.randn(4, 2, 8, 8, generator=rng).double())
    actions = torch.randn(4, 5, 2, generator=rng).double().requires_grad_()
    frames, extend = [], model.predictor.extend
    monkeypatch.setattr(model.predictor, "extend", lambda y, *rest: frames.append(y.shape[1]) or extend(y, *rest))
    found, told = model.imagine(z, actions), model.unroll(z.unsqueeze(1), actions, 5)[:, 1:]
    assert frames == [1, 1, 1, 3, 3]  # then it moves, and positions change
    torch.testing.assert_close(found, told, atol=1e-10, rtol=1e-10)
    slopes = [torch.autograd.grad(y.square().sum(), actions, retain_graph=True)[0] for y in (found, told)]
    torch.testing.assert_close(*slopes)


def test_predictors_of_one_frame_ignore_what_came_before(rng):
    model = make("pooled", Spec("dynamics", "mlp", hidden=(16,)))
    past = model.encode(torch.randn(2, 2, 3, 8, 8, generator=rng).double())
    actions = torch.randn(6, 4, 2, generator=rng).double()
    found = imagine_after(model, past, torch.zeros(2, 2, 2).double(), actions)
    torch.testing.assert_close(found, model.imagine(past[:, -1].repeat_interleave(3, 0), actions))


def test_wrong_numbers_of_actions_are_refused():
    model = make("pooled", Spec("dynamics", "mlp", hidden=(16,)))
    with pytest.raises(DataError) as caught:
        imagine_after(model, torch.zeros(2, 3, model.dim), torch.zeros(2, 3, 2), torch.zeros(4, 1, 2))
    assert str(caught.value) == (
        "3 frames of 2 problems need 2 actions between them and a multiple of 2 plans, found [2, 3] and 4"
    )
