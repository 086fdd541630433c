"""The page: complete, self-contained, safe, the same twice, and honest about what is missing."""

from __future__ import annotations

import base64
import dataclasses
import io
import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch
from PIL import Image

from tacit.core.values import Score
from tacit.reports import (
    Card,
    Code,
    Curves,
    LowShot,
    Map,
    Neighbours,
    Note,
    Pairs,
    Report,
    Result,
    Scores,
    Spectrum,
    Table,
    write_report,
)

VOID = {"meta", "img", "br", "hr", "link", "input", "wbr", "base"}
HOSTILE = "<script>alert('$x^2')</script>&猫"


class Page(HTMLParser):
    """Collects tags, checks that they close in order, and keeps text by tag."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.headings: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data):
        if "style" not in self.open:
            self.text.append(data)
        if "h2" in self.open:
            self.headings.append(data)

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def result(model: str, value: float = 0.5, protocol: str = "linear@1") -> Result:
    return Result(model=model, protocol=protocol, value=value, low=value - 0.1, high=value + 0.1, n=100, chance=0.1)


def test_every_section_is_there_and_linked(report: Report, page: str):
    parsed = Page(page)
    assert parsed.headings == [section.title for section in report.sections]
    targets = {a["href"] for a in parsed.named("a") if a["href"] != "#main"}
    assert targets == {f"#{section['id']}" for section in parsed.named("section")}
    assert report.verdict in "".join(parsed.text).replace("\N{NO-BREAK SPACE}", " ")


def test_nothing_is_loaded_from_elsewhere(page: str):
    parsed = Page(page)
    assert not re.search(r"https?:|//cdn|@import", page)
    assert not re.search(r"url\((?!#)", page)
    for tag, attributes in parsed.tags:
        assert tag not in {"script", "link", "iframe", "object", "base"}
        for name in ("src", "href", "xlink:href", "srcset", "data"):
            value = attributes.get(name)
            assert value is None or value.startswith(("#", "data:image/png;base64,"))
        assert not any(name.startswith("on") for name in attributes)
    policy = next(m["content"] for m in parsed.named("meta") if m.get("http-equiv") == "Content-Security-Policy")
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def test_pictures_decode_have_words_and_are_large_enough_to_see(page: str):
    images = Page(page).named("img")
    assert len(images) == 3 * 12 + 8 * 7
    for image in images:
        assert image["alt"]
        picture = Image.open(io.BytesIO(base64.b64decode(image["src"].partition(",")[2])))
        assert picture.size == (64, 64)
    assert {i["role"] for i in Page(page).named("svg")} == {"img"} and all(
        i["aria-label"] for i in Page(page).named("svg")
    )


def test_tables_have_captions_and_headers(page: str):
    parsed = Page(page)
    assert len(parsed.named("caption")) == len(parsed.named("table"))
    assert all(th.get("scope") in {"row", "col"} for th in parsed.named("th"))


def test_ids_are_unique_and_references_resolve(page: str):
    parsed = Page(page)
    ids = Counter(a["id"] for _, a in parsed.tags if "id" in a)
    assert max(ids.values()) == 1
    assert set(re.findall(r"url\(#([^)]+)\)", page)) | {u["href"][1:] for u in parsed.named("use")} <= set(ids)


def test_charts_that_are_alike_keep_their_ids_apart():
    html = Report("twice", "", [Table([result("a")]), Table([result("a")])]).html()
    assert max(Counter(a["id"] for _, a in Page(html).tags if "id" in a).values()) == 1


def test_size_and_bytes_are_stable(report: Report, page: str):
    assert len(page.encode()) < 500_000
    assert report.html() == page


def test_drawing_leaves_matplotlib_as_it_was(report: Report, page: str):
    with matplotlib.rc_context({"font.size": 17.0, "svg.fonttype": "path", "axes.grid": False, "svg.hashsalt": "mine"}):
        before = dict(matplotlib.rcParams)
        assert report.html() == page, "the caller's style does not reach the report"
        assert dict(matplotlib.rcParams) == before


def test_writing_is_whole_or_not_at_all(report: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    target = write_report(report, tmp_path / "report")
    assert target == tmp_path / "report" / "index.html" and target.read_text(encoding="utf-8") == report.html()

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_report(Report("other", "other", []), tmp_path / "report")
    assert [p.name for p in (tmp_path / "report").iterdir()] == ["index.html"]
    assert "VICReg" in target.read_text(encoding="utf-8")


def test_hostile_words_stay_words():
    images = np.zeros((2, 1, 8, 8), dtype=np.uint8)
    sections = [
        Table([result(HOSTILE, protocol=HOSTILE), result("b", protocol=HOSTILE)], title=HOSTILE, lead=HOSTILE),
        Scores({HOSTILE: [Score(1.0, 3, HOSTILE, HOSTILE)]}),
        Curves({HOSTILE: ([0, 1], [1.0, 2.0])}),
        Spectrum({HOSTILE: np.ones(3)}),
        Map(np.eye(2), labels=[0, 1], classes=[HOSTILE, "b"], method=HOSTILE),
        LowShot([(1, result(HOSTILE)), (5, result(HOSTILE))]),
        Pairs(images, {HOSTILE: images}, captions=[HOSTILE] * 2),
        Neighbours(images, images[:, None], labels=[0, 1], neighbour_labels=[[1], [1]], classes=[HOSTILE, HOSTILE]),
        Code(HOSTILE),
        Card({HOSTILE: HOSTILE}),
        Note(HOSTILE),
    ]
    html = Report(HOSTILE, HOSTILE, sections, meta={HOSTILE: HOSTILE}).html()
    parsed = Page(html)
    assert "script" not in {tag for tag, _ in parsed.tags}
    assert "".join(parsed.text).count(HOSTILE) >= 20
    svg_words = [t for t in parsed.text if t == HOSTILE]
    assert svg_words, "the class is named inside the map"


def test_missing_data_is_said_in_one_line_each():
    sections = [
        Table([]),
        Scores({}),
        Curves({}),
        Spectrum({}),
        Spectrum({"dead": np.zeros(4)}),
        Pairs(None, {"a": None}),
        Neighbours(None, None),
        Map(None),
        LowShot([]),
        Code("  \n"),
        Card({}),
    ]
    for section in sections:
        html = section.html()
        Page(html)
        assert html.count('class="absent"') == 1 and section.absent in html
        assert "<svg" not in html and "<img" not in html


def test_values_that_are_not_finite_are_gaps():
    whole = Curves({"loss": (np.arange(5), [5.0, 4.0, 3.0, 2.0, 1.0])}).html()
    gap = Curves({"loss": (np.arange(5), [5.0, 4.0, float("nan"), 2.0, 1.0])}).html()
    assert "1 value not finite, left as gaps" in gap and "gaps" not in whole

    def pieces(html: str) -> int:
        drawn = re.search(r'<path d="([^"]*)"[^>]*stroke: var\(--s1\)', html)
        return drawn[1].count("M ")

    assert (pieces(whole), pieces(gap)) == (1, 2)
    for values in ([float("nan")] * 5, [float("inf")] * 5, [-1.0, 0.0, 1.0, 2.0, 3.0]):
        Page(Curves({"loss": (np.arange(5), values)}, log=["loss"]).html())


def test_a_lone_value_between_gaps_is_a_dot():
    html = Curves({"x": (np.arange(5), [1.0, float("nan"), 2.0, float("nan"), 3.0])}).html()
    assert len(re.findall(r"<use [^>]*var\(--s1\)", html)) == 3


def test_curves_from_rows_and_columns_agree_and_unknown_names_are_refused():
    rows = [(20, "loss", 1.0), (10, "loss", 2.0), (10, "rank", 3.0)]
    columns = dict(zip(("step", "name", "value"), map(list, zip(*rows, strict=True)), strict=True))
    by_rows, by_columns = Curves.from_rows(rows), Curves.from_columns(columns)
    assert by_rows.series == by_columns.series == {"loss": ([10, 20], [2.0, 1.0]), "rank": ([10], [3.0])}
    with pytest.raises(ValueError, match=r"no curve named 'lost': there are loss, rank\."):
        Curves.from_rows(rows, panels={"all": ("lost",)})


@pytest.mark.parametrize("labels", [None, [0, 0, 0], [-1, 0, 1]])
def test_maps_of_one_class_unknown_classes_and_equal_points(labels):
    for points in (np.zeros((3, 2)), np.arange(6.0).reshape(3, 2)):
        Page(Map(points, labels=labels).html())
    assert ("unknown" in Map(np.eye(3)[:, :2], labels=labels).html()) == (labels is not None and -1 in labels)


def test_a_map_names_classes_at_their_median_unless_it_should_not():
    named, bare = (str(Map(np.eye(2), labels=[0, 1], classes=["low", "high"], named=n).html()) for n in (True, False))
    assert (named.count(">low<"), bare.count(">low<")) == (2, 1)  # one of them in the legend


def test_chance_has_a_column_where_it_is_known():
    known, unknown = (str(Table([dataclasses.replace(result("a"), chance=c)]).html()) for c in (0.1, None))
    assert ("chance" in known, "chance" in unknown) == (True, False)


def test_maps_say_what_they_leave_out():
    points = np.random.default_rng(0).normal(size=(5000, 2))
    points[7] = np.nan
    html = Map(torch.tensor(points)).html()
    assert "1 of 5000 points are not finite and left out." in html
    assert "4000 of 4999 points are shown, evenly chosen." in html
    with pytest.raises(ValueError, match=r"a map needs points \[n 2\], found \[4, 3\]\."):
        Map(np.zeros((4, 3))).html()
    with pytest.raises(ValueError, match=r"2 labels for 3 points: give one a point\."):
        Map(np.zeros((3, 2)), labels=[0, 1]).html()


def test_one_point_low_shot_and_one_model_tables_render():
    Page(LowShot([(5, result("a"))]).html())
    Page(Table([result("a")], percent=False).html())
    with pytest.raises(ValueError, match=r"two results of 'a' with 5 labels per class: give one\."):
        LowShot([(5, result("a")), (5, result("a"))]).html()
    with pytest.raises(ValueError, match=r"labels per class are counted from 1; found 0 for 'a'\."):
        LowShot([(0, result("a"))]).html()


def test_neighbours_of_another_class_are_outlined_and_counted():
    images = np.zeros((2, 3, 8, 8), dtype=np.float32)
    hits = np.zeros((2, 3, 3, 8, 8), dtype=np.float32)
    html = Neighbours(
        images, hits, labels=[0, 1], neighbour_labels=[[0, 1, 0], [1, 1, 1]], classes=["cat", "dog"]
    ).html()
    assert html.count('class="wrong"') == 1 and "neighbour 2: dog, another class" in html
    assert "5 of the 6 neighbours shown have the class of their query." in html
    assert "wrong" not in Neighbours(images, hits).html()
    with pytest.raises(ValueError, match=r"1 rows of neighbours for 2 queries: give one row a query\."):
        Neighbours(images, hits[:1]).html()


def test_pairs_want_one_view_of_each_sample():
    images = np.zeros((3, 1, 8, 8), dtype=np.uint8)
    with pytest.raises(ValueError, match=r"view 'a' has 2 pictures, the originals are 3: give one of each sample\."):
        Pairs(images, {"a": images[:2]}).html()
    with pytest.raises(ValueError, match=r"1 captions for 3 pictures: give one a picture, or none\."):
        Pairs(images, {"a": images}, captions=["x"]).html()


def luminance(colour: str) -> float:
    """Relative luminance of WCAG 2."""
    channels = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_contrast_is_enough_in_both_themes(page: str, theme: str):
    """WCAG 2 AA: 4.5 for text, 3 for the colours of charts."""
    light, dark = (
        dict(re.findall(r"--(\w+): (#\w{6})", block)) for block in re.findall(r":root \{(.*?)\n *\}", page, re.DOTALL)
    )
    assert set(dark) == set(light)
    colours = light if theme == "light" else dark
    for ground in ("paper", "sheet"):
        for name, wanted in {
            "ink": 4.5,
            "muted": 4.5,
            "accent": 4.5,
            "wrong": 4.5,
            **{f"s{i}": 3.0 for i in range(1, 11)},
        }.items():
            a, b = sorted((luminance(colours[name]), luminance(colours[ground])))
            assert (b + 0.05) / (a + 0.05) >= wanted, (name, ground)
