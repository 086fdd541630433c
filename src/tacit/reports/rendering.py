"""The templates of the room: jinja2 with everything escaped and nothing undefined."""

from __future__ import annotations

import functools
import re
from typing import Any, Protocol

import jinja2
from markupsafe import Markup

__all__ = ["Section", "render"]


class Section(Protocol):
    """A piece of a report: a title and its own HTML, which says in one line when there is nothing to show."""

    @property
    def title(self) -> str:
        """The heading."""
        ...

    def html(self) -> Markup:
        """Escaped HTML below the heading."""
        ...


@functools.cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("tacit.reports"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["unbroken"] = _unbroken
    return environment


def _unbroken(text: str) -> str:
    """Keep a number with its sign, unit and interval on one line."""
    text = re.sub(r"(?<=\d) (?=%|points? \[|seeds?\b)|(?<=%) (?=\[)|(?<=points) (?=\[)|\bn = (?=\d)", _hard, text)
    return re.sub(r"\[[^\]\n]{1,30}, [^\]\n]{1,30}\]", _hard, text)


def _hard(match: re.Match[str]) -> str:
    return match[0].replace(" ", "\N{NO-BREAK SPACE}")


def render(name: str, **values: Any) -> Markup:
    """The template `name` filled with `values`; every text among them is escaped unless it is Markup."""
    return Markup(_environment().get_template(f"{name}.html.j2").render(**values))
