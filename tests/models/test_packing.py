"""A packed row is its samples: attention keeps them apart on every path, and packing goes back and forth."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from tacit.core.spec import Spec
from tacit.core.values import Facts
from tacit.models import packing
from tacit.models.packing import Segments
from tacit.models.transformer import Block, run_blocks


@pytest.mark.parametrize("path", ["_by_length", "_padded"])
def test_every_sample_attends_to_itself_alone(rng, path):
    lengths = (3, 1, 1, 5)
    segments = Segments.of(torch.arange(5) < torch.tensor(lengths)[:, None])
    q, k, v = torch.randn(3, 1, 2, 10, 4, generator=rng)
    mixed = getattr(packing, path)(q, k, v, segments)
    alone = [
        F.scaled_dot_product_attention(*each)
        for each in zip(*(x.split(lengths, dim=2) for x in (q, k, v)), strict=True)
    ]
    torch.testing.assert_close(mixed, torch.cat(alone, dim=2))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_cuda_rows_of_unequal_length_are_what_a_padded_copy_gives(rng):
    segments = Segments.of((torch.arange(90) < torch.tensor([90, 7, 64])[:, None]).cuda())
    q, k, v = (torch.randn(1, 2, 161, 64, generator=rng).cuda().bfloat16().requires_grad_() for _ in range(3))
    found, expected = (
        packing.packed_attention(q, k, v, segments),
        packing._padded(q.float(), k.float(), v.float(), segments),
    )
    torch.testing.assert_close(found.float(), expected, rtol=0, atol=0.02)
    slopes, known = (torch.autograd.grad(out.float().square().sum(), (q, k, v)) for out in (found, expected))
    for a, b in zip(slopes, known, strict=True):
        torch.testing.assert_close(a.float(), b.float(), rtol=0, atol=0.05 * float(b.abs().max()))


def test_packing_keeps_real_tokens_and_zeroes_fillings(rng):
    real = torch.tensor([[True, True, False], [True, False, False]])
    x = torch.randn(2, 3, 4, generator=rng)
    segments = Segments.of(real)
    assert segments.lengths == (2, 1) and torch.equal(segments.pack(x)[0], torch.stack([x[0, 0], x[0, 1], x[1, 0]]))
    assert torch.equal(segments.unpack(segments.pack(x)), x * real[:, :, None])


def test_a_sample_skips_a_branch_with_all_its_tokens():
    torch.manual_seed(0)
    block = Block(8, 2, 16, drop_path=0.5).train()
    segments = Segments.of(torch.ones(40, 3, dtype=torch.bool))
    x = torch.randn(40, 3, 8)
    moved = (run_blocks([block], x, None, segments, False) - x).abs().amax(dim=2) > 0
    both_skipped = ~moved.any(dim=1)
    assert torch.equal(moved.all(dim=1), moved.any(dim=1)) and 0 < int(both_skipped.sum()) < 25  # a quarter, of 40


@pytest.mark.parametrize(
    "how",
    [
        {"positions": "rope"},
        {"pooling": "class", "class_token": True},
        {"positions": "rope", "class_token": True, "save_memory": True},
    ],
)
def test_several_sets_of_tokens_by_one_pass_are_each_by_its_own(rng, how):
    torch.manual_seed(0)
    settings = {"patch": 4, "width": 24, "depth": 2, "heads": 2, "pooling": "mean", "class_token": False, **how}
    vit = Spec("encoder", "vit", **settings).resolve().build(Facts(channels=2, shape=(16, 16)))
    x = torch.randn(3, 2, 16, 16, generator=rng)
    keeps = [torch.rand(3, 16, generator=rng).argsort(dim=1)[:, :n] for n in (5, 9, 9, 1)]
    slopes = []
    for found in (vit.together(x, keeps), [vit(x, keep) for keep in keeps]):
        vit.zero_grad()
        values = [value for features in found for value in (features.pooled, features.tokens)]
        sum(value.square().sum() * (i + 1) for i, value in enumerate(values)).backward()
        slopes.append([*values, *(p.grad for p in vit.parameters())])
    for a, b in zip(*slopes, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
