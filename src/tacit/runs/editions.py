"""Published JEPA files as exports: an encoder that loads without the file, or the whole system with its predictor."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch

from tacit.core.errors import CheckpointError, RecipeError, UnknownNameError, unknown
from tacit.core.values import Facts
from tacit.models import editions, store
from tacit.models.editions import Edition, Parts
from tacit.models.editions_hub import is_hub_folder, read_hub, write_hub
from tacit.models.weights import read_file
from tacit.training.disk import replace

__all__ = ["edition_export", "edition_import", "is_edition"]


def is_edition(file: str | Path) -> bool:
    """Whether a file or folder is one of a published JEPA model, as far as its shapes tell."""
    path = Path(file)
    if path.is_dir():
        return is_hub_folder(path)
    return editions.recognise(read_file(path)) is not None


def _read(path: Path, edition: str | Edition | None) -> Parts:
    if path.is_dir():
        if edition is not None:
            raise RecipeError(f"{path}: a folder of transformers says what it is: leave the edition out")
        return read_hub(path)[0]
    content = read_file(path)
    if isinstance(edition, Edition):
        return editions.parts_of(content, edition, path)
    name = edition or editions.recognise(content)
    if name is None:
        raise CheckpointError(
            f"{path}: of no published JEPA edition, as far as its shapes tell. Known: {', '.join(editions.EDITIONS)}. Name the kind of "
            "encoder it was made with to import another file"
        )
    return editions.parts_of(content, editions.find_edition(name), path)


def edition_import(
    file: str | Path,
    out: str | Path,
    *,
    edition: str | Edition | None = None,
    part: str = "encoder",
    branch: Any = None,
) -> dict[str, Any]:
    """Turn a published file, or a local folder of transformers, into an export folder; every tensor must find its place.

    edition None is recognised by its shapes. part 'system' keeps both encoders and the predictor, for prediction and surprise.
    branch: whose encoder; by default the averaged one, which the authors evaluate.
    """
    path = Path(file)
    for name, value, known in (
        ("part", part, ("encoder", "system")),
        ("branch", branch or "teacher", ("student", "teacher")),
    ):
        if value not in known:
            raise UnknownNameError(unknown(name, value, known))
    parts = _read(path, edition)
    facts: Facts = editions.encoder_facts(parts.edition)
    if part == "system":
        spec, state = editions.system_spec(parts.edition), parts.system()
    else:
        spec, state = editions.encoder_spec(parts.edition), parts.encoder(branch)
    module = spec.build(facts)
    module.load_state_dict(state, strict=True)
    store.export(spec, facts, module, Path(out))
    name = next((name for name, known in editions.EDITIONS.items() if known == parts.edition), parts.edition.file)
    return {"path": str(out), "edition": name, "part": part, "tensors": len(state), "left": parts.left}


def edition_export(source: str | Path, out: str | Path, *, form: Literal["jepa", "transformers"]) -> dict[str, Any]:
    """Write the system of an edition back: a file in the published form, or a folder that transformers loads.

    `source` is an export of part 'system' (for transformers' IJepaModel of part 'encoder').
    """
    found = store.card(source)
    module = store.load(source)
    edition = _edition_of(found.spec, found.runtime)
    state = module.state_dict()
    if found.spec.role == "encoder":
        parts = Parts(edition, dict(state))
    elif edition.action is not None:
        if form == "transformers":
            raise CheckpointError(
                "transformers has no model with actions: write the published form with --release jepa"
            )
        parts = Parts(edition, _under(state, "encoder."), None, _under(state, "predictor."))
    else:
        student, teacher, predictor = (
            _under(state, prefix) for prefix in ("encoder.", "target.encoder.", "predictor.")
        )
        parts = Parts(edition, student, teacher, predictor)
    if form == "transformers":
        write_hub(parts, out)
    else:
        content = editions.to_official(parts)
        replace(Path(out), lambda beside: torch.save(content, beside))
    return {"path": str(out), "tensors": len(state)}


def _under(state: Any, prefix: str) -> dict[str, Any]:
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def _edition_of(spec: Any, facts: Any) -> Edition:
    """The edition that an export was made of, from its settings."""
    encoder = spec if spec.role == "encoder" else spec["encoder"]
    if encoder.kind != "vit" or encoder["compat"] != "official":
        raise CheckpointError(
            f"{spec.role} {spec.kind!r}: only models with compat='official' go back into a published form"
        )
    settings = {
        name: encoder[name]
        for name in ("size", "width", "depth", "heads", "mlp_ratio", "patch", "tubelet", "positions")
    }
    family: Any = "ijepa" if not encoder["tubelet"] else "vjepa2" if encoder["positions"] == "rope" else "vjepa"
    predictor, tokens = None, 1
    if spec.role == "system" and spec.kind == "action-conditioned":
        action = {name: value for name, value in spec["predictor"].resolve().items() if name != "compat"}
        return Edition(family, "export", facts.shape[-1], settings, None, facts.shape[0], action=action)
    if spec.role == "system":
        own = spec["predictor"]
        predictor = {name: own[name] for name in ("width", "depth", "heads", "mlp_ratio")}
        tokens = own["mask_tokens"]
    frames = facts.shape[0] if len(facts.shape) == 3 else None
    return Edition(family, "export", facts.shape[-1], settings, predictor, frames, tokens)
