"""DROID's raw recordings: the layout as its robots write it, times, crops, and episodes that cannot be used."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from tacit.core.errors import DataError
from tacit.core.values import Batch, Facts, View
from tacit.data.droid import Droid, DroidViews
from tacit.data.verification import verify
from tacit.ops.pose import in_camera, moved

av, h5py = pytest.importorskip("av"), pytest.importorskip("h5py")
ROWS = 90


def episode(place, *, rows=ROWS, video=None, serial="2468", hz=15.0, told=None, drop=()):
    """An episode whose picture n is told by its greys: 60 frames a second says the file, `hz` were taken."""
    (place / "recordings" / "MP4").mkdir(parents=True)
    with av.open(str(place / "recordings" / "MP4" / f"{serial}.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=60, options={"crf": "0"})
        stream.width, stream.height, stream.pix_fmt = 64, 36, "yuv420p"
        for n in range(video or rows):
            picture = np.full((36, 64, 3), 8 * (n % 30), np.uint8)
            picture[:, 32:] = 80 * (n // 30)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    rng = np.random.default_rng(len(place.name))
    t = np.arange(rows)
    hand = np.stack([0.3 + 0.001 * t, 0 * t, 0.2 + 0 * t, np.pi - 0.02 * t, 0.1 + 0 * t, 0.3 + 0 * t], 1)
    values = {
        "observation/robot_state/cartesian_position": hand,
        "observation/robot_state/gripper_position": (t % 7) / 6,
        f"observation/camera_extrinsics/{serial}_left": np.tile(rng.normal(size=6), (rows, 1)),
        f"observation/timestamp/cameras/{serial}_frame_received": 1e12 + np.round(1000 * t / hz),
    }
    with h5py.File(place / "trajectory.h5", "w") as file:
        for name, value in values.items():
            if name not in drop:
                file[name] = value
    note = {"left_mp4_path": f"lab/success/{place.name}/recordings/MP4/{serial}.mp4", "success": True, **(told or {})}
    (place / f"metadata_{place.name}.json").write_text(json.dumps(note))
    return place


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("droid")
    episode(root / "first")
    episode(root / "lab" / "second", rows=60)
    return root


def shown(batch):
    """Which frame each picture is, from the greys of its halves."""
    left, right = batch.views["image"].data.float().chunk(2, -1)
    return (left.mean((1, 3, 4)) / 8).round() + 30 * (right.mean((1, 3, 4)) / 80).round()


def test_frames_lie_a_quarter_second_of_the_robots_time_apart(folder):
    source = Droid(path=str(folder), frames=5, windows=3, split="all")
    batch = source.read(range(6))
    assert len(source) == 6 and batch.views["image"].data.shape == (6, 3, 5, 36, 64)
    frames = shown(batch)
    gaps = frames.diff(dim=1)
    assert ((gaps == 3) | (gaps == 4)).all() and torch.equal(gaps.sum(1), torch.full((6,), 15.0))  # 1 s at 15 Hz
    assert len(set(frames[:3, 0].tolist())) > 1  # windows differ, and each is the same again
    assert torch.equal(source.read([2]).views["image"].data[0], batch.views["image"].data[2])
    assert source.facts.rate == 4.0 and source.facts.action_dim == 7


def test_the_official_steps_are_those_of_the_files_rate(folder):
    source = Droid(path=str(folder), frames=3, windows=4, split="all", timing="official")
    assert torch.equal(shown(source.read(range(8))).diff(dim=1), torch.full((8, 2), 15.0))  # ceil(60 / 4)


def test_states_are_the_rows_of_the_pictures_and_actions_lead_between_them(folder):
    source = Droid(path=str(folder), frames=5, windows=2, split="all")
    batch = source.read([0, 1])
    state, frames = batch.facts["state"], shown(batch)
    torch.testing.assert_close(state[:, :, 0], 0.3 + 0.001 * frames)
    torch.testing.assert_close(state[:, :, 6], (frames % 7) / 6)
    torch.testing.assert_close(
        moved(state[:, :-1].double(), batch.action[:, :-1].double())[:, :, :3], state[:, 1:, :3].double()
    )
    turn = batch.action[:, :-1, 3:6].norm(dim=-1)
    torch.testing.assert_close(turn, 0.02 * frames.diff(dim=1), rtol=0.02, atol=1e-3)  # though its angle passes pi
    assert (batch.action[:, -1] == 0).all()
    seen = Droid(path=str(folder), frames=5, windows=2, split="all", relative="camera").read([0, 1])
    torch.testing.assert_close(
        seen.facts["state"][..., :3],
        in_camera(state.double(), batch.facts["camera"].double())[..., :3].float(),
        rtol=1e-4,
        atol=1e-5,
    )


def _of(path, split):
    """The episodes of a split, none of which can be read."""
    with pytest.raises(DataError, match="none of") as error:
        Droid(path=str(path), split=split)
    return range(int(str(error.value).partition("none of ")[2].partition(" ")[0]))


def test_an_index_names_folders_and_splits_part_the_episodes(folder, tmp_path):
    index = folder / "index.csv"
    index.write_text(f"lab/second\n{folder / 'first'}\n")
    assert len(Droid(path=str(index), frames=5, windows=1, split="all")) == 2
    for i in range(40):
        (tmp_path / f"{i}").mkdir()
        (tmp_path / f"{i}" / "trajectory.h5").touch()
    counts = [len(_of(tmp_path, split)) for split in ("train", "valid", "test", "all")]
    assert sum(counts[:3]) == counts[3] == 40 and counts[0] > 30
    with pytest.raises(DataError, match="there is no such index or folder"):
        Droid(path=str(tmp_path / "none.csv"))


def test_what_cannot_be_used_is_left_out_and_named(tmp_path, folder):
    names = ("observation/timestamp/cameras/2468_frame_received",)
    episode(tmp_path / "short", rows=20)
    episode(tmp_path / "failed", told={"success": False})
    episode(tmp_path / "timeless", drop=names)
    episode(tmp_path / "cut", video=30)
    episode(tmp_path / "good")
    (episode(tmp_path / "gone") / "recordings" / "MP4" / "2468.mp4").unlink()
    (episode(tmp_path / "broken") / "trajectory.h5").write_bytes(b"not hdf5")
    episode(tmp_path / "strange", told={"left_mp4_path": None})
    source = Droid(path=str(tmp_path), frames=12, windows=1, split="all", successful=True)
    why = {place.rpartition("/")[2]: text for place, text in source.skipped.items()}
    assert len(source) == 1 and set(why) == {"short", "failed", "timeless", "cut", "gone", "broken", "strange"}
    assert why["short"] == "1.3 s are too few for 12 frames at 4 a second" and why["cut"].startswith(
        "1.9 s are too few"
    )
    assert why["failed"] == "its keeper called it a failure" and why["gone"] == "there is no recordings/MP4/2468.mp4"
    assert "take timing=official" in why["timeless"] and why["broken"].startswith("trajectory.h5 cannot be read")
    with pytest.raises(DataError, match=r"none of 2 episodes of split 'all' can be used; .*first: 5.9 s are too few"):
        Droid(path=str(folder), frames=40, split="all")


def test_videos_may_be_trusted_and_then_one_that_is_cut_short_is_named_when_it_is_read(tmp_path):
    episode(tmp_path / "a-good")
    episode(tmp_path / "cut", video=30)
    source = Droid(path=str(tmp_path), frames=12, windows=6, split="all", inspect=False)
    assert len(source) == 12 and not source.skipped
    with pytest.raises(DataError, match=r"cut/recordings/MP4/2468.mp4: frames .* were asked for; it has 30"):
        source.read(range(6, 12))


def test_verifying_names_a_video_that_holds_fewer_pictures_than_the_trajectory_rows(tmp_path):
    """Cut between two packets a video is whole to a decoder; a few rows without a picture are how recordings end."""
    episode(tmp_path / "good")
    episode(tmp_path / "late", video=ROWS - 4)
    episode(tmp_path / "cut", video=30)
    (episode(tmp_path / "broken") / "trajectory.h5").write_bytes(b"not hdf5")
    found = verify(tmp_path, kind="droid")
    assert len(found.faults) == 2
    assert any("broken: trajectory.h5 cannot be read" in fault for fault in found.faults)
    ends = f"cut/recordings/MP4/2468.mp4: the video ends early, 30 of {ROWS} frames can be decoded: fetch it again"
    assert any(fault.endswith(ends) for fault in found.faults)


def test_the_published_crop_is_the_middle_of_1280_by_720():
    facts = Facts(channels=3, shape=(2, 720, 1280), mean=(0.0,) * 3, std=(1.0,) * 3, action_dim=7)
    columns = torch.zeros(1, 3, 1, 720, 1280, dtype=torch.uint8)
    columns[..., 154:1126] = 255
    views = DroidViews(facts)
    out = views.plain(Batch({"image": View(columns)}, torch.zeros(1))).views["image"].data
    assert out.shape == (1, 3, 1, 256, 256) and views.facts.shape == (2, 256, 256)
    torch.testing.assert_close(out, torch.ones_like(out))
    columns[..., 154:1126], columns[..., 150:154] = 0, 255
    assert views.plain(Batch({"image": View(columns)}, torch.zeros(1))).views["image"].data.abs().max() == 0
    tall = DroidViews(Facts(channels=3, shape=(2, 720, 720), mean=(0.0,) * 3, std=(1.0,) * 3))
    assert tall._middle(torch.zeros(1, 3, 720, 720)).shape[-2:] == (533, 720)
