"""What a verb is pointed at: a run folder, an export folder, or a file of features; and the features it gives."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from tacit.core.errors import CheckpointError, DataError, RecipeError, UnknownNameError
from tacit.core.protocols import Source, Views
from tacit.core.recipe import Recipe, from_plain, resolve
from tacit.core.spec import Spec, plain
from tacit.models import outside, store
from tacit.models.features import POOLED, Extracted, cached
from tacit.runs.build import Built, build, embeds, restore, split_of
from tacit.training.runtime import choose_device

__all__ = ["Target", "cache_of", "is_features", "load", "read_features", "untrained"]

_FILES = (".npy", ".npz", ".safetensors")


@dataclass(frozen=True)
class Target:
    """An encoder with the data to look at: `embed` maps images to representations, `project` (of a run) to embeddings.

    folder: where results belong. built: the restored run, None for an export.
    """

    folder: Path
    recipe: Recipe
    views: Views
    module: Any
    built: Built | None

    def source(self, split: str | None = None) -> Source:
        """The data at a split; by default the split the recipe names."""
        return split_of(self.recipe, split) if split else self.recipe.data.build()  # type: ignore[no-any-return]

    def features(self, source: Source) -> Extracted:
        """Representations of all samples, from the cache where they were computed before."""
        call = self.module.embed if self.built else None
        device = choose_device(self.recipe.machine.device)
        return cached(self.module.to(device), source, self.views, root=cache_of(self.folder), device=device, call=call)

    def embeddings(self, source: Source) -> torch.Tensor:
        """What the loss saw [n d]: the projector's output for a run, the representation for an export."""
        if not self.built:
            return self.features(source).layers[POOLED]
        device = choose_device(self.recipe.machine.device)
        found = cached(
            self.module.to(device),
            source,
            self.views,
            root=cache_of(self.folder),
            device=device,
            call=self.module.project,
        )
        return found.layers[POOLED]


def load(path: str | Path, overrides: Iterable[str] = ()) -> Target:
    """A run folder (overrides change its recipe, `data.split=test` for example), or an export, timm or transformers folder (overrides
    name the data)."""
    path, texts = Path(path), list(overrides)
    if (path / "recipe.yaml").is_file():
        built = restore(path)
        if not embeds(built.system):
            raise RecipeError(
                f"{path} is a run of system {built.recipe.system.kind!r}, which has no representation: `tacit evaluate` looks at it"
            )
        recipe = resolve(built.recipe, texts)
        if recipe.system != built.recipe.system:
            raise RecipeError(
                f"{path} holds the system it was trained with: only data, views and machine can be changed here"
            )
        same = recipe.data == built.recipe.data and recipe.views == built.recipe.views
        views = built.views if same else recipe.views.build(recipe.data.build().facts)
        return Target(path, recipe, views, built.system, built)
    _refuse_names(path)
    if path.is_dir() and outside.recognise(path):
        theirs = outside.open_outside(path)
        spec, facts, module = theirs.spec, theirs.facts, theirs.module
    else:
        card = store.card(path)
        if card.spec.role != "encoder":
            raise RecipeError(f"{path} holds the {card.spec.role} {card.spec.kind!r}; features come from an encoder")
        spec, facts, module = card.spec, card.runtime, None  # type: ignore[assignment]
    size = facts.shape[-1] if facts.shape else 224
    view = Spec("view", "image", size=size, saturation=0.0, hue=0.0, grey=0.0)
    if facts.shape is not None and len(facts.shape) == 3:
        view = Spec("view", "clip", size=size)
    if not any(text.startswith("data") for text in texts):
        raise RecipeError(f"{path} is an export: say which data to use, for example data=folder data.path=photos")
    frame = {
        "system": {"kind": "joint-embedding", "encoder": plain(spec)},
        "views": {"kind": "pair", "first": plain(view)},
        "optim": "sgd",
        "steps": 1,
        "batch": 2,
    }
    recipe = from_plain(frame, texts)
    source = recipe.data.build()
    if source.facts.channels != facts.channels:
        raise DataError(f"the encoder in {path} takes {facts.channels} channels, the data have {source.facts.channels}")
    seen = replace(source.facts, mean=facts.mean, std=facts.std)  # normalised as the encoder was trained
    return Target(path, recipe, recipe.views.build(seen), module or store.load(path), None)


def _refuse_names(path: Path) -> None:
    """Say of a name on a hub that it is none of a folder."""
    text = str(path)
    hub = text.startswith(("hf-hub:", "hf_hub:", "timm/")) or (text.count("/") == 1 and not path.parent.exists())
    if hub and not path.exists():
        raise CheckpointError(
            f"{text} is no folder on this machine, and tacit downloads nothing. Fetch the model yourself, for example with "
            f"`hf download {text.removeprefix('hf-hub:')} --local-dir FOLDER`, and name that folder"
        )


def untrained(target: Target) -> Target:
    """The same run with its first weights."""
    if target.built is None:
        raise RecipeError("an export has no untrained twin: probe the run folder")
    system = build(target.built.recipe, target.built.source).system
    return Target(
        target.folder,
        target.recipe,
        target.views,
        system,
        Built(target.recipe, target.built.source, target.views, system),
    )


def cache_of(folder: Path) -> Path:
    """The cache beside the folder that holds the runs: runs/../cache."""
    return folder.resolve().parents[2] / "cache" if len(folder.resolve().parents) > 2 else folder / "cache"


def is_features(path: str | Path) -> bool:
    """Whether a target is a file of features."""
    return Path(path).suffix in _FILES


def read_features(path: str | Path, *, grouped: bool = False) -> dict[str, torch.Tensor]:
    """`features` [n d], and `labels`, `ids` [n] where the file has them; a .npy file is the features alone.

    `grouped` also takes [n q d], q views of each of n samples.
    """
    path = Path(path)
    if not path.is_file():
        raise UnknownNameError(f"there is no file {path}")
    try:
        if path.suffix == ".npy":
            found = {"features": torch.from_numpy(np.load(path, allow_pickle=False))}
        elif path.suffix == ".npz":
            with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                found = {name: torch.from_numpy(arrays[name]) for name in arrays.files}
        else:
            found = load_file(path)
    except (ValueError, OSError, EOFError, BadZipFile, SafetensorError, TypeError) as error:
        raise DataError(f"{path} cannot be read as arrays: {error}") from error
    if "features" not in found:
        raise DataError(f"{path} has the arrays {', '.join(found) or '(none)'}: one must be called 'features'")
    if found["features"].ndim != 2 and not (grouped and found["features"].ndim == 3):
        raise DataError(
            f"{path}: features must be [samples width], found {list(found['features'].shape)}: flatten or pool them"
        )
    return found
