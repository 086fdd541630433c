"""Local folders of Hugging Face transformers, `VJEPA2Model`, `VJEPA2ForVideoClassification` and `IJepaModel`: read and written.

Where that port computes something else than the authors' code: its predictor always uses mask token 1; its pooler has the
encoder's heads and eps 1e-6; `context_mask` hides tokens after the encoder has seen them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from tacit.core.errors import CheckpointError
from tacit.models.attentive import AttentiveProbe
from tacit.models.editions import MEAN, STD, Edition, Parts, encoder_facts, encoder_spec, encoder_table, predictor_spec
from tacit.models.vit import SIZES
from tacit.models.weights import read_safetensors
from tacit.ops.positions import sincos_grid

__all__ = ["is_hub_folder", "read_hub", "write_hub"]

# theirs -> ours; {} is a block's number. A map of queries, keys and values is three maps there.
_VIDEO_BLOCK = {
    "norm1": "norm1",
    "attention.proj": "attn.proj",
    "norm2": "norm2",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
}
_VIDEO_QKV = ("attention.query", "attention.key", "attention.value")
_IMAGE_BLOCK = {
    "layernorm_before": "norm1", "attention.output.dense": "attn.proj", "layernorm_after": "norm2",
    "intermediate.dense": "mlp.fc1", "output.dense": "mlp.fc2",
}  # fmt: skip
_IMAGE_QKV = tuple(f"attention.attention.{name}" for name in ("query", "key", "value"))
_NEW_IMAGE = {  # transformers 5 in memory -> on disk
    "attention.o_proj": "attention.output.dense", "mlp.fc1": "intermediate.dense", "mlp.fc2": "output.dense",
    **{f"attention.{one}_proj": f"attention.attention.{name}" for one, name in zip("qkv", ("query", "key", "value"), strict=True)},
}  # fmt: skip
_SELF = {
    "layer_norm1": "norm1",
    "self_attn.out_proj": "attn.proj",
    "layer_norm2": "norm2",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
}
_CROSS = {
    "layer_norm1": "norm1",
    "cross_attn.q_proj": "xattn.q",
    "layer_norm2": "norm2",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
}
_KINDS = ("weight", "bias")
_PATCH = "encoder.embeddings.patch_embeddings.proj"


def is_hub_folder(path: str | Path) -> bool:
    """Whether a folder's config.json names one of these models."""
    try:
        kind = json.loads((Path(path) / "config.json").read_text(encoding="utf-8")).get("model_type")
    except (OSError, ValueError, AttributeError):
        return False
    return kind in ("vjepa2", "ijepa")


def _block(
    theirs: str, ours: str, names: Mapping[str, str], qkv: tuple[str, ...], joined: str
) -> dict[str, tuple[str, ...]]:
    found = {f"{ours}.{mine}": (f"{theirs}.{name}",) for name, mine in names.items()}
    return {**found, f"{ours}.{joined}": tuple(f"{theirs}.{name}" for name in qkv)}


def _encoder_names(edition: Edition) -> dict[str, tuple[str, ...]]:
    """Ours, without weight and bias -> theirs, several where maps are joined."""
    depth = len({name.split(".")[1] for name in encoder_table(edition) if name.startswith("blocks.")})
    image = edition.family == "ijepa"
    found: dict[str, tuple[str, ...]] = {
        "patch_embed.proj": ("embeddings.patch_embeddings.projection" if image else _PATCH,),
        "norm": ("layernorm" if image else "encoder.layernorm",),
    }
    for i in range(depth):
        names, qkv = (_IMAGE_BLOCK, _IMAGE_QKV) if image else (_VIDEO_BLOCK, _VIDEO_QKV)
        found |= _block(f"encoder.layer.{i}", f"blocks.{i}", names, qkv, "attn.qkv")
    return found


def _predictor_names(edition: Edition) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {
        "embed": ("predictor.embeddings.predictor_embeddings",),
        "norm": ("predictor.layernorm",),
        "proj": ("predictor.proj",),
    }
    for i in range(predictor_spec(edition)["depth"]):
        found |= _block(f"predictor.layer.{i}", f"blocks.{i}", _VIDEO_BLOCK, _VIDEO_QKV, "attn.qkv")
    return found


def _probe_names(blocks: int) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {"linear": ("classifier",)}
    for i in range(blocks):
        qkv = tuple(f"self_attn.{one}_proj" for one in "qkv")
        found |= _block(f"pooler.self_attention_layers.{i}", f"pooler.blocks.{i}", _SELF, qkv, "attn.qkv")
    kv = ("cross_attn.k_proj", "cross_attn.v_proj")
    return found | _block("pooler.cross_attention_layer", "pooler.cross_attention_block", _CROSS, kv, "xattn.kv")


def _join(given: dict[str, Tensor], names: Mapping[str, tuple[str, ...]], missing: list[str]) -> dict[str, Tensor]:
    """Take their tensors out of `given` under our names."""
    found = {}
    for ours, theirs in names.items():
        for kind in _KINDS:
            own = [f"{name}.{kind}" for name in theirs]
            absent = [name for name in own if name not in given]
            missing += absent
            if not absent:
                found[f"{ours}.{kind}"] = torch.cat([given.pop(name) for name in own])
    return found


def _split(state: Mapping[str, Tensor], names: Mapping[str, tuple[str, ...]]) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for ours, theirs in names.items():
        for kind in _KINDS:
            found |= {
                f"{name}.{kind}": part.contiguous()
                for name, part in zip(theirs, state[f"{ours}.{kind}"].chunk(len(theirs)), strict=True)
            }
    return found


def _edition(config: Mapping[str, Any], folder: Path) -> Edition:
    width, depth, heads = (config[name] for name in ("hidden_size", "num_hidden_layers", "num_attention_heads"))
    if config["model_type"] == "ijepa":
        encoder = {
            "width": width,
            "depth": depth,
            "heads": heads,
            "mlp_ratio": config["intermediate_size"] / width,
            "patch": config["patch_size"],
        }
        return Edition(
            "ijepa", folder.name, config["image_size"], encoder, note="transformers holds no predictor of I-JEPA"
        )
    encoder = {
        "width": width, "depth": depth, "heads": heads, "mlp_ratio": config["mlp_ratio"], "patch": config["patch_size"],
        "tubelet": config["tubelet_size"],
    }  # fmt: skip
    predictor = {
        "width": config["pred_hidden_size"], "depth": config["pred_num_hidden_layers"], "heads": config["pred_num_attention_heads"],
        "mlp_ratio": config["pred_mlp_ratio"],
    }  # fmt: skip
    tokens = config["pred_num_mask_tokens"]
    return Edition("vjepa2", folder.name, config["crop_size"], encoder, predictor, config["frames_per_clip"], tokens)


def read_hub(folder: str | Path) -> tuple[Parts, AttentiveProbe | None]:
    """Encoder and predictor of a folder that `save_pretrained` wrote, and its attentive classifier if it has one.

    Every tensor must find its place. An encoder of I-JEPA whose positions are not the fixed table gets positions='learned'.
    """
    folder = Path(folder)
    config = _config(folder)
    given = {name.removeprefix("vjepa2.").removeprefix("ijepa."): value for name, value in _tensors(folder).items()}
    if config["model_type"] == "ijepa":
        given = {_on_disk(name): value for name, value in given.items()}
    edition, missing = _edition(config, folder), list[str]()
    encoder = _join(given, _encoder_names(edition), missing)
    predictor, probe, left = None, None, list[str]()
    if edition.family == "ijepa":
        edition, encoder = _image_positions(edition, encoder, given, missing)
        left = [name for name in given if name.startswith(("pooler.", "classifier."))]
        given = {name: value for name, value in given.items() if name not in left}
    else:
        predictor = _join(given, _predictor_names(edition), missing)
        tokens = given.pop("predictor.embeddings.mask_tokens", None)
        if tokens is None:
            missing.append("predictor.embeddings.mask_tokens")
        else:
            predictor |= {f"mask_tokens.{i}": token for i, token in enumerate(tokens)}
        if "pooler.query_tokens" in given:
            probe = _probe(given, config, missing)
    if missing or given:
        raise CheckpointError(
            f"{folder}: not the {config['model_type']} model of its config.json: {len(missing)} tensors missing "
            f"({', '.join(missing[:3]) or 'none'}), {len(given)} unknown ({', '.join(list(given)[:3]) or 'none'})"
        )
    return Parts(edition, encoder, None, predictor, left), probe


def _on_disk(name: str) -> str:
    found = re.fullmatch(r"(?:encoder\.layer|layers)\.(\d+)\.(.+)\.(weight|bias)", name)
    if not found:
        return name
    number, rest, kind = found.groups()
    return f"encoder.layer.{number}.{_NEW_IMAGE.get(rest, rest)}.{kind}"


def _image_positions(
    edition: Edition, encoder: dict[str, Tensor], given: dict[str, Tensor], missing: list[str]
) -> tuple[Edition, dict[str, Tensor]]:
    places = given.pop("embeddings.position_embeddings", None)
    given.pop("embeddings.mask_token", None)
    if places is None:
        missing.append("embeddings.position_embeddings")
        return edition, encoder
    side = edition.pixels // edition.encoder["patch"]
    table = sincos_grid((side, side), edition.encoder["width"], "official")
    if places.shape[1:] == table.shape and torch.allclose(places[0].float(), table, atol=1e-4):
        return edition, encoder
    own = {**edition.encoder, "positions": "learned"}
    return Edition("ijepa", edition.file, edition.pixels, own, note=edition.note), {**encoder, "pos_embed": places}


def _probe(given: dict[str, Tensor], config: Mapping[str, Any], missing: list[str]) -> AttentiveProbe:
    blocks = config["num_pooler_layers"]
    query = given.pop("pooler.query_tokens")
    state = {"pooler.query_tokens": query, **_join(given, _probe_names(blocks), missing)}
    classes = len(state["linear.bias"])
    probe = AttentiveProbe(
        query.shape[-1], classes, heads=config["num_attention_heads"], depth=blocks + 1,
        eps=config["layer_norm_eps"],  # the ratio of its hidden layers is 4 there, whatever the encoder's
    )  # fmt: skip
    if not missing:
        probe.load_state_dict(state)
    return probe.eval()


def _config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: no readable config.json of a transformers model ({error})") from error
    if not isinstance(config, dict) or config.get("model_type") not in ("vjepa2", "ijepa"):
        kind = config.get("model_type") if isinstance(config, dict) else None
        raise CheckpointError(f"{path}: names the model type {kind!r}; read here are vjepa2 and ijepa")
    return config


def _tensors(folder: Path) -> dict[str, Tensor]:
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise CheckpointError(
            f"{folder}: there is no .safetensors file beside config.json: save the model as safetensors"
        )
    found: dict[str, Tensor] = {}
    for file in files:
        found |= read_safetensors(file)
    return found


def write_hub(parts: Parts, folder: str | Path, probe: AttentiveProbe | None = None) -> Path:
    """Write config.json and model.safetensors that `from_pretrained` of the transformers class loads.

    The encoder is the averaged one where there is one. With a `probe` the class is VJEPA2ForVideoClassification.
    """
    folder, edition = Path(folder), parts.edition
    spec, facts = encoder_spec(edition), encoder_facts(edition)
    width, depth, heads, ratio = (
        spec[name] or SIZES[spec["size"]][at] for at, name in enumerate(("width", "depth", "heads", "mlp_ratio"))
    )
    tensors = _split(parts.encoder(), _encoder_names(edition))
    config: dict[str, Any] = {
        "hidden_size": width, "num_hidden_layers": depth, "num_attention_heads": heads, "patch_size": spec["patch"],
        "layer_norm_eps": 1e-6, "qkv_bias": True, "hidden_act": "gelu", "dtype": "float32",
    }  # fmt: skip
    if edition.family == "ijepa":
        config |= {
            "architectures": ["IJepaModel"],
            "model_type": "ijepa",
            "image_size": edition.pixels,
            "num_channels": 3,
        }
        config["intermediate_size"] = round(width * ratio)
        side = edition.pixels // spec["patch"]
        places = parts.encoder().get("pos_embed", sincos_grid((side, side), int(width), "official")[None])
        tensors["embeddings.position_embeddings"] = places
    elif edition.family == "vjepa2" and parts.predictor is not None:
        predictor = predictor_spec(edition)
        tensors |= _split(parts.predictor, _predictor_names(edition))
        tokens = [parts.predictor[f"mask_tokens.{i}"] for i in range(edition.tokens)]
        tensors["predictor.embeddings.mask_tokens"] = torch.stack(tokens)
        config |= {
            "architectures": ["VJEPA2Model"], "model_type": "vjepa2", "crop_size": edition.pixels, "frames_per_clip": edition.frames,
            "tubelet_size": spec["tubelet"], "in_chans": facts.channels, "mlp_ratio": ratio, "pred_hidden_size": predictor["width"],
            "pred_num_attention_heads": predictor["heads"], "pred_num_hidden_layers": predictor["depth"],
            "pred_mlp_ratio": predictor["mlp_ratio"], "pred_num_mask_tokens": edition.tokens,
        }  # fmt: skip
    else:
        raise CheckpointError(
            f"transformers has models of I-JEPA and of V-JEPA 2 with its predictor; {edition.file} ({edition.family}) is neither: "
            "write it as an official file"
        )
    if probe is not None:
        blocks = len(probe.pooler.blocks)
        state = probe.state_dict()
        tensors = {f"vjepa2.{name}": value for name, value in tensors.items()} | _split(state, _probe_names(blocks))
        tensors["pooler.query_tokens"] = state["pooler.query_tokens"]
        labels = {str(i): f"LABEL_{i}" for i in range(len(state["linear.bias"]))}
        config |= {
            "architectures": ["VJEPA2ForVideoClassification"], "num_pooler_layers": blocks, "id2label": labels,
            "label2id": {name: int(i) for i, name in labels.items()},
        }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    save_file(
        {name: value.contiguous() for name, value in tensors.items()},
        folder / "model.safetensors",
        metadata={"format": "pt"},
    )
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    if edition.family == "ijepa":
        processor: dict[str, Any] = {
            "image_processor_type": "ViTImageProcessor",
            "size": {"height": edition.pixels, "width": edition.pixels},
        }
        processor |= {"image_mean": MEAN, "image_std": STD, "do_resize": True, "do_normalize": True, "do_rescale": True}
        (folder / "preprocessor_config.json").write_text(json.dumps(processor, indent=2) + "\n", encoding="utf-8")
    return folder
