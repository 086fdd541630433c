"""Questions about videos on disk."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from tacit.core.errors import DataError
from tacit.data.video_questions import VideoQuestions
from tacit.ops.text import unpacked

av = pytest.importorskip("av")


@pytest.fixture
def folder(tmp_path):
    """A video of 21 frames of 48 x 32, each of grey 10 n with a white border left and right; two questions about it."""
    (tmp_path / "clips").mkdir()
    with av.open(str(tmp_path / "clips" / "a.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"crf": "0"})
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        for n in range(21):
            picture = np.full((32, 48, 3), 10 * n, np.uint8)
            picture[:, :8] = picture[:, 40:] = 255
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    lines = [{"video": "clips/a.mp4", "question": q, "answer": a} for q, a in (("What?", "grey"), ("Où?", "là-bas"))]
    (tmp_path / "train.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n\n", "utf-8")
    return tmp_path


def test_frames_lie_at_even_distances_and_are_the_middle_square(folder):
    source = VideoQuestions(path=str(folder), frames=5, side=16)
    batch = source.read([1, 0])
    clip = batch.views["image"].data
    assert clip.shape == (2, 3, 5, 16, 16) and len(source) == 2 and source.facts.shape == (5, 16, 16)
    greys = torch.tensor([0.0, 50, 100, 150, 200]).view(1, 1, 5, 1, 1)
    assert (clip - greys).abs().max() <= 3  # no border, and what the colours of a video lose
    assert unpacked(batch.facts["question"]) == ["Où?", "What?"] and unpacked(batch.facts["answer"]) == [
        "là-bas",
        "grey",
    ]
    assert source.digest() != VideoQuestions(path=str(folder / "train.jsonl"), frames=4, side=16).digest()


def test_what_cannot_be_read_is_named(folder):
    with pytest.raises(DataError, match=r"test.jsonl: there is no such file of questions; a line reads"):
        VideoQuestions(path=str(folder), split="test")
    with pytest.raises(DataError, match="questions are numbered from 0 to 1, found 2 to 2"):
        VideoQuestions(path=str(folder)).read([2])
    faults = {
        '{"video": "a"}': "line 1: needs video, question and answer",
        "{": "line 1: needs video",
        "\n": "holds no questions",
    }
    for text, words in faults.items():
        (folder / "bad.jsonl").write_text(text)
        with pytest.raises(DataError, match=words):
            VideoQuestions(path=str(folder / "bad.jsonl"))
    (folder / "bad.jsonl").write_text('{"video": "none.mp4", "question": "a", "answer": "b"}')
    with pytest.raises(DataError, match=r"none.mp4: there is no such file"):
        VideoQuestions(path=str(folder / "bad.jsonl")).read([0])
    (folder / "bad.jsonl").write_text('{"video": "clips/a.mp4", "question": "a", "answer": ""}')
    with pytest.raises(DataError, match="the answer is not empty"):
        VideoQuestions(path=str(folder / "bad.jsonl"))
