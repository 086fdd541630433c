"""Spec: a lazy, checked constructor call. The constructor's signature is the schema.

Positional parameters of a part are facts known at run time; keyword-only parameters are the settings that a recipe may
choose, each with its type, bound and default. pydantic checks the values; this module finds the signature, nests
specs, and collects every fault with its path.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import inspect
import json
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from tacit.core import parts
from tacit.core.errors import RecipeError, UnknownNameError

__all__ = [
    "DynamicsSpec",
    "EncoderSpec",
    "HeadSpec",
    "InverseSpec",
    "ObjectiveSpec",
    "OptimizerSpec",
    "PlannerSpec",
    "PredictorSpec",
    "RegulariserSpec",
    "Role",
    "ScheduleSpec",
    "SourceSpec",
    "Spec",
    "StepperSpec",
    "SystemSpec",
    "ViewSpec",
    "ViewsSpec",
    "fill",
    "plain",
    "settings_of",
]


@dataclass(frozen=True)
class Role:
    """Marks a setting that holds a Spec of this role: `encoder: Annotated[Spec, Role("encoder")]`."""

    name: str


class Spec(Mapping[str, Any]):
    """One part with its settings: `Spec("encoder", "resnet", depth=18)`. A value: frozen, hashable, prints as it is made.

    As a mapping it reads its own settings: `spec["depth"]`.
    """

    __slots__ = ("kind", "role", "settings")
    role: str
    kind: str
    settings: Mapping[str, Any]

    def __init__(self, role: str, kind: str, /, **settings: Any) -> None:
        frozen = {name: _freeze(settings[name]) for name in sorted(settings)}
        object.__setattr__(self, "role", role)
        object.__setattr__(self, "kind", kind)
        object.__setattr__(self, "settings", types.MappingProxyType(frozen))

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a Spec is a value: make a new one with spec.change({name}=...)")

    def __getitem__(self, name: str) -> Any:
        return self.settings[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.settings)

    def __len__(self) -> int:
        return len(self.settings)

    def __bool__(self) -> bool:
        return True  # a part without settings is a part

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Spec):
            return NotImplemented
        return (self.role, self.kind, dict(self.settings)) == (other.role, other.kind, dict(other.settings))

    def __hash__(self) -> int:
        return hash((self.role, self.kind, tuple(self.settings.items())))

    def __repr__(self) -> str:
        inside = "".join(f", {name}={value!r}" for name, value in self.settings.items())
        return f"Spec({self.role!r}, {self.kind!r}{inside})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self.role, self.kind, dict(self.settings))

    def change(self, **settings: Any) -> Spec:
        """The same part with some settings replaced."""
        return Spec(self.role, self.kind, **{**self.settings, **settings})

    def resolve(self, path: str = "") -> Spec:
        """The same spec with every default filled in and every value checked; raises RecipeError with all faults."""
        faults: list[str] = []
        resolved = _read_spec(self.role, self, path or self.role, faults)
        if faults or resolved is None:
            raise RecipeError(faults)
        return resolved

    def build(self, *runtime: Any) -> Any:
        """Call the constructor with the run-time facts and the checked settings."""
        resolved = self.resolve()
        return parts.find(self.role, self.kind)(*runtime, **resolved.settings)


SystemSpec = Annotated[Spec, Role("system")]
SourceSpec = Annotated[Spec, Role("source")]
ViewsSpec = Annotated[Spec, Role("views")]
ViewSpec = Annotated[Spec, Role("view")]
EncoderSpec = Annotated[Spec, Role("encoder")]
HeadSpec = Annotated[Spec, Role("head")]
PredictorSpec = Annotated[Spec, Role("predictor")]
PlannerSpec = Annotated[Spec, Role("planner")]
DynamicsSpec = Annotated[Spec, Role("dynamics")]
InverseSpec = Annotated[Spec, Role("inverse")]
RegulariserSpec = Annotated[Spec, Role("regulariser")]
ObjectiveSpec = Annotated[Spec, Role("objective")]
OptimizerSpec = Annotated[Spec, Role("optimizer")]
ScheduleSpec = Annotated[Spec, Role("schedule")]
StepperSpec = Annotated[Spec, Role("stepper")]


def _rebuild(role: str, kind: str, settings: dict[str, Any]) -> Spec:
    return Spec(role, kind, **settings)


def _freeze(value: Any) -> Any:
    """Lists become tuples, so that a spec is hashable and equal to the one read back from YAML."""
    if isinstance(value, list | tuple):
        return tuple(_freeze(item) for item in value)
    return value


def plain(value: Any) -> Any:
    """`value` as dicts, lists and scalars: what YAML and JSON can hold. A Spec becomes `{kind: ..., **settings}`."""
    if isinstance(value, Spec):
        return {"kind": value.kind, **{name: plain(item) for name, item in value.settings.items()}}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    return value


@functools.cache
def settings_of(target: Any) -> dict[str, tuple[Any, Any]]:
    """The settings of a part or section: name -> (annotation, default), default `inspect.Parameter.empty` if required."""
    function = target.__init__ if inspect.isclass(target) else target
    hints = typing.get_type_hints(function, include_extras=True)
    found = {}
    for name, parameter in inspect.signature(target).parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            raise TypeError(f"{target.__qualname__} takes **{name}: a part names each of its settings")
        if parameter.kind is parameter.KEYWORD_ONLY:
            found[name] = (hints.get(name, Any), parameter.default)
    return found


def _role(annotation: Any) -> tuple[str | None, bool, bool]:
    """(role, is it a sequence of specs, may it be None) of a setting's annotation; role None for plain values."""
    origin = typing.get_origin(annotation)
    if origin is Annotated:
        for mark in annotation.__metadata__:
            if isinstance(mark, Role):
                return mark.name, False, False
        return None, False, False
    if origin in (typing.Union, types.UnionType):
        arms = typing.get_args(annotation)
        for arm in arms:
            role, many, _ = _role(arm)
            if role:
                return role, many, type(None) in arms
    if origin is tuple:
        role, _, _ = _role(typing.get_args(annotation)[0])
        return role, role is not None, False
    return None, False, False


@functools.cache
def _adapter(annotation: Any) -> Any:
    from pydantic import ConfigDict, TypeAdapter

    return TypeAdapter(annotation, config=ConfigDict(arbitrary_types_allowed=True, allow_inf_nan=False))


def fill(target: Any, given: Mapping[str, Any], path: str, faults: list[str]) -> dict[str, Any]:
    """All settings of `target` with `given` checked and the defaults filled in; faults are appended, each with its path."""
    known = settings_of(target)
    label = f"{path}." if path else ""
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(str(name), known, n=1)
            hint = f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(known) or '(none)'}."
            faults.append(f"{label}{name}: {_describe(target)} has no setting {name!r}. {hint}")
    filled: dict[str, Any] = {}
    for name, (annotation, default) in known.items():
        if name in given:
            value = given[name]
            if isinstance(default, Spec) and isinstance(value, dict) and "kind" not in value:
                value = _merge(plain(default), value)
        elif default is inspect.Parameter.empty:
            faults.append(f"{label}{name}: {_describe(target)} needs this setting and has no default for it")
            continue
        else:
            value = default
        filled[name] = _read_value(annotation, value, f"{label}{name}", faults)
    rules = getattr(target, "check_settings", None)
    if rules is not None and not faults:
        faults.extend(f"{path}: {fault}" if path else fault for fault in rules(filled))
    return filled


def _merge(base: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Settings given without a kind are changes of the default part."""
    merged = dict(base)
    for name, value in changes.items():
        nested = isinstance(value, Mapping) and "kind" not in value and isinstance(base.get(name), dict)
        merged[name] = _merge(base[name], value) if nested else value
    return merged


def _describe(target: Any) -> str:
    return parts.name_of(target) or f"the section {target.__name__.lower()!r}"


def _read_value(annotation: Any, value: Any, path: str, faults: list[str]) -> Any:
    role, many, optional = _role(annotation)
    if role is not None:
        if value is None and optional:
            return None
        if many:
            if not isinstance(value, list | tuple):
                faults.append(f"{path}: needs a list of {role} parts, found {value!r}")
                return ()
            return tuple(_read_spec(role, item, f"{path}[{i}]", faults) for i, item in enumerate(value))
        return _read_spec(role, value, path, faults)
    if inspect.isclass(annotation) and dataclasses.is_dataclass(annotation):
        given = value if isinstance(value, Mapping) else plain(value)
        if not isinstance(given, Mapping):
            faults.append(f"{path}: needs settings under it ({', '.join(settings_of(annotation))}), found {value!r}")
            return None
        before = len(faults)
        filled = fill(annotation, given, path, faults)
        return annotation(**filled) if len(faults) == before else None
    from pydantic import ValidationError

    try:
        return _freeze(_adapter(annotation).validate_python(value))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = "".join(f"[{item}]" for item in first["loc"] if isinstance(item, int))
        said = "needs a list in brackets, such as [1,2]" if first["type"] == "tuple_type" else first["msg"]
        faults.append(f"{path}{where}: {said[:1].lower()}{said[1:]}, found {first['input']!r}")
        return None


def _read_spec(role: str, value: Any, path: str, faults: list[str]) -> Spec | None:
    if isinstance(value, str):
        value = {"kind": value}
    if isinstance(value, Spec):
        if value.role != role:
            faults.append(f"{path}: needs a part of role {role!r}, found {value.role} {value.kind!r}")
            return None
        kind, settings = value.kind, dict(value.settings)
    elif isinstance(value, Mapping):
        settings = dict(value)
        kind = settings.pop("kind", None)
    else:
        kind, settings = None, {}
    if not isinstance(kind, str):
        choices = ", ".join(parts.kinds(role)) or "(none)"
        faults.append(f"{path}.kind: needs the kind of {role} to use, found {value!r}. Known: {choices}.")
        return None
    try:
        cls = parts.find(role, kind)
    except UnknownNameError as error:
        faults.append(f"{path}.kind: {error}")
        return None
    own: list[str] = []
    filled = fill(cls, settings, path, own)
    faults.extend(own)
    return None if own else Spec(role, kind, **filled)


def schema_of(target: Any, defs: dict[str, Any]) -> dict[str, Any]:
    """JSON Schema of the settings of `target`; the parts it can hold are added to `defs` under their roles."""
    properties: dict[str, Any] = {}
    required = []
    for name, (annotation, default) in settings_of(target).items():
        role, many, optional = _role(annotation)
        if role is not None:
            _add_role(role, defs)
            one: dict[str, Any] = {"$ref": f"#/$defs/{role}"}
            entry = {"type": "array", "items": one} if many else one
            properties[name] = {"anyOf": [entry, {"type": "null"}]} if optional else entry
        elif inspect.isclass(annotation) and dataclasses.is_dataclass(annotation):
            properties[name] = schema_of(annotation, defs)
        else:
            properties[name] = {k: v for k, v in _adapter(annotation).json_schema().items() if k != "title"}
        if default is inspect.Parameter.empty:
            required.append(name)
        elif role is None and not dataclasses.is_dataclass(default):
            properties[name]["default"] = json.loads(json.dumps(plain(default)))
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _add_role(role: str, defs: dict[str, Any]) -> None:
    if role in defs:
        return
    defs[role] = {}
    choices = [{"enum": parts.kinds(role)}]
    for kind in parts.kinds(role):
        one = schema_of(parts.find(role, kind), defs)
        one["properties"] = {"kind": {"const": kind}, **one["properties"]}
        one["required"] = ["kind", *one["required"]]
        choices.append(one)
    defs[role]["anyOf"] = choices
