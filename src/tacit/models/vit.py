"""The Vision Transformer on images and clips. Legend: n samples, k patches, t tokens (with the class token), d features."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from annotated_types import Ge, Gt, Lt
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from tacit.core.errors import DataError, RecipeError
from tacit.core.parts import part
from tacit.core.values import Facts, Features
from tacit.models.packing import Segments
from tacit.models.stages import run
from tacit.models.transformer import Block, Init, initialise, run_blocks
from tacit.ops.positions import Compat, resample_grid, resize_grid, rope, sincos_grid

__all__ = ["SIZES", "ViT"]

PositiveInt = Annotated[int, Gt(0)]
SIZES = {  # width, depth, heads, mlp_ratio
    "tiny": (192, 12, 3, 4.0),
    "small": (384, 12, 6, 4.0),
    "base": (768, 12, 12, 4.0),
    "large": (1024, 24, 16, 4.0),
    "huge": (1280, 32, 16, 4.0),
    "giant": (1408, 40, 16, 48 / 11),
    "giant22": (1408, 40, 22, 48 / 11),
    "gigantic": (1664, 48, 16, 4.0),
    "gigantic26": (1664, 48, 26, 4.0),
}
_OWN = ("width", "depth", "heads", "mlp_ratio")


@part("encoder", "vit")
class ViT(nn.Module):
    """Vision Transformer on square patches of images [n c h w] or clips [n c f h w], pre-norm, without its classifier.

    `size` names width, depth, heads and mlp_ratio ('giant' is I-JEPA's, 'giant22' V-JEPA 2's ViT-g); each can be set by itself.
    `tubelet`: frames that a token of a clip spans; None for images. To an encoder of clips a still image is one tubelet.
    `pooling`: the class token or the mean over patches, after the final norm; with 'mean' there is no class token unless asked for.
    `positions`: 'sincos' is fixed and made for any size of input; 'learned' belongs to the image size in the facts and is
    resampled for others; 'rope' turns queries and keys in every block. `compat`: the layout of sincos and the angles of rope, see
    `ops.positions`; published JEPA weights need 'official'.
    `resize`: sincos of another size than the facts', made anew for its grid, or 'interpolated' from the own grid, which keeps the
    range of positions (V-JEPA, where it goes on at a higher resolution). `init`: see `transformer.initialise`.
    `drop_path` is the rate of the last block, rising linearly from 0 (arXiv 1603.09382). `save_memory` computes activations again
    in the backward pass. `gated`: SwiGLU instead of GELU.
    State-dict names are timm's, so that a timm or DeiT file loads into positions='learned'. Source: arXiv 2010.11929.
    """

    def __init__(
        self,
        facts: Facts,
        *,
        patch: PositiveInt = 16,
        tubelet: PositiveInt | None = None,
        size: Literal["tiny", "small", "base", "large", "huge", "giant", "giant22", "gigantic", "gigantic26"] = "small",
        width: PositiveInt | None = None,
        depth: PositiveInt | None = None,
        heads: PositiveInt | None = None,
        mlp_ratio: Annotated[float, Gt(0)] | None = None,
        gated: bool = False,
        pooling: Literal["class", "mean"] = "class",
        class_token: bool = True,
        positions: Literal["sincos", "learned", "rope"] = "sincos",
        compat: Compat = "correct",
        resize: Literal["anew", "interpolated"] = "anew",
        init: Init = "xavier",
        drop_path: Annotated[float, Ge(0), Lt(1)] = 0.0,
        save_memory: bool = False,
    ) -> None:
        super().__init__()
        named = SIZES[size]
        width, depth, heads, mlp_ratio = width or named[0], depth or named[1], heads or named[2], mlp_ratio or named[3]
        self.dim, self.patch, self.tubelet, self.pooling, self.heads = width, patch, tubelet, pooling, heads
        self.positions, self.compat, self.resize, self.save_memory = positions, compat, resize, save_memory
        self.patch_embed = _PatchEmbed(facts.channels, width, patch, tubelet)
        self.cls_token = nn.Parameter(torch.empty(1, 1, width)) if class_token else None
        self.own_grid = None if facts.shape is None else self.grid_of(*facts.shape)
        if positions == "learned":
            if self.own_grid is None or tubelet:
                raise RecipeError(
                    "encoder 'vit': positions='learned' needs images of one known size, and the samples have several or are clips: "
                    "crop them to one size in the views, or use positions='sincos'"
                )
            places = self.own_grid[0] * self.own_grid[1] + class_token
            self.pos_embed = nn.Parameter(torch.empty(1, places, width))
            nn.init.trunc_normal_(self.pos_embed, std=0.02)
        else:
            table = None if self.own_grid is None else self._table(self.own_grid, None)
            self.register_buffer("table", table, persistent=False)
        rates = [drop_path * i / max(1, depth - 1) for i in range(depth)]
        hidden = round(width * mlp_ratio)
        self.blocks = nn.Sequential(*(Block(width, heads, hidden, rate, gated=gated) for rate in rates))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        if self.cls_token is not None:
            nn.init.normal_(self.cls_token, std=1e-6)
        initialise(self, init)

    @staticmethod
    def check_settings(settings: Mapping[str, Any]) -> Iterable[str]:
        """Rules across fields."""
        width, _, heads, _ = (
            settings[name] or named for name, named in zip(_OWN, SIZES[settings["size"]], strict=True)
        )
        if width % heads:
            yield f"encoder 'vit' splits width={width} among heads={heads}, which does not divide it: choose a divisor"
        if settings["positions"] == "sincos" and width % 4:
            yield f"encoder 'vit' with positions='sincos' needs a width that is a multiple of 4, found {width}"
        if settings["positions"] == "rope" and (width // heads) % 2:
            yield f"encoder 'vit' with positions='rope' turns pairs of channels and needs heads of even width, found {width // heads}"
        if settings["positions"] == "learned" and settings["tubelet"]:
            yield "encoder 'vit' has learned positions for images alone: with a tubelet use positions='sincos' or 'rope'"
        if settings["pooling"] == "class" and not settings["class_token"]:
            yield "encoder 'vit' with pooling='class' needs class_token=true; without one use pooling='mean'"

    @staticmethod
    def idle_settings(settings: Mapping[str, Any]) -> Mapping[str, str]:
        """What nothing reads under other settings."""
        found = {}
        if settings["positions"] == "learned":
            found["compat"] = "learned positions have no layout"
        if settings["positions"] != "sincos":
            found["resize"] = "learned positions are always interpolated, rotary ones never"
        if all(settings[name] for name in _OWN):
            found["size"] = "width, depth, heads and mlp_ratio are all set by themselves"
        return found

    def grid_of(self, *shape: int) -> tuple[int, ...]:
        """Tokens along (height, width) or (frames, height, width); an input that does not divide into patches is refused."""
        height, width = shape[-2:]
        if len(shape) != (3 if self.tubelet else 2):
            raise DataError(
                f"encoder 'vit' with tubelet={self.tubelet} takes {'clips' if self.tubelet else 'images'}, found samples of shape "
                f"{list(shape)}: {'use a source of clips' if self.tubelet else 'set tubelet=2 for clips'}"
            )
        if height % self.patch or width % self.patch:
            raise DataError(
                f"encoder 'vit' cuts images into patches of {self.patch} pixels, which do not divide {height} x {width}: "
                "resize or crop in the views, or choose another patch"
            )
        if not self.tubelet:
            return height // self.patch, width // self.patch
        if shape[0] % self.tubelet:
            raise DataError(
                f"encoder 'vit' cuts clips into tubelets of {self.tubelet} frames, which do not divide {shape[0]} frames: "
                "choose another number of frames, or cut the last ones off"
            )
        return shape[0] // self.tubelet, height // self.patch, width // self.patch

    def _table(self, grid: tuple[int, ...], device: torch.device | None) -> Tensor:
        """Fixed positions of a grid: what is added to the patches [k d], or what turns queries and keys [k 2 e]."""
        if self.positions == "rope":
            return rope(grid, self.dim // self.heads, self.compat, device=device)
        if self.resize == "interpolated" and self.own_grid is not None and grid != self.own_grid:
            return resample_grid(sincos_grid(self.own_grid, self.dim, self.compat, device=device), self.own_grid, grid)
        return sincos_grid(grid, self.dim, self.compat, device=device)

    def _fixed(self, grid: tuple[int, ...], device: torch.device) -> Tensor:
        own: Tensor | None = self.table  # type: ignore[assignment]
        return own if grid == self.own_grid and own is not None else self._table(grid, device)

    def _added(self, grid: tuple[int, ...], like: Tensor) -> tuple[Tensor | float, Tensor | None]:
        """What is added to the class token, and to the patches [k d]."""
        if self.positions == "rope":
            return 0.0, None
        if self.positions == "sincos":
            return 0.0, self._fixed(grid, like.device).to(like.dtype)
        learned = self.pos_embed[0]
        extra = 0 if self.cls_token is None else 1
        return learned[:extra], resize_grid(learned[extra:], self.own_grid, grid)  # type: ignore[arg-type]

    def _still(self, x: Tensor) -> Tensor:
        """A still image as a clip of one tubelet, where the encoder takes clips."""
        return x.unsqueeze(2).expand(-1, -1, self.tubelet, -1, -1) if self.tubelet and x.ndim == 4 else x

    def tokens(
        self,
        x: Float[Tensor, "n c *s"],
        keep: Int[Tensor, "n k"] | None = None,
        mask: Bool[Tensor, "n k"] | None = None,
        token: Float[Tensor, " d"] | None = None,
    ) -> Float[Tensor, "n t d"]:
        """Patches with their positions, only those in `keep` if given, behind the class token: what the first block sees.

        Where `mask` is true, `token` stands in the patch's place, at its position (iBOT, SimMIM); who trains it owns it. A `keep` of -1
        fills up rows of unequal length; such tokens are seen by no other.
        """
        x = self._still(x)
        at_class, at_patches = self._added(self.grid_of(*x.shape[2:]), x)
        alone = keep is not None and mask is None  # then what is hidden is never embedded
        patches = self.patch_embed(x, keep if alone else None)
        if mask is not None:
            if token is None:
                raise RecipeError(
                    "encoder 'vit' hides the patches of a mask behind a token: pass `token` [width] with it"
                )
            patches = torch.where(mask[:, :, None], token.to(patches.dtype), patches)
        if at_patches is not None:
            patches = patches + (at_patches[keep.clamp(min=0)] if keep is not None and alone else at_patches)
        if keep is not None and not alone:
            patches = patches.gather(1, keep.clamp(min=0)[:, :, None].expand(-1, -1, self.dim))
        if self.cls_token is None:
            return patches
        return torch.cat([(self.cls_token + at_class).expand(len(x), -1, -1).to(patches.dtype), patches], dim=1)

    def rotary(self, x: Float[Tensor, "n c *s"], keep: Int[Tensor, "n k"] | None = None) -> Tensor | None:
        """The turns of queries and keys of all tokens [t 2 e], or of those in `keep` [n t 2 e]; None without 'rope'."""
        if self.positions != "rope":
            return None
        table = self._fixed(self.grid_of(*self._still(x).shape[2:]), x.device)
        if keep is not None:
            table = table[keep.clamp(min=0)]
        if self.cls_token is None:
            return table
        still = torch.zeros_like(table[..., :1, :, :])
        still[..., 0, :] = 1  # cosine 1, sine 0: the class token stands nowhere
        return torch.cat([still, table], dim=-3)

    def _patches(self, tokens: Tensor) -> Tensor:
        return tokens if self.cls_token is None else tokens[:, 1:]

    def _pool(self, tokens: Tensor, real: Tensor | None = None) -> Tensor:
        if self.pooling == "class":
            return tokens[:, 0]
        patches = self._patches(tokens)
        if real is None:
            return patches.mean(dim=1)
        return (patches * real[:, :, None]).sum(dim=1) / real.sum(dim=1, keepdim=True)

    def forward(
        self,
        x: Float[Tensor, "n c *s"],
        keep: Int[Tensor, "n k"] | None = None,
        mask: Bool[Tensor, "n k"] | None = None,
        token: Float[Tensor, " d"] | None = None,
        padded: bool = False,
        packed: bool = False,
    ) -> Features:
        """Pooled features [n d] and patch tokens [n k d], all after the final norm; `grid` only without `keep`.

        Only the tokens in `keep` are computed. `padded`: some of them are -1, fillings of rows of unequal length; `packed`: those are not
        computed either.
        """
        real = keep >= 0 if padded and keep is not None else None
        seen = real if real is None or self.cls_token is None else F.pad(real, (1, 0), value=True)
        tokens = run_blocks(
            self.blocks, self.tokens(x, keep, mask, token), self.rotary(x, keep),
            None if seen is None else Segments.of(seen) if packed else seen[:, None, None, :],
            self.save_memory and self.training,
        )  # fmt: skip
        tokens = self.norm(tokens)
        grid = self.grid_of(*self._still(x).shape[2:]) if keep is None else None
        return Features(self._pool(tokens, real), self._patches(tokens), grid)

    def together(self, x: Float[Tensor, "n c *s"], keeps: Sequence[Int[Tensor, "n k"]]) -> list[Features]:
        """`forward` for each of several sets of tokens of the same samples, by one pass through the blocks."""
        sets = [self.tokens(x, keep) for keep in keeps]
        turns = [turn.flatten(0, 1) for keep in keeps if (turn := self.rotary(x, keep)) is not None]
        rotary = torch.cat(turns)[None] if turns else None
        row = torch.cat([tokens.flatten(0, 1) for tokens in sets])[None]
        row = run_blocks(self.blocks, row, rotary, Segments.joined(sets), self.save_memory and self.training)
        split = self.norm(row)[0].split([len(tokens) * tokens.shape[1] for tokens in sets])
        found = [part.unflatten(0, tokens.shape[:2]) for part, tokens in zip(split, sets, strict=True)]
        return [Features(self._pool(tokens), self._patches(tokens)) for tokens in found]

    def layers(self, x: Float[Tensor, "n c *s"], which: Sequence[str]) -> list[Tensor]:
        """Pooled outputs of the named blocks, before the final norm; 'norm' is the pooled feature itself."""
        rotary = self.rotary(x)
        steps: list[Callable[[Tensor], Tensor]] = [*(partial(block, rotary=rotary) for block in self.blocks), self.norm]
        return run(dict(zip(self.layer_names(), steps, strict=True)), self.tokens(x), which, self._pool)

    def layer_tokens(self, x: Float[Tensor, "n c *s"], which: Sequence[int]) -> list[Float[Tensor, "n k d"]]:
        """Patch tokens after the blocks of these numbers, each through the final norm: what multi-layer probes read."""
        tokens, rotary, found = self.tokens(x), self.rotary(x), {}
        for number, block in enumerate(self.blocks[: max(which) + 1]):
            tokens = block(tokens, rotary)
            if number in which:
                found[number] = self._patches(self.norm(tokens))
        return [found[number] for number in which]

    def branches(self, x: Float[Tensor, "n c *s"], last: int) -> list[Float[Tensor, "n k d"]]:
        """The outputs of the second branches of the `last` blocks, before they are added: data2vec's targets."""
        tokens, rotary, found = self.tokens(x), self.rotary(x), []
        for block in self.blocks:
            tokens, branch = block.parts(tokens, rotary)  # type: ignore[operator]
            found.append(self._patches(branch))
        return found[-last:]

    def layer_names(self) -> list[str]:
        """From the pixels to the features."""
        return [*(f"blocks.{i}" for i in range(len(self.blocks))), "norm"]


class _PatchEmbed(nn.Module):
    """One linear map of each patch or tubelet, as the convolution that published files hold."""

    def __init__(self, channels: int, width: int, patch: int, tubelet: int | None) -> None:
        super().__init__()
        self.proj: nn.Conv2d | nn.Conv3d
        if tubelet:
            sides = (tubelet, patch, patch)
            self.proj = nn.Conv3d(channels, width, sides, stride=sides)
        else:
            self.proj = nn.Conv2d(channels, width, patch, stride=patch)

    def forward(self, x: Tensor, keep: Tensor | None = None) -> Tensor:
        """Tokens [n k d] of all patches, or of those in `keep`, which alone are read."""
        if keep is None:
            return self.proj(x).flatten(2).transpose(1, 2)  # type: ignore[no-any-return]
        sides = self.proj.kernel_size
        for axis, side in enumerate(sides):  # [n c (grid) (sides)]
            x = x.unflatten(2 + axis, (-1, side)).movedim(3 + axis, -1)
        at = torch.unravel_index(keep.clamp(min=0), x.shape[2 : 2 + len(sides)])
        pixels = x.movedim(1, 1 + len(sides))[torch.arange(len(x), device=x.device)[:, None], *at]
        return F.linear(pixels.flatten(2), self.proj.weight.flatten(1), self.proj.bias)
