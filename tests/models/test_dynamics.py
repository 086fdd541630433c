"""Dynamics of world models: published sizes, causality over frames, and what each refuses."""

from __future__ import annotations

import pytest
import torch

from tacit.core.errors import DataError, RecipeError
from tacit.core.spec import Spec
from tacit.core.values import Facts
from tacit.models.causal_transformer import CausalTransformer
from tacit.models.gates import gate
from tacit.models.gru import GRU
from tacit.models.residual_maps import ResidualMap, ResidualUNet
from tacit.models.residual_mlp import ResidualMLP


def count(module):
    return sum(p.numel() for p in module.parameters())


def test_published_sizes():
    """DINO-WM's predictor at width 404 and 196 places; EB-JEPA's video encoder, predictor and projector."""
    predictor = CausalTransformer(394, 2, 196)
    assert count(predictor) - count(predictor.action) == 20_122_600
    facts = Facts(channels=1, shape=(10, 64, 64))
    assert count(ResidualMap(facts)) == 89_280
    assert count(ResidualUNet(16, 0, 64 * 64)) == 2_032_496
    assert count(Spec("head", "mlp", widths=(64, 64)).build(16)) == 5_312


@pytest.mark.parametrize("condition", ["concat", "adaln"])
@pytest.mark.parametrize("places", [1, 5])
def test_a_frame_sees_itself_and_those_before_it(condition, places, rng):
    model = CausalTransformer(
        6, 2, places, frames=4, depth=2, heads=2, head_width=4, hidden=8, condition=condition
    ).eval()
    if condition == "adaln":
        for block in model.blocks:  # open the gates
            torch.nn.init.normal_(block.modulate[1].weight)
    shape = (3, 4, 6) if places == 1 else (3, 4, places, 6)
    states, actions = torch.randn(shape, generator=rng), torch.randn(3, 4, 2, generator=rng)
    base = model(states, actions)
    assert base.shape == states.shape
    for what in ("states", "actions"):
        later_states, later_actions = states.clone(), actions.clone()
        (later_states if what == "states" else later_actions)[:, 2, ..., 0] += (
            1.0  # a shift of all features is lost in the norms
        )
        moved = (model(later_states, later_actions) - base).abs().flatten(2).amax((0, 2))
        assert (moved[:2] == 0).all() and (moved[2:] > 1e-6).all(), what
    torch.testing.assert_close(model(states[:, :2], actions[:, :2]), base[:, :2])


def test_the_gates_start_shut(rng):
    model = CausalTransformer(6, 2, 1, frames=3, depth=1, heads=2, head_width=4, hidden=8, condition="adaln").eval()
    states = torch.randn(2, 3, 6, generator=rng)
    one, other = (model(states, torch.randn(2, 3, 2, generator=rng)) for _ in range(2))
    torch.testing.assert_close(one, other)


def test_more_frames_than_it_sees_are_refused():
    model = CausalTransformer(6, 2, 1, frames=3, depth=1, heads=2, head_width=4, hidden=8)
    with pytest.raises(DataError) as caught:
        model(torch.zeros(1, 4, 6), torch.zeros(1, 4, 2))
    assert str(caught.value) == (
        "dynamics 'causal-transformer' sees 3 frames, found 4: shorten the clips to 4 frames (data.frames), or raise "
        "system.predictor.frames"
    )


def test_the_unet_predicts_from_the_last_two_frames_alone(rng):
    unet = ResidualUNet(3, 2, 64, hidden=4).eval()
    states, actions = torch.randn(2, 5, 64, 3, generator=rng), torch.randn(2, 5, 2, generator=rng)
    whole = unet(states, actions)
    assert whole.shape == (2, 4, 64, 3)
    for t in range(1, 5):
        torch.testing.assert_close(unet(states[:, t - 1 : t + 1], actions[:, t - 1 : t + 1])[:, 0], whole[:, t - 1])
    places = states.transpose(2, 3).unflatten(3, (8, 8))[0, 0, :, 2, 5]
    torch.testing.assert_close(places, states[0, 0, 2 * 8 + 5])  # row-major


def test_nothing_moves_at_first_in_a_residual_perceptron(rng):
    states = torch.randn(2, 3, 6, generator=rng)
    torch.testing.assert_close(ResidualMLP(6, 2, hidden=(8,))(states, torch.randn(2, 3, 2, generator=rng)), states)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: ResidualMLP(6, 2, 4), "dynamics 'mlp' moves one vector, the states have 4 places: set state=pooled"),
        (
            lambda: Spec("dynamics", "gru").build(6, 2, 4),
            "dynamics 'gru' moves one vector, the states have 4 places: set state=pooled",
        ),
        (
            lambda: ResidualUNet(6, 2, 65),
            "dynamics 'residual-unet' moves square maps of at least 8 x 8 places, the states have 65: set state=tokens and take an encoder "
            "that keeps a square map, for example residual-map",
        ),
        (
            lambda: CausalTransformer(6, 2, 1, action_width=0),
            "dynamics 'causal-transformer': action_width=0 hides the actions that the data have: set it to 10",
        ),
    ],
)
def test_states_that_do_not_fit_are_refused(make, sentence):
    with pytest.raises(RecipeError) as caught:
        make()
    assert str(caught.value) == sentence


def test_a_cell_runs_under_autocast(rng):
    """Its gates are narrow there and its state is not: the state stays as wide as it came."""
    cell = GRU(8, 2)
    state, actions = torch.randn(5, 8, generator=rng), torch.randn(5, 2, generator=rng)
    wide = cell.cell(state, cell.inputs(actions))
    with torch.autocast("cpu", torch.bfloat16):
        narrow = cell.cell(state, cell.inputs(actions))
    assert narrow.dtype == torch.float32
    torch.testing.assert_close(narrow, wide, rtol=0, atol=0.03)


@pytest.mark.parametrize(("n", "d", "actions", "embed"), [(0, 3, 2, 0), (5, 7, 2, 0), (700, 64, 10, 6), (3, 16, 40, 0)])
def test_a_step_in_one_pass_is_the_cells(n, d, actions, embed, rng):
    model = GRU(d, actions, embed=embed).eval()
    state, action = torch.randn(n, d, generator=rng), 3 * torch.randn(n, actions, generator=rng)
    with torch.no_grad():
        found, cell = model.step(state, action), model.cell(state, model.inputs(action))
        torch.testing.assert_close(found, cell, rtol=0, atol=2e-6)
        torch.testing.assert_close(found[::2], model.step(state[::2], action[::2]), rtol=0, atol=2e-6)  # not contiguous
        with torch.autocast("cpu", torch.bfloat16):
            narrow = model.step(state, action)
        assert narrow.dtype == torch.float32
        torch.testing.assert_close(narrow, cell, rtol=0, atol=0.03)
    grown = model.step(state.requires_grad_(), action)
    assert grown.requires_grad
    torch.testing.assert_close(grown, found, rtol=0, atol=2e-6)


def test_a_step_of_doubles_stays_one(rng):
    model = GRU(4, 2).double().eval()
    state, action = (torch.randn(3, width, generator=rng, dtype=torch.float64) for width in (4, 2))
    with torch.no_grad():
        assert torch.equal(model.step(state, action), model.cell(state, model.inputs(action)))


def test_gates_that_are_full_or_no_numbers(rng):
    model, state = GRU(4, 1).eval(), torch.randn(2, 4, generator=rng)
    with torch.no_grad():
        for weight in model.rnn.parameters():
            weight.zero_()
        at = {"reset": 0, "keep": 4, "new": 8}
        model.rnn.weight_ih_l0[at["new"] :] = 1e4
        ends = torch.tensor([[1.0], [-1.0]])
        torch.testing.assert_close(model.step(state, ends), (state + ends) / 2)
        model.rnn.bias_ih_l0[at["keep"] : at["new"]] = 1e4
        torch.testing.assert_close(model.step(state, ends), state)
        model.rnn.bias_ih_l0[at["keep"] : at["new"]] = -1e4
        torch.testing.assert_close(model.step(state, ends), ends.expand(2, 4))
        for name, row in at.items():
            model.rnn.weight_hh_l0.zero_()
            model.rnn.weight_hh_l0[row] = float("nan")
            assert model.step(state, ends).isnan()[:, 0].all(), name


def test_the_rows_of_a_step_depend_neither_on_threads_nor_on_the_product_s_type(rng):
    model, before = GRU(64, 2).eval(), torch.get_num_threads()
    state, action, held = (torch.randn(2000, width, generator=rng) for width in (64, 2, 192))
    weights = (model.rnn.weight_ih_l0, model.rnn.bias_ih_l0, held, model.rnn.bias_hh_l0)
    try:
        found = []
        for threads in (1, 3):
            torch.set_num_threads(threads)
            found.append(gate(action, *weights, state))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*found)
    rounded = held.bfloat16()
    weights = (*weights[:2], rounded, weights[3])
    wide = (*weights[:2], rounded.float(), weights[3])
    assert torch.equal(gate(action, *weights, state), gate(action, *wide, state))  # bfloat16 is widened, no more
