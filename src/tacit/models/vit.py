"""The Vision Transformer, small enough to read. Legend: n images, k patches, t tokens (with the class token), d features."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from annotated_types import Ge, Gt, Lt
from jaxtyping import Float, Int
from torch import Tensor, nn
from torchvision.ops import stochastic_depth

from tacit.core.errors import DataError, RecipeError
from tacit.core.parts import part
from tacit.core.values import Facts, Features
from tacit.models.stages import run
from tacit.ops.positions import resize_grid, sincos_2d

__all__ = ["ViT"]

PositiveInt = Annotated[int, Gt(0)]
_SIZES = {"tiny": (192, 12, 3), "small": (384, 12, 6), "base": (768, 12, 12)}  # width, depth, heads


@part("encoder", "vit")
class ViT(nn.Module):
    """Vision Transformer on square patches of [n c h w], pre-norm, without its classifier.

    `size` names width, depth and heads; each can be set by itself. `pooling`: the class token or the mean over patches, after
    the final norm; with 'mean' there is no class token unless `class_token` asks for one.
    `positions`: 'sincos' is fixed and made for any image at each call; 'learned' belongs to the image size in the facts and is
    resampled for others. `drop_path` is the rate of the last block, rising linearly from 0 (arXiv 1603.09382).
    State-dict names are timm's, so that a timm or DeiT file loads into positions='learned'. Source: arXiv 2010.11929.
    """

    def __init__(
        self,
        facts: Facts,
        *,
        patch: PositiveInt = 16,
        size: Literal["tiny", "small", "base"] = "small",
        width: PositiveInt | None = None,
        depth: PositiveInt | None = None,
        heads: PositiveInt | None = None,
        mlp_ratio: Annotated[float, Gt(0)] = 4.0,
        pooling: Literal["class", "mean"] = "class",
        class_token: bool = True,
        positions: Literal["sincos", "learned"] = "sincos",
        drop_path: Annotated[float, Ge(0), Lt(1)] = 0.0,
    ) -> None:
        super().__init__()
        width, depth, heads = (own or named for own, named in zip((width, depth, heads), _SIZES[size], strict=True))
        self.dim, self.patch, self.pooling = width, patch, pooling
        self.patch_embed = _PatchEmbed(facts.channels, width, patch)
        self.cls_token = nn.Parameter(torch.empty(1, 1, width)) if class_token else None
        self.learned_grid: tuple[int, int] | None = None
        if positions == "learned":
            if facts.shape is None or len(facts.shape) != 2:
                raise RecipeError(
                    "encoder 'vit': positions='learned' needs images of one known size, and the samples have several: "
                    "crop them to one size in the views, or use positions='sincos'"
                )
            self.learned_grid = self.grid_of(*facts.shape)
            places = self.learned_grid[0] * self.learned_grid[1] + class_token
            self.pos_embed = nn.Parameter(torch.empty(1, places, width))
            nn.init.trunc_normal_(self.pos_embed, std=0.02)
        rates = [drop_path * i / max(1, depth - 1) for i in range(depth)]
        self.blocks = nn.Sequential(*(_Block(width, heads, round(width * mlp_ratio), rate) for rate in rates))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        if self.cls_token is not None:
            nn.init.normal_(self.cls_token, std=1e-6)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)

    @staticmethod
    def check_settings(settings: Mapping[str, Any]) -> Iterable[str]:
        """Rules across fields."""
        width, _, heads = (
            settings[name] or named
            for name, named in zip(("width", "depth", "heads"), _SIZES[settings["size"]], strict=True)
        )
        if width % heads:
            yield f"encoder 'vit' splits width={width} among heads={heads}, which does not divide it: choose a divisor"
        if settings["positions"] == "sincos" and width % 4:
            yield f"encoder 'vit' with positions='sincos' needs a width that is a multiple of 4, found {width}"
        if settings["pooling"] == "class" and not settings["class_token"]:
            yield "encoder 'vit' with pooling='class' needs class_token=true; without one use pooling='mean'"

    def grid_of(self, height: int, width: int) -> tuple[int, int]:
        """Patches along height and width; an image that does not divide into patches is refused."""
        if height % self.patch or width % self.patch:
            raise DataError(
                f"encoder 'vit' cuts images into patches of {self.patch} pixels, which do not divide {height} x {width}: "
                "resize or crop in the views, or choose another patch"
            )
        return height // self.patch, width // self.patch

    def _positions(self, grid: tuple[int, int], like: Tensor) -> tuple[Tensor | float, Tensor]:
        """What is added to the class token, and to the patches [k d]."""
        if self.learned_grid is None:
            return 0.0, sincos_2d(*grid, self.dim, device=like.device, dtype=like.dtype)
        learned = self.pos_embed[0]
        extra = 0 if self.cls_token is None else 1
        return learned[:extra], resize_grid(learned[extra:], self.learned_grid, grid)

    def tokens(self, x: Float[Tensor, "n c h w"], keep: Int[Tensor, "n k"] | None = None) -> Float[Tensor, "n t d"]:
        """Patches with their positions, only those in `keep` if given, behind the class token: what the first block sees."""
        at_class, at_patches = self._positions(self.grid_of(x.shape[2], x.shape[3]), x)
        patches = self.patch_embed(x) + at_patches
        if keep is not None:
            patches = patches.gather(1, keep[:, :, None].expand(-1, -1, self.dim))
        if self.cls_token is None:
            return patches
        return torch.cat([(self.cls_token + at_class).expand(len(x), -1, -1).to(patches.dtype), patches], dim=1)

    def _patches(self, tokens: Tensor) -> Tensor:
        return tokens if self.cls_token is None else tokens[:, 1:]

    def _pool(self, tokens: Tensor) -> Tensor:
        return tokens[:, 0] if self.pooling == "class" else self._patches(tokens).mean(dim=1)

    def forward(self, x: Float[Tensor, "n c h w"], keep: Int[Tensor, "n k"] | None = None) -> Features:
        """Pooled features [n d] and patch tokens [n k d], all after the final norm; `grid` only without `keep`."""
        tokens = self.norm(self.blocks(self.tokens(x, keep)))
        grid = self.grid_of(x.shape[2], x.shape[3]) if keep is None else None
        return Features(self._pool(tokens), self._patches(tokens), grid)

    def layers(self, x: Float[Tensor, "n c h w"], which: Sequence[str]) -> list[Tensor]:
        """Pooled outputs of the named blocks, before the final norm; 'norm' is the pooled feature itself."""
        stages = dict(zip(self.layer_names(), (*self.blocks, self.norm), strict=True))
        return run(stages, self.tokens(x), which, self._pool)

    def layer_names(self) -> list[str]:
        """From the pixels to the features."""
        return [*(f"blocks.{i}" for i in range(len(self.blocks))), "norm"]


class _PatchEmbed(nn.Module):
    def __init__(self, channels: int, width: int, patch: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(channels, width, patch, stride=patch)
        nn.init.xavier_uniform_(self.proj.weight.flatten(1))  # as the linear map that it is
        nn.init.zeros_(self.proj.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x).flatten(2).transpose(1, 2)  # type: ignore[no-any-return]


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        n, t, d = x.shape
        q, k, v = self.qkv(x).reshape(n, t, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v)
        return self.proj(mixed.transpose(1, 2).reshape(n, t, d))  # type: ignore[no-any-return]


class _MLP(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))  # type: ignore[no-any-return]


class _Block(nn.Module):
    def __init__(self, width: int, heads: int, hidden: int, drop_path: float) -> None:
        super().__init__()
        self.norm1, self.attn = nn.LayerNorm(width, eps=1e-6), _Attention(width, heads)
        self.norm2, self.mlp = nn.LayerNorm(width, eps=1e-6), _MLP(width, hidden)
        self.drop_path = drop_path

    def forward(self, x: Tensor) -> Tensor:
        x = x + stochastic_depth(self.attn(self.norm1(x)), self.drop_path, "row", self.training)
        return x + stochastic_depth(self.mlp(self.norm2(x)), self.drop_path, "row", self.training)
