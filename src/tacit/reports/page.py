"""The page: title, verdict, sections, in one file that loads nothing from anywhere."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from markupsafe import Markup

from tacit.reports.numbers import join
from tacit.reports.rendering import Section, render
from tacit.reports.table import Table

__all__ = ["Report", "verdict", "write_report"]


_CHART_ID = re.compile(r'(id="|url\(#|href="#)([a-z][0-9a-f]{10}[")])')


@dataclass(frozen=True, eq=False)
class Report:
    """A report. verdict: one paragraph in words. meta: short facts below the title (run, date, recipe digest)."""

    title: str
    verdict: str
    sections: Sequence[Section]
    meta: Mapping[str, str] = field(default_factory=dict)

    def html(self) -> str:
        """The whole page. The same report gives the same bytes."""
        parts = []
        for i, section in enumerate(self.sections, start=1):
            slug = re.sub(r"[^a-z0-9]+", "-", section.title.lower()).strip("-")
            # Two sections may hold charts that are alike, and matplotlib derives ids from content.
            body = re.sub(_CHART_ID, rf"\g<1>s{i}\g<2>", str(section.html()))
            parts.append({"id": f"s{i}-{slug}".rstrip("-"), "title": section.title, "body": Markup(body)})
        return str(render("report", report=self, parts=parts))


def write_report(report: Report, folder: str | os.PathLike[str]) -> Path:
    """Write `folder`/index.html: beside it first and renamed into place, so that the file is whole or the old one."""
    text = report.html()
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=".index-", suffix=".html", dir=place)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, place / "index.html")
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return place / "index.html"


def verdict(
    table: Table, *, model: str, protocol: str | None = None, opening: str = "", names: Mapping[str, str] | None = None
) -> str:
    """What the table says of `model` under `protocol` (by default the first row), in words, every number with its interval.

    opening: the subject of the sentence, such as "With 5 labels a class, a linear probe". names: model -> words for it, such as
    {"learned": "the learned features", "raw": "raw pixels"}. Differences are called clear where their interval leaves out zero.
    """
    if not table.results:
        return table.absent
    protocol = table.protocols[0] if protocol is None else protocol
    if protocol not in table.protocols:
        raise ValueError(f"no protocol {protocol!r} in the table: it has {', '.join(table.protocols)}.")
    by_model = {r.model: r for r in table.row(protocol) if r is not None}
    if model not in by_model:
        raise ValueError(f"no result of {model!r} under {protocol!r}: it has {', '.join(by_model)}.")
    words = names or {}
    said = {name: words.get(name, name) for name in by_model}
    main = by_model.pop(model)
    seeds = f", {main.seeds} seeds" if main.seeds > 1 else ""
    text = f"{opening or f'Under {protocol}, a probe'} on {said[model]} reaches {table.style.cell(main)} (n = {main.n}{seeds})."
    rest = [f"{table.style.cell(r)} on {said[name]}" for name, r in by_model.items()]
    if rest:
        text += f" The same probe reaches {join(rest)}."
    if main.chance is not None:
        text += f" Guessing reaches {table.style.chance(main)}."
    clear = [d for d in main.differences if d.clear]
    unclear = [d for d in main.differences if not d.clear]
    unit = " points" if table.percent else ""
    for group, ending in ((clear, "clear of zero"), (unclear, "not clear of zero, so no difference is shown")):
        if group:
            parts = [f"{table.style.difference(d, unit)} over {words.get(d.to, d.to)}" for d in group]
            text += f" Paired on the same items, the difference is {join(parts)}: {ending}."
    return text
