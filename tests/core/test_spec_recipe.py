"""The constructor's signature is the schema; a recipe prints, hashes, compares and reads back equal."""

import copy
import json
import pickle
from collections.abc import Mapping
from typing import Annotated, Literal

import pytest
from annotated_types import Ge, Gt

from tacit.core import parts, recipe
from tacit.core.errors import RecipeError
from tacit.core.recipe import Checks, Machine, Recipe, differences, digest, from_plain, from_yaml, resolve, to_yaml
from tacit.core.spec import EncoderSpec, Role, Spec, ViewSpec, plain, settings_of


class Encoder:
    """A toy."""

    def __init__(self, channels: int, *, depth: Literal[18, 50] = 18, width: Annotated[float, Gt(0)] = 1.0) -> None:
        self.channels, self.depth, self.width = channels, depth, width


class System:
    """A toy with a nested part, a tuple and a rule across settings."""

    def __init__(
        self,
        channels: int,
        *,
        encoder: EncoderSpec = Spec("encoder", "toy", width=2.0),
        widths: tuple[int, ...] = (4, 8),
        low: float = 0.0,
        high: float | None = None,
    ) -> None:
        self.encoder = encoder.build(channels)
        self.widths, self.low, self.high = widths, low, high

    @staticmethod
    def check_settings(settings: Mapping) -> list[str]:
        bad = settings["high"] is not None and settings["high"] <= settings["low"]
        return ["high must lie above low"] if bad else []


class Source:
    """A toy with a setting that has no default."""

    def __init__(self, *, path: str, split: str = "train") -> None: ...


class Views:
    """A toy with a list of parts and one that may be absent."""

    def __init__(self, facts: object, *, many: tuple[ViewSpec, ...] = (), second: ViewSpec | None = None) -> None: ...


class View:
    """A toy."""

    def __init__(self, facts: object, *, size: Annotated[int, Gt(0)] = 32) -> None: ...


class Optim:
    """A toy."""

    def __init__(self, *, lr: Annotated[float, Ge(0)]) -> None: ...


class Swallow:
    """A part that hides misspellings."""

    def __init__(self, **settings: object) -> None: ...


@pytest.fixture(autouse=True)
def toys(monkeypatch):
    monkeypatch.setattr(parts, "_imported", dict(parts._imported))
    for role, cls in {
        "encoder": Encoder, "system": System, "source": Source, "views": Views, "view": View, "optimizer": Optim,
    }.items():  # fmt: skip
        parts.part(role, "toy")(cls)


def toy(**changes) -> Recipe:
    fields = {
        "system": Spec("system", "toy"),
        "data": Spec("source", "toy", path="x"),
        "views": Spec("views", "toy", many=[Spec("view", "toy")]),
        "optim": Spec("optimizer", "toy", lr=0.1),
        "steps": 3,
        "batch": 4,
    }
    return Recipe(**{**fields, **changes})


def faults(*overrides: str, **changes) -> tuple[str, ...]:
    with pytest.raises(RecipeError) as caught:
        resolve(toy(**changes), overrides)
    return caught.value.faults


def test_a_spec_is_a_value():
    spec = Spec("encoder", "toy", width=2, depth=50)
    assert spec == Spec("encoder", "toy", depth=50, width=2)
    assert spec != spec.change(depth=18)
    assert hash(spec) == hash(pickle.loads(pickle.dumps(spec)))
    assert copy.deepcopy(spec) == spec
    assert repr(spec) == "Spec('encoder', 'toy', depth=50, width=2)"
    assert eval(repr(spec)) == spec
    assert spec["depth"] == 50
    assert dict(spec) == {"depth": 50, "width": 2}
    with pytest.raises(AttributeError, match=r"a Spec is a value: make a new one with spec\.change\(kind=\.\.\.\)"):
        spec.kind = "other"


def test_build_calls_the_constructor_with_facts_and_settings():
    built = Spec("system", "toy", encoder=Spec("encoder", "toy", depth=50)).build(3)
    assert (built.encoder.channels, built.encoder.depth, built.encoder.width) == (3, 50, 1.0)
    with pytest.raises(
        RecipeError, match=r"encoder\.dept: encoder 'toy' has no setting 'dept'\. Did you mean 'depth'\?"
    ):
        Spec("encoder", "toy", dept=50).build(3)


def test_resolve_fills_every_default_and_is_idempotent():
    resolved = resolve(toy())
    assert resolved.system["encoder"] == Spec("encoder", "toy", depth=18, width=2.0)
    assert resolve(resolved) == resolved
    assert digest(resolve(resolved)) == digest(resolved)


def test_yaml_reads_back_equal():
    resolved = resolve(toy(), ["system.high=2e-3", "system.widths=[1, 2]", "views.many.0.size=7", "clip=1"])
    assert from_yaml(to_yaml(resolved)) == resolved
    assert from_plain(json.loads(json.dumps(plain(resolved)))) == resolved
    assert resolved.system["high"] == 0.002  # YAML 1.1 reads 2e-3 as text; the typed reader does not
    assert resolved.system["widths"] == (1, 2)


def test_settings_given_without_a_kind_change_the_default_part():
    assert resolve(toy(), ["system.encoder.depth=50"]).system["encoder"] == Spec("encoder", "toy", depth=50, width=2.0)


def test_a_new_kind_starts_the_part_anew_whatever_the_order():
    for texts in (["data=toy", "data.path=y"], ["data.path=y", "data.kind=toy"]):
        assert resolve(toy(data=Spec("source", "other", path="x", odd=1)), texts).data == Spec(
            "source", "toy", path="y", split="train"
        )


def test_all_faults_at_once_each_with_its_path_and_the_nearest_name():
    found = faults(
        "system.encoder.dept=50", "optim.lr=fast", "views.many.0.siz=7", "sytem.low=1", "system.high=-1", "nonsense"
    )
    assert found == (
        "'nonsense': an override reads path=value, for example optim.lr=0.1",
        "sytem.low: 'sytem' is not there. Did you mean 'system'?",
        "system.encoder.dept: encoder 'toy' has no setting 'dept'. Did you mean 'depth'?",
        "views.many[0].siz: view 'toy' has no setting 'siz'. Did you mean 'size'?",
        "optim.lr: input should be a valid number, unable to parse string as a number, found 'fast'",
    )


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("system.high=-1", "system: high must lie above low"),
        ("system.encoder.depth=19", "system.encoder.depth: input should be 18 or 50, found 19"),
        ("system.encoder.width=0", "system.encoder.width: input should be greater than 0, found 0"),
        ("system.encoder.width=.inf", "system.encoder.width: input should be a finite number, found inf"),
        ("system.widths=[1, x]", "system.widths[1]: input should be a valid integer, unable to parse string as an integer, found 'x'"),
        ("system.widths=4", "system.widths: needs a list in brackets, such as [1,2], found 4"),
        ("system.encoder=toyy", "system.encoder.kind: no encoder named 'toyy'. Did you mean 'toy'? Known: "),
        ("system.encoder=3", "system.encoder.kind: needs the kind of encoder to use, found 3. Known: "),
        ("views.many=3", "views.many: needs a list of view parts, found 3"),
        ("views.many.4.size=3", "views.many.4.size: '4' is not there."),
        ("views.many.x=3", "views.many.x: the list has entries 0..0, found 'x'"),
        ("checks=3", "checks: needs settings under it (log_every, judge_every, save_every, keep, probe), found 3"),
        ("checks.logg_every=3", "checks.logg_every: the section 'checks' has no setting 'logg_every'. Did you mean 'log_every'?"),
        ("machine.precision=fp8", "machine.precision: input should be 'fp32', 'bf16' or 'fp16', found 'fp8'"),
        ("steps=0", "steps: input should be greater than 0, found 0"),
        ("steps.more=0", "steps.more: there is nothing under it."),
        ("accumulate=3", "batch: 4 does not split into accumulate=3 equal micro-batches: choose a multiple"),
        ("steps=]", "steps: ']' cannot be read as a YAML value; put quotes around text with special characters"),
    ],
)  # fmt: skip
def test_each_fault_is_a_sentence(text, sentence):
    (fault,) = faults(text)
    assert fault.startswith(sentence)


def test_a_missing_setting_and_a_part_in_the_wrong_place_are_named():
    assert faults(data=Spec("source", "toy")) == (
        "data.path: source 'toy' needs this setting and has no default for it",
    )
    with pytest.raises(RecipeError, match=r"data: needs a Spec of role 'source', found Spec\('encoder', 'toy'\)"):
        toy(data=Spec("encoder", "toy"))
    with pytest.raises(RecipeError, match=r"system\.encoder: needs a part of role 'encoder', found source 'toy'"):
        Spec("system", "toy", encoder=Spec("source", "toy", path="x")).build(3)


def test_yaml_that_is_no_recipe_is_refused():
    with pytest.raises(RecipeError, match="the recipe is not valid YAML: "):
        from_yaml("a: [")
    with pytest.raises(RecipeError, match=r"a recipe is a mapping with system, data, .*; found list"):
        from_yaml("- a")


def test_a_constructor_that_swallows_settings_is_refused():
    with pytest.raises(TypeError, match=r"Swallow takes \*\*settings: a part names each of its settings"):
        settings_of(Swallow)


def test_digest_names_the_experiment_and_not_the_machine():
    base = resolve(toy())
    assert len(digest(base)) == 12
    assert digest(resolve(base, ["machine.workers=3", "checks.log_every=1"])) == digest(base)
    for text in ("seed=1", "optim.lr=0.2", "system.encoder.depth=50", "steps=4", "data.path=y", "views.many.0.size=3"):
        assert digest(resolve(base, [text])) != digest(base), text


def test_differences_name_the_leaves():
    a = resolve(toy())
    b = resolve(a, ["optim.lr=0.2", "views.many.0.size=5"])
    assert differences(a, b) == {"optim.lr": (0.1, 0.2), "views.many.0.size": (32, 5)}
    assert differences(a, a) == {}


def test_sections_are_plain_values():
    assert toy() == toy()
    assert hash(toy()) == hash(toy())
    assert toy().change(steps=9).steps == 9
    assert plain(Checks())["keep"] == 2
    assert plain(Machine())["trackers"] == ["tensorboard"]


def test_json_schema_describes_parts_bounds_and_defaults(monkeypatch):
    monkeypatch.setattr(parts, "parts", lambda role=None: [parts.Part(role, "toy", "")])
    schema = recipe.json_schema()
    text = json.dumps(schema)
    assert schema["properties"]["system"] == {"$ref": "#/$defs/system"}
    encoder = schema["$defs"]["encoder"]["anyOf"][1]
    assert encoder["properties"]["depth"]["enum"] == [18, 50]
    assert encoder["properties"]["width"] == {"exclusiveMinimum": 0, "type": "number", "default": 1.0}
    assert schema["properties"]["checks"]["properties"]["keep"]["default"] == 2
    assert "optim" in schema["required"]
    assert Role("encoder").name in schema["$defs"]
    assert '"additionalProperties": false' in text
