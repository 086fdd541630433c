"""Clips of Two Rooms with their actions, made when they are asked for."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import numpy as np
import torch
from annotated_types import Ge, Gt, Le
from numpy.typing import NDArray
from torch import Tensor

from tacit.core.errors import DataError, UnknownNameError, unknown
from tacit.core.parts import part
from tacit.core.values import Batch, Facts, View
from tacit.worlds.rooms.draws import keys, uniform
from tacit.worlds.rooms.dynamics import roll
from tacit.worlds.rooms.layouts import SIZE, Layouts, fixed_layouts
from tacit.worlds.rooms.pictures import MEAN, STD, draw
from tacit.worlds.rooms.trajectories import ACTIONS, WINDOW, Policy, Walks, walks

__all__ = ["RoomClips"]

_SPLITS = ("train", "valid", "test")
_KEPT = 100_000  # trajectories whose 91 positions and actions are kept: 1.5 kilobytes each


@part("source", "rooms")
class RoomClips:
    """Two Rooms: windows of random walks with actions, positions and layouts; no files, no download.

    Sample i of a split is a function of (seed, split, i). View 'image' is uint8 [n 2 t 65 65] (dot, walls); `action` [n t 2]
    in pixels, action i leading from frame i to frame i + 1 and the last one out of the clip. Facts: position [n t 2], wall [n], door [n].

    frames: 17 as published, 90 for long roll-outs. crossing, turn: see `trajectories.Policy`. layout: one of all 1125 for each
    clip, or fixed: EB-JEPA (32, 18), PLDM (32, 10). rule: the dynamics; published data stay put where the environment bounces.
    fresh: new clips in every epoch of training, as EB-JEPA draws them (PLDM's are recorded once); those of epoch e are the samples
    e * count and on of a longer source.
    """

    def __init__(
        self,
        *,
        count: Annotated[int, Ge(1)] = 100_000,
        frames: Annotated[int, Ge(2), Le(ACTIONS)] = 17,
        crossing: Annotated[float, Ge(0), Le(1)] = 0.35,
        turn: Annotated[float, Gt(0)] = 0.2,
        layout: Literal["random", "eb-jepa", "pldm"] = "random",
        rule: Literal["stay-put", "bounce"] = "stay-put",
        fresh: bool = False,
        split: str = "train",
        seed: Annotated[int, Ge(0)] = 0,
    ) -> None:
        if split not in _SPLITS:
            raise UnknownNameError(unknown("split", split, _SPLITS))
        self._count, self._frames, self._rule, self._layout = count, frames, rule, layout
        self._policy = Policy(crossing=crossing, turn=turn)
        self._seed, self._split = seed, split
        self._fresh, self._before = fresh, 0
        self._table: Walks | None = None
        self._settings = [2, count, frames, crossing, turn, layout, rule, fresh, split, seed]
        self.facts = Facts(
            channels=2,
            shape=(frames, SIZE, SIZE),
            mean=MEAN,
            std=STD,
            action_dim=2,
            factors=("position", "wall", "door"),
        )

    def __len__(self) -> int:
        return self._count

    def digest(self) -> str:
        """Changes with every setting."""
        return hashlib.sha256(json.dumps(self._settings).encode()).hexdigest()[:16]

    def at(self, seed: int, epoch: int) -> RoomClips:  # noqa: ARG002  (the data have a seed of their own)
        """The clips of this epoch: these, or new ones where `fresh`."""
        if not self._fresh or not epoch:
            return self
        other = copy.copy(self)
        other._before, other._table = epoch * self._count, None
        return other

    def read(self, indices: Sequence[int] | NDArray[np.int64]) -> Batch:
        """The clips of these indices, all made in one pass."""
        ids = torch.as_tensor(np.asarray(indices, dtype=np.int64))
        for i in ids.tolist():
            if not 0 <= i < self._count:
                raise DataError(f"sample {i} does not exist: there are {self._count}, from 0 to {self._count - 1}")
        return self.make(ids)

    def replay(self, batch: Batch, action: Tensor) -> Batch:
        """What would have been seen from the first frames of `batch` under other actions [n t 2] and the stay-put rule."""
        layouts = Layouts(batch.facts["wall"], batch.facts["door"])
        start = batch.facts["position"][:, 0]
        position = torch.cat([start.unsqueeze(1), roll(start, action[:, :-1].to(start), layouts)], 1)
        picture = draw(position, layouts).transpose(1, 2)
        return Batch({"image": View(picture)}, batch.ids, action, {**batch.facts, "position": position})

    def trajectories(self, ids: Tensor) -> Walks:
        """The whole trajectories, 90 actions each, whose windows are the samples of these ids (int64 [n])."""
        doors = {"eb-jepa": 18, "pldm": 10}
        layouts = fixed_layouts(len(ids), door=doors[self._layout]) if self._layout in doors else None
        return walks(self._keys(ids), self._policy, layouts, self._rule)

    def _keys(self, ids: Tensor) -> Tensor:
        return keys(self._before + ids, self._seed, "rooms", self._split)

    def _made(self, ids: Tensor) -> Walks:
        """The walks of these ids; of a source of moderate size all are made at the first call on a device, in a few seconds."""
        if self._count > _KEPT or len(ids) < 2:
            return self.trajectories(ids)
        if self._table is None or self._table.positions.device != ids.device:
            piece = 2048 if ids.device.type == "cpu" else self._count
            parts = [self.trajectories(some) for some in torch.arange(self._count, device=ids.device).split(piece)]
            self._table = Walks.joined(parts)
        return self._table.at(ids)

    def __getstate__(self) -> dict[str, Any]:
        """A worker process makes its own table."""
        return {**self.__dict__, "_table": None}

    def make(self, ids: Tensor) -> Batch:
        """The clips of these ids (int64 [n]) on the device of the ids, unchecked: the path for a GPU."""
        key, made = self._keys(ids), self._made(ids)
        first = (uniform(key, WINDOW) * max(1, ACTIONS - self._frames + 1)).long()
        at = (first.unsqueeze(-1) + torch.arange(self._frames, device=ids.device)).unsqueeze(-1).expand(-1, -1, 2)
        position, action = made.positions.gather(1, at), made.actions.gather(1, at)
        picture = draw(position, made.layouts).transpose(1, 2)
        facts = {"position": position, "wall": made.layouts.wall, "door": made.layouts.door}
        return Batch({"image": View(picture)}, ids, action=action, facts=facts)
