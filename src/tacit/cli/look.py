"""Verbs that look and change nothing: recipes, parts, data, schema, doctor."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any

import typer

from tacit.core import parts

Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
With = Annotated[list[str] | None, typer.Option("--with", help="Import this module first: it declares parts of yours.")]
DataPath = Annotated[str, typer.Argument(help="A folder or file, or the word digits.")]
Kind = Annotated[str | None, typer.Option("--kind", help="Read PATH as this kind of source (`tacit data list`).")]
Overrides = Annotated[
    list[str] | None, typer.Argument(help="path=value, for example optim.lr=0.1 data=folder", metavar="[PATH=VALUE]...")
]


def use(modules: Sequence[str] | None) -> None:
    """Import the modules named by --with."""
    for module in modules or ():
        parts.use_module(module)


def emit(value: Any, as_json: bool, text: str) -> None:
    """Print `value` as JSON or `text` for people."""
    print(json.dumps(value, indent=2) if as_json else text)


def table(rows: Iterable[Sequence[str]], header: Sequence[str]) -> str:
    """Plain columns, as wide as their widest cell."""
    lines = [tuple(header), *(tuple(row) for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def add_to(app: typer.Typer) -> None:
    """Register the verbs."""
    recipes_app = typer.Typer(help="The shipped recipes: list, show, diff.", no_args_is_help=True)
    recipes_app.command("list")(recipes_list)
    recipes_app.command("show")(recipes_show)
    recipes_app.command("diff")(recipes_diff)
    app.add_typer(recipes_app, name="recipes")
    parts_app = typer.Typer(help="The parts recipes are made of: list, show.", no_args_is_help=True)
    parts_app.command("list")(parts_list)
    parts_app.command("show")(parts_show)
    app.add_typer(parts_app, name="parts")
    data_app = typer.Typer(help="Data on disk: list the layouts, inspect, verify.", no_args_is_help=True)
    data_app.command("list")(data_list)
    data_app.command("inspect")(data_inspect)
    data_app.command("verify")(data_verify)
    app.add_typer(data_app, name="data")
    app.command("schema")(schema)
    app.command("doctor")(doctor)


def recipes_list(as_json: Json = False) -> None:
    """List the shipped recipes."""
    from tacit import recipes

    found = recipes.names()
    emit(found, as_json, table(found.items(), ("recipe", "what it is")))


def recipes_show(
    recipe: Annotated[str, typer.Argument(help="A shipped name, a YAML file or a run folder.")],
    overrides: Overrides = None,
    with_: With = None,
    as_json: Json = False,
) -> None:
    """Print a recipe with every default filled in, as YAML that `tacit train FILE` reads back equal."""
    from tacit import recipes
    from tacit.core.recipe import digest, plain, to_yaml

    use(with_)
    resolved = recipes.load(recipe, overrides or ())
    emit(
        {"digest": digest(resolved), **plain(resolved)},
        as_json,
        f"# {recipe}, digest {digest(resolved)}\n{to_yaml(resolved).rstrip()}",
    )


def recipes_diff(a: str, b: str, with_: With = None, as_json: Json = False) -> None:
    """Print the settings in which two recipes (names, files or run folders) differ."""
    from tacit import recipes
    from tacit.core.recipe import differences

    use(with_)
    found = differences(recipes.load(a), recipes.load(b))
    rows = [(path, str(left), str(right)) for path, (left, right) in found.items()]
    emit(
        {path: list(pair) for path, pair in found.items()},
        as_json,
        table(rows, ("setting", a, b)) if rows else "no difference",
    )


def parts_list(
    role: Annotated[str | None, typer.Argument(help="Only this role, for example objective.")] = None,
    with_: With = None,
    as_json: Json = False,
) -> None:
    """List the parts, by role and kind."""
    from tacit.core.errors import UnknownNameError, unknown

    use(with_)
    if role is not None and role not in parts.roles():
        raise UnknownNameError(unknown("role", role, parts.roles()))
    rows = [(entry.role, entry.kind, entry.summary) for entry in parts.parts(role)]
    emit(
        [dict(zip(("role", "kind", "summary"), row, strict=True)) for row in rows],
        as_json,
        table(rows, ("role", "kind", "what it is")),
    )


def parts_show(
    name: Annotated[str, typer.Argument(help="role.kind, for example objective.vicreg")],
    with_: With = None,
    as_json: Json = False,
) -> None:
    """Print the documentation of one part and its settings with types, bounds and defaults."""
    import inspect

    from tacit.core.errors import UnknownNameError, unknown
    from tacit.core.spec import schema_of

    use(with_)
    role, dot, kind = name.partition(".")
    if not dot:
        raise UnknownNameError(unknown("part", name, [f"{p.role}.{p.kind}" for p in parts.parts()]))
    cls = parts.find(role, kind)
    schema = schema_of(cls, {})
    lines = [f"{role}.{kind}  ({cls.__module__}:{cls.__qualname__})", "", inspect.getdoc(cls) or "", "", "settings"]
    for setting, entry in schema["properties"].items():
        required = "required" if setting in schema["required"] else f"default {json.dumps(entry.get('default'))}"
        lines.append(f"  {setting}: {_type(entry)}" + ("" if "$ref" in entry else f", {required}"))
    emit({"role": role, "kind": kind, "doc": inspect.getdoc(cls) or "", "settings": schema}, as_json, "\n".join(lines))


def _type(entry: Mapping[str, Any]) -> str:
    if "$ref" in entry:
        return f"a part of role {entry['$ref'].rpartition('/')[2]}"
    if "enum" in entry:
        return " | ".join(map(str, entry["enum"]))
    if "const" in entry:
        return str(entry["const"])
    if "anyOf" in entry:
        return " or ".join(_type(arm) for arm in entry["anyOf"])
    if entry.get("type") == "array":
        inner = entry.get("items") or (entry.get("prefixItems") or [{}])[0]
        return f"list of {_type(inner) if isinstance(inner, Mapping) else 'values'}"
    signs = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
    bounds = [f"{sign} {entry[bound]}" for bound, sign in signs.items() if bound in entry]
    return " ".join([str(entry.get("type", "value")), *bounds])


def data_list(as_json: Json = False) -> None:
    """List the layouts that can be read."""
    rows = [(entry.kind, entry.summary) for entry in parts.parts("source")]
    emit(dict(rows), as_json, table(rows, ("source", "layout")))


def data_inspect(path: DataPath, kind: Kind = None, as_json: Json = False) -> None:
    """Say what lies at PATH: layout, splits, counts, shapes, channel statistics. Reads a sample."""
    from tacit.runs import looking

    report = looking.inspect(path, kind)
    emit(report.to_plain(), as_json, report.text())


def data_verify(path: DataPath, kind: Kind = None, as_json: Json = False) -> None:
    """Read everything at PATH: unreadable files, NaN, duplicates across splits, by name. Exit code 1 if faults were found."""
    from tacit.runs import looking

    def show(done: int, total: int) -> None:
        if sys.stderr.isatty():
            print(f"\r{done:,} of {total:,}", end="" if done < total else "\n", file=sys.stderr, flush=True)

    report = looking.verify(path, kind, show)
    emit(report.to_plain(), as_json, report.text())
    raise typer.Exit(0 if report.ok else 1)


def schema() -> None:
    """Print the JSON Schema of recipe files, for completion and checks in an editor."""
    from tacit.core.recipe import json_schema

    print(json.dumps(json_schema(), indent=2))


def doctor(as_json: Json = False) -> None:
    """Say what this machine offers: versions, devices, threads, optional packages."""
    from tacit.runs import machine

    found = machine.describe()
    emit(found, as_json, table([(key, str(value)) for key, value in found.items()], ("what", "found")))
