"""The action-conditioned predictor of V-JEPA 2-AC: frames of patches with the action and the state beside them, causal over frames.

Legend: n samples, t frames, k patches of a frame, m tokens of a frame (its conditions, then its patches), d the encoder's features.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from annotated_types import Gt
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from tacit.core.errors import DataError
from tacit.core.parts import part
from tacit.models.transformer import Block, initialise
from tacit.ops.pose import STATE
from tacit.ops.positions import Compat, rope, rotate

__all__ = ["BlockCausal", "Past"]

PositiveInt = Annotated[int, Gt(0)]
_CAMERA = 6
Pair = tuple[Tensor, Tensor]  # keys and values [rows heads tokens e]


@dataclass(frozen=True)
class Past:
    """Keys and values of frames that were seen, block by block: what later frames need of them, and nothing else.

    segments: of one or several frames each, oldest first; a segment's rows may stand for several samples each, those of problem 0 first.
    """

    segments: tuple[tuple[Pair, ...], ...]
    frames: tuple[int, ...]

    @property
    def length(self) -> int:
        """Frames that it holds."""
        return sum(self.frames)


@part("action-predictor", "block-causal")
class BlockCausal(nn.Module):
    """What the patches of the next frame will be, from the frames so far with their actions and states.

        frame i = [action(a_i), state(s_i), (camera(e_i)), embed(z_i)]  ->  blocks, a token sees the frames up to its own  ->  proj(norm)

    Patches turn by their frame, row and column, the other tokens by their frame alone; rows and columns count in units of the grid of
    training. `camera`: a token of the camera's pose [x, y, z and Euler angles] as well; `state` false leaves the state's out (the predictor
    of JEPA-WMs, which also sets window=8: frames that a token sees, its own among them). No mask is stored: frame by frame a slice of the
    keys is attended to, which needs none. compat 'official': the angles of the published weights, see `ops.positions.rope`; and the map of
    the camera is in the file although nothing uses it.

    Source: arXiv 2506.09985; its sizes are the defaults: 305 million parameters on features of 1408.
    """

    def __init__(
        self,
        dim: int,
        grid: Sequence[int],
        actions: int = STATE,
        states: int = STATE,
        *,
        width: PositiveInt = 1024,
        depth: PositiveInt = 24,
        heads: PositiveInt = 16,
        mlp_ratio: Annotated[float, Gt(0)] = 4.0,
        state: bool = True,
        camera: bool = False,
        window: PositiveInt | None = None,
        compat: Compat = "correct",
        save_memory: bool = False,
    ) -> None:
        super().__init__()
        self.dim, self.heads, self.compat, self.window, self.save_memory = dim, heads, compat, window, save_memory
        self.grid = (int(grid[-2]), int(grid[-1]))
        self.embed = nn.Linear(dim, width)
        self.action = nn.Linear(actions, width)
        self.state = nn.Linear(states, width) if state else None
        self.sees_camera = camera
        self.camera = nn.Linear(_CAMERA, width) if camera or compat == "official" else None
        self.blocks = nn.ModuleList(Block(width, heads, round(width * mlp_ratio)) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.proj = nn.Linear(width, dim)
        initialise(self, "rescaled")
        if self.camera is not None and not camera:
            self.camera.requires_grad_(False)

    @staticmethod
    def check_settings(settings: Mapping[str, Any]) -> Iterable[str]:
        """Rules across fields."""
        width, heads = settings["width"], settings["heads"]
        if width % heads:
            yield f"a predictor splits width={width} among heads={heads}, which does not divide it: choose a divisor"
        elif (width // heads) % 2:
            yield f"rotary positions turn pairs of channels and need heads of even width, found {width // heads}"

    @property
    def conditions(self) -> int:
        """Tokens of a frame before its patches."""
        return 1 + (self.state is not None) + self.sees_camera

    def table(self, first: int, frames: int, grid: tuple[int, int], device: torch.device) -> Float[Tensor, "t m 2 e"]:
        """The turns of the tokens of `frames` frames from number `first` on."""
        e, scale = self.embed.out_features // self.heads, (1.0, self.grid[0] / grid[0], self.grid[1] / grid[1])
        last = first + frames
        beside = rope((last, 1, 1), e, self.compat, device=device).unflatten(0, (last, 1))
        patches = rope((last, *grid), e, self.compat, scale=scale, device=device).unflatten(0, (last, -1))
        return torch.cat([beside.expand(-1, self.conditions, -1, -1), patches], 1)[first:]

    def forward(
        self,
        z: Float[Tensor, "n t k d"],
        actions: Float[Tensor, "n t a"],
        states: Float[Tensor, "n t s"],
        cameras: Float[Tensor, "n t 6"] | None = None,
        *,
        grid: tuple[int, int] | None = None,
    ) -> Float[Tensor, "n t k d"]:
        """The patches of the frame after each of the frames, as far as the frames up to it tell. `grid`: (rows, columns) of the patches."""
        x = self._sequence(z, actions, states, cameras)
        table = self.table(0, x.shape[1], grid or self.grid, x.device)
        for block in self.blocks:
            if self.save_memory and self.training and torch.is_grad_enabled():
                x = checkpoint(self._alone, block, x, table, use_reentrant=False)
            else:
                x = self._alone(block, x, table)
        return self._read(x)

    def step(
        self,
        z: Float[Tensor, "p t k d"],
        actions: Float[Tensor, "n t a"],
        states: Float[Tensor, "n t s"],
        cameras: Float[Tensor, "n t 6"] | None = None,
        *,
        past: Past | None = None,
        grid: tuple[int, int] | None = None,
    ) -> tuple[Float[Tensor, "n t k d"], Past]:
        """The same for frames that follow a past, which is not computed again, and the longer past.

        Rows of `z` and of the past may stand for several rows of actions each: n = p times a whole number, those of row 0 first.
        """
        first = past.length if past is not None else 0
        x = self._sequence(z, actions, states, cameras)
        table = self.table(first, x.shape[1], grid or self.grid, x.device)
        kept: list[Pair] = []
        for i, block in enumerate(self.blocks):
            before = () if past is None else tuple(segment[i] for segment in past.segments)
            x, pair = self._block(block, x, table, before, () if past is None else past.frames)
            kept.append(pair)
        frames = (*(() if past is None else past.frames), x.shape[1])
        return self._read(x), Past((*(() if past is None else past.segments), tuple(kept)), frames)

    def _read(self, x: Tensor) -> Tensor:
        return self.proj(self.norm(x[:, :, self.conditions :]))  # type: ignore[no-any-return]

    def _sequence(self, z: Tensor, actions: Tensor, states: Tensor, cameras: Tensor | None) -> Float[Tensor, "n t m w"]:
        """The tokens of every frame; patches of one row are embedded once and laid out for all its samples."""
        if z.shape[1] != actions.shape[1] or z.shape[1] != states.shape[1]:
            raise DataError(
                f"every frame has an action and a state beside it: found {z.shape[1]} frames, {actions.shape[1]} actions and "
                f"{states.shape[1]} states"
            )
        beside = [self.action(actions)]
        if self.state is not None:
            beside.append(self.state(states))
        if self.sees_camera:
            if cameras is None or self.camera is None:
                raise DataError(
                    "this predictor has a token of the camera's pose and the data have none: set predictor.camera=false"
                )
            beside.append(self.camera(cameras))
        patches = _rows(self.embed(z), len(actions))
        return torch.cat([torch.stack(beside, 2).to(patches.dtype), patches], 2)

    def _alone(self, block: nn.Module, x: Tensor, table: Tensor) -> Tensor:
        return self._block(block, x, table, (), ())[0]

    def _block(
        self, block: Any, x: Tensor, table: Tensor, past: tuple[Pair, ...], frames: tuple[int, ...]
    ) -> tuple[Tensor, Pair]:
        """One block on frames [n t m w] after a past, and their own keys and values."""
        n, t, m, w = x.shape
        qkv = block.attn.qkv(block.norm1(x)).reshape(n, t * m, 3, self.heads, -1)
        turned = rotate(qkv[:, :, :2], table.flatten(0, 1)[:, None, None])
        q, k = turned.permute(2, 0, 3, 1, 4)
        v = qkv[:, :, 2].transpose(1, 2)
        keys = torch.cat([*(_rows(one[0], n) for one in past), k], 2) if past else k
        values = torch.cat([*(_rows(one[1], n) for one in past), v], 2) if past else v
        first, mixed = sum(frames), []
        for i in range(t):
            at = first + i
            low = 0 if self.window is None else max(0, at - self.window + 1)
            seen = slice(low * m, (at + 1) * m)
            mixed.append(
                F.scaled_dot_product_attention(q[:, :, i * m : (i + 1) * m], keys[:, :, seen], values[:, :, seen])
            )
        out = torch.stack(mixed, 1) if t > 1 else mixed[0].unsqueeze(1)  # [n t heads m e]
        x = x + block.attn.proj(out.transpose(2, 3).reshape(n, t, m, w))
        return x + block.mlp(block.norm2(x)), (k, v)


def _rows(x: Tensor, rows: int) -> Tensor:
    """Every row for as many samples as it stands for; nothing is copied where one row stands for one."""
    if len(x) == rows:
        return x
    if rows % len(x):
        raise DataError(f"{rows} sequences of actions do not split over {len(x)} contexts")
    return x.unsqueeze(1).expand(len(x), rows // len(x), *x.shape[1:]).flatten(0, 1)
