"""A packed row is its samples: attention keeps them apart on every path, and packing goes back and forth."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from tacit.models import packing
from tacit.models.packing import Segments
from tacit.models.transformer import Block, run_blocks


@pytest.mark.parametrize("path", ["_one_by_one", "_padded"])
def test_every_sample_attends_to_itself_alone(rng, path):
    lengths = (3, 1, 5)
    segments = Segments.of(torch.arange(5) < torch.tensor(lengths)[:, None])
    q, k, v = torch.randn(3, 1, 2, 9, 4, generator=rng)
    mixed = getattr(packing, path)(q, k, v, segments)
    alone = [
        F.scaled_dot_product_attention(*(x[:, :, at : at + n] for x in (q, k, v))) for at, n in ((0, 3), (3, 1), (4, 5))
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
