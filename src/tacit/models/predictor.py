"""Predictors of hidden tokens from visible ones. Legend: n samples, k visible, m hidden tokens, d the encoder's features."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal

import torch
from annotated_types import Gt
from jaxtyping import Float, Int
from torch import Tensor, nn

from tacit.core.parts import part
from tacit.models.packing import Segments
from tacit.models.transformer import Block, Init, initialise, run_blocks
from tacit.ops.positions import Compat, resample_grid, rope, sincos_grid

__all__ = ["MaskedLinear", "MaskedTransformer"]

PositiveInt = Annotated[int, Gt(0)]


@part("masked-predictor", "transformer")
class MaskedTransformer(nn.Module):
    """A narrow transformer over the visible tokens and one mask token for each hidden place; returns the latter, mapped to `out`.

        sequence = [embed(visible) + pos(at), mask_token + pos(to)]  ->  blocks  ->  norm  ->  proj, at the hidden places

    The predictor of I-JEPA (12 blocks of 384, as many heads as the encoder), V-JEPA (the same) and V-JEPA 2 (12 heads, rope), the
    decoder of MAE (8 blocks of 512, 16 heads). `mask_tokens`: how many there are; a call names the one to use (V-JEPA: one a kind of mask;
    V-JEPA 2: ten, of which number 0 was trained, see `mask_index`). `token_init`: 'zero' (V-JEPA) or 'normal' with deviation 0.02
    (I-JEPA, MAE). positions, compat, resize, init, save_memory: as in the encoder 'vit'. `grid`: that of the clips in training.
    Sources: arXiv 2301.08243, 2404.08471, 2506.09985, 2111.06377.
    """

    def __init__(
        self,
        dim: int,
        out: int,
        grid: Sequence[int] | None,
        *,
        width: PositiveInt = 384,
        depth: PositiveInt = 12,
        heads: PositiveInt = 12,
        mlp_ratio: Annotated[float, Gt(0)] = 4.0,
        positions: Literal["sincos", "rope"] = "sincos",
        mask_tokens: PositiveInt = 1,
        token_init: Literal["zero", "normal"] = "normal",
        compat: Compat = "correct",
        resize: Literal["anew", "interpolated"] = "anew",
        init: Init = "xavier",
        save_memory: bool = False,
    ) -> None:
        super().__init__()
        self.dim, self.width, self.heads = out, width, heads
        self.positions, self.compat, self.resize, self.save_memory = positions, compat, resize, save_memory
        self.grid = tuple(grid) if grid is not None else None
        self.embed = nn.Linear(dim, width)
        self.mask_tokens = nn.ParameterList(nn.Parameter(torch.zeros(1, 1, width)) for _ in range(mask_tokens))
        if token_init == "normal":
            for token in self.mask_tokens:
                nn.init.trunc_normal_(token, std=0.02)
        self.blocks = nn.ModuleList(Block(width, heads, round(width * mlp_ratio)) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.proj = nn.Linear(width, out)
        self.register_buffer("table", None if self.grid is None else self._table(self.grid, None), persistent=False)
        initialise(self, init)

    @staticmethod
    def check_settings(settings: Mapping[str, Any]) -> Iterable[str]:
        """Rules across fields."""
        width, heads = settings["width"], settings["heads"]
        if width % heads:
            yield f"a predictor splits width={width} among heads={heads}, which does not divide it: choose a divisor"
        elif settings["positions"] == "rope" and (width // heads) % 2:
            yield f"positions='rope' turns pairs of channels and needs heads of even width, found {width // heads}"
        if settings["positions"] == "sincos" and width % 4:
            yield f"positions='sincos' needs a width that is a multiple of 4, found {width}"

    @staticmethod
    def idle_settings(settings: Mapping[str, Any]) -> Mapping[str, str]:
        """What nothing reads under other settings."""
        return {} if settings["positions"] == "sincos" else {"resize": "rotary positions are never interpolated"}

    def _table(self, grid: tuple[int, ...], device: torch.device | None) -> Tensor:
        if self.positions == "rope":
            return rope(grid, self.width // self.heads, self.compat, device=device)
        if self.resize == "interpolated" and self.grid is not None and grid != self.grid:
            return resample_grid(sincos_grid(self.grid, self.width, self.compat, device=device), self.grid, grid)
        return sincos_grid(grid, self.width, self.compat, device=device)

    def forward(
        self,
        tokens: Float[Tensor, "n k d"],
        at: Int[Tensor, "n k"],
        to: Int[Tensor, "n m"],
        *,
        grid: Sequence[int] | None = None,
        mask_index: int = 0,
        extra: Float[Tensor, "n e d"] | None = None,
        padded: bool = False,
        packed: bool = False,
    ) -> Float[Tensor, "n m o"]:
        """What stands at the places `to`, from the encoder's `tokens` of the places `at` (ids in raster order on `grid`).

        The order of the visible tokens does not matter, and that of the hidden ones is kept. `extra`: tokens without a place (a class
        token), seen first. `padded`: ids of -1 fill up rows of unequal length, are seen by none, and what is returned there means nothing;
        `packed`: they are not computed.
        """
        places = torch.cat([at, to], dim=1)
        size = tuple(grid) if grid is not None else self.grid
        if size is None:
            raise ValueError("the predictor was built without a grid: pass the grid of the tokens")
        own: Tensor | None = self.table  # type: ignore[assignment]
        table = own if size == self.grid and own is not None else self._table(size, tokens.device)
        table = table[places.clamp(min=0)]
        hidden = self.mask_tokens[mask_index].expand(len(to), to.shape[1], -1)
        x = self.embed(tokens)
        x = torch.cat([x, hidden.to(x.dtype)], dim=1)
        rotary = None
        if self.positions == "rope":
            rotary = table
        else:
            x = x + table.to(x.dtype)
        seen = places >= 0 if padded else None
        if extra is not None:
            x = torch.cat([self.embed(extra), x], dim=1)
            if rotary is not None:
                still = torch.zeros_like(rotary[:, :1]).expand(-1, extra.shape[1], -1, -1).clone()
                still[:, :, 0] = 1
                rotary = torch.cat([still, rotary], dim=1)
            if seen is not None:
                seen = torch.cat([seen.new_ones(len(seen), extra.shape[1]), seen], dim=1)
        mask = None if seen is None else Segments.of(seen) if packed else seen[:, None, None, :]
        x = run_blocks(self.blocks, x, rotary, mask, self.save_memory and self.training)
        return self.proj(self.norm(x[:, -to.shape[1] :]))  # type: ignore[no-any-return]


@part("masked-predictor", "linear")
class MaskedLinear(nn.Module):
    """One linear map of the encoder's own tokens at the hidden places: SimMIM's head (arXiv 2111.09886).

    For encoders that saw mask tokens there (`hidden='replaced'`), which leave nothing to a predictor.
    """

    def __init__(self, dim: int, out: int, grid: Sequence[int] | None) -> None:  # noqa: ARG002  (positions are the encoder's)
        super().__init__()
        self.dim = out
        self.proj = nn.Linear(dim, out)
        initialise(self, "xavier")

    def forward(self, tokens: Float[Tensor, "n k d"], to: Int[Tensor, "n m"]) -> Float[Tensor, "n m o"]:
        """The map of tokens [n k d] of all places, at `to`."""
        return self.proj(tokens.gather(1, to.clamp(min=0)[:, :, None].expand(-1, -1, tokens.shape[2])))  # type: ignore[no-any-return]
