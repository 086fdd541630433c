from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


def write_picture(
    path: Path, seed: int, size: tuple[int, int] = (6, 5), mode: str = "RGB", **options: object
) -> np.ndarray:
    """A random picture of (height, width); returns its values [h w] or [h w c]."""
    path.parent.mkdir(parents=True, exist_ok=True)
    channels = {"L": (), "RGB": (3,), "RGBA": (4,)}[mode]
    values = np.random.default_rng(seed).integers(0, 256, (*size, *channels), dtype=np.uint8)
    Image.fromarray(values, mode=None).save(path, **options)
    return values


@pytest.fixture
def write():
    return write_picture


@pytest.fixture
def imagenet(tmp_path):
    """root/{train,val}/<wnid>/*.JPEG and an unlabelled test, ragged sizes."""
    root = tmp_path / "imagenet"
    seed = 0
    for split, count in (("train", 3), ("val", 2)):
        for wnid in ("n02119789", "n01440764"):
            for i in range(count):
                name = f"{wnid}_{i}.JPEG" if split == "train" else f"ILSVRC2012_val_{seed:08d}.JPEG"
                write_picture(root / split / wnid / name, seed, (8 + seed, 9))
                seed += 1
    for i in range(2):
        write_picture(root / "test" / f"ILSVRC2012_test_{i:08d}.JPEG", 100 + i, (8, 9))
    return root


def write_video(
    path: Path, frames: int = 20, size: tuple[int, int] = (32, 48), rate: int = 10, *, seed: int = 0, times=None, turn: int = 0,
    codec: str = "libx264", first: bool = False,
) -> Path:  # fmt: skip
    """A video of (height, width) whose frame i has the grey 12 i + 8 on the left half and noise of `seed` on the right.

    times: seconds at which frames are shown; first: the head of the file is at its beginning, as files for the web have it.
    """
    from fractions import Fraction

    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 256, (size[0] // 8, size[1] // 16, 3), dtype=np.uint8)
    with av.open(str(path), "w", options={"movflags": "faststart"} if first else {}) as file:
        stream = file.add_stream(codec, rate=rate)
        stream.height, stream.width, stream.pix_fmt = *size, "yuv420p"
        stream.codec_context.thread_count = 1  # the same bytes every time
        stream.options = {"g": "6", "bf": "2", "crf": "4"}
        if turn:
            stream.set_display_rotation(turn)
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for i in range(frames):
            picture = np.full((*size, 3), 12 * i % 248 + 8, np.uint8)
            picture[:, size[1] // 2 :] = noise.repeat(8, 0).repeat(8, 1)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = i if times is None else round(1000 * times[i])
            frame.time_base = Fraction(1, rate) if times is None else Fraction(1, 1000)
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    return path


@pytest.fixture
def film():
    return write_video


@pytest.fixture
def cut_in_a_frame():
    """Cuts a video's file off in the middle of a frame: where frames end depends on the processor that encoded them."""

    def cut(path: Path) -> None:
        import av

        with av.open(str(path)) as file:
            packets = sorted((packet.pos, packet.size) for packet in file.demux(video=0) if packet.size)
        start, size = packets[len(packets) // 2]
        os.truncate(path, start + size - 1)

    return cut


def greys(frames) -> list[int]:
    """Which frame stands where, from clips [c t h w] of `write_video`: the number of the frame."""
    return [round((float(frame[:, :, :12].float().mean()) - 8) / 12) for frame in frames.unbind(1)]


@pytest.fixture
def numbers():
    return greys
