"""How the checkpoints of other code bases wrap a network: where the tensors are, under which prefix, with which names.

One row a family. Reading gives the encoder's tensors under the names of torchvision (ResNets) or timm (ViTs), which tacit's own encoders
have; writing puts them back as the family's own code loads them. What may be left in the file (heads, the other branch) is named in the
row; anything else left over is a fault, so a file of another architecture never loads by half.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tacit.core.errors import CheckpointError, UnknownNameError, unknown

__all__ = ["RELEASES", "Release", "read_release", "recognise", "wrap"]

Names = Mapping[str, Tensor]


def _same(tensors: Names) -> dict[str, Tensor]:
    return dict(tensors)


@dataclass(frozen=True)
class Release:
    """A family of checkpoints.

    branches: branch -> (path of the table in the file, prefix of the encoder's names); the first is what the authors evaluate.
    head: names after the prefix that belong to a head. beside: whole names that may stand in the table besides the branch.
    to_ours, to_theirs: renaming after the prefix, where names differ.
    """

    summary: str
    branches: Mapping[str, tuple[str, str]]
    head: str = r"$^"
    beside: str = r"$^"
    to_ours: Callable[[Names], dict[str, Tensor]] = _same
    to_theirs: Callable[[Names], dict[str, Tensor]] = _same


def _dinov2_to_timm(tensors: Names) -> dict[str, Tensor]:
    """Blocks without their chunk, no mask token; with registers the class token carries its own position."""
    found = {}
    for name, value in tensors.items():
        name = re.sub(r"^blocks\.\d+\.(\d+\.)", r"blocks.\1", name)
        name = name.replace(".mlp.w12.", ".mlp.fc1.").replace(".mlp.w3.", ".mlp.fc2.")
        found["reg_token" if name == "register_tokens" else name] = value
    if "reg_token" in found:
        found["cls_token"] = found["cls_token"] + found["pos_embed"][:, :1]
        found["pos_embed"] = found["pos_embed"][:, 1:]
    return found


def _timm_to_dinov2(tensors: Names) -> dict[str, Tensor]:
    found = {}
    gated = any(name.endswith("mlp.fc1.weight") and _is_gated(tensors, name) for name in tensors)
    for name, value in tensors.items():
        if gated:
            name = name.replace(".mlp.fc1.", ".mlp.w12.").replace(".mlp.fc2.", ".mlp.w3.")
        found["register_tokens" if name == "reg_token" else name] = value
    if "register_tokens" in found:  # the sum is what the network sees, so the position of the class token may be nought
        found["pos_embed"] = torch.cat([torch.zeros_like(found["cls_token"]), found["pos_embed"]], dim=1)
    if "cls_token" in found:
        found["mask_token"] = torch.zeros_like(found["cls_token"][:, 0])
    return found


def _is_gated(tensors: Names, name: str) -> bool:
    return tensors[name].shape[0] == 2 * tensors[name.replace("fc1", "fc2")].shape[1]


RELEASES: dict[str, Release] = {
    "vicreg": Release(
        "VICReg and Barlow Twins, whole checkpoints (`model` with module.backbone)",
        {"student": ("model", "module.backbone.")},
        beside=r"module\.(projector|bn)\.",
    ),
    "ffcv-ssl": Release(
        "FFCV-SSL (`model` with module.net)",
        {"student": ("model", "module.net.")},
        beside=r"module\.(projector|probes)\.",
    ),
    "swav": Release(
        "SwAV and DeepCluster-v2 (flat, module.)", {"student": ("", "module.")}, head=r"projection_head\.|prototypes"
    ),
    "moco": Release(
        "MoCo v1 and v2 (`state_dict` with module.encoder_q)",
        {"student": ("state_dict", "module.encoder_q."), "teacher": ("state_dict", "module.encoder_k.")},
        head=r"fc\.",
        beside=r"module\.(encoder_[qk]\.|queue)",
    ),
    "moco-v3": Release(
        "MoCo v3 (`state_dict` with module.base_encoder)",
        {"student": ("state_dict", "module.base_encoder."), "teacher": ("state_dict", "module.momentum_encoder.")},
        head=r"(fc|head)\.",
        beside=r"module\.(base_encoder|momentum_encoder|predictor)\.",
    ),
    "simsiam": Release(
        "SimSiam (`state_dict` with module.encoder)",
        {"student": ("state_dict", "module.encoder.")},
        head=r"fc\.",
        beside=r"module\.predictor\.",
    ),
    "dino": Release(
        "DINO and iBOT, whole checkpoints (`teacher` with backbone)",
        {"teacher": ("teacher", "backbone."), "student": ("student", "module.backbone.")},
        head=r"masked_embed$",
        beside=r"(module\.)?head2?\.",
    ),
    "dinov2": Release(
        "DINOv2, the published backbones (flat; timm's vit_*_dinov2)",
        {"teacher": ("", "")},
        head=r"mask_token$",
        to_ours=_dinov2_to_timm,
        to_theirs=_timm_to_dinov2,
    ),
    "dinov2-training": Release(
        "DINOv2, the teacher file of training (`teacher` with backbone)",
        {"teacher": ("teacher", "backbone.")},
        head=r"mask_token$",
        beside=r"(dino|ibot)_head\.",
        to_ours=_dinov2_to_timm,
        to_theirs=_timm_to_dinov2,
    ),
    "mae": Release(
        "MAE, whole checkpoints (`model`, timm's names)",
        {"student": ("model", "")},
        head=r"decoder_|mask_token$|head\.",
    ),
    "solo-learn": Release(
        "solo-learn, Lightning checkpoints (`state_dict` with backbone)",
        {"student": ("state_dict", "backbone."), "teacher": ("state_dict", "momentum_backbone.")},
        head=r"fc\.",
        beside=r"(momentum_)?(backbone|projector|predictor|classifier|prototypes|head)\b|queue",
    ),
    "lightly": Release(
        "lightly's benchmarks, Lightning checkpoints (`state_dict` with backbone)",
        {"student": ("state_dict", "backbone."), "teacher": ("state_dict", "teacher_backbone.")},
        head=r"fc\.",
        beside=r"(student_|teacher_)?(backbone|projection_head|prediction_head|online_classifier|criterion)\b",
    ),
    "stable-pretraining": Release(
        "stable-pretraining, Lightning checkpoints (`state_dict` with backbone)",
        {"student": ("state_dict", "backbone.")},
        beside=r"(projector|predictor|callbacks_modules)\b",
    ),
    "vissl": Release(
        "VISSL (classy_state_dict with _feature_blocks)",
        {"student": ("classy_state_dict.base_model.model.trunk", "_feature_blocks.")},
    ),
}


def recognise(content: Any) -> str | None:
    """The one family that the content of a file can be of; None where none or several fit, or it is a bare table of tensors."""
    fitting = []
    for name, release in RELEASES.items():
        tree, prefix = next(iter(release.branches.values()))
        table = _table(content, tree)
        # names with `module.` or none before them are how any network looks: those families are told by their heads
        generic = prefix in ("", "module.")
        if table is None or not any(key.startswith(prefix) for key in table):
            continue
        if generic and not any(re.match(release.head, key[len(prefix) :]) for key in table):
            continue
        if not _strange(table, release, prefix):
            fitting.append(name)
    return fitting[0] if len(fitting) == 1 else None


def _strange(table: Names, release: Release, prefix: str) -> list[str]:
    return [key for key in table if not key.startswith(prefix) and not re.match(release.beside, key)]


def _table(content: Any, tree: str) -> Names | None:
    """The tensors at a path of the file, None where it leads nowhere."""
    for step in tree.split(".") if tree else ():
        content = content.get(step) if isinstance(content, Mapping) else None
    if not isinstance(content, Mapping):
        return None
    found = {key: value for key, value in content.items() if isinstance(key, str) and isinstance(value, Tensor)}
    return found or None


def read_release(content: Any, path: Path, name: str, branch: str | None = None) -> dict[str, Tensor]:
    """The encoder's tensors of one branch (None: the one the authors evaluate), under the names of torchvision or timm."""
    release = _release(name)
    branch = branch or next(iter(release.branches))
    if branch not in release.branches:
        raise CheckpointError(f"{path}: checkpoints of {name} have a {' and a '.join(release.branches)}, no {branch}")
    tree, prefix = release.branches[branch]
    table = _table(content, tree) or {}
    inside = {key[len(prefix) :]: value for key, value in table.items() if key.startswith(prefix)}
    inside = {key: value for key, value in inside.items() if not re.match(release.head, key)}
    if not inside:
        lacks = f"no name that starts with {prefix!r}" if table else f"no table of tensors {tree!r}"
        raise CheckpointError(f"{path}: is no checkpoint of {name}: it has {lacks}. Choose the family that wrote it")
    strange = _strange(table, release, prefix)
    if strange:
        raise CheckpointError(
            f"{path}: {len(strange)} tensors have no place in a checkpoint of {name}, the first is {strange[0]}. "
            "Choose the family that wrote it"
        )
    return release.to_ours(inside)


def wrap(tensors: Names, name: str) -> dict[str, Any]:
    """The content of a file as the family writes it, with the encoder alone: no heads, no optimiser."""
    release = _release(name)
    tree, prefix = next(iter(release.branches.values()))
    content: dict[str, Any] = {prefix + key: value for key, value in release.to_theirs(tensors).items()}
    for step in reversed(tree.split(".") if tree else ()):
        content = {step: content}
    return content


def _release(name: str) -> Release:
    if name not in RELEASES:
        raise UnknownNameError(unknown("family of checkpoints", name, RELEASES))
    return RELEASES[name]
