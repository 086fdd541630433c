"""The published attentive probes of V-JEPA and V-JEPA 2, read from their files."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tacit.core.errors import CheckpointError
from tacit.models.attentive import AttentiveProbe

__all__ = ["probe_of"]

_UNUSED = re.compile(r"pooler\.cross_attention_block\.xattn\.proj\.(weight|bias)")  # in V-JEPA's files, never used


def probe_of(content: Any, path: Path, *, number: int = 0, heads: int = 16) -> AttentiveProbe:
    """The probe in a file's content, its architecture read off the shapes; `number` picks one of several, heads is 16 in all releases.

    V-JEPA: the entry classifier; V-JEPA 2: the list classifiers, for EPIC-KITCHENS-100 with three tasks.
    """
    held = content if isinstance(content, Mapping) else {}
    several = held.get("classifiers")
    state = several[number] if isinstance(several, list) and number < len(several) else held.get("classifier")
    if not isinstance(state, Mapping):
        raise CheckpointError(
            f"{path}: a published probe holds its classifier under 'classifier' or 'classifiers', found "
            f"{', '.join(map(str, held)) or 'none'}"
        )
    given = {name.removeprefix("module."): value for name, value in state.items()}
    given = {name: value for name, value in given.items() if not _UNUSED.fullmatch(name)}
    query, hidden = given.get("pooler.query_tokens"), given.get("pooler.cross_attention_block.mlp.fc1.weight")
    if query is None or hidden is None:
        raise CheckpointError(
            f"{path}: the classifier has no attentive pooler (pooler.query_tokens, pooler.cross_attention_block)"
        )
    tasks = {
        name.removesuffix("_classifier.bias"): len(value)
        for name, value in given.items()
        if name.endswith("_classifier.bias")
    }
    depth = 1 + len({name.split(".")[2] for name in given if name.startswith("pooler.blocks.")})
    dim = query.shape[-1]
    probe = AttentiveProbe(
        dim, tasks or len(given.get("linear.bias", ())), heads=heads, depth=depth, mlp_ratio=hidden.shape[0] / dim
    )
    own = probe.state_dict()
    odd = sorted(own.keys() ^ given.keys()) + [
        name for name in own.keys() & given.keys() if own[name].shape != given[name].shape
    ]
    if odd:
        raise CheckpointError(
            f"{path}: not a published probe, {len(odd)} tensors are missing, unknown or of another shape: {', '.join(odd[:4])}"
        )
    probe.load_state_dict(given)
    return probe.eval()
