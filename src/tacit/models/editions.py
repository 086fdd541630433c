"""The published JEPA models as data, and their checkpoint files: which name of a file is which tensor here, in both directions.

An edition is one architecture with the settings its weights depend on. A file is read by the key table of its family: every name
of the table must be in the file, and nothing else but what the table allows. So a file of another architecture never loads by half.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from tacit.core.errors import CheckpointError, UnknownNameError, unknown
from tacit.core.spec import Spec
from tacit.core.values import Facts
from tacit.models.vit import SIZES
from tacit.ops.pose import STATE
from tacit.ops.positions import sincos_grid

__all__ = [
    "EDITIONS",
    "MEAN",
    "STD",
    "Edition",
    "Parts",
    "encoder_facts",
    "find_edition",
    "parts_of",
    "system_spec",
    "to_official",
]

Family = Literal["ijepa", "vjepa", "vjepa2"]
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, what all of them were trained with
_PREFIXES = ("module.", "backbone.")
_MAPS = ("norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2")


@dataclass(frozen=True)
class Edition:
    """An architecture: settings of the encoder 'vit' and of its predictor beside those of its family.

    `predictor` are those of the masked predictor 'transformer', `action` those of the action predictor 'block-causal' (V-JEPA 2-AC).
    """

    family: Family
    file: str
    pixels: int
    encoder: Mapping[str, Any]
    predictor: Mapping[str, Any] | None = None
    frames: int | None = None
    tokens: int = 1
    note: str = ""
    action: Mapping[str, Any] | None = None


def _video(
    family: Family, file: str, pixels: int, size: str, *, heads: int, tokens: int, frames: int, note: str = ""
) -> Edition:
    return Edition(family, file, pixels, {"size": size}, {"heads": heads}, frames, tokens, note)


EDITIONS: dict[str, Edition] = {
    "ijepa-vith14": Edition("ijepa", "IN1K-vit.h.14-300e.pth.tar", 224, {"size": "huge", "patch": 14}, {"heads": 16}),
    "ijepa-vith16-448": Edition("ijepa", "IN1K-vit.h.16-448px-300e.pth.tar", 448, {"size": "huge"}, {"heads": 16}),
    "ijepa-vith14-22k": Edition("ijepa", "IN22K-vit.h.14-900e.pth.tar", 224, {"size": "huge", "patch": 14}, {"heads": 16}),
    "ijepa-vitg16-22k": Edition("ijepa", "IN22K-vit.g.16-600e.pth.tar", 224, {"size": "giant"}, {"heads": 16, "depth": 16}),
    "vjepa-vitl16": _video("vjepa", "vitl16.pth.tar", 224, "large", heads=16, tokens=2, frames=16),
    "vjepa-vith16": _video("vjepa", "vith16.pth.tar", 224, "huge", heads=16, tokens=2, frames=16),
    "vjepa-vith16-384": _video("vjepa", "vith16-384.pth.tar", 384, "huge", heads=16, tokens=2, frames=16),
    "vjepa2-vitl": _video("vjepa2", "vitl.pt", 256, "large", heads=12, tokens=10, frames=64),
    "vjepa2-vith": _video("vjepa2", "vith.pt", 256, "huge", heads=12, tokens=10, frames=64),
    "vjepa2-vitg": _video("vjepa2", "vitg.pt", 256, "giant22", heads=12, tokens=10, frames=64),
    "vjepa2-vitg-384": _video("vjepa2", "vitg-384.pt", 384, "giant22", heads=12, tokens=10, frames=64),
    "vjepa2-ac-vitg": Edition(
        "vjepa2", "vjepa2-ac-vitg.pt", 256, {"size": "giant22"}, None, 64,
        note="its predictor takes actions: part 'system' keeps it", action={},
    ),
}  # fmt: skip


@dataclass
class Parts:
    """What a file holds, under the names of tacit's own modules, and what was left in it by permission.

    student: the context encoder; teacher: the averaged copy that the authors evaluate; one of the two may be absent.
    """

    edition: Edition
    student: dict[str, Tensor] | None = None
    teacher: dict[str, Tensor] | None = None
    predictor: dict[str, Tensor] | None = None
    left: list[str] = field(default_factory=list)

    def encoder(self, branch: Literal["student", "teacher"] | None = None) -> dict[str, Tensor]:
        """The encoder of `branch`; None takes the teacher where there is one."""
        found = {"student": self.student, "teacher": self.teacher, None: self.teacher or self.student}[branch]
        if found is None:
            raise CheckpointError(f"the file holds no {branch} encoder: choose the other branch")
        return found

    def system(self) -> dict[str, Tensor]:
        """The state of the edition's system: both encoders (the one there is, twice) and the predictor; with actions one encoder."""
        if self.edition.action is not None:
            if self.predictor is None:
                raise CheckpointError("the file holds no predictor: import the encoder alone")
            state = {f"encoder.{name}": value for name, value in self.encoder().items()}
            return state | {f"predictor.{name}": value for name, value in self.predictor.items()}
        student, teacher = self.student or self.encoder(), self.teacher or self.encoder()
        state = {f"encoder.{name}": value for name, value in student.items()}
        state |= {f"target.encoder.{name}": value for name, value in teacher.items()}
        if self.predictor is None:
            raise CheckpointError(f"the file holds no predictor ({self.edition.note}): import the encoder alone")
        return state | {f"predictor.{name}": value for name, value in self.predictor.items()}


def _common(family: Family) -> dict[str, Any]:
    """The settings that a family's weights depend on."""
    init = "rescaled" if family == "vjepa2" else "normal"
    positions = {"positions": "rope"} if family == "vjepa2" else {"positions": "sincos", "resize": "interpolated"}
    return {**positions, "compat": "official", "init": init}


def encoder_spec(edition: Edition) -> Spec:
    """The encoder of an edition."""
    tubelet = None if edition.family == "ijepa" else 2
    settings = {
        "pooling": "mean",
        "class_token": False,
        "tubelet": tubelet,
        **_common(edition.family),
        **edition.encoder,
    }
    return Spec("encoder", "vit", **settings).resolve()


def predictor_spec(edition: Edition) -> Spec:
    """The predictor of an edition."""
    if edition.action is not None:
        return Spec("action-predictor", "block-causal", compat="official", **edition.action).resolve()
    if edition.predictor is None:
        raise CheckpointError(f"{edition.file} is imported without a predictor: {edition.note}")
    zero = "normal" if edition.family == "ijepa" else "zero"
    settings = {"mask_tokens": edition.tokens, "token_init": zero, **_common(edition.family), **edition.predictor}
    return Spec("masked-predictor", "transformer", **settings).resolve()


def system_spec(edition: Edition) -> Spec:
    """The system of an edition, 'masked-prediction' or with actions 'action-conditioned': encoder, predictor, averaged encoder, loss."""
    if edition.action is not None:
        return Spec(
            "system", "action-conditioned", encoder=encoder_spec(edition), predictor=predictor_spec(edition), compat="official"
        ).resolve()  # fmt: skip
    image = edition.family == "ijepa"
    momentum = {"ijepa": (0.996, 1.0), "vjepa": (0.998, 1.0), "vjepa2": (0.99925, 0.99925)}[edition.family]
    target = Spec("target", "teacher", momentum=momentum[0], final=momentum[1])
    return Spec(
        "system", "masked-prediction", encoder=encoder_spec(edition), predictor=predictor_spec(edition), target=target,
        distance="smooth-l1" if image else "l1", mask_tokens="each" if edition.family == "vjepa" else "one",
    ).resolve()  # fmt: skip


def encoder_facts(edition: Edition) -> Facts:
    """The input of an edition: its size, and ImageNet's mean and standard deviation."""
    side = (edition.pixels, edition.pixels)
    shape = side if edition.frames is None else (edition.frames, *side)
    return Facts(channels=3, shape=shape, mean=MEAN, std=STD, action_dim=0 if edition.action is None else STATE)


def find_edition(name: str) -> Edition:
    """The edition of this name, with the nearest known one if there is none."""
    if name not in EDITIONS:
        raise UnknownNameError(unknown("edition", name, EDITIONS))
    return EDITIONS[name]


def _pairs(names: Iterable[str]) -> list[str]:
    return [f"{name}.{kind}" for name in names for kind in ("weight", "bias")]


def encoder_table(edition: Edition) -> dict[str, str]:
    """Name in the file -> name in the encoder 'vit'."""
    depth = encoder_spec(edition)["depth"] or SIZES[encoder_spec(edition)["size"]][1]
    names = ["patch_embed.proj", *(f"blocks.{i}.{part}" for i in range(depth) for part in _MAPS), "norm"]
    return {name: name for name in _pairs(names)}


def predictor_table(edition: Edition) -> dict[str, str]:
    """Name in the file -> name in the masked predictor 'transformer', or in the action predictor 'block-causal'."""
    depth = predictor_spec(edition)["depth"]
    blocks = [(f"predictor_blocks.{i}.{part}", f"blocks.{i}.{part}") for i in range(depth) for part in _MAPS]
    maps = [("predictor_embed", "embed"), *blocks, ("predictor_norm", "norm"), ("predictor_proj", "proj")]
    if edition.action is not None:
        maps += [("action_encoder", "action"), ("state_encoder", "state"), ("extrinsics_encoder", "camera")]
    table = {f"{theirs}.{kind}": f"{ours}.{kind}" for theirs, ours in maps for kind in ("weight", "bias")}
    if edition.action is not None:
        return table
    if edition.family == "ijepa":
        return {**table, "mask_token": "mask_tokens.0"}
    return {**table, **{f"mask_tokens.{i}": f"mask_tokens.{i}" for i in range(edition.tokens)}}


_POSITIONS = {"encoder": "pos_embed", "predictor": "predictor_pos_embed"}


def parts_of(content: Any, edition: Edition, path: Path) -> Parts:
    """The encoder, predictor and averaged encoder of a published file's content, by strict key tables.

    Position tables in the file are compared with the fixed ones and left in it; V-JEPA 2 uses none.
    """
    if not isinstance(content, Mapping) or not any(name in content for name in ("encoder", "target_encoder")):
        raise CheckpointError(
            f"{path}: a published JEPA file has the entries encoder, predictor and target_encoder, found "
            f"{', '.join(map(str, list(content)[:6])) if isinstance(content, Mapping) else type(content).__name__}"
        )
    entries = {"encoder": "encoder", "target_encoder": "encoder", "predictor": "predictor"}
    if edition.predictor is None and edition.action is None:
        del entries["predictor"]
    found: dict[str, dict[str, Tensor]] = {}
    left = [name for name in content if name not in entries]
    for entry, part in entries.items():
        if entry in content:
            table = encoder_table(edition) if part == "encoder" else predictor_table(edition)
            shapes = _expected(edition, part)
            found[entry], beside = _read(content[entry], table, shapes, edition, f"{path}: {entry}", part)
            left += [f"{entry}.{name}" for name in beside]
    return Parts(edition, found.get("encoder"), found.get("target_encoder"), found.get("predictor"), left)


def _expected(edition: Edition, part: str) -> dict[str, Tensor]:
    """Shapes of a part, as tensors without storage; its position table among them, with storage."""
    facts, spec = encoder_facts(edition), encoder_spec(edition)
    with torch.device("meta"):
        encoder = spec.build(facts)
        module = encoder
        if part == "predictor":
            grid = encoder.grid_of(*facts.shape or ())
            runtime = (encoder.dim, encoder.dim, grid) if edition.action is None else (encoder.dim, grid[-2:])
            module = predictor_spec(edition).build(*runtime)
    return dict(module.state_dict())


def _read(
    given: Mapping[str, Any],
    table: Mapping[str, str],
    shapes: Mapping[str, Tensor],
    edition: Edition,
    where: str,
    part: str,
) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors of one entry under tacit's names, and the names left in it; a strict report if anything does not fit."""
    named = {_stripped(name, _PREFIXES): value for name, value in given.items()}
    positions = _POSITIONS[part]
    missing = [name for name in table if name not in named]
    strange = [name for name in named if name not in table and name != positions]
    wrong = [
        f"{name} is {list(named[name].shape)} in the file and {list(shapes[ours].shape)} in the edition"
        for name, ours in table.items()
        if name in named and named[name].shape != shapes[ours].shape
    ]
    if missing or strange or wrong:
        raise CheckpointError(
            f"{where}: not the edition asked for. {len(table) - len(missing) - len(wrong)} of {len(table)} tensors fit; "
            f"{_some('missing', missing)}; {_some('unknown', strange)}; {_some('of another shape', wrong)}. "
            "Choose the edition the file was written for"
        )
    if positions in named and edition.family != "vjepa2":
        _check_positions(named[positions], edition, part, where)
    return {ours: named[theirs] for theirs, ours in table.items()}, [positions] if positions in named else []


def _check_positions(given: Tensor, edition: Edition, part: str, where: str) -> None:
    """The table in the file must be the fixed one, which is computed and not loaded."""
    table = _fixed_positions(edition, part)
    if given.shape[-2:] != table.shape or not torch.allclose(given.reshape(table.shape).float(), table, atol=1e-4):
        raise CheckpointError(
            f"{where}: its positions {list(given.shape)} are not the fixed table of the edition {list(table.shape)}: "
            "the file was written for another input size, or its positions were trained"
        )


def _fixed_positions(edition: Edition, part: str) -> Tensor:
    """The sine-cosine table [N d] of the encoder or the predictor."""
    spec, facts = encoder_spec(edition), encoder_facts(edition)
    with torch.device("meta"):
        encoder = spec.build(facts)
    width = encoder.dim if part == "encoder" else predictor_spec(edition)["width"]
    return sincos_grid(encoder.grid_of(*facts.shape or ()), width, "official")


def _stripped(name: str, prefixes: Iterable[str]) -> str:
    for prefix in prefixes:
        name = name.removeprefix(prefix)
    return name


def _some(what: str, names: list[str]) -> str:
    return f"{len(names)} {what}" + (f" ({'; '.join(names[:3])}{' ...' if len(names) > 3 else ''})" if names else "")


def recognise(content: Any) -> str | None:
    """The edition whose encoder has the shapes of this file, None if the content is no JEPA file.

    Editions of one architecture (two training sets, two input sizes of V-JEPA 2) load alike; the first of them is named.
    """
    if (
        not isinstance(content, Mapping)
        or not isinstance(content.get("encoder"), Mapping)
        or "predictor" not in content
    ):
        return None
    encoder = {_stripped(name, _PREFIXES): value for name, value in content["encoder"].items()}
    predictor = {_stripped(name, _PREFIXES): value for name, value in content["predictor"].items()}
    kernel = encoder.get("patch_embed.proj.weight")
    if kernel is None:
        return None
    depth = sum(bool(re.fullmatch(r"blocks\.\d+\.norm1\.weight", name)) for name in encoder)
    places = encoder["pos_embed"].shape[1] if "pos_embed" in encoder else None
    for name, edition in EDITIONS.items():
        spec = encoder_spec(edition)
        tokens = sum(key.startswith("mask_token") for key in predictor)
        if (edition.predictor is None) != ("action_encoder.weight" in predictor):
            continue
        if edition.predictor is not None and tokens != edition.tokens:
            continue
        width, layers = SIZES[spec["size"]][:2]
        sides = (2,) * bool(spec["tubelet"]) + (spec["patch"],) * 2
        grid = edition.pixels // spec["patch"]
        total = grid * grid * (1 if edition.frames is None else edition.frames // 2)
        fits = (width, layers) == (kernel.shape[0], depth) and sides == tuple(kernel.shape[2:])
        if fits and (edition.family == "vjepa2" or places in (None, total)):
            return name
    return None


def to_official(parts: Parts) -> dict[str, Any]:
    """The content of a published file: entries encoder, target_encoder and predictor, names with the published prefixes."""
    edition = parts.edition
    prefix = "module." if edition.family == "ijepa" else "module.backbone."
    out: dict[str, dict[str, Tensor]] = {}
    for entry, state in (("encoder", parts.student), ("target_encoder", parts.teacher)):
        if state is not None:
            out[entry] = {prefix + theirs: state[ours] for theirs, ours in encoder_table(edition).items()}
    if parts.predictor is not None:
        table = predictor_table(edition)
        before = prefix if edition.action is None else "module."
        out["predictor"] = {before + theirs: parts.predictor[ours] for theirs, ours in table.items()}
    if edition.family != "vjepa2":
        for entry, state in out.items():
            part = "predictor" if entry == "predictor" else "encoder"
            state[prefix + _POSITIONS[part]] = _fixed_positions(edition, part)[None]
    return out
