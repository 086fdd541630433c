"""Heads: what stands between the representation that is kept and the embedding that the loss sees."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal

from annotated_types import Gt, MinLen
from jaxtyping import Float
from torch import Tensor, nn

from tacit.core.parts import part

__all__ = ["MLP", "Identity"]


@part("head", "mlp")
class MLP(nn.Sequential):
    """Linear, batch norm, ReLU for each width but the last, which is linear without bias, norm or activation.

    last: what the last map has besides: 'bias'; 'norm', a batch norm (NNCLR); 'fixed-norm', one without scale and shift
    (SimSiam, MoCo v3). norm 'none': no batch norms before it (MoCo v2).

    The projector of SimCLR (2048, 128), Barlow Twins and VICReg (8192, 8192, 8192); it is worth 18 to 20 points of ImageNet
    accuracy at 100 epochs (arXiv 2304.12210). The weights are numbered as in the authors' files: 0, 1, 3, 4, 6 for three widths.
    """

    def __init__(
        self,
        dim: int,
        *,
        widths: Annotated[tuple[Annotated[int, Gt(0)], ...], MinLen(1)] = (2048, 2048, 2048),
        last: Literal["linear", "bias", "norm", "fixed-norm"] = "linear",
        norm: Literal["batch", "none"] = "batch",
    ) -> None:
        hidden: list[nn.Module] = []
        for into, out in pairwise((dim, *widths[:-1])):
            hidden += [nn.Linear(into, out), *([nn.BatchNorm1d(out)] if norm == "batch" else []), nn.ReLU(inplace=True)]
        end = [nn.BatchNorm1d(widths[-1], affine=last == "norm")] if last.endswith("norm") else []
        super().__init__(*hidden, nn.Linear((dim, *widths)[-2], widths[-1], bias=last == "bias"), *end)
        self.dim = widths[-1]


@part("head", "identity")
class Identity(nn.Module):
    """No projector: the loss sees the representation itself."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """`x` as it is."""
        return x
