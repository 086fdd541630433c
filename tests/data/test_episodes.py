"""Offline formats of control: each written small in its published layout, then read, inspected and verified."""

from __future__ import annotations

import io
import json
import pickle
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from tacit.core.errors import DataError, UnknownNameError
from tacit.core.spec import Spec
from tacit.data.inspection import inspect
from tacit.data.recon import read_numbers, waypoints
from tacit.data.trajectories import TrajectoryViews
from tacit.data.verification import verify

h5py = pytest.importorskip("h5py")
av = pytest.importorskip("av")

EPISODES, FRAMES = 6, 9


def walk(k, frames=FRAMES, width=2):
    """States [t w] and actions [t w]: what action i adds to state i is state i + 1."""
    rng = np.random.default_rng(k)
    actions = rng.normal(size=(frames, width)).astype(np.float32)
    start = rng.normal(size=(1, width)).astype(np.float32)
    return np.concatenate([start, start + actions[:-1].cumsum(0)]).astype(np.float32), actions


def pictures(k, frames=FRAMES, side=16):
    """uint8 [t s s 3]: the grey of frame t is 20 t + k, in all pixels."""
    grey = (20 * np.arange(frames) + k).astype(np.uint8)
    return np.broadcast_to(grey[:, None, None, None], (frames, side, side, 3)).copy()


def encoded(picture, form="PNG"):
    file = io.BytesIO()
    Image.fromarray(picture).save(file, form)
    return file.getvalue()


def film(path, frames, rate=10):
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as out:
        stream = out.add_stream("mpeg4", rate=rate)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = 16, 16, "yuv420p", 4_000_000
        for frame in frames:
            out.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        out.mux(stream.encode(None))


def minari(root):
    (root / "data").mkdir()
    with h5py.File(root / "data" / "main_data.hdf5", "w") as file:
        for k in range(EPISODES):
            states, actions = walk(k)
            group = file.create_group(f"episode_{k}")
            group["observations/observation"], group["observations/desired_goal"] = states, states * 0 + 7
            group["actions"] = actions[:-1]
            for name in ("rewards", "terminations", "truncations"):
                group[name] = np.zeros(FRAMES - 1)
    return root, {}


def flat(range_):
    walks = [walk(k) for k in range_]
    ends = np.tile(np.arange(FRAMES) == FRAMES - 1, len(walks))
    return {
        "observations": np.concatenate([s for s, _ in walks]),
        "actions": np.concatenate([a for _, a in walks]),
        "terminals": ends.astype(np.float32),
    }


def ogbench(root):
    for name, some in (("maze-v0.npz", range(4)), ("maze-v0-val.npz", range(4, 6))):
        np.savez_compressed(root / name, qpos=flat(some)["observations"], **flat(some))
    return root / "maze-v0.npz", {}


def d4rl(root):
    arrays = flat(range(EPISODES))
    with h5py.File(root / "maze2d.hdf5", "w") as file:
        file["observations"], file["actions"] = arrays["observations"], arrays["actions"]
        file["rewards"], file["terminals"], file["timeouts"] = (
            arrays["terminals"] * 0, arrays["terminals"] * 0, arrays["terminals"] > 0,
        )  # fmt: skip
        for name in ("goal", "qpos", "qvel"):
            file[f"infos/{name}"] = arrays["observations"]
    return root / "maze2d.hdf5", {}


def lerobot(root, version):
    (root / "meta").mkdir()
    two = version == "v2.1"
    shape = {"dtype": "video", "shape": [16, 16, 3]}
    info = {
        "codebase_version": version, "total_episodes": EPISODES, "chunks_size": 1000, "fps": 10,
        "data_path": "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet" if two else
        "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "video_path": "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4" if two else
        "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
        "features": {"observation.images.top": shape, "observation.state": {"dtype": "float32", "shape": [2]},
                     "action": {"dtype": "float32", "shape": [2]}},
    }  # fmt: skip
    (root / "meta" / "info.json").write_text(json.dumps(info))
    rows = []
    for k in range(EPISODES):
        states, actions = walk(k)
        rows.append(pa.table({
            "observation.state": list(states), "action": list(actions), "timestamp": np.arange(FRAMES, dtype=np.float32) / 10,
            "frame_index": np.arange(FRAMES), "episode_index": np.full(FRAMES, k),
        }))  # fmt: skip
    if two:
        for k, table in enumerate(rows):
            path = root / f"data/chunk-000/episode_{k:06d}.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(table, path)
            film(root / f"videos/chunk-000/observation.images.top/episode_{k:06d}.mp4", pictures(k))
        return root, {}
    (root / "data/chunk-000").mkdir(parents=True)
    pq.write_table(pa.concat_tables(rows), root / "data/chunk-000/file-000.parquet")
    key = "videos/observation.images.top"
    film(root / f"{key}/chunk-000/file-000.mp4", np.concatenate([pictures(k) for k in range(EPISODES)]))
    (root / "meta/episodes/chunk-000").mkdir(parents=True)
    pq.write_table(
        pa.table({
            "episode_index": np.arange(EPISODES), f"{key}/chunk_index": np.zeros(EPISODES, int),
            f"{key}/file_index": np.zeros(EPISODES, int), f"{key}/from_timestamp": np.arange(EPISODES) * FRAMES / 10,
        }),
        root / "meta/episodes/chunk-000/file-000.parquet",
    )  # fmt: skip
    return root, {}


def lerobot2(root):
    return lerobot(root, "v2.1")


def lerobot3(root):
    return lerobot(root, "v3.0")


def droid(root):
    """The layout in full is tested in test_droid; here what inspecting and verifying need."""
    for k in range(EPISODES):
        folder = root / "AUTOLab" / "success" / f"traj{k}"
        folder.mkdir(parents=True)
        states, _ = walk(k, width=6)
        with h5py.File(folder / "trajectory.h5", "w") as file:
            file["observation/robot_state/cartesian_position"] = 0.1 * states
            file["observation/robot_state/gripper_position"] = np.linspace(0, 1, FRAMES)
            file["observation/camera_extrinsics/123_left"] = np.zeros((FRAMES, 6))
        (folder / "metadata_x.json").write_text(json.dumps({"left_mp4_path": f"a/traj{k}/recordings/MP4/123.mp4"}))
        film(folder / "recordings/MP4/123.mp4", pictures(k), rate=15)
    return root, {}


def recon(root):
    for k in range(EPISODES):
        states, _ = walk(k)
        with h5py.File(root / f"drive{k}.hdf5", "w") as file:
            rows = [np.void(encoded(p)) for p in pictures(k)]
            file["images/rgb_left"] = np.array(rows, dtype=f"V{max(len(r.tobytes()) for r in rows)}")
            file["jackal/position"] = np.concatenate([states, states[:, :1]], 1)
            file["jackal/yaw"] = np.zeros(FRAMES)
    return root, {"side": 0, "spacing": 1.0, "short": "stop"}


def nomad(root):
    for k in range(EPISODES):
        folder = root / f"drive{k}"
        folder.mkdir()
        for t, picture in enumerate(pictures(k)):
            (folder / f"{t}.jpg").write_bytes(encoded(picture, "JPEG"))
        states, _ = walk(k)
        with (folder / "traj_data.pkl").open("wb") as file:
            pickle.dump({"position": states.astype(float), "yaw": np.zeros(FRAMES)}, file)
    return root, {"side": 0, "spacing": 1.0, "short": "stop"}


def parquet(root):
    for split, some in (("train", range(4)), ("valid", range(4, 5)), ("test", range(5, 6))):
        tables = []
        for k in some:
            states, actions = walk(k)
            tables.append(pa.table({
                "episode": [f"e{k}"] * FRAMES, "step": np.arange(FRAMES), "image": [encoded(p) for p in pictures(k)],
                "action": list(actions), "position": list(states), "speed": np.linalg.norm(actions, axis=1),
            }))  # fmt: skip
        pq.write_table(pa.concat_tables(tables), root / f"{split}.parquet")
    return root, {}


def npz(root):
    for split, some in (("train", range(4)), ("test", range(4, 6))):
        (root / split).mkdir()
        for k in some:
            states, actions = walk(k)
            np.savez(root / split / f"{k}.npz", frames=pictures(k), actions=actions[:-1], position=states)
    return root, {}


STATES = {"minari": minari, "ogbench": ogbench, "d4rl": d4rl}
PICTURES = {"lerobot": lerobot2, "lerobot ": lerobot3, "recon": recon, "recon ": nomad, "trajectory-parquet": parquet,
            "trajectories": npz}  # fmt: skip
ALL = {**STATES, **PICTURES, "droid": droid}


@pytest.fixture
def written(tmp_path, request):
    path, settings = ALL[request.param](tmp_path)
    return SimpleNamespace(kind=request.param.strip(), path=path, settings=settings)


def source(written, split="train", **settings):
    return Spec(
        "source", written.kind, path=str(written.path), split=split, **{"frames": 4, **written.settings, **settings}
    ).build()


@pytest.mark.parametrize("written", list(STATES), indirect=True)
def test_states_and_their_actions_stay_together(written):
    """What action i adds to state i is state i + 1, in every clip of every split."""
    for split in ("train", "valid", "test"):
        clips = source(written, split, stride=1)
        batch = clips.read(range(len(clips)))
        x = batch.views["image"].data
        assert x.shape[1:] == (2, 4, 1, 1) and x.dtype == torch.float32
        states = x[..., 0, 0].transpose(1, 2)
        torch.testing.assert_close(states.diff(dim=1), batch.action[:, :-1], atol=1e-4, rtol=1e-4)
        assert (batch.action[:, -1] == 0).all()
    every = source(written, every=2)
    two, one = every.read([0]), source(written, stride=1, frames=7).read([0])
    assert every.facts.action_dim == 4
    torch.testing.assert_close(two.action[0, :3].reshape(6, 2), one.action[0, :6])
    views = TrajectoryViews(clips.facts).plain(clips.read(range(len(clips)))).views["image"].data
    assert views.std() < 3


@pytest.mark.parametrize("written", list(PICTURES), indirect=True)
def test_pictures_are_those_of_their_step(written):
    """The grey of frame t is 20 t + k: the clip from frame s of episode k shows 20 (s + j) + k, and its actions are those of these rows."""
    for split in ("train", "test"):
        clips = source(written, split, stride=1)
        batch = clips.read(range(len(clips)))
        grey = batch.views["image"].data.float().mean((1, 3, 4))  # [n t]
        torch.testing.assert_close(grey.diff(dim=1), torch.full((len(grey), 3), 20.0), atol=3.0, rtol=0)
        assert torch.isfinite(batch.action).all() and clips.facts.channels == 3
        if "position" in batch.facts:
            torch.testing.assert_close(
                batch.facts["position"].diff(dim=1), batch.action[:, :-1, :2], atol=1e-4, rtol=1e-4
            )


@pytest.mark.parametrize("written", list(ALL), indirect=True)
def test_inspect_and_verify_find_the_layout_and_no_fault(written):
    settings = {n: v for n, v in written.settings.items() if n not in ("short", "every")}
    report = inspect(written.path, **settings)
    assert report.kind == written.kind and report.action_dim == {"droid": 7, "recon": 3}.get(written.kind, 2)
    assert report.splits["all" if written.kind == "droid" else "train"]["episodes"] >= 4
    assert "actions of" in report.text() and report.to_plain()["splits"]
    found = verify(written.path, **settings)
    assert found.ok, found.text()
    assert found.splits == {"all": 6} if written.kind == "droid" else found.splits["train"] > 20
    assert "all can be read" in found.text()


def test_splits_of_formats_without_them_share_no_episode(tmp_path):
    path, _ = d4rl(tmp_path)
    names = [
        {
            clips.name(i).rpartition(" from")[0]
            for clips in [Spec("source", "d4rl", path=str(path), split=s).build()]
            for i in range(len(clips))
        }
        for s in ("train", "valid", "test")
    ]
    assert sum(map(len, names)) == len(set.union(*names)) == EPISODES


def test_waypoints_are_in_the_frame_of_the_pose_before():
    """A step to the north, heading north, is forward; heading east it is to the left. A turn over pi is taken the short way."""
    north = np.array([[0.0, 0.0], [0.0, 0.5]])
    np.testing.assert_allclose(waypoints(north, np.array([np.pi / 2, np.pi / 2]), 0.25), [[2, 0, 0]], atol=1e-6)
    np.testing.assert_allclose(waypoints(north, np.array([0.0, 0.0]), 0.25), [[0, 2, 0]], atol=1e-6)
    np.testing.assert_allclose(waypoints(north, np.array([3.0, -3.0]), 1.0)[0, 2], 2 * np.pi - 6, atol=1e-6)


class Evil:
    def __reduce__(self):
        return print, ("run",)


def test_a_pickle_that_would_run_something_is_refused(tmp_path, capsys):
    bad = tmp_path / "traj_data.pkl"
    bad.write_bytes(pickle.dumps({"position": Evil()}))
    with pytest.raises(DataError) as caught:
        read_numbers(bad)
    assert str(caught.value) == f"{bad}: refused or damaged: it asks to run builtins.print, which no trajectory needs"
    assert capsys.readouterr().out == ""


def test_bad_data_are_named_in_one_sentence(tmp_path):
    for name in ("a", "b", "c", "d", "e"):
        (tmp_path / name).mkdir()
    path, _ = ogbench(tmp_path / "a")
    with pytest.raises(DataError) as short:
        Spec("source", "ogbench", path=str(path), frames=20).build()
    assert str(short.value) == (
        f"{path}: 4 of 4 episodes are shorter than a clip of 20 frames, the first is maze-v0.npz episode 0 with 9: lower data.frames or "
        "data.every, or leave them out with data.short=skip"
    )
    with pytest.raises(UnknownNameError) as split:
        Spec("source", "ogbench", path=str(path), split="tset").build()
    assert (
        str(split.value)
        == f"no split named 'tset'. Did you mean 'test'? Known: test, train, valid. These are the splits of {path}."
    )
    arrays = flat(range(2))
    arrays["actions"][[3, 12]] = np.nan
    np.savez(tmp_path / "b" / "x.npz", **arrays)
    with pytest.raises(DataError) as nan:
        Spec("source", "ogbench", path=str(tmp_path / "b" / "x.npz"), stride=1, held=0.0).build().read([1])
    assert str(nan.value).endswith("actions must be finite, found 2 numbers that are not")
    found = verify(tmp_path / "b" / "x.npz")
    assert not found.ok and "2 numbers that are not" in found.text()
    np.savez(tmp_path / "c" / "x.npz", observations=arrays["observations"])
    with pytest.raises(DataError) as missing:
        Spec("source", "ogbench", path=str(tmp_path / "c" / "x.npz")).build()
    assert str(missing.value) == (
        f"{tmp_path / 'c' / 'x.npz'} has the arrays observations: actions, terminals must be among them"
    )
    root, _ = lerobot2(tmp_path / "d")
    film(root / "videos/chunk-000/observation.images.top/episode_000000.mp4", pictures(0)[:3])
    found = verify(root)
    assert not found.ok and "the video ends early, at 0.20 s, and episode 0 goes on" in found.text()
    root, _ = parquet(tmp_path / "e")
    table = pq.read_table(root / "train.parquet")
    pq.write_table(table.filter(pa.array(np.arange(len(table)) != 4)), root / "train.parquet")
    with pytest.raises(DataError) as gap:
        Spec("source", "trajectory-parquet", path=str(root)).build()
    assert str(gap.value) == (
        f"{root / 'train.parquet'}: the steps of episode e0 have a gap or a double: they must rise by 1"
    )
