"""Recipe: everything that defines a run, as one value. Read, override, resolve, hash, export to YAML and JSON Schema."""

from __future__ import annotations

import copy
import dataclasses
import difflib
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import yaml
from annotated_types import Ge, Gt

from tacit.core.errors import RecipeError
from tacit.core.parts import find
from tacit.core.spec import (
    OptimizerSpec,
    SourceSpec,
    Spec,
    SystemSpec,
    ViewsSpec,
    fill,
    plain,
    schema_of,
    settings_of,
)

__all__ = [
    "Checks",
    "Machine",
    "Recipe",
    "differences",
    "digest",
    "from_plain",
    "from_yaml",
    "idle",
    "json_schema",
    "leaves",
    "resolve",
    "to_yaml",
]

PositiveInt = Annotated[int, Gt(0)]
Count = Annotated[int, Ge(0)]


@dataclass(frozen=True, kw_only=True)
class Checks:
    """What a run does beside its steps. Each number is a distance in steps; 0 means never.

    probe: whether a linear probe learns beside the encoder, from the labels and without a gradient to the network.
    """

    log_every: PositiveInt = 20
    judge_every: Count = 100
    save_every: Count = 500
    keep: PositiveInt = 2
    probe: bool = False


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Where and how a run is carried out; it does not define the experiment and is not hashed.

    `workers`: 0 reads and augments in a background thread, n > 0 in n worker processes. `threads`: 0 leaves torch's own
    number. `sharding`: 'ddp' keeps all weights on each rank, 'fsdp' shards them.
    """

    device: str = "auto"
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    compile: bool = False
    workers: Count = 0
    threads: Count = 0
    sharding: Literal["ddp", "fsdp"] = "ddp"
    trackers: tuple[Literal["tensorboard", "wandb", "trackio"], ...] = ("tensorboard",)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that defines a run. `batch` is global: over all ranks and accumulated micro-batches. `clip` bounds the gradient's norm."""

    system: SystemSpec
    data: SourceSpec
    views: ViewsSpec
    optim: OptimizerSpec
    steps: PositiveInt
    batch: PositiveInt
    accumulate: PositiveInt = 1
    clip: Annotated[float, Gt(0)] | None = None
    seed: Count = 0
    checks: Checks = Checks()
    machine: Machine = Machine()

    def __post_init__(self) -> None:
        for name, role in {"system": "system", "data": "source", "views": "views", "optim": "optimizer"}.items():
            value = getattr(self, name)
            if not isinstance(value, Spec) or value.role != role:
                raise RecipeError(f"{name}: needs a Spec of role {role!r}, found {value!r}")

    @staticmethod
    def check_settings(settings: Mapping[str, Any]) -> Iterable[str]:
        """Rules across fields."""
        if settings["batch"] % settings["accumulate"]:
            yield (
                f"batch: {settings['batch']} does not split into accumulate={settings['accumulate']} equal micro-batches: "
                "choose a multiple"
            )

    def change(self, **fields: Any) -> Recipe:
        """The same recipe with some fields replaced."""
        return dataclasses.replace(self, **fields)


def from_plain(given: Mapping[str, Any], overrides: Iterable[str] = ()) -> Recipe:
    """Read a recipe from nested dicts, apply `path=value` texts, fill every default; raises RecipeError with all faults at once."""
    faults: list[str] = []
    changed = _override(given, overrides, faults)
    filled = fill(Recipe, changed, "", faults)
    if faults:
        raise RecipeError(faults)
    return Recipe(**filled)


def resolve(recipe: Recipe, overrides: Iterable[str] = ()) -> Recipe:
    """The complete recipe: overrides `path=value` applied, every default filled in, every value and rule checked."""
    return from_plain(plain(recipe), overrides)


def _override(given: Mapping[str, Any], overrides: Iterable[str], faults: list[str]) -> dict[str, Any]:
    """Apply `path=value` texts to nested dicts. A bare kind (`data=folder`, `system.objective=simclr`) or a changed
    `path.kind` starts that part anew: the settings of the old kind are dropped. The order of the texts does not matter."""
    changed = copy.deepcopy(dict(given))
    pairs = []
    for text in overrides:
        path, equals, value = text.partition("=")
        if not equals or not path:
            faults.append(f"{text!r}: an override reads path=value, for example optim.lr=0.1")
            continue
        try:
            pairs.append((path.split("."), yaml.safe_load(value) if value else ""))
        except yaml.YAMLError:
            faults.append(
                f"{path}: {value!r} cannot be read as a YAML value; put quotes around text with special characters"
            )
    starts_anew = {id(keys): _names_kind(changed, keys, value) for keys, value in pairs}
    for keys, value in sorted(pairs, key=lambda pair: (not starts_anew[id(pair[0])], len(pair[0]))):
        fault = _set(changed, keys, value)
        if fault:
            faults.append(fault)
    return changed


def _names_kind(tree: Any, keys: list[str], value: Any) -> bool:
    return keys[-1] == "kind" or (isinstance(value, str) and isinstance(_at(tree, keys), Mapping))


def _at(tree: Any, keys: list[str]) -> Any:
    for key in keys:
        if isinstance(tree, list) and key.isdigit() and int(key) < len(tree):
            tree = tree[int(key)]
        elif isinstance(tree, Mapping) and key in tree:
            tree = tree[key]
        else:
            return None
    return tree


def _set(tree: Any, keys: list[str], value: Any) -> str | None:
    """Set one leaf; the sentence of the fault, or None."""
    node: Any = tree
    for depth, key in enumerate(keys[:-1]):
        child = _at(node, [key])
        if child is None and isinstance(node, dict) and (depth > 0 or key in settings_of(Recipe)):
            child = node[key] = {}
        if isinstance(child, str) and isinstance(
            node, dict
        ):  # `data: digits` in a file is short for `data: {kind: digits}`
            child = node[key] = {"kind": child}
        if not isinstance(child, Mapping | list):
            path, known = ".".join(keys), node if isinstance(node, Mapping) else ()
            near = difflib.get_close_matches(key, known, n=1)
            found = "there is nothing under it" if child is not None else f"{key!r} is not there"
            return f"{path}: {found}." + (f" Did you mean {near[0]!r}?" if near else "")
        node = child
    last = keys[-1]
    if isinstance(node, list):
        if not last.isdigit() or int(last) >= len(node):
            return f"{'.'.join(keys)}: the list has entries 0..{len(node) - 1}, found {last!r}"
        node[int(last)] = value
    elif last == "kind":
        if node.get("kind") != value:
            node.clear()
            node["kind"] = value
    elif isinstance(value, str) and isinstance(node.get(last), Mapping) and "kind" in node[last]:
        if node[last]["kind"] != value:
            node[last] = {"kind": value}
    else:
        node[last] = value
    return None


def to_yaml(recipe: Recipe) -> str:
    """YAML that `from_yaml` reads back to an equal recipe."""
    return yaml.safe_dump(plain(recipe), sort_keys=False, width=110, allow_unicode=True)


def from_yaml(text: str, overrides: Iterable[str] = ()) -> Recipe:
    """Read YAML text, apply overrides, resolve."""
    try:
        given = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise RecipeError(f"the recipe is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(given, Mapping):
        raise RecipeError(f"a recipe is a mapping with {', '.join(settings_of(Recipe))}; found {type(given).__name__}")
    return from_plain(given, overrides)


def digest(recipe: Recipe) -> str:
    """Twelve hexadecimal digits that name the resolved experiment; `machine` and `checks` do not enter."""
    tree = plain(recipe)
    defining = {name: value for name, value in tree.items() if name not in ("machine", "checks")}
    return hashlib.sha256(json.dumps(defining, sort_keys=True).encode()).hexdigest()[:12]


def leaves(tree: Any, path: str = "") -> dict[str, Any]:
    """Every leaf of a plain recipe by its path; tuples and lists of scalars are one leaf."""
    if isinstance(tree, Mapping):
        return {
            p: v for key, item in tree.items() for p, v in leaves(item, f"{path}.{key}" if path else str(key)).items()
        }
    if isinstance(tree, list) and any(isinstance(item, Mapping) for item in tree):
        return {p: v for i, item in enumerate(tree) for p, v in leaves(item, f"{path}.{i}").items()}
    return {path: tree}


def differences(a: Recipe, b: Recipe) -> dict[str, tuple[Any, Any]]:
    """The leaves in which two recipes differ, by path; `None` where one lacks the leaf."""
    left, right = leaves(plain(a)), leaves(plain(b))
    return {p: (left.get(p), right.get(p)) for p in sorted({*left, *right}) if left.get(p) != right.get(p)}


def idle(recipe: Recipe) -> dict[str, str]:
    """The leaves of a resolved recipe that change nothing, by path, each with its reason.

    A part whose settings can switch each other off says so by a static method `idle_settings(settings) -> {name: reason}`.
    """
    found = {
        **{
            f"machine.{name}": "says where and how a run is carried out, not what it is"
            for name in settings_of(Machine)
        },
        **{f"checks.{name}": "says what a run does beside its steps" for name in settings_of(Checks)},
    }

    def walk(value: Any, path: str) -> None:
        if isinstance(value, Spec):
            rules = getattr(find(value.role, value.kind), "idle_settings", None)
            if rules is not None:
                found.update({f"{path}.{name}": reason for name, reason in rules(value.settings).items()})
            for name, item in value.items():
                walk(item, f"{path}.{name}")
        elif isinstance(value, tuple):
            for i, item in enumerate(value):
                walk(item, f"{path}.{i}")

    for field in dataclasses.fields(recipe):
        walk(getattr(recipe, field.name), field.name)
    return found


def json_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of a recipe file, for completion and checks in editors."""
    defs: dict[str, Any] = {}
    body = schema_of(Recipe, defs)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "tacit recipe", **body, "$defs": defs}
