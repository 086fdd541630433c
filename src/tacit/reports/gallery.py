"""The sections that show pictures: samples beside their views, queries beside their neighbours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from tacit.reports.pictures import as_array, given, pictures
from tacit.reports.rendering import render

__all__ = ["Neighbours", "Pairs"]


@dataclass(frozen=True, eq=False)
class Pairs:
    """Samples and the views drawn from them. originals: n images; views: name -> n images; captions: n short texts."""

    originals: Any
    views: Mapping[str, Any]
    title: str = "What the encoder is told to ignore"
    lead: str = "Each original and the augmented views of it that training pulls together."
    captions: Sequence[str] = ()
    absent: str = "No augmented pictures were drawn."
    per_row: int = 6

    def html(self) -> Markup:
        """Small tables of `per_row` samples, originals above their views."""
        rows = {
            "original": pictures(given(self.originals)),
            **{name: pictures(given(v)) for name, v in self.views.items()},
        }
        n = len(rows["original"])
        for name, shown in rows.items():
            if len(shown) != n:
                raise ValueError(
                    f"view {name!r} has {len(shown)} pictures, the originals are {n}: give one of each sample."
                )
        captions = list(self.captions) or [""] * n
        if len(captions) != n:
            raise ValueError(f"{len(captions)} captions for {n} pictures: give one a picture, or none.")
        blocks = [range(i, min(i + self.per_row, n)) for i in range(0, n, self.per_row)]
        remarks = list(dict.fromkeys(f"{name}: {r}" for name, shown in rows.items() for r in shown.remarks))
        return render("pairs", section=self, rows=rows, blocks=blocks, captions=captions, remarks=remarks)


@dataclass(frozen=True, eq=False)
class Neighbours:
    """Query images [q c h w] and their nearest neighbours [q k c h w], nearest first.

    labels [q] and neighbour_labels [q k] are optional; where both are given, neighbours of another class are outlined and crossed.
    """

    queries: Any
    neighbours: Any
    title: str = "Nearest neighbours"
    lead: str = ""
    labels: Any = None
    neighbour_labels: Any = None
    classes: Sequence[str] = ()
    absent: str = "No neighbours were looked up."

    def html(self) -> Markup:
        """One strip a query."""
        queries = pictures(given(self.queries))
        hits = [pictures(row) for row in given(self.neighbours)]
        if len(hits) != len(queries):
            raise ValueError(f"{len(hits)} rows of neighbours for {len(queries)} queries: give one row a query.")
        known = self.labels is not None and self.neighbour_labels is not None
        labels = as_array(self.labels).tolist() if known else [None] * len(queries)
        others = as_array(self.neighbour_labels).tolist() if known else [[None] * len(row) for row in hits]
        strips = []
        right = total = 0
        for i, row in enumerate(hits):
            found = []
            for uri, label in zip(row.uris, others[i], strict=True):
                wrong = known and label != labels[i]
                right, total = right + (not wrong), total + 1
                found.append((uri, self._name(label), wrong))
            strips.append((queries.uris[i], self._name(labels[i]), found))
        remarks = list(dict.fromkeys(r for shown in (queries, *hits) for r in shown.remarks))
        count = f"{right} of the {total} neighbours shown have the class of their query." if known and total else ""
        return render("neighbours", section=self, strips=strips, count=count, known=known, remarks=remarks)

    def _name(self, label: Any) -> str:
        if label is None:
            return ""
        return self.classes[label] if 0 <= label < len(self.classes) else f"class {label}"
