"""Runs on videos: clips of a resumed run are those of an uninterrupted one, also where resolution and length grow inside one folder."""

from __future__ import annotations

import os
import pickle
import signal
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from tacit import recipes
from tacit.core.spec import Spec
from tacit.models.store import weights_digest
from tacit.runs.build import build
from tacit.training.feed import Feed, Plan, _Maker
from tacit.training.loop import fit

SMALL = (
    "steps=6", "batch=4", "checks.log_every=1", "checks.judge_every=0", "machine.trackers=[]", "system.encoder.width=24",
    "system.encoder.depth=1", "system.encoder.heads=2", "system.predictor.width=16", "system.predictor.depth=1", "system.predictor.heads=2",
)  # fmt: skip


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    """Nine videos of noise of 24 frames in two classes."""
    root = tmp_path_factory.mktemp("videos")
    for i in range(9):
        path = root / "train" / "ab"[i % 2] / f"{i}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        with av.open(str(path), "w") as file:
            stream = file.add_stream("mpeg4", rate=10)
            stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
            noise = np.random.default_rng(i)
            for _ in range(24):
                frame = av.VideoFrame.from_ndarray(
                    noise.integers(0, 256, (4, 4, 3), np.uint8).repeat(8, 0).repeat(8, 1), format="rgb24"
                )
                file.mux(stream.encode(frame))
            file.mux(stream.encode())
    return root


class StopAt:
    """A hook that sends this process SIGTERM after a step, as a scheduler would."""

    def __init__(self, step):
        self.step = step

    def __call__(self, step, terms, context):
        if step == self.step:
            os.kill(os.getpid(), signal.SIGTERM)

    def close(self, status): ...


def growing(videos):
    """Two epochs (of two steps) of 4 frames at 16 pixels, then 8 frames at 24."""
    recipe = recipes.load("video.vjepa_tiny", SMALL)
    view = recipe.views["view"].change(scale=(0.3, 1.0))
    stages = tuple(recipe.views.change(view=view.change(size=size)) for size in (16, 24))
    clips = Spec("source", "video", path=str(videos), step=2)
    return recipes.load(
        recipe.change(
            data=Spec("source", "stages", sources=(clips.change(frames=4), clips.change(frames=8)), starts=(0, 2)),
            views=Spec("views", "stages", stages=stages, starts=(0, 2), frames=(4, 8)),
        )
    )


def test_a_run_that_grows_in_size_and_length_goes_on_bit_for_bit(videos, tmp_path):
    recipe = growing(videos)

    def start(folder, *hooks):
        built = build(recipe)
        ended = fit(recipe, built.system, built.source, built.views, folder, hooks=hooks)
        return ended.status, weights_digest(built.system)

    whole = start(tmp_path / "whole")
    assert start(tmp_path / "cut", StopAt(3))[0] == "stopped"  # before the growth at step 5
    assert start(tmp_path / "cut", StopAt(5))[0] == "stopped"  # and behind it
    assert start(tmp_path / "cut") == whole and whole[0] == "finished"


def test_every_step_has_the_clips_of_its_stage_and_of_its_epoch(videos):
    built = build(growing(videos))
    feed = Feed(built.source, built.views, Plan(9, seed=0, batch=4))
    with feed.steps(0, 6) as steps:
        shapes = [tuple(batches[0].views["image"].data.shape[2:]) for _, batches in steps]
    assert shapes == [(4, 16, 16)] * 4 + [(8, 24, 24)] * 2
    assert built.views.facts.shape == (8, 24, 24) and built.views.plain(built.source.read([0])).views[
        "image"
    ].data.shape[2:] == (8, 24, 24)


def test_a_worker_reads_the_same_clips_and_each_epoch_others(videos):
    recipe = recipes.load(
        "video.vjepa_tiny", [*SMALL, "data=video", f"data.path={videos}", "data.frames=4", "data.step=2"]
    )
    built = build(recipe)
    maker = _Maker(built.source, built.views, Plan(9, seed=0, batch=4))
    sent = pickle.loads(pickle.dumps(maker))  # what a worker process is given
    found = [[one[item].views["image"].data for item in range(3)] for one in (maker, sent)]
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
    first, second = (built.source.at(0, epoch).read(range(9)).views["image"].data for epoch in (0, 1))
    assert any(not torch.equal(a, b) for a, b in zip(first, second, strict=True))
