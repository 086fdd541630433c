"""Clips of a moving camera with its motion, made when they are asked for."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Sequence
from typing import Annotated

import numpy as np
import torch
from annotated_types import Ge, Gt, Le, Lt
from numpy.typing import NDArray
from torch import Tensor

from tacit.core.errors import DataError, UnknownNameError, unknown
from tacit.core.parts import part
from tacit.core.values import Batch, Facts, View
from tacit.worlds.camera.canvas import SIZE, canvases, look
from tacit.worlds.rooms.draws import keys, normal_pair, uniform

__all__ = ["CameraClips"]

_SPLITS = ("train", "valid", "test")
_MEASURED = 64  # clips of the training split whose mean and deviation normalise


@part("source", "camera")
class CameraClips:
    """A camera over a canvas of digits: clips with the true camera motion as action; no files, no download.

    Sample i of a split is a function of (seed, split, i), scene and path. View 'image' is uint8 [n 1 t side side]; `action` [n t 2] is
    the motion in pixels, action i leading from frame i to frame i + 1 and the last one out of the clip. Facts: position [n t 2] of the
    upper left corner, unwrapped.

    speed: deviation of each coordinate of the motion in pixels a frame, cut at twice that. smooth: correlation of one motion with the
    next. Splits train and the others share no scan of a digit. `replay` shows the same scene under other motions.
    """

    def __init__(
        self,
        *,
        count: Annotated[int, Ge(1)] = 20_000,
        frames: Annotated[int, Ge(2)] = 4,
        side: Annotated[int, Ge(8), Le(SIZE)] = 16,
        speed: Annotated[float, Gt(0), Le(8)] = 1.0,
        smooth: Annotated[float, Ge(0), Lt(1)] = 0.5,
        split: str = "train",
        seed: Annotated[int, Ge(0)] = 0,
    ) -> None:
        if split not in _SPLITS:
            raise UnknownNameError(unknown("split", split, _SPLITS))
        self._count, self._frames, self._side, self._split, self._seed = count, frames, side, split, seed
        self._speed, self._smooth = speed, smooth
        self._settings = [1, count, frames, side, speed, smooth, split, seed]
        mean, std = _statistics(seed)
        self.facts = Facts(
            channels=1,
            shape=(frames, side, side),
            mean=(mean,),
            std=(std,),
            action_dim=2,
            factors=("position",),
        )

    def __len__(self) -> int:
        return self._count

    def digest(self) -> str:
        """Changes with every setting."""
        return hashlib.sha256(json.dumps(self._settings).encode()).hexdigest()[:16]

    def read(self, indices: Sequence[int] | NDArray[np.int64]) -> Batch:
        """The clips of these indices."""
        ids = np.asarray(indices, dtype=np.int64)
        if len(ids) and (ids.min() < 0 or ids.max() >= self._count):
            raise DataError(f"clips are numbered from 0 to {self._count - 1}, found {ids.min()} to {ids.max()}")
        start, action = self._paths(ids)
        return self._seen(ids, start, action)

    def replay(self, batch: Batch, action: Tensor) -> Batch:
        """What would have been seen from the first frames of `batch` under other motions [n t 2]."""
        return self._seen(batch.ids.cpu().numpy(), batch.facts["position"][:, 0].cpu(), action.cpu())

    def _seen(self, ids: NDArray[np.int64], start: Tensor, action: Tensor) -> Batch:
        moved = torch.cat([torch.zeros_like(action[:, :1]), action[:, :-1].cumsum(1)], 1)
        position = start.unsqueeze(1) + moved
        seen = look(canvases(ids.tolist(), self._seed, self._split), position, self._side)
        return Batch({"image": View(seen.unsqueeze(1))}, torch.from_numpy(ids), action, {"position": position})

    def _paths(self, ids: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Starts [n 2] and motions [n t 2]: a correlated walk in each coordinate, cut at twice its deviation."""
        draw = keys(torch.from_numpy(ids), self._seed, "camera-path", self._split)
        start = SIZE * torch.stack([uniform(draw, k) for k in (0, 1)], -1)
        now, moves = normal_pair(draw, 2), []
        for t in range(self._frames):
            moves.append(now.clamp(-2, 2))
            now = self._smooth * now + (1 - self._smooth**2) ** 0.5 * normal_pair(draw, 4 + 2 * t)
        return start.float(), self._speed * torch.stack(moves, 1).float()


@functools.lru_cache(maxsize=8)
def _statistics(seed: int) -> tuple[float, float]:
    """Mean and deviation of pixels in [0, 1] over whole training scenes."""
    scenes = canvases(range(_MEASURED), seed, "train") / 255
    return float(scenes.mean()), float(scenes.std())
