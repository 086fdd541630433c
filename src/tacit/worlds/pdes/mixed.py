"""Trajectories of several equations in one source."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any

import numpy as np
import torch
from annotated_types import Ge
from numpy.typing import NDArray
from torch import Tensor

from tacit.core.parts import part
from tacit.core.spec import Role, Spec
from tacit.core.values import Batch, Facts, View
from tacit.ops.fields import Field
from tacit.worlds.pdes.source import MadeTrajectories

__all__ = ["MixedTrajectories"]


@part("source", "pde-mixed")
class MixedTrajectories:
    """Trajectories of several worlds of one shape, in turn: sample i is trajectory i // k of world i % k.

    The facts of all worlds are there, not a number where a world lacks one, and `equation` [n] counts the worlds from 0. Views
    must apply what is a symmetry of all of them: for KdV, Kuramoto-Sivashinsky and Burgers that is lie-line with equation "ks".
    """

    def __init__(
        self,
        *,
        worlds: tuple[Annotated[Spec, Role("world")], ...],
        count: Annotated[int, Ge(1)] = 1000,
        held_out: Annotated[int, Ge(1)] | None = None,
        split: str = "train",
        seed: Annotated[int, Ge(0)] = 0,
        memory: Annotated[int, Ge(0)] = 2048,
    ) -> None:
        share = {"seed": seed, "split": split, "memory": memory // max(1, len(worlds))}
        self._count = count if split == "train" or held_out is None else held_out
        each = -(-self._count // len(worlds))
        self._sources = [MadeTrajectories(world=world, count=each, **share) for world in worlds]  # type: ignore[arg-type]
        facts: list[Facts] = [source.facts for source in self._sources]
        names = dict.fromkeys(name for one in facts for name in one.factors)
        self.facts = replace(facts[0], factors=(*names, "equation"))

    @staticmethod
    def check_settings(settings: Mapping[str, Any]) -> Iterable[str]:
        """Worlds must agree in the shape of their trajectories."""
        if not settings["worlds"]:
            yield "worlds: needs at least one equation"
        shapes = {world.kind: (world.get("stored"), world.get("points")) for world in settings["worlds"]}
        if len(set(shapes.values())) > 1:
            said = ", ".join(f"{kind} {stored} x {points}" for kind, (stored, points) in shapes.items())
            yield f"worlds: their trajectories must have one shape (stored x points), found {said}"

    @staticmethod
    def idle_settings(settings: Mapping[str, Any]) -> Mapping[str, str]:
        """As for one world."""
        return MadeTrajectories.idle_settings(settings)

    def __len__(self) -> int:
        return self._count

    def digest(self) -> str:
        """Changes with the worlds, the seed, the split and the count."""
        text = json.dumps([[source.digest() for source in self._sources], self._count])
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def fields(self, indices: Sequence[int]) -> list[Field]:
        """The trajectories of each world among `indices`, with their equation."""
        k = len(self._sources)
        rows = [[int(i) // k for i in indices if int(i) % k == which] for which in range(k)]
        return [source.fields(own)[0] for source, own in zip(self._sources, rows, strict=True) if own]

    def read(self, indices: Sequence[int] | NDArray[np.int64]) -> Batch:
        """View 'image' [n c t *space], raw; facts: time, axes, the parameters of all worlds, `equation`."""
        wanted = np.asarray(indices, dtype=np.int64)
        k = len(self._sources)
        parts: list[tuple[NDArray[np.int64], Batch]] = []
        for which, source in enumerate(self._sources):
            rows = np.flatnonzero(wanted % k == which)
            if len(rows):
                parts.append((rows, source.read(wanted[rows] // k)))
        order = torch.from_numpy(np.argsort(np.concatenate([rows for rows, _ in parts]), kind="stable"))
        images = torch.cat([torch.as_tensor(batch.views["image"].data) for _, batch in parts])[order]
        names = [*self.facts.factors[:-1], "time", *("x", "y")[: images.ndim - 3]]
        facts = {name: torch.cat([_or_nan(batch, name) for _, batch in parts])[order] for name in names}
        facts["equation"] = torch.from_numpy(wanted % k).double()
        return Batch({"image": View(images)}, torch.from_numpy(wanted), facts=facts)


def _or_nan(batch: Batch, name: str) -> Tensor:
    found = batch.facts.get(name)
    return torch.full((len(batch),), torch.nan, dtype=torch.float64) if found is None else found
