"""Frames come out in the order in which they are shown, whatever the codec, container and rate; broken files say what is wrong."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest

from tacit.core.errors import DataError, MissingExtraError
from tacit.data import video_decoding
from tacit.data.video_decoding import open_video, torchcodec_fault
from tacit.data.video_pictures import Pictures


def refused(path, read=True):
    with pytest.raises(DataError) as caught, open_video(path) as video:
        video.frames(range(len(video.times))) if read else list(video.walk())
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "codec"), [("a.mp4", "libx264"), ("a.mkv", "libx264"), ("a.webm", "libvpx-vp9"), ("a.avi", "mpeg4")]
)
def test_frames_of_every_container_come_by_number_in_any_order(film, numbers, tmp_path, name, codec):
    with open_video(film(tmp_path / name, codec=codec)) as video:
        whole = video.frames(range(20))
        assert whole.shape == (3, 20, 32, 48) and video.size == (32, 48) and video.steady
        assert numbers(whole) == list(range(20)) and video.rate == pytest.approx(10)
        assert (video.frames([19, 3, 3, 11]) == whole[:, [19, 3, 3, 11]]).all()
        walked = np.stack(list(video.walk()))
        assert (walked.transpose(3, 0, 1, 2) == whole.numpy()).all()


def test_times_of_a_variable_rate_are_those_of_the_file(film, tmp_path):
    times = np.cumsum([0.0, *[0.1, 0.3] * 9, 0.1])
    with open_video(film(tmp_path / "v.mp4", times=times)) as video:
        assert not video.steady and video.times == pytest.approx(times, abs=2e-3)
        assert video.rate == pytest.approx(19 / times[-1], rel=1e-3)


def test_bytes_are_read_like_files_and_far_jumps_give_the_same_frames(film, tmp_path, monkeypatch):
    path = film(tmp_path / "a.mp4")
    with open_video(io.BytesIO(path.read_bytes())) as video, open_video(path) as same:
        monkeypatch.setattr(video_decoding, "_FAR", 3)
        assert (video.frames([1, 9, 18]) == same.frames([1, 9, 18])).all()


def test_a_turned_video_is_upright(film, tmp_path):
    with open_video(film(tmp_path / "a.mp4")) as video, open_video(film(tmp_path / "t.mp4", turn=90)) as turned:
        assert turned.size == (48, 32)
        assert (turned.frames([2]) == video.frames([2]).rot90(1, (2, 3))).all()


def test_a_folder_of_pictures_is_a_video(write, tmp_path):
    values = [write(tmp_path / "f" / f"{i:05d}.png", i) for i in range(4)]
    with open_video(tmp_path / "f") as video:
        assert isinstance(video, Pictures) and len(video.times) == 4 and video.size == (6, 5)
        assert (video.frames([3, 0]).permute(1, 2, 3, 0).numpy() == np.stack([values[3], values[0]])).all()
    write(tmp_path / "f" / "00003.png", 0, (7, 7))
    assert refused(tmp_path / "f") == "its frame 00003.png has another size than the first"


def test_broken_files_say_what_is_wrong(film, cut_in_a_frame, tmp_path):
    whole = film(tmp_path / "whole.mp4", first=True).read_bytes()
    cut, spoilt = tmp_path / "cut.mp4", tmp_path / "spoilt.mp4"
    cut.write_bytes(whole), cut_in_a_frame(cut)
    assert "it is damaged behind frame" in refused(cut) and refused(cut, read=False) == refused(cut)
    spoilt.write_bytes(whole[: len(whole) // 2] + bytes(400) + whole[len(whole) // 2 + 400 :])
    assert "damaged" in refused(spoilt)
    headless = film(tmp_path / "headless.mp4").read_bytes()
    (tmp_path / "headless.mp4").write_bytes(headless[: len(headless) // 2])
    size = len(headless) // 2
    assert refused(tmp_path / "headless.mp4") == (
        f"its {size} bytes are no video that FFmpeg knows, or the part that says what is in it was cut off "
        "(Invalid data found when processing input)"
    )
    matroska = film(tmp_path / "cut.mkv").read_bytes()
    for share in (0.5, 0.75):
        (tmp_path / "cut.mkv").write_bytes(matroska[: int(share * len(matroska))])
        assert refused(tmp_path / "cut.mkv").endswith("the copy was cut short")
    (tmp_path / "empty.mp4").write_bytes(b"")
    assert refused(tmp_path / "empty.mp4") == "it is empty (0 bytes)"
    assert refused(tmp_path / "none.mp4") == "there is no such file"
    with av.open(str(tmp_path / "sound.mp4"), "w") as file:
        stream = file.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 8000
        file.mux(stream.encode(frame))
        file.mux(stream.encode())
    assert refused(tmp_path / "sound.mp4") == "it holds only sound: there is no video stream in it"
    with (
        open_video(film(tmp_path / "a.mp4")) as video,
        pytest.raises(DataError, match=r"frames \[20\] were asked for; it has 20, from 0"),
    ):
        video.frames([20])


def test_torchcodec_gives_the_same_frames_or_says_what_it_lacks(film, tmp_path):
    """In a process that finds PyAV's own FFmpeg under the names that torchcodec looks for; without torchcodec the sentence is checked."""
    path = film(tmp_path / "a.mp4")
    times = [0.1 * i + 0.2 * (i // 2) for i in range(20)]
    others = [
        film(tmp_path / "b.webm", codec="libvpx-vp9"),
        film(tmp_path / "t.mp4", turn=90),
        film(tmp_path / "v.mp4", times=times),
    ]
    files = [str(file) for file in (path, *others)]
    libraries = Path(av.__file__).parents[1] / "av.libs"
    for name in ("avcodec", "avdevice", "avfilter", "avformat", "avutil", "swscale", "swresample"):
        for file in libraries.glob(f"lib{name}-*.so.*"):
            (tmp_path / f"lib{name}.so.{file.name.partition('.so.')[2].split('.')[0]}").symlink_to(file)
    code = (
        "import sys; from tacit.data.video_decoding import open_video, torchcodec_fault\n"
        "if torchcodec_fault(): sys.exit(torchcodec_fault())\n"
        f"for path in {files!r}:\n"
        "    with open_video(path, 'torchcodec') as a, open_video(path) as b:\n"
        "        assert type(a).__name__ == '_ByTorchcodec' and (a.frames([7, 0, 19]) == b.frames([7, 0, 19])).all(), path\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "LD_LIBRARY_PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert run.returncode == 0 or run.stderr.startswith("decoder: torchcodec is")
    if fault := torchcodec_fault():
        assert fault.startswith("decoder: torchcodec is") and "or take decoder=pyav, which brings its own" in fault
        with pytest.raises(MissingExtraError, match="decoder: torchcodec is"), open_video(path, "torchcodec"):
            pass
