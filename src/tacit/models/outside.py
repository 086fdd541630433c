"""Encoders of other packages from a folder on this machine: timm's and transformers' own layouts. Nothing is downloaded, no code of
the folder is run.

timm:          config.json with "architecture", beside model.safetensors or pytorch_model.bin (what timm.models.save_for_hf writes)
transformers:  config.json with "model_type", beside model.safetensors (what save_pretrained writes); preprocessor_config.json
               gives the normalisation and the size
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from tacit.core.errors import CheckpointError, RecipeError, need
from tacit.core.parts import part
from tacit.core.spec import Spec
from tacit.core.values import Facts, Features
from tacit.models.stages import demand_all_tokens, demand_layers, features_of_map, pool_map
from tacit.models.weights import load_weights

__all__ = ["Outside", "Transformers", "open_outside", "recognise"]

_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@dataclass(frozen=True)
class Outside:
    """An encoder from elsewhere: its spec, the images it takes (channels, size, normalisation), and the module with its weights."""

    spec: Spec
    facts: Facts
    module: nn.Module


def recognise(folder: str | Path) -> str:
    """'timm' or 'transformers' where the folder is one of theirs, else ''."""
    config = _config(Path(folder))
    if config is None:
        return ""
    return "timm" if "architecture" in config else "transformers" if "model_type" in config else ""


def _config(folder: Path) -> dict[str, Any] | None:
    path = folder / "config.json"
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{path}: not readable as JSON ({error}): copy the folder again") from error
    return found if isinstance(found, dict) else None


def open_outside(folder: str | Path) -> Outside:
    """The encoder of a timm or transformers folder, filled, in eval mode on the CPU."""
    folder, kind = Path(folder), recognise(folder)
    config = _config(folder) or {}
    if kind == "timm":
        return _timm(folder, config)
    if kind == "transformers":
        return _transformers(folder)
    raise CheckpointError(
        f"{folder}: no folder of timm or transformers: its config.json must hold 'architecture' or 'model_type'"
    )


def _timm(folder: Path, config: Mapping[str, Any]) -> Outside:
    given = {**config, **(config.get("pretrained_cfg") or {})}
    channels, height, width = given.get("input_size") or (3, 224, 224)
    mean, std = (
        tuple(map(float, given.get(name) or default)) for name, default in zip(("mean", "std"), _IMAGENET, strict=True)
    )
    facts = Facts(channels=int(channels), shape=(int(height), int(width)), mean=mean, std=std)
    if config.get("model_args"):
        raise RecipeError(
            f"{folder}: its config.json changes the architecture by model_args={config['model_args']}, which encoder 'timm' cannot "
            "express: load it in timm and judge a file of its features instead"
        )
    spec = Spec("encoder", "timm", name=str(config["architecture"])).resolve("encoder")
    module: nn.Module = spec.build(facts)
    for name in ("model.safetensors", "pytorch_model.bin"):
        if (folder / name).is_file():
            load_weights(module, folder / name)
            return Outside(spec, facts, module.eval())
    raise CheckpointError(f"{folder}: no weights beside config.json: it needs model.safetensors or pytorch_model.bin")


def _transformers(folder: Path) -> Outside:
    spec = Spec("encoder", "transformers", path=str(folder)).resolve("encoder")
    path = folder / "preprocessor_config.json"
    given = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    mean, std = (
        tuple(map(float, given.get(f"image_{name}") or default))
        for name, default in zip(("mean", "std"), _IMAGENET, strict=True)
    )
    config = _config(folder) or {}
    size = _side(given.get("crop_size")) or _side(given.get("size")) or _side(config.get("image_size")) or 224
    facts = Facts(channels=int(config.get("num_channels", 3)), shape=(size, size), mean=mean, std=std)
    module: nn.Module = spec.build(facts)
    return Outside(spec, facts, module.eval())


def _side(size: Any) -> int:
    """The side of a square that a configuration names as a number, a pair or a mapping; 0 where it does not."""
    if isinstance(size, Mapping):
        size = size.get("height") or size.get("shortest_edge")
    if isinstance(size, Sequence) and not isinstance(size, str) and size:
        size = size[0]
    return int(size) if isinstance(size, int | float) else 0


@part("encoder", "transformers")
class Transformers(nn.Module):
    """An image model of the package transformers from the folder `path`, with the weights there; needs the extra 'vision'.

    Safetensors alone are read, no code of the folder is run, and every weight must be there (an unused pooler aside). Maps are pooled by
    the mean over places; of tokens the first is taken where there are more of them than patches (a class token), else the mean. Layers:
    'hidden.0' (what the first block sees) to 'hidden.<blocks>', then 'pooled'.
    """

    def __init__(self, facts: Facts, *, path: str = "") -> None:
        super().__init__()
        package: Any = need("transformers", "vision", "encoder 'transformers'")
        folder = Path(path)
        if not path or not (folder / "config.json").is_file():
            raise RecipeError(
                f"encoder 'transformers': path={path!r} is no folder with a config.json. Nothing is downloaded: fetch the model "
                "yourself, for example with `hf download NAME --local-dir FOLDER`, and name that folder"
            )
        if not list(folder.glob("*.safetensors")):
            raise CheckpointError(
                f"{folder}: no .safetensors file beside config.json: convert the weights, model.save_pretrained(folder) writes them"
            )
        try:
            self.model, report = package.AutoModel.from_pretrained(
                path, local_files_only=True, trust_remote_code=False, use_safetensors=True, output_loading_info=True
            )
        except (OSError, ValueError, KeyError) as error:
            raise CheckpointError(f"{folder}: transformers cannot load it: {str(error).splitlines()[0]}") from error
        missing = sorted(name for name in report["missing_keys"] if "pooler" not in name)
        if missing:
            raise CheckpointError(
                f"{folder}: {len(missing)} tensors of the model are not in the file: {', '.join(missing[:3])}. Copy the whole folder"
            )
        config = self.model.config
        if getattr(config, "num_channels", facts.channels) != facts.channels:
            raise RecipeError(
                f"{folder}: the model takes {config.num_channels} channels, the images have {facts.channels}: set the source's channels"
            )
        widths = getattr(config, "hidden_sizes", None)
        self.dim = int(widths[-1] if widths else config.hidden_size)
        patch = getattr(config, "patch_size", None)
        self._patch = int(patch) if isinstance(patch, int) else 0

    @property
    def published(self) -> nn.Module:
        """The module whose state-dict names the world knows."""
        return self.model  # type: ignore[no-any-return]

    def _pool(self, x: Tensor, shape: tuple[int, ...]) -> Tensor:
        if x.ndim == 4:
            return pool_map(x)
        places = (shape[-2] // self._patch) * (shape[-1] // self._patch) if self._patch else x.shape[1]
        return x[:, 0] if x.shape[1] > places else x.mean(dim=1)

    def forward(self, x: Float[Tensor, "n c h w"], keep: Tensor | None = None) -> Features:
        """Pooled features [n dim], and the model's tokens or the places of its last map."""
        demand_all_tokens("transformers", keep)
        last = self.model(pixel_values=x).last_hidden_state
        if last.ndim == 4:
            return features_of_map(last)
        pooled = self._pool(last, tuple(x.shape))
        places = (x.shape[-2] // self._patch) * (x.shape[-1] // self._patch) if self._patch else last.shape[1]
        return Features(pooled, last[:, last.shape[1] - min(places, last.shape[1]) :])

    def layers(self, x: Float[Tensor, "n c h w"], which: Sequence[str]) -> list[Tensor]:
        """Pooled hidden states of the named places."""
        demand_layers(which, self.layer_names())
        out = self.model(pixel_values=x, output_hidden_states=True)
        found = {f"hidden.{i}": self._pool(state, tuple(x.shape)) for i, state in enumerate(out.hidden_states)}
        found["pooled"] = self._pool(out.last_hidden_state, tuple(x.shape))
        return [found[name] for name in which]

    def layer_names(self) -> list[str]:
        """From the pixels to the features."""
        config = self.model.config
        depth = getattr(config, "num_hidden_layers", None) or len(getattr(config, "depths", ()))
        return [*(f"hidden.{i}" for i in range(depth + 1)), "pooled"]
