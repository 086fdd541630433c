"""Clips of the arm with its actions and states, made when they are asked for and kept."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
import torch
from annotated_types import Ge, Le
from numpy.typing import NDArray

from tacit.core.errors import DataError, UnknownNameError, unknown
from tacit.core.parts import part
from tacit.core.values import Batch, Facts, View

__all__ = ["ArmClips"]

_SPLITS = ("train", "valid", "test")
_MEAN, _STD = (0.5, 0.44, 0.36), (0.11, 0.09, 0.08)  # of pictures at the defaults


@part("source", "arm")
class ArmClips:
    """A robot's arm over a table: windows of `frames` pictures of episodes of `steps` actions, four a second; no files, no download.

    Every window of every episode is a sample; an episode is a function of (seed, split, its number) and the settings, simulated when first
    asked for (a fifth of a second) and kept. View 'image' is uint8 [n 3 t side side]; `action` [n t 7] leads from frame i to frame
    i + 1 (`tacit.ops.pose`), the last one out of the clip. Facts: state [n t 7], cube [n t 3] in metres, camera [n t 6]. wander, noise: see
    `episodes.record`. The same episodes on disk: `tacit make arm`. Needs mujoco (`pip install 'tacit[robots]'`).
    """

    def __init__(
        self,
        *,
        episodes: Annotated[int, Ge(1)] = 400,
        steps: Annotated[int, Ge(2)] = 20,
        frames: Annotated[int, Ge(2)] = 5,
        side: Annotated[int, Ge(16)] = 64,
        wander: Annotated[float, Ge(0), Le(1)] = 0.5,
        noise: Annotated[float, Ge(0)] = 0.015,
        split: str = "train",
        seed: Annotated[int, Ge(0)] = 0,
    ) -> None:
        if split not in _SPLITS:
            raise UnknownNameError(unknown("split", split, _SPLITS))
        if frames > steps + 1:
            raise DataError(
                f"an episode of {steps} actions has {steps + 1} frames, a clip asks for {frames}: lower data.frames"
            )
        self._episodes, self._steps, self._frames, self._side = episodes, steps, frames, side
        self._wander, self._noise, self._split, self._seed = wander, noise, split, seed
        self._settings = [1, episodes, steps, frames, side, wander, noise, split, seed]
        self._windows = steps + 2 - frames
        self._made: dict[int, Any] = {}
        self.facts = Facts(
            channels=3,
            shape=(frames, side, side),
            mean=_MEAN,
            std=_STD,
            action_dim=7,
            factors=("state", "cube", "camera"),
            rate=4.0,
        )

    def __len__(self) -> int:
        return self._episodes * self._windows

    def digest(self) -> str:
        """Changes with every setting."""
        return hashlib.sha256(json.dumps(self._settings).encode()).hexdigest()[:16]

    def episode(self, i: int) -> dict[str, NDArray[Any]]:
        """Episode i whole: frames [t s s 3], state, actions, cube, camera."""
        if i not in self._made:
            from tacit.worlds.arm.episodes import record
            from tacit.worlds.arm.world import Arm

            made = record(
                Arm(side=self._side),
                self._seed,
                self._split,
                i,
                steps=self._steps,
                wander=self._wander,
                noise=self._noise,
            )
            self._made[i] = made.arrays()
        return self._made[i]  # type: ignore[no-any-return]

    def __getstate__(self) -> dict[str, Any]:
        """A worker process makes its own episodes."""
        return {**self.__dict__, "_made": {}}

    def read(self, indices: Sequence[int] | NDArray[np.int64]) -> Batch:
        """The clips of these indices."""
        ids = np.asarray(indices, dtype=np.int64).reshape(-1)
        if len(ids) and not (ids.min() >= 0 and ids.max() < len(self)):
            raise DataError(f"clips are numbered from 0 to {len(self) - 1}, found {ids.min()} to {ids.max()}")
        clips = []
        for i in ids.tolist():
            number, first = divmod(i, self._windows)
            clips.append({name: values[first : first + self._frames] for name, values in self.episode(number).items()})
        pictures = torch.from_numpy(np.stack([c["frames"] for c in clips])).permute(0, 4, 1, 2, 3).contiguous()
        facts = {name: torch.from_numpy(np.stack([c[name] for c in clips])) for name in self.facts.factors}
        action = torch.from_numpy(np.stack([c["actions"] for c in clips]))
        return Batch({"image": View(pictures)}, torch.from_numpy(ids), action=action, facts=facts)
