"""The objectives on a GPU: no host sync, and the numbers of the CPU."""

from __future__ import annotations

import pytest
import torch

from tacit.core.spec import Spec


@pytest.mark.gpu
@pytest.mark.parametrize("kind", ["simclr", "vicreg"])
@pytest.mark.parametrize("shape", [(32, 8), (8, 32)])
def test_a_step_never_waits_for_the_device(kind, shape, rng):
    objective = Spec("objective", kind).build()
    host = [z.requires_grad_() for z in torch.randn(2, *shape, generator=rng).unbind()]
    device = [z.detach().cuda().requires_grad_() for z in host]
    expected = objective(*host)["loss"]
    expected.backward()
    objective(*device)["loss"].detach()  # loads the kernels, which may wait
    torch.cuda.set_sync_debug_mode("error")
    try:
        with torch.autocast("cuda", dtype=torch.float16):
            loss = objective(*device)["loss"]
        loss.backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    torch.testing.assert_close(loss.cpu(), expected, rtol=1e-4, atol=1e-5)
    for one, two in zip(host, device, strict=True):
        torch.testing.assert_close(two.grad.cpu(), one.grad, rtol=1e-3, atol=1e-5)
