"""`tacit probe --protocol vjepa...`: heads learn on videos and images, published heads score as by hand, anticipation sees what it may."""

from __future__ import annotations

import csv
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
import torch

from tacit import recipes, runs
from tacit.core.errors import CheckpointError, DataError, RecipeError
from tacit.core.spec import Spec
from tacit.core.values import Facts
from tacit.data.video_sampling import Sampling
from tacit.models import store
from tacit.models.attentive import AttentiveProbe
from tacit.probing.frozen import frozen
from tacit.runs.anticipating import _Reader, frames_before
from tacit.views.spatial import spatial_views

TINY = (
    "steps=1", "batch=8", "checks.log_every=1", "checks.judge_every=0", "machine.trackers=[]", "system.encoder.width=32",
    "system.encoder.depth=1", "system.encoder.heads=2", "system.predictor.width=16", "system.predictor.depth=1", "system.predictor.heads=2",
    "views.view.size=16", "data.frames=4", "data.step=1",
)  # fmt: skip


def write(path: Path, grey: int, frames: int = 12, rate: int = 8) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as file:
        stream = file.add_stream("mpeg4", rate=rate)
        stream.width, stream.height, stream.pix_fmt = 24, 16, "yuv420p"
        for i in range(frames):
            picture = np.full((16, 24, 3), grey, np.uint8)
            picture[: 2 + i % 12] //= 2
            file.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        file.mux(stream.encode())


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    """Dark and bright videos, 12 to train on and 6 to test on."""
    root = tmp_path_factory.mktemp("videos")
    for split, count in (("train", 12), ("test", 6)):
        for i in range(count):
            write(root / split / ("dark", "light")[i % 2] / f"{i}.mp4", (40, 200)[i % 2] + 3 * i)
    return root


@pytest.fixture(scope="module")
def run(videos, tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("frozen")
    recipe = recipes.load("video.vjepa_tiny", ["data=video", f"data.path={videos}", *TINY])
    return runs.train(recipe, name="frozen", root=root / "runs", quiet=True).folder


def test_heads_tell_dark_from_light_and_results_are_kept(run):
    probed = runs.probe(run, protocols=["vjepa/4x2x3,step=1,batch=4,epochs=25"])
    assert {result.model for result in probed.results} == {"trained", "untrained", "raw pixels"}
    trained = {result.model: result for result in probed.results}["trained"]
    assert trained.value == 1.0 and trained.n == 6 and trained.protocol == "vjepa/4x2x3,step=1,epochs=25,batch=4@1"
    assert len(list((run / "results").rglob("*.parquet"))) == 1
    assert list(
        (run.parents[2] / "cache" / "tokens").rglob("tokens.npy")
    )  # read again by the next protocol of the same clips


def test_all_twenty_heads_of_the_second_generation_learn_at_once(run):
    probed = runs.probe(run, ["data.split=train"], protocols=["vjepa2/4x1x1,step=1,batch=4,epochs=3,best"])
    assert max(result.value for result in probed.results) == 1.0


def test_a_clip_protocol_refuses_what_does_not_fit(run):
    with pytest.raises(
        DataError,
        match="takes 1 clips of 16 frames of a video, or images for the task 'image', and the samples are clips of 16",
    ):
        runs.probe(run, protocols=["vjepa/image-16"])


def official(folder: Path, videos: Path, classes: int = 2) -> tuple[Path, Path, AttentiveProbe]:
    """An encoder of clips as an export, and a head of V-JEPA 2 for it in the published form."""
    torch.manual_seed(0)
    spec = Spec(
        "encoder",
        "vit",
        patch=8,
        tubelet=2,
        width=16,
        depth=2,
        heads=2,
        pooling="mean",
        class_token=False,
        positions="rope",
    ).resolve()
    facts = Facts(channels=3, shape=(4, 16, 16), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    store.export(spec, facts, spec.build(facts), folder / "encoder")
    head = AttentiveProbe(16, classes, heads=16, depth=4).eval()
    state = {f"module.{name}": value for name, value in head.state_dict().items()}
    torch.save({"classifiers": [state], "epoch": 20}, folder / "head.pt")
    return folder / "encoder", folder / "head.pt", head


@torch.no_grad()
def test_a_published_head_scores_as_computed_by_hand(videos, tmp_path):
    encoder, file, head = official(tmp_path, videos)
    probed = runs.probe(encoder, ["data=video", f"data.path={videos}"], protocols=["vjepa2/4x2x3,step=1"], head=file)
    records = list(probed.records)
    source = (
        Spec("source", "video", path=str(videos), split="test")
        .build()
        .sampled(Sampling(4, 1, segments=2, position="uniform"))
    )
    network, mean, std = store.load(encoder), torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    for i, record in enumerate(records):
        clip = source.read([i]).views["image"].data[0]
        total = torch.zeros(2)
        for view in spatial_views(clip, 16, 3):
            x = (view - mean.view(3, 1, 1, 1)) / std.view(3, 1, 1, 1)
            tokens = torch.cat([network(x[None, :, :4]).tokens, network(x[None, :, 4:]).tokens], dim=1)
            total += head(tokens)[0].softmax(0) / 3
        assert record.prediction == str(int(total.argmax())) and record.score == pytest.approx(
            float(total.max()), abs=1e-5
        )
        assert record.protocol == "vjepa2/4x2x3,step=1@1, head head.pt"
    assert [record.answer for record in records] == ["0", "0", "0", "1", "1", "1"]


def test_a_head_of_other_tokens_or_other_classes_is_refused(videos, run, tmp_path):
    encoder, file, _ = official(tmp_path, videos, classes=1)
    with pytest.raises(
        DataError,
        match=r"the head knows 1 classes, and the data have a label 1: give the list that it was trained with",
    ):
        runs.probe(encoder, ["data=video", f"data.path={videos}"], protocols=["vjepa2/4x2x3,step=1"], head=file)
    with pytest.raises(
        CheckpointError, match="the head reads tokens of 16 numbers, and the encoder gives 32: take its own head"
    ):
        runs.probe(run, protocols=["vjepa2/4x2x3,step=1"], head=file)
    with pytest.raises(DataError, match="name the one protocol that this head was trained for"):
        runs.probe(run, head=file)


# anticipation


def film(rate: float, n: int) -> SimpleNamespace:
    return SimpleNamespace(times=np.arange(n) / rate, rate=rate)


def test_the_anchor_is_the_start_or_as_released_the_stop():
    """An action from second 10 to 14 at 24 frames a second; a second before its start is second 9, before its stop second 13."""
    how, released = frozen("vjepa2/anticipation,start"), frozen("vjepa2/anticipation,official")
    video = film(24.0, 1000)
    start, stop = (frames_before(video, one, (10.0, 14.0), (240, 336))[0] for one in (how, released))
    assert start[-1] == 9 * 24 - 3 and (np.diff(start) == 3).all() and len(start) == 32
    assert stop[-1] == 13 * 24 - 3 and (np.diff(stop) == 3).all()
    moved = frames_before(video, released, (10.0, 14.0), (240, 336), ahead=0.5, share=0.25)[0]
    assert moved[-1] == int(0.25 * 240 + 0.75 * 336 - 12) - 3
    early = frames_before(video, how, (2.0, 3.0), (48, 72))[0]
    assert early[0] == 0 and early[-1] == 21  # frames before the first are the first


@pytest.fixture(scope="module")
def kitchens(tmp_path_factory) -> Path:
    """Four kinds of action, each after its own grey."""
    root = tmp_path_factory.mktemp("kitchens")
    header = ("video_id", "start_timestamp", "stop_timestamp", "start_frame", "stop_frame", "verb_class", "noun_class")
    for split, count in (("train", 4), ("validation", 4)):
        with open(root / f"EPIC_100_{split}.csv", "w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(header)
            for i in range(count):
                name, kind = f"P01_{split}{i}", i % 4
                write(root / "P01" / f"{name}.MP4", 30 + 60 * kind, frames=16)
                rows.writerow((name, "00:00:01.50", "00:00:02.00", 12, 16, kind // 2, 3 + kind % 2))
    return root


def test_actions_are_anticipated_from_seen_and_predicted_tokens(run, kitchens):
    name = "vjepa2/anticipation,official,best,epochs=1,batch=4"
    found = runs.probe(run, ["data=video", f"data.path={kitchens}", "data.frames=4"], protocols=[name])
    assert [result.protocol for result in found.results] == [
        f"{frozen(name).name}#{task}" for task in ("verb", "noun", "action")
    ]
    assert all(result.value == 1.0 and result.n == 4 for result in found.results)  # no task has more than five classes


def test_a_published_head_of_anticipation_scores_or_says_which_classes_it_lacks(run, kitchens, tmp_path):
    torch.manual_seed(0)
    name, data = (
        "vjepa2/anticipation,official",
        ["data=video", f"data.path={kitchens}", "data.frames=4", "data.actions=official"],
    )
    for actions in (4, 3):
        head = AttentiveProbe(32, {"verb": 2, "noun": 2, "action": actions}, heads=16, depth=4)
        torch.save(
            {"classifiers": [{f"module.{key}": value for key, value in head.state_dict().items()}]}, tmp_path / "ek.pt"
        )
        if actions == 4:
            found = runs.probe(run, data, protocols=[name], head=tmp_path / "ek.pt")
            assert [result.value for result in found.results] == [1.0] * 3  # no task has more than five classes
            assert found.results[2].protocol == "vjepa2/anticipation,official@1#action, head ek.pt"
        else:
            with pytest.raises(CheckpointError, match=r"take the published list with data.actions=official"):
                runs.probe(run, data, protocols=[name], head=tmp_path / "ek.pt")


def test_the_future_is_read_one_tubelet_at_the_anchor(run):
    reader = _Reader(runs.target.load(run), frozen("vjepa2/anticipation,start"), 0)
    asked = {}
    predictor = reader.predictor

    def spy(tokens, at, to, **settings):
        asked.update(tokens=tokens, at=at, to=to, **settings)
        return predictor(tokens, at, to, **settings)

    spy.mask_tokens = predictor.mask_tokens
    reader.predictor = spy
    out = reader.with_future(torch.rand(2, 3, 4, 16, 16).repeat(1, 1, 8, 1, 1), [1.0, 0.25])
    plane, total = 16, 16 * 16
    assert asked["to"][:, 0].tolist() == [total + 4 * plane, total + plane] and asked["grid"] == (16 + 5, 4, 4)
    assert out.shape == (2, total + plane, 32) and torch.equal(out[:, :total], asked["tokens"])


def test_anticipation_needs_a_predictor_and_the_published_list(videos, run, tmp_path):
    encoder, _, _ = official(tmp_path, videos)
    with pytest.raises(
        RecipeError, match="holds the encoder 'vit': anticipation needs the predictor too, import with --part system"
    ):
        runs.probe(encoder, ["data=video", f"data.path={videos}"], protocols=["vjepa2/anticipation"])
    with pytest.raises(DataError, match="anticipation reads EPIC-KITCHENS-100 as published"):
        runs.probe(run, protocols=["vjepa2/anticipation"])


class Runs:
    """A file of this would print when it is loaded."""

    def __reduce__(self):
        return print, ("code of a file ran",)


def test_a_head_cut_short_or_with_pickled_code_is_refused_and_runs_nothing(videos, tmp_path, capsys):
    encoder, file, _ = official(tmp_path, videos)
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    asked = {"protocols": ["vjepa2/4x2x3,step=1"], "head": file}
    with pytest.raises(CheckpointError, match=r"not a complete torch file .*: copy or write it again"):
        runs.probe(encoder, ["data=video", f"data.path={videos}"], **asked)
    torch.save({"classifiers": [Runs()]}, file)
    with pytest.raises(CheckpointError, match="holds Python objects besides tensors and would run code on loading"):
        runs.probe(encoder, ["data=video", f"data.path={videos}"], **asked)
    assert "code of a file ran" not in capsys.readouterr().out


def test_an_odd_number_of_frames_and_a_size_that_patches_do_not_divide_are_refused(videos):
    given = ["data=video", f"data.path={videos}", *TINY]
    for change, found in (("data.frames=5", "5 x 16 x 16"), ("views.view.size=18", "4 x 18 x 18")):
        said = (
            f"tokens of 2 x 4 x 4 do not divide samples of {found}: choose another size of the view, or another patch"
        )
        recipe = recipes.load("video.vjepa_tiny", [*given, change])
        with pytest.raises(RecipeError, match=said):
            recipe.views.build(recipe.data.build().facts)
