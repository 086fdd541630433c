"""Trajectories as a source of samples: solved on the fly, or read from files in a published layout."""

from __future__ import annotations

import functools
import hashlib
import json
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol, runtime_checkable

import numpy as np
import torch
from annotated_types import Ge
from numpy.typing import NDArray
from torch import Tensor

from tacit.core.errors import DataError, UnknownNameError, unknown
from tacit.core.parts import part
from tacit.core.random import key
from tacit.core.spec import Role, Spec, plain
from tacit.core.values import Batch, Facts, View
from tacit.ops.fields import Field
from tacit.worlds.pdes.layouts import lpsda, mppde, smoke, well
from tacit.worlds.pdes.layouts.files import member, of_split, opened
from tacit.worlds.pdes.making import trajectories

__all__ = ["MadeTrajectories", "StoredTrajectories", "Trajectories", "batch_of", "facts_of"]

_SPLITS = ("train", "valid", "test")
_AXES = ("x", "y")


@runtime_checkable
class Trajectories(Protocol):
    """A source whose samples are solutions of differential equations."""

    facts: Facts

    def __len__(self) -> int: ...

    def digest(self) -> str:
        """See `core.protocols.Source`."""
        ...

    def read(self, indices: Sequence[int] | NDArray[np.int64]) -> Batch:
        """See `core.protocols.Source`."""
        ...

    def fields(self, indices: Sequence[int]) -> list[Field]:
        """The samples as fields with their equation, one for each equation."""
        ...


def batch_of(field: Field, ids: Tensor) -> Batch:
    """Raw fields [n c t *space] in float32 as the view 'image'; time, axes and all parameters among the facts."""
    data = torch.stack([v.float() for v in field.values.values()], 1)
    coordinates = {"time": field.time, **dict(zip(_AXES, field.space, strict=False))}
    return Batch({"image": View(data)}, ids, facts={**field.parameters, **coordinates})


def facts_of(field: Field) -> Facts:
    """What `batch_of` will deliver: channels, shape (t, *space), and the names of parameters that are one number each."""
    shape = (field.time.shape[1], *(x.shape[1] for x in field.space))
    single = tuple(name for name, v in field.parameters.items() if v.ndim == 1)
    return Facts(channels=len(field.values), shape=shape, factors=single)


def _checked(split: str) -> str:
    if split not in _SPLITS:
        raise UnknownNameError(unknown("split", split, _SPLITS))
    return split


class _Rows(dict[int, tuple[Tensor, dict[str, Tensor]]]):
    """Samples by index: picture and facts."""


_rows_of: weakref.WeakValueDictionary[str, _Rows] = weakref.WeakValueDictionary()


class _Kept:
    """Samples by index through a function, each asked for once while they fit in `memory` MiB.

    what: names the samples. Those of one name are shared while any of their holders lives: a probe opens the source of a run anew,
    and solving takes longer than probing.
    """

    def __init__(self, count: int, read: Callable[[list[int]], Batch], memory: int, what: str = "") -> None:
        self.count, self._read, self._room = count, read, memory * 2**20
        self._rows = _rows_of.setdefault(what, _Rows()) if what else _Rows()

    def read(self, indices: Sequence[int] | NDArray[np.int64]) -> Batch:
        wanted = [int(i) for i in indices]
        for i in wanted:
            if not 0 <= i < self.count:
                raise DataError(f"sample {i} does not exist: there are {self.count}, from 0 to {self.count - 1}")
        rows = {i: self._rows[i] for i in wanted if i in self._rows}
        missing = sorted(set(wanted) - rows.keys())
        if missing:
            made = self._read(missing)
            data = torch.as_tensor(made.views["image"].data)
            for k, i in enumerate(missing):
                rows[i] = (data[k], {name: value[k] for name, value in made.facts.items()})
            size = data[0].numel() * data.element_size()
            for i in missing:
                if (len(self._rows) + 1) * size <= self._room:
                    self._rows[i] = (rows[i][0].clone(), rows[i][1])
        names = rows[wanted[0]][1] if wanted else {}
        facts = {name: torch.stack([rows[i][1][name] for i in wanted]) for name in names}
        return Batch({"image": View(torch.stack([rows[i][0] for i in wanted]))}, torch.tensor(wanted), facts=facts)


@part("source", "pde")
class MadeTrajectories:
    """Trajectories of a world, solved when they are first asked for: no files, no download.

    Sample i of a split depends on (seed, split, i) alone. held_out: trajectories of the valid and test splits, by default as
    many as in train. memory: MiB of solved trajectories that are kept.
    """

    def __init__(
        self,
        *,
        world: Annotated[Spec, Role("world")],
        count: Annotated[int, Ge(1)] = 1000,
        held_out: Annotated[int, Ge(1)] | None = None,
        split: str = "train",
        seed: Annotated[int, Ge(0)] = 0,
        memory: Annotated[int, Ge(0)] = 2048,
    ) -> None:
        count = count if split == "train" or held_out is None else held_out
        self._world, self._count = world, count
        self._seed = key(seed, _checked(split))
        self._digest = [plain(world.resolve()), count, split, seed]
        self.facts = facts_of(trajectories(world, self._seed, range(1)))
        samples = json.dumps([plain(world.resolve()), split, seed, memory], sort_keys=True)
        self._kept = _Kept(count, self._make, memory, samples)

    @staticmethod
    def idle_settings(settings: Mapping[str, Any]) -> Mapping[str, str]:
        """Memory changes what is solved twice, not what is read."""
        found = {"memory": f"keeping {settings['memory']} MiB of trajectories changes no sample"}
        return found | ({"held_out": "it counts the valid and test splits"} if settings["split"] == "train" else {})

    def __len__(self) -> int:
        return self._count

    def digest(self) -> str:
        """Changes with the world, the seed, the split and the count."""
        return hashlib.sha256(json.dumps(self._digest, sort_keys=True).encode()).hexdigest()[:16]

    def read(self, indices: Sequence[int] | NDArray[np.int64]) -> Batch:
        """View 'image' [n c t *space], raw; facts: time, x (y) and the parameters of each trajectory."""
        return self._kept.read(indices)

    def fields(self, indices: Sequence[int]) -> list[Field]:
        """The trajectories with their equation, solved anew."""
        return [trajectories(self._world, self._seed, list(indices))]

    def _make(self, indices: list[int]) -> Batch:
        return batch_of(trajectories(self._world, self._seed, indices), torch.tensor(indices))


@part("source", "pde-files")
class StoredTrajectories:
    """Trajectories in files of a published layout: LPSDA, MP-PDE, PDEArena's smoke or The Well.

    path: the folder that holds the files of every split, which probing needs beside the one trained on; or one file.
    equation: of an LPSDA file. points: which resolution of an MP-PDE file, by default its finest. labels: of the smoke and MP-PDE
    layouts; "official" keeps the coordinates as they were written.
    """

    def __init__(
        self,
        *,
        path: str,
        layout: Literal["lpsda", "pdearena", "mp-pde", "well"] = "lpsda",
        equation: Literal["kdv", "ks", "heat", "burgers"] = "kdv",
        split: str = "train",
        points: Annotated[int, Ge(1)] | None = None,
        labels: Literal["correct", "official"] = "correct",
        memory: Annotated[int, Ge(0)] = 2048,
    ) -> None:
        self._points = points
        self._layout, self._equation, self._labels, self._split = layout, equation, labels, _checked(split)
        if layout in ("pdearena", "well"):
            self._paths = {"pdearena": smoke.files, "well": well.files}[layout](Path(path), split)
        else:
            self._paths = [of_split(Path(path), lpsda.STEMS[equation] if layout == "lpsda" else "*", split)]
        counts = []
        for one in self._paths:
            if layout == "well":
                counts.append(well.count(one))
                continue
            if layout == "mp-pde":
                counts.append(next(iter(mppde.resolutions(one, split).values())))
                continue
            with opened(one) as file:
                if split not in file:
                    raise DataError(
                        f"{one} has no split {split!r}, it has {', '.join(s for s in _SPLITS if s in file) or 'none'}:"
                        " give the folder that holds a file for each split"
                    )
                group = file[split]
                counts.append(len(member(group, "dt", one)))
        self._ends = np.cumsum(counts)
        self._kept = _Kept(int(self._ends[-1]), self._load, memory)

    @functools.cached_property
    def facts(self) -> Facts:
        """Of the first trajectory, read when they are first asked for: the rest of a file may be looked at where that one is broken."""
        return facts_of(self._field(0, slice(0, 1)))

    @staticmethod
    def check_settings(settings: Mapping[str, Any]) -> Iterable[str]:
        """Rules across settings."""
        if settings["points"] is not None and settings["layout"] != "mp-pde":
            yield f"points: only files of MP-PDE hold several resolutions, found layout={settings['layout']!r}"

    def __len__(self) -> int:
        return self._kept.count

    def digest(self) -> str:
        """Changes with the names, sizes and times of the files and with the labels."""
        parts = [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in self._paths]
        text = json.dumps([parts, self._split, self._labels, self._equation, self._points])
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def read(self, indices: Sequence[int] | NDArray[np.int64]) -> Batch:
        """View 'image' [n c t *space], raw; facts: time, x (y) and the parameters of each trajectory."""
        return self._kept.read(indices)

    def fields(self, indices: Sequence[int]) -> list[Field]:
        """The trajectories with their equation."""
        parts = []
        for i in indices:
            which = int(np.searchsorted(self._ends, i, side="right"))
            row = i - (int(self._ends[which - 1]) if which else 0)
            parts.append(self._field(which, slice(row, row + 1)))
        return [Field.join(parts)]

    def _load(self, indices: list[int]) -> Batch:
        return batch_of(self.fields(indices)[0], torch.tensor(indices))

    def _field(self, which: int, rows: slice) -> Field:
        path = self._paths[which]
        try:
            return self._opened(path, rows)
        except DataError as error:  # the layouts count from the first row that was asked for
            where = "" if str(path) in str(error) else f"{path}: "
            raise DataError(f"{where}{error} (read as row {rows.start} of the file)") from error

    def _opened(self, path: Path, rows: slice) -> Field:
        if self._layout == "lpsda":
            return lpsda.read(path, self._equation, self._split, rows)
        if self._layout == "mp-pde":
            return mppde.read(path, self._split, self._points, rows, self._labels)
        if self._layout == "well":
            return well.read(path, rows=rows).check()
        return smoke.read(path, self._split, rows, self._labels)
