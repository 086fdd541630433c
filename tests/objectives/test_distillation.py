"""Criteria between a student and its teacher: closed forms, ranges, memories."""

from __future__ import annotations

import copy
import math

import pytest
import torch
import torch.nn.functional as F

from tacit.core.protocols import Distils
from tacit.core.spec import Spec
from tacit.objectives.distillation import Queue
from tacit.ops.prototypes import prototype_cross_entropy
from tacit.ops.similarity import unit

KINDS = {
    "byol": {},
    "simsiam": {},
    "moco": {"keys": 16},
    "moco-v3": {},
    "nnclr": {"support": 16},
    "dino": {},
    "swav": {},
    "msn": {},
    "deepcluster": {"prototypes": (5, 4), "memory": 64},
}
COSINES = ("byol", "simsiam", "moco", "moco-v3", "nnclr")


def make(kind, **settings):
    return Spec("objective", kind, **{**KINDS[kind], **settings}).build()


def normal(rng, *shape):
    return torch.randn(*shape, dtype=torch.float64, generator=rng)


@pytest.mark.parametrize("kind", KINDS)
def test_it_distils(kind):
    assert isinstance(make(kind), Distils)
    assert not isinstance(Spec("objective", "vicreg").build(), Distils)


@pytest.mark.parametrize("kind", KINDS)
def test_called_at_once_or_in_two_parts_it_is_the_same(kind, rng):
    objective = make(kind)
    a, b = normal(rng, 2, 6, 5)
    whole = objective(a, b, progress=0.3)
    torch.testing.assert_close(objective.compare(a, objective.target(b, progress=0.3)), whole)


@pytest.mark.parametrize("kind", COSINES)
def test_the_gradient_is_orthogonal_to_the_prediction(kind, rng):
    """The length of a prediction means nothing."""
    a, b = normal(rng, 2, 6, 5)
    (slope,) = torch.autograd.grad(make(kind)(a.requires_grad_(), b)["loss"], a)
    assert (slope * a).sum(dim=1).abs().max() < 1e-12 < slope.abs().max()


@pytest.mark.parametrize("kind", COSINES)
def test_rotation_and_lengths_change_nothing(kind, rng):
    objective = make(kind)
    a, b = normal(rng, 2, 6, 5)
    turn, _ = torch.linalg.qr(normal(rng, 5, 5))
    lengths = torch.rand(6, 1, dtype=torch.float64, generator=rng) + 0.5
    before = objective(a, b)["loss"]
    torch.testing.assert_close(objective(a * lengths, b / lengths)["loss"], before)
    if hasattr(objective, "queue"):
        objective.queue.rows = objective.queue.rows @ turn
    torch.testing.assert_close(objective(a @ turn, b @ turn)["loss"], before)


def test_byol_runs_from_0_to_4_a_direction_and_counts_both_in_a_sum(rng):
    z = normal(rng, 6, 5)
    mean, both = make("byol", over="mean"), make("byol")
    assert mean(z, 3 * z)["loss"].item() == pytest.approx(0.0, abs=1e-12)
    assert mean(z, -z)["loss"].item() == pytest.approx(4.0)
    assert both(z, -z)["loss"].item() == pytest.approx(8.0)


def test_simsiam_is_byol_at_a_quarter_of_its_scale(rng):
    a, b = normal(rng, 2, 6, 5)
    torch.testing.assert_close(4 * make("simsiam")(a, b)["loss"] + 4, make("byol")(a, b)["loss"])


def test_moco_is_the_cross_entropy_of_the_key_before_the_queue(rng):
    a, b = normal(rng, 2, 6, 5)
    objective = make("moco", temperature=0.2)
    first = objective(a, b)["loss"]
    q, k, queue = unit(a), unit(b), objective.queue.rows
    logits = torch.cat([(q * k).sum(dim=1, keepdim=True), q @ queue.T], dim=1) / 0.2
    torch.testing.assert_close(first, F.cross_entropy(logits, torch.zeros(6, dtype=torch.int64)))


def test_moco_of_equal_directions_is_the_log_of_the_number_of_keys(rng):
    objective = make("moco")
    objective.queue.rows = unit(torch.ones(16, 5, dtype=torch.float64))
    one = torch.ones(6, 5, dtype=torch.float64)
    assert objective(one, one)["loss"].item() == pytest.approx(math.log(17))


def test_moco_v3_is_the_scaled_cross_entropy_of_the_batch(rng):
    a, b = normal(rng, 2, 6, 5)
    entropy = F.cross_entropy(unit(a) @ unit(b).T / 0.3, torch.arange(6))
    torch.testing.assert_close(make("moco-v3", temperature=0.3, over="mean")(a, b)["loss"], 2 * 0.3 * entropy)
    torch.testing.assert_close(make("moco-v3", temperature=0.3)(a, b)["loss"], 4 * 0.3 * entropy)


def test_nnclr_contrasts_the_nearest_of_its_support(rng):
    a, b = normal(rng, 2, 6, 5)
    objective = make("nnclr", temperature=0.2)
    found = objective(a, b)["loss"]
    support = objective.queue.rows
    near = torch.stack([max(support, key=lambda row, z=z: float(row @ z)) for z in unit(b)])
    torch.testing.assert_close(found, F.cross_entropy(near @ unit(a).T / 0.2, torch.arange(6)))


def test_nnclr_takes_in_the_first_view_and_moco_every_view(rng):
    views = list(normal(rng, 2, 6, 5))
    for kind, taken in (("nnclr", views[:1]), ("moco", views)):
        objective = make(kind)
        objective.remember(views)
        expected = unit(torch.cat(taken))
        torch.testing.assert_close(objective.queue.rows[: len(expected)], expected)


def test_the_queue_is_first_in_first_out_and_keeps_the_last_of_too_many(rng):
    queue, rows = Queue(5), unit(normal(rng, 13, 3))
    for start, stop in ((0, 2), (2, 4), (4, 7)):
        queue.push(rows[start:stop])
    torch.testing.assert_close(queue.rows, rows[[5, 6, 2, 3, 4]])
    queue.push(rows[5:13])
    torch.testing.assert_close(queue.rows.sort(dim=0).values, rows[8:13].sort(dim=0).values)
    assert int(queue.at) == (7 + 5) % 5


@pytest.mark.parametrize("kind", ["moco", "nnclr", "dino"])
def test_a_memory_is_restored_and_moves_on_by_remember_alone(kind, rng):
    objective = make(kind)
    a, b, c = normal(rng, 3, 6, 5)
    objective.remember([a, b])
    state = copy.deepcopy(objective.state_dict())
    objective(a, b)
    assert all(torch.equal(x, state[name]) for name, x in objective.state_dict().items())
    other = make(kind)
    other.load_state_dict(state)
    assert torch.equal(objective(b, c)["loss"], other(b, c)["loss"])
    other.remember([c])
    assert not all(torch.equal(x, state[name]) for name, x in other.state_dict().items())


def test_an_untouched_memory_has_a_state_too():
    make("moco").load_state_dict(make("moco").state_dict())


def test_dino_of_uniform_distributions_is_the_log_of_their_number():
    even = torch.full((6, 7), 0.3, dtype=torch.float64)
    assert make("dino")(even, even)["loss"].item() == pytest.approx(math.log(7))


def test_dino_is_its_equation(rng):
    a, b = normal(rng, 2, 6, 5)
    objective = make("dino", temperature=0.2, target_temperature=0.05)
    objective.remember([b, a])
    target = torch.softmax((b - objective.centre) / 0.05, dim=1)
    expected = -(target * torch.log_softmax(a / 0.2, dim=1)).sum(dim=1).mean()
    torch.testing.assert_close(objective(a, b)["loss"], expected)


def test_the_centre_is_a_tenth_of_the_mean_after_one_step_and_follows_it(rng):
    a, b = normal(rng, 2, 6, 5)
    objective, mean = make("dino"), torch.cat([a, b]).mean(dim=0)
    objective.remember([a, b])
    torch.testing.assert_close(objective.centre, 0.1 * mean)
    objective.remember([a, b])
    torch.testing.assert_close(objective.centre, 0.19 * mean)


def test_a_constant_of_each_prototype_is_taken_out_by_the_centre_in_time(rng):
    a, b = normal(rng, 2, 6, 5)
    plain, moved = make("dino", centre_momentum=0.0), make("dino", centre_momentum=0.0)
    offset = 10 * normal(rng, 5)
    plain.remember([b])
    moved.remember([b + offset])
    torch.testing.assert_close(plain(a, b)["loss"], moved(a, b + offset)["loss"])


def test_the_targets_temperature_warms_up_in_a_line():
    objective = make("dino", first_target_temperature=0.04, target_temperature=0.07, warmup=0.3)
    found = [objective.temperature_at(progress) for progress in (0, 0.15, 0.3, 1.0)]
    assert found == pytest.approx([0.04, 0.055, 0.07, 0.07])
    assert make("dino").temperature_at(0.0) == 0.04


def test_dino_with_sinkhorn_at_swavs_temperatures_is_swav(rng):
    a, b = normal(rng, 2, 6, 5)
    dino = make("dino", balance="sinkhorn", target_temperature=0.05)
    torch.testing.assert_close(dino(a, b), make("swav")(a, b))
    dino.remember([b])
    assert not len(dino.centre)  # it would be a setting that nobody reads


def test_swav_of_equal_scores_is_the_log_of_their_number():
    even = torch.zeros(6, 7, dtype=torch.float64)
    assert make("swav")(even, even)["loss"].item() == pytest.approx(math.log(7))


def test_msn_sharpens_its_target_and_wants_prototypes_used_evenly(rng):
    a, b = normal(rng, 2, 6, 5)
    terms = make("msn", temperature=0.5, sharpening=0.25)(a, b)
    p = torch.softmax(b / 0.5, dim=1) ** 4
    expected = -(p / p.sum(dim=1, keepdim=True) * torch.log_softmax(a / 0.5, dim=1)).sum(dim=1).mean()
    torch.testing.assert_close(terms["match"], expected)
    even, one = torch.zeros(6, 5, dtype=torch.float64), 100 * F.one_hot(torch.zeros(6, dtype=torch.int64), 5).double()
    assert make("msn")(even, even)["spread"].item() == pytest.approx(0.0, abs=1e-12)
    assert make("msn")(one, one)["spread"].item() == pytest.approx(math.log(5))


def test_msn_may_balance_its_targets(rng):
    """Sinkhorn-Knopp on the sharpened distribution: each iteration ends with rows at sum one."""
    a, b = normal(rng, 2, 6, 5)
    objective = make("msn", temperature=0.5, sharpening=0.5, balance="sinkhorn", iterations=40)
    target = objective.target(b)
    torch.testing.assert_close(target.sum(dim=1), torch.ones(6, dtype=torch.float64))
    torch.testing.assert_close(target.sum(dim=0), torch.full((5,), 6 / 5, dtype=torch.float64), rtol=1e-4, atol=1e-4)
    assert objective(a, b)["match"] != make("msn", temperature=0.5, sharpening=0.5)(a, b)["match"]


def queued(rng, **settings):
    """SwAV with eight queued embeddings of each of two views, and the scores of a head."""
    prototypes = unit(normal(rng, 7, 4))
    objective = make("swav", queue=8, **settings)
    rows = [unit(normal(rng, 8, 4)) for _ in range(2)]
    objective.remember([], embeddings=rows)
    return objective, rows, lambda z: z @ prototypes.T


def test_swavs_queue_joins_the_balance_of_its_own_view(rng):
    objective, rows, scores = queued(rng)
    own = scores(unit(normal(rng, 6, 4)))
    for place, kept in enumerate(rows):
        together = make("swav").target(torch.cat([scores(kept), own]))
        torch.testing.assert_close(objective.target(own, scores=scores, place=place), together[8:])
    alone = make("swav").target(own)
    assert not torch.allclose(objective.target(own, scores=scores, place=0), alone)
    assert torch.equal(objective.target(own, scores=scores, place=2), alone)  # a third view has no queue
    assert torch.equal(objective.target(own), alone)


def test_swavs_queue_waits_for_its_time_and_until_it_is_full(rng):
    objective, rows, scores = queued(rng, queue_from=0.5)
    own = scores(rows[0][:6])
    assert torch.equal(objective.target(own, progress=0.4, scores=scores), make("swav").target(own))
    assert not torch.equal(objective.target(own, progress=0.5, scores=scores), make("swav").target(own))
    young = make("swav", queue=8)
    young.remember([], embeddings=[row[:5] for row in rows])
    assert torch.equal(young.target(own, scores=scores), make("swav").target(own))
    young.remember([], embeddings=[row[5:] for row in rows])
    assert not torch.equal(young.target(own, scores=scores), make("swav").target(own))


def test_weighted_cross_entropy_of_prototypes_is_the_sum_of_its_rows(rng):
    scores, target = normal(rng, 6, 5), torch.softmax(normal(rng, 6, 5), dim=1)
    weights = torch.rand(6, dtype=torch.float64, generator=rng)
    x = scores.clone().requires_grad_()
    value = prototype_cross_entropy(x, target, 0.3, weights)
    expected = -(weights * (target * torch.log_softmax(scores / 0.3, dim=1)).sum(dim=1)).sum()
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(
        torch.autograd.grad(value, x)[0], weights[:, None] * (torch.softmax(scores / 0.3, dim=1) - target) / 0.3
    )
    none = prototype_cross_entropy(scores[:0], target[:0], 0.3, weights[:0])
    assert none.item() == 0.0
