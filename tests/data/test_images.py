"""Decoding: which channels a stored picture has, how they convert, and what is said of a broken one."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image

from tacit.core.errors import DataError
from tacit.data.images import decode, header


def stored(image: Image.Image, kind: str, **options) -> BytesIO:
    file = BytesIO()
    image.save(file, kind, **options)
    file.seek(0)
    return file


def noise(*shape: int, dtype=np.uint8, top: int = 256) -> np.ndarray:
    return np.random.default_rng(0).integers(0, top, shape).astype(dtype)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "WEBP"])
def test_lossless_formats_give_back_the_values_channels_first(kind):
    values = noise(6, 5, 3)
    options = {"lossless": True} if kind == "WEBP" else {}
    picture = decode(stored(Image.fromarray(values), kind, **options))
    assert picture.dtype == torch.uint8 and picture.is_contiguous()
    np.testing.assert_array_equal(picture.numpy(), values.transpose(2, 0, 1))


@pytest.mark.parametrize(
    ("image", "kind", "channels"),
    [
        (Image.fromarray(noise(4, 3)), "PNG", 1),
        (Image.fromarray(noise(4, 3) > 99), "PNG", 1),
        (Image.fromarray(noise(4, 3, dtype=np.uint16, top=65536)), "PNG", 1),
        (Image.fromarray(noise(4, 3).astype(np.float32) / 255), "TIFF", 1),
        (Image.fromarray(noise(4, 3, 3)), "PNG", 3),
        (Image.fromarray(noise(4, 3, 3)).convert("CMYK"), "JPEG", 3),
        (Image.fromarray(noise(4, 3, 3)).convert("P"), "PNG", 3),
        (Image.fromarray(noise(4, 3, 3)).convert("P"), "GIF", 3),
        (Image.fromarray(noise(4, 3, 4)), "PNG", 4),
        (Image.fromarray(noise(4, 3)).convert("LA"), "PNG", 4),
    ],
)
def test_header_foretells_what_decode_gives_and_every_picture_converts(image, kind, channels):
    file = stored(image, kind)
    assert header(file) == (channels, 4, 3)
    assert decode(file).shape == (channels, 4, 3)
    for wanted in (1, 3, 4):
        assert decode(file, wanted).shape == (wanted, 4, 3)


def test_sixteen_bits_are_scaled_and_not_cut_off():
    values = np.array([[0, 257, 65535, 128 * 257]], dtype=np.uint16)
    assert decode(stored(Image.fromarray(values), "PNG")).tolist() == [[[0, 1, 255, 128]]]


def test_grey_repeated_is_the_same_grey_and_new_alpha_is_opaque():
    grey = noise(4, 3)
    file = stored(Image.fromarray(grey), "PNG")
    np.testing.assert_array_equal(decode(file, 3).numpy(), np.stack([grey] * 3))
    assert decode(file, 4)[3].eq(255).all()


def test_alpha_is_dropped_and_not_blended():
    values = noise(4, 3, 4)
    picture = decode(stored(Image.fromarray(values), "PNG"), 3)
    np.testing.assert_array_equal(picture.numpy(), values[..., :3].transpose(2, 0, 1))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation):
    values = noise(4, 6, 3)
    turns = {1: (0, 1), 2: (0, -1), 3: (2, 1), 4: (2, -1), 5: (-1, -1), 6: (-1, 1), 7: (1, -1), 8: (1, 1)}
    quarter, flip = turns[orientation]
    upright = np.rot90(values, quarter)[:, ::flip]
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = stored(Image.fromarray(values), "PNG", exif=exif)
    np.testing.assert_array_equal(decode(file).numpy(), upright.transpose(2, 0, 1))
    assert header(file)[1:] == upright.shape[:2]


def test_spoiled_exif_does_not_spoil_the_picture():
    values = noise(4, 6, 3)
    file = stored(Image.fromarray(values), "PNG", exif=b"Exif\0\0no tiff in here")
    np.testing.assert_array_equal(decode(file).numpy(), values.transpose(2, 0, 1))
    assert header(file) == (3, 4, 6)


def test_of_an_animation_the_first_frame_is_read():
    first, second = Image.new("L", (3, 4), 10), Image.new("L", (3, 4), 200)
    file = stored(first, "GIF", save_all=True, append_images=[second])
    assert decode(file, 1).eq(10).all()


def test_a_coloured_picture_is_not_turned_grey_by_a_guess():
    file = stored(Image.fromarray(noise(4, 3, 3)), "PNG")
    assert decode(file, 1).shape == (1, 4, 3)
    with pytest.raises(DataError) as caught:
        decode(file, 1, lossless=True)
    assert str(caught.value) == (
        "it has 3 channels where the files looked at before have 1; "
        "set channels: 3 to read all in colour or channels: 1 to read all in grey"
    )


def test_floats_outside_the_unit_interval_are_refused():
    image = Image.fromarray(np.array([[0.0, 7.5]], dtype=np.float32))
    with pytest.raises(DataError) as caught:
        decode(stored(image, "TIFF"))
    assert str(caught.value) == (
        "its grey values run from 0 to 7.5 where 0 to 1 can be read; "
        "store such pictures as .npy and read them with the source 'arrays' and its setting range"
    )


def test_what_is_said_of_empty_foreign_and_cut_files():
    with pytest.raises(DataError) as caught:
        decode(BytesIO(b""))
    assert str(caught.value) == "it is empty (0 bytes)"
    with pytest.raises(DataError) as caught:
        header(BytesIO(b"<html>404</html>"))
    assert str(caught.value) == "its 16 bytes are no picture that Pillow knows"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF"])
@pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
def test_a_cut_file_of_any_format_is_one_sentence(kind, part):
    whole = stored(Image.fromarray(noise(64, 64, 3)), kind).getvalue()
    with pytest.raises(
        DataError, match=r"^(it is damaged or cut short \(.*\)|its \d+ bytes are no picture that Pillow knows)$"
    ):
        decode(BytesIO(whole[: int(len(whole) * part)]))


def test_a_turned_jpeg_is_turned():
    exif = Image.Exif()
    exif[0x0112] = 6
    file = stored(Image.fromarray(noise(8, 16, 3)), "JPEG", exif=exif, subsampling=0, quality=95)
    upright = decode(stored(Image.fromarray(noise(8, 16, 3)), "JPEG", subsampling=0, quality=95))
    assert header(file) == (3, 16, 8) and decode(file).equal(upright.rot90(-1, (1, 2)))


def test_a_picture_that_claims_to_be_enormous_is_refused_by_its_header():
    raw = bytearray(stored(Image.fromarray(noise(4, 4)), "BMP").getvalue())
    raw[18:26] = (60_000).to_bytes(4, "little") * 2
    for read in (header, decode):
        with pytest.raises(DataError, match=r"^it claims to be larger than Pillow opens, which protects memory \("):
            read(BytesIO(bytes(raw)))
