"""Rules of learning rates, at the published points; the weight decay that moves."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from tacit.core.spec import Spec
from tacit.training.optimizers import set_decay
from tacit.training.rates import linear_rate, simclr_rate, square_root_rate


def test_published_rates():
    assert linear_rate(0.3, 512) == pytest.approx(0.6)  # VICReg at batch 512
    assert linear_rate(0.3, 4096) == pytest.approx(4.8)  # SwAV
    assert linear_rate(5e-4, 1024) == pytest.approx(2e-3)  # DINO
    assert square_root_rate(4e-3, 1024) == pytest.approx(4e-3)  # DINOv2's reference
    assert square_root_rate(4e-3, 2048) == pytest.approx(4e-3 * math.sqrt(2))
    assert simclr_rate(4096) == pytest.approx(4.8)  # where SimCLR's two rules meet: 0.3 * 4096 / 256


@pytest.mark.parametrize("rule", [linear_rate, square_root_rate])
def test_at_the_reference_a_rate_is_itself_and_batches_compose(rule):
    assert rule(0.2, 640, 640) == pytest.approx(0.2)
    assert rule(rule(0.2, 512, 256), 2048, 512) == pytest.approx(rule(0.2, 2048, 256))


def test_weight_decay_moves_along_half_a_cosine_and_spares_biases():
    layer = nn.Linear(2, 2)
    optim = Spec("optimizer", "adamw", weight_decay=0.04, final_weight_decay=0.4).build()
    optimizer = optim.build([{"params": [layer.weight]}, {"params": [layer.bias], "decay": False}])
    found = []
    for progress in (0.0, 0.5, 1.0):
        set_decay(optimizer, progress)
        found.append([group["weight_decay"] for group in optimizer.param_groups])
    assert [one[0] for one in found] == pytest.approx([0.04, 0.22, 0.4])
    assert {one[1] for one in found} == {0.0}


def test_without_a_final_one_it_stays():
    layer = nn.Linear(2, 2)
    optimizer = Spec("optimizer", "adamw", weight_decay=0.1).build().build([{"params": list(layer.parameters())}])
    set_decay(optimizer, 0.9)
    assert optimizer.param_groups[0]["weight_decay"] == 0.1


def test_a_step_shrinks_by_the_decay_of_now():
    """Zero gradient: AdamW multiplies the weights by 1 - rate * decay."""
    weight = nn.Parameter(torch.ones(2, 2, dtype=torch.float64))
    optim = Spec("optimizer", "adamw", lr=0.1, weight_decay=0.0, final_weight_decay=0.5).build()
    optimizer = optim.build([{"params": [weight]}])
    set_decay(optimizer, 0.5)
    weight.grad = torch.zeros_like(weight)
    optimizer.step()
    torch.testing.assert_close(weight.detach(), torch.full_like(weight, 1 - 0.1 * 0.25))
