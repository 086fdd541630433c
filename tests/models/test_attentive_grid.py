"""A grid of probes is as many probes: the same logits, the same steps, exactly those of AdamW."""

from __future__ import annotations

import copy
import math

import pytest
import torch
import torch.nn.functional as F

from tacit.models.attentive import AttentiveProbe
from tacit.models.attentive_grid import DECAYS, RATES, AttentiveGrid


def test_the_published_grid_has_twenty_probes():
    assert len(AttentiveGrid(16, 3, heads=2, depth=1)) == len(RATES) * len(DECAYS) == 20


@pytest.mark.parametrize("depth", [1, 3])
def test_each_member_learns_as_it_would_alone(rng, depth):
    torch.manual_seed(0)
    grid = AttentiveGrid(16, 5, heads=2, depth=depth, rates=(1e-2, 1e-3), decays=(0.4, 0.01))
    x, y = torch.randn(6, 9, 16, generator=rng), torch.randint(0, 5, (6,), generator=rng)
    alone = []
    for number, (rate, decay) in enumerate(grid.settings):
        probe = AttentiveProbe(16, 5, heads=2, depth=depth)
        probe.load_state_dict(grid.member(number))
        alone.append((probe, torch.optim.AdamW(probe.parameters(), lr=rate, weight_decay=decay), rate))
    for step in range(4):
        torch.testing.assert_close(grid(x), torch.stack([probe(x) for probe, _, _ in alone]), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(grid.learn(x, y), grid.loss(x, y).detach(), rtol=1e-5, atol=1e-6)
        grid.step(step / 4)
        for probe, optimizer, rate in alone:
            optimizer.param_groups[0]["lr"] = rate * (1 + math.cos(math.pi * step / 4)) / 2
            optimizer.zero_grad()
            F.cross_entropy(probe(x), y).backward()
            optimizer.step()


def test_it_learns_what_one_token_tells():
    """The label is which of the tokens carries a mark: no average tells it, an attentive probe does."""
    draw = torch.Generator().manual_seed(0)
    x = 0.1 * torch.randn(200, 6, 16, generator=draw)
    y = torch.randint(0, 3, (200,), generator=draw)
    at = torch.randint(0, 6, (200,), generator=draw)
    x[torch.arange(200), at, 0] += 3.0
    x[torch.arange(200), at, 1 + y] += 2.0
    torch.manual_seed(0)
    grid = AttentiveGrid(16, 3, heads=2, depth=1, rates=(1e-2, 1e-6), decays=(0.01,)).fit(x, y, epochs=15, batch=20)
    share = grid.correct(x, y).mean(dim=1)
    assert share[0] > 0.95 and share[1] < 0.7


def test_clipped_gradients_and_exempt_biases_are_those_of_a_probe_alone(rng):
    """V-JEPA's probe: norms clipped, biases and norms without decay."""
    torch.manual_seed(0)
    grid = AttentiveGrid(16, 5, heads=2, depth=2, pairs=((1e-2, 0.4), (1e-3, 0.01)))
    x, y = 5 * torch.randn(6, 9, 16, generator=rng), torch.randint(0, 5, (6,), generator=rng)
    alone = []
    for number, (rate, decay) in enumerate(grid.settings):
        probe = AttentiveProbe(16, 5, heads=2, depth=2)
        probe.load_state_dict(grid.member(number))
        groups = [
            {"params": [p for p in probe.parameters() if p.ndim > 1], "weight_decay": decay},
            {"params": [p for p in probe.parameters() if p.ndim == 1], "weight_decay": 0.0},
        ]
        alone.append((probe, torch.optim.AdamW(groups, lr=rate)))
    for _ in range(3):
        grid.learn(x, y)
        grid.move([1e-2, 1e-3], [0.4, 0.01], clip=0.1, exempt=True)
        for probe, optimizer in alone:
            optimizer.zero_grad()
            F.cross_entropy(probe(x), y).backward()
            torch.nn.utils.clip_grad_norm_(probe.parameters(), 0.1)
            optimizer.step()
    torch.testing.assert_close(grid(x), torch.stack([probe(x) for probe, _ in alone]), rtol=1e-4, atol=1e-5)


def test_several_tasks_have_the_logits_of_a_probe_of_several_tasks(rng):
    tasks = {"verb": 3, "noun": 4}
    grid = AttentiveGrid(16, tasks, heads=2, depth=2, pairs=((1e-3, 0.1), (1e-4, 0.1)))
    x = torch.randn(5, 7, 16, generator=rng)
    for number in range(2):
        probe = AttentiveProbe(16, tasks, heads=2, depth=2)
        probe.load_state_dict(grid.member(number))
        for task, logits in probe(x).items():
            torch.testing.assert_close(grid(x)[task][number], logits, rtol=1e-4, atol=1e-5)


def test_what_adamw_remembers_moves_with_the_probes():
    """In float64 the first steps are those of float32, and the state is no longer float32; on a card it lies on the card."""
    torch.manual_seed(0)
    tokens, labels = torch.randn(8, 3, 16), torch.arange(8) % 2
    grid = AttentiveGrid(16, 2, heads=2, depth=1, rates=(1e-3,), decays=(0.1,))
    wide = copy.deepcopy(grid).double()
    for one, x in ((grid, tokens), (wide, tokens.double())):
        for _ in range(2):
            one.loss(x, labels).sum().backward()
            one.move([1e-3], [0.1])
    assert all(x.dtype == torch.float64 for x in wide._means + wide._squares)
    for a, b in zip(grid.stacked, wide.stacked, strict=True):
        torch.testing.assert_close(a.double(), b, rtol=0, atol=1e-4)
