"""What an encoder of clips makes of them, as pictures: principal components of its tokens and where its last block looks.

    python benchmarks/video_maps.py RUN docs/clip_maps.png [--clips 3] [--scale 4]

RUN: a run folder of a recipe with clips, for example runs/video.vjepa_tiny/TIME-ID; its averaged encoder is shown where it has one. Rows of
each clip, the first frame of every tubelet from left to right: the frames; the first three principal components of the tokens as red,
green and blue, of the untrained encoder and of the trained one (components over 256 test clips, each from its 2nd to its 98th
percentile); and the attention that each token receives in the trained one's last block, mean over heads and over who asks.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from tacit.core.values import Batch, View
from tacit.ops.positions import rotate
from tacit.runs import frozen
from tacit.runs import target as targets

BASIS = 256  # clips whose tokens make the components


@torch.no_grad()
def tokens_and_attention(encoder: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    """Tokens [n N d] of normalised clips, and the attention [n N] that each receives in the last block, times N."""
    seen: list[Tensor] = []

    def note(module: Any, args: tuple[Any, ...]) -> None:
        inside, rotary = args[0], args[1]
        n, t, d = inside.shape
        qkv = module.qkv(inside).reshape(n, t, 3, module.heads, d // module.heads)
        q, k = qkv[:, :, 0], qkv[:, :, 1]
        if rotary is not None:
            q, k = (rotate(one[:, :, None], rotary[..., None, None, :, :])[:, :, 0] for one in (q, k))
        scores = torch.einsum("nqhe,nkhe->nhqk", q, k) * (d // module.heads) ** -0.5
        seen.append(t * scores.softmax(dim=-1).mean(dim=(1, 2)))

    handle = encoder.blocks[-1].attn.register_forward_pre_hook(note)
    try:
        found = encoder(x).tokens
    finally:
        handle.remove()
    return found, seen[0]


def components(tokens: Tensor, clips: int) -> NDArray[np.float64]:
    """The first three principal components [clips N 3] of tokens [n N d] in [0, 1]."""
    flat = (tokens - tokens.mean(dim=(0, 1))).flatten(0, 1).double()
    basis = torch.linalg.eigh(flat.T @ flat).eigenvectors[:, -3:].flip(1)
    values = (flat @ basis).unflatten(0, tokens.shape[:2])
    low, high = (torch.quantile(values.flatten(0, 1), share, dim=0) for share in (0.02, 0.98))
    return ((values[:clips] - low) / (high - low)).clamp(0, 1).numpy()


def sheet(found: targets.Target, clips: int, scale: int) -> Image.Image:
    """The picture of the first test clips of a run."""
    batch: Batch = found.source("test").read(range(BASIS))
    x = found.views.plain(Batch({"image": View(batch.views["image"].data)}, batch.ids)).views["image"].data
    trained, untrained = frozen.encoder_of(found).cpu().eval(), frozen.encoder_of(targets.untrained(found)).eval()
    after, attention = tokens_and_attention(trained, x)
    before, _ = tokens_and_attention(untrained, x)
    grid = trained.grid_of(*x.shape[2:])
    raw = batch.views["image"].data[:clips, 0, :: trained.tubelet].double().numpy() / 255
    grey = np.repeat(raw[..., None], 3, axis=-1)
    looks = attention[:clips] / torch.quantile(attention[:clips], 0.99)
    looks = looks.clamp(0, 1).double().numpy()[..., None].repeat(3, axis=-1)
    rows = []
    for i in range(clips):
        for values in (components(before, clips)[i], components(after, clips)[i], looks[i]):
            tiles = values.reshape(*grid, 3)
            tiles = tiles.repeat(x.shape[3] // grid[1], axis=1).repeat(x.shape[4] // grid[2], axis=2)
            rows.append(_strip(tiles)) if len(rows) % 4 else rows.extend((_strip(grey[i]), _strip(tiles)))
        rows[-1] = np.pad(rows[-1], ((0, 4), (0, 0), (0, 0)), constant_values=1.0)
    picture = np.concatenate(rows)
    made = Image.fromarray((255 * picture).round().astype(np.uint8))
    return made.resize((made.width * scale, made.height * scale), Image.Resampling.NEAREST)


def _strip(frames: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.concatenate([np.pad(frame, ((1, 1), (1, 1), (0, 0)), constant_values=1.0) for frame in frames], axis=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--clips", type=int, default=3)
    parser.add_argument("--scale", type=int, default=4)
    given = parser.parse_args()
    sheet(targets.load(given.run, [f"data.count={BASIS}"]), given.clips, given.scale).save(given.out, optimize=True)


if __name__ == "__main__":
    main()
