from __future__ import annotations

import pytest
import torch

from tacit.core.errors import RecipeError
from tacit.core.spec import Spec


def test_mlp_has_the_names_and_shapes_of_the_authors_files():
    """Linear, BN, ReLU, Linear, BN, ReLU, Linear without bias: numbers 0, 1, 3, 4, 6."""
    head = Spec("head", "mlp", widths=(7, 6, 5)).build(4)
    weights = {name: tuple(p.shape) for name, p in head.named_parameters()}
    assert weights == {
        "0.weight": (7, 4),
        "0.bias": (7,),
        "1.weight": (7,),
        "1.bias": (7,),
        "3.weight": (6, 7),
        "3.bias": (6,),
        "4.weight": (6,),
        "4.bias": (6,),
        "6.weight": (5, 6),
    }
    assert head.dim == 5 and head(torch.randn(3, 4)).shape == (3, 5)


def test_one_width_is_one_linear_map(rng):
    head = Spec("head", "mlp", widths=(3,)).build(4)
    x, y = torch.randn(2, 5, 4, generator=rng)
    torch.testing.assert_close(head(2 * x + y), 2 * head(x) + head(y))


def test_hidden_norms_take_out_the_scale_of_the_input(rng):
    head = Spec("head", "mlp", widths=(16, 3)).build(4).double()
    x = torch.randn(32, 4, dtype=torch.float64, generator=rng) * 100
    torch.testing.assert_close(head(x), head(7 * x), rtol=1e-4, atol=1e-6)


def test_identity_is_the_identity():
    x = torch.rand(2, 9)
    head = Spec("head", "identity").build(9)
    assert head.dim == 9 and head(x) is x and not list(head.parameters())


def test_a_head_without_widths_is_refused():
    with pytest.raises(RecipeError, match=r"^head\.widths: "):
        Spec("head", "mlp", widths=()).resolve()


@pytest.mark.parametrize(
    ("last", "more"), [("bias", {"3.bias"}), ("norm", {"4.weight", "4.bias"}), ("fixed-norm", set())]
)
def test_the_last_map_may_have_a_bias_or_a_norm(last, more, rng):
    plain = {name for name, _ in Spec("head", "mlp", widths=(7, 5)).build(4).named_parameters()}
    head = Spec("head", "mlp", widths=(7, 5), last=last).build(4)
    assert {name for name, _ in head.named_parameters()} == plain | more
    if last.endswith("norm"):
        z = head(torch.randn(64, 4, generator=rng))
        assert z.mean(dim=0).abs().max() < 1e-6 and (z.var(dim=0, correction=0) - 1).abs().max() < 1e-2
