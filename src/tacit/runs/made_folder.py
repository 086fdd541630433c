"""What every `tacit make` of episodes does first: read the settings, and claim a folder that other settings have not filled."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from tacit.core.errors import RecipeError, UnknownNameError, unknown
from tacit.training.disk import write_json

__all__ = ["claim", "given_settings"]

_SPLITS = ("train", "valid", "test")


def given_settings(settings: Iterable[str], reserved: Iterable[str], what: str, example: str) -> dict[str, Any]:
    """`name=value` texts as a mapping; names in `reserved` are not the user's to set."""
    given, own = {}, tuple(reserved)
    for text in settings:
        name, equals, value = text.partition("=")
        if not equals or name in own:
            raise RecipeError(f"{text!r}: a setting of the {what} reads name=value, for example {example}")
        try:
            given[name] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise RecipeError(f"{name}: {value!r} cannot be read as a value") from error
    return given


def claim(out: str | Path, split: str, name: str, told: Mapping[str, Any]) -> Path:
    """The folder OUT/<split> with its card `name`, which says how it is made; one made with other settings is refused."""
    if split not in _SPLITS:
        raise UnknownNameError(unknown("split", split, _SPLITS))
    folder = Path(out) / split
    card = folder / name
    if card.is_file() and json.loads(card.read_text(encoding="utf-8")) != told:
        raise RecipeError(f"{folder} was made with other settings ({card}): choose another folder")
    folder.mkdir(parents=True, exist_ok=True)
    write_json(card, told)
    return folder
