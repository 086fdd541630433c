"""The colour kernel for CUDA, run by triton's interpreter on the processor."""

import os
import subprocess
import sys

import pytest

CODE = """
import torch
from tacit.core.spec import Spec
from tacit.core.values import Facts
from tacit.views import tensors
from tacit.views.colour import colour

SIDE = 24
spec = Spec("view", "image", size=SIDE, jitter=0.8, brightness=0.8, contrast=0.8, saturation=0.8, hue=0.2, grey=0.3)
view = spec.build(Facts(channels=3))
pictures = torch.zeros(24, 3, 30, 30, dtype=torch.uint8)
how = view.sample(pictures, torch.arange(24), 0, 0, 0)
x = torch.rand(24, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
there = tensors._there(how, torch.zeros(24, 4), x.device)
expected = tensors._colours(x.clone(), how, there)
found = colour(x.clone(), there["order"].int(), there["jitter"].contiguous(), there["grey"].int())
assert how["grey"].any() and len(how["order"].unique(dim=0)) > 8
assert (expected - x).abs().max() > 0.1
torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
print("equal")
"""


def test_the_kernel_does_what_the_batched_operations_do():
    """In every order of the four operations, with samples that are not touched among them, blocks that do not fill the view, and grey."""
    pytest.importorskip("triton")
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", CODE], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "equal", done.stderr
