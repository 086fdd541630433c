"""Fields in reports: colours follow the sign and the scale, films move, graphs lie where the values are."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from tacit.reports import FieldPictures, Films, Lines, line_frames


def images(html: str, kind: str) -> list[Image.Image]:
    return [
        Image.open(io.BytesIO(base64.b64decode(data)))
        for data in re.findall(rf"data:image/{kind};base64,([^\"]+)", html)
    ]


def pixel(image: Image.Image, x: int, y: int) -> tuple[int, ...]:
    return image.convert("RGB").getpixel((x, y))


def test_zero_is_white_and_the_signs_have_colours():
    u = np.array([[[-1.0, 0.0], [0.5, 1.0]]])
    (image,) = images(str(FieldPictures({"u": u}).html()), "png")
    assert image.size == (144, 144)
    low, zero, half, high = (pixel(image, x, y) for x, y in ((10, 10), (110, 10), (10, 110), (110, 110)))
    assert low[2] > low[0] and high[0] > high[2]  # blue, red
    assert min(zero) > 240 and half[0] > half[2] and half != high


def test_rows_that_begin_alike_share_their_colours():
    small, large = np.full((1, 2, 2), 0.5), np.full((1, 2, 2), -1.0)
    html = str(FieldPictures({"u, plain": small, "u, moved": large, "v": small * [[[1, -1], [1, 1]]]}).html())
    plain, moved, other = images(html, "png")
    assert pixel(plain, 5, 5) != pixel(other, 5, 5)  # 0.5 of 1 is paler than 0.5 of 0.5
    assert pixel(moved, 5, 5)[2] > pixel(moved, 5, 5)[0]
    assert html.count("u: from -1 to 0.5, blue below zero, red above.") == 1


def test_a_film_has_a_frame_for_each_time_and_long_ones_are_thinned():
    u = np.zeros((2, 50, 4, 6))
    u[:, np.arange(50), 0, np.arange(50) % 6] = 1
    html = str(Films({"u": u}, captions=["one", "two"]).html())
    films = images(html, "gif")
    assert [film.n_frames for film in films] == [30, 30] and films[0].size == (144, 96)
    first = np.asarray(films[0].convert("RGB"))
    films[0].seek(1)
    assert not np.array_equal(first, np.asarray(films[0].convert("RGB")))
    assert "one" in html and "two" in html


def test_a_graph_lies_where_the_values_are():
    u = np.stack([np.linspace(-1, 1, 8), np.full(8, -1.0)])[None]
    frames = line_frames(u, height=33)
    assert frames.shape == (1, 2, 33, 16)
    assert frames[0, 0, 32, 0] == 1 and frames[0, 0, 0, 15] == 1  # upwards
    assert (frames[0, 1].sum(axis=0) == 1).all() and (frames[0, 1, 32] == 1).all()
    assert (frames[0, 0].sum(axis=0) >= 1).all()  # no gap in the curve


def test_graphs_are_drawn_dark_on_light_and_have_no_scale_of_colours():
    html = str(Films({"u": line_frames(np.zeros((1, 3, 4)), height=5)}, graphs=True).html())
    (film,) = images(html, "gif")
    assert min(pixel(film, 10, 10)) > 240 and max(pixel(film, 10, film.size[1] - 3)) < 30
    assert "dark is low" not in html


def test_the_numbers_at_an_axis_stay_whole():
    html = str(Lines({"power": {"first": ([0, 1], [0.0, 0.09])}}).html())
    assert [text for text in ("0.000", "0.025", "0.050", "0.075") if f">{text}<" not in html] == []


def test_curves_name_their_axis_and_leave_out_what_a_log_scale_cannot_show():
    x = np.arange(1, 6)
    html = str(
        Lines(
            {"power": {"first": (x, 10.0**-x), "last": (x, np.array([1, 0, -1, np.nan, 1]))}},
            xlabel="wave number",
            log=True,
        ).html()
    )
    assert "wave number" in html and "power over wave number: first, last" in html
    assert "There is no curve to draw." in str(Lines({}).html())


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(ValueError, match="'u' has no finite value and cannot be drawn: leave it out"):
        FieldPictures({"u": np.full((1, 2, 2), np.nan)}).html()
    with pytest.raises(ValueError, match="row 'v' has 2 pictures, the first has 1: give one of each sample"):
        FieldPictures({"u": np.zeros((1, 2, 2)), "v": np.zeros((2, 2, 2))}).html()
    with pytest.raises(ValueError, match="1 captions for 2 pictures: give one a picture, or none"):
        FieldPictures({"u": np.zeros((2, 2, 2))}, captions=["a"]).html()
    assert "No field was drawn." in str(FieldPictures({}).html())
