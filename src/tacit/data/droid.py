"""DROID's raw recordings (arXiv 2403.12945) as clips with actions and states: one folder an episode, as its robots wrote them.

<episode>/trajectory.h5          observation/robot_state/{cartesian_position [n 6], gripper_position [n]},
                                 observation/camera_extrinsics/<serial>_left [n 6],
                                 observation/timestamp/cameras/<serial>_frame_received [n] ms
<episode>/metadata_*.json        left_mp4_path, right_mp4_path, wrist_mp4_path, success
<episode>/recordings/MP4/<serial>.mp4
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from annotated_types import Ge, Gt
from numpy.typing import NDArray
from torch import Tensor

from tacit.core.errors import DataError, need
from tacit.core.parts import part
from tacit.core.random import key, uniform
from tacit.core.values import Batch, Facts, View
from tacit.data.video_decoding import open_video
from tacit.ops.pose import STATE, action_between, in_camera

__all__ = ["Droid", "DroidViews"]

_log = logging.getLogger(__name__)
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, as the published model has them
_STATE = "observation/robot_state"


@dataclass(frozen=True)
class _Episode:
    folder: Path
    video: Path
    serial: str
    rate: float  # of the video, frames a second as its file says
    frames: int  # that both the trajectory and the video have
    rows: int  # of the trajectory


@part("source", "droid")
class Droid:
    """Clips of `frames` pictures, `fps` a second, of one camera of DROID, with the hand's states, its actions and the camera's pose.

    path: a text file that names one episode's folder a line (the published index; relative ones from where it lies), or a folder that
    holds episodes at any depth. Each episode gives `windows` samples; where a window lies is a function of (seed, split, sample), inside
    the episode. View 'image' is uint8 [n 3 t h w]; `action` [n t 7] leads from frame to frame (`tacit.ops.pose`), the last is 0. Facts:
    state [n t 7], camera [n t 6].

    timing 'physical' takes frames by the times at which the camera gave them, so that actions span 1 / fps seconds. 'official' steps by
    ceil(rate of the video / fps) frames: the files say 60 a second and were taken at about 15, so at fps=4 an action spans a second; the
    published weights were trained so. relative 'camera': states in the camera's frame. Episodes that are too short, lack the camera or
    cannot be read are left out, counted and named in `skipped`; `successful` leaves out those that the robot's keeper called failures.
    split 'valid' and 'test' are twentieths of the episodes, by the name of the folder. inspect false opens no video ahead and trusts that
    each has a picture for every row and the rate of the first: for the whole of DROID, verified once. Needs h5py and av
    (`pip install 'tacit[robots]'`).
    """

    def __init__(
        self,
        *,
        path: str,
        frames: Annotated[int, Ge(2)] = 16,
        fps: Annotated[float, Gt(0)] = 4.0,
        camera: Literal["left", "right", "wrist"] = "left",
        timing: Literal["physical", "official"] = "physical",
        relative: Literal["base", "camera"] = "base",
        windows: Annotated[int, Ge(1)] = 8,
        successful: bool = False,
        inspect: bool = True,
        split: Literal["train", "valid", "test", "all"] = "train",
        seed: Annotated[int, Ge(0)] = 0,
    ) -> None:
        need("h5py", "robots", "reading DROID's trajectories")
        self._frames, self._fps, self._timing, self._relative = frames, fps, timing, relative
        self._windows, self._seed, self._split, self._camera = windows, seed, split, camera
        self._inspect, self._rate = inspect, 0.0
        self.skipped: dict[str, str] = {}
        self._episodes: list[_Episode] = []
        places = [place for place in _places(Path(path)) if split in ("all", _share(place.name))]
        for place in places:
            try:
                self._episodes.append(self._look(place, successful))
            except DataError as error:
                self.skipped[str(place)] = str(error)
        if not self._episodes:
            first = next(iter(self.skipped.items()), None)
            raise DataError(
                f"{path}: none of {len(places)} episodes of split {split!r} can be used"
                + (
                    f"; {first[0]}: {first[1]}"
                    if first
                    else ": name the folder that holds them, or an index with a folder a line"
                )
            )
        if self.skipped:
            name, why = next(iter(self.skipped.items()))
            _log.warning("%s: %d of %d episodes are left out; %s: %s", path, len(self.skipped), len(places), name, why)
        size = self._size(self._episodes[0])
        self.facts = Facts(
            channels=3,
            shape=(frames, *size),
            mean=_MEAN,
            std=_STD,
            action_dim=STATE,
            factors=("state", "camera"),
            rate=fps,
        )

    def _look(self, place: Path, successful: bool) -> _Episode:
        """What an episode holds, or why it cannot be used."""
        h5py: Any = need("h5py", "robots", "reading DROID's trajectories")
        notes = sorted(place.glob("metadata_*.json"))
        if len(notes) != 1:
            raise DataError(f"needs one metadata_*.json, found {len(notes)}")
        try:
            told = json.loads(notes[0].read_text(encoding="utf-8"))
            name = Path(str(told[f"{self._camera}_mp4_path"]).rpartition("recordings/MP4/")[2])
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{notes[0].name} names no {self._camera}_mp4_path ({error!r})") from error
        if successful and not told.get("success", False):
            raise DataError("its keeper called it a failure")
        video = place / "recordings" / "MP4" / name
        if not video.is_file():
            raise DataError(f"there is no recordings/MP4/{name}")
        try:
            with h5py.File(place / "trajectory.h5", "r") as file:
                rows = len(file[f"{_STATE}/cartesian_position"])
                if len(file[f"{_STATE}/gripper_position"]) != rows:
                    raise DataError("its places of hand and gripper are of unequal number")
        except (OSError, KeyError) as error:
            raise DataError(f"trajectory.h5 cannot be read ({error})") from error
        count, rate = rows, self._rate
        if self._inspect or not rate:
            with open_video(video) as opened:
                count, rate = min(len(opened.times), rows), opened.rate
            self._rate = rate
        found = _Episode(place, video, name.stem, rate, count, rows)
        if self._timing == "official":
            span = self._frames * self._step(rate)
            if span >= count:
                raise DataError(f"{count} frames are too few for a clip of {span}")
        else:
            times = self._times(found)
            if times[-1] - times[0] < (self._frames - 1) / self._fps:
                raise DataError(
                    f"{times[-1] - times[0]:.1f} s are too few for {self._frames} frames at {self._fps:g} a second"
                )
        return found

    def _step(self, rate: float) -> int:
        return max(1, int(np.ceil(rate / self._fps)))

    def _times(self, episode: _Episode) -> NDArray[np.float64]:
        """When the camera gave each of its frames, in seconds."""
        h5py: Any = need("h5py", "robots", "reading DROID's trajectories")
        name = f"observation/timestamp/cameras/{episode.serial}_frame_received"
        with h5py.File(episode.folder / "trajectory.h5", "r") as file:
            if name not in file:
                raise DataError(f"trajectory.h5 has no {name}: take timing=official")
            times = np.asarray(file[name][: episode.frames], dtype=np.float64) / 1000
        if (np.diff(times) < 0).any() or not np.isfinite(times).all():
            raise DataError(f"the times in {name} do not rise: take timing=official")
        return times  # type: ignore[no-any-return]

    def _size(self, episode: _Episode) -> tuple[int, int]:
        with open_video(episode.video) as opened:
            return opened.size

    def __len__(self) -> int:
        return len(self._episodes) * self._windows

    def digest(self) -> str:
        """Changes with the files and the settings."""
        files = [(str(e.folder), e.rate, e.frames) for e in self._episodes]
        told = (
            files,
            self._frames,
            self._fps,
            self._camera,
            self._timing,
            self._relative,
            self._windows,
            self._split,
            self._seed,
        )
        return hashlib.sha256(repr(told).encode()).hexdigest()[:16]

    def rows_of(self, i: int) -> tuple[_Episode, NDArray[np.int64]]:
        """The episode of sample i and the rows of its trajectory (and frames of its video) that make the clip."""
        episode = self._episodes[i // self._windows]
        draw = uniform(key(self._seed, "droid", self._split, i), 0)
        if self._timing == "official":
            step = self._step(episode.rate)
            span = self._frames * step
            end = span + int(draw * (episode.frames - span))
            return episode, np.arange(end - span, end, step)[: self._frames]
        times = self._times(episode)
        begin = times[0] + draw * (times[-1] - times[0] - (self._frames - 1) / self._fps)
        wanted = begin + np.arange(self._frames) / self._fps
        after = np.searchsorted(times, wanted).clip(1, len(times) - 1)
        return episode, np.where(wanted - times[after - 1] <= times[after] - wanted, after - 1, after)

    def read(self, indices: Sequence[int] | NDArray[np.int64]) -> Batch:
        """The clips of these indices, which must be of one size."""
        h5py: Any = need("h5py", "robots", "reading DROID's trajectories")
        ids = np.asarray(indices, dtype=np.int64).reshape(-1)
        if len(ids) and not (ids.min() >= 0 and ids.max() < len(self)):
            raise DataError(f"clips are numbered from 0 to {len(self) - 1}, found {ids.min()} to {ids.max()}")
        pictures, states, cameras = [], [], []
        for i in ids.tolist():
            episode, rows = self.rows_of(i)
            with h5py.File(episode.folder / "trajectory.h5", "r") as file:
                hand, grip = (
                    np.asarray(file[f"{_STATE}/{name}"][:])[rows] for name in ("cartesian_position", "gripper_position")
                )
                view = f"observation/camera_extrinsics/{episode.serial}_left"
                if view not in file:
                    raise DataError(f"{episode.folder}: trajectory.h5 has no {view}")
                cameras.append(np.asarray(file[view][:])[rows])
            states.append(np.concatenate([hand, grip[:, None]], 1))
            try:
                with open_video(episode.video) as opened:
                    pictures.append(opened.frames(rows))
            except DataError as error:
                raise DataError(f"{episode.video}: {error}") from error
        if len({one.shape for one in pictures}) > 1:
            raise DataError("the videos of these clips have several sizes: keep episodes of one size in an index")
        state, camera = (torch.from_numpy(np.stack(one)).double() for one in (states, cameras))
        if self._relative == "camera":
            state = in_camera(state, camera)
        action = torch.cat([action_between(state[:, :-1], state[:, 1:]), torch.zeros_like(state[:, :1])], 1)
        facts = {"state": state.float(), "camera": camera.float()}
        return Batch({"image": View(torch.stack(pictures))}, torch.from_numpy(ids), action=action.float(), facts=facts)


def _places(path: Path) -> list[Path]:
    """The folders of all episodes."""
    if path.is_dir():
        return sorted(found.parent for found in path.rglob("trajectory.h5"))
    if not path.is_file():
        raise DataError(f"{path}: there is no such index or folder")
    lines = [line.strip().strip('"') for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    return [path.parent / line for line in lines]  # an absolute one stays as it is


def _share(name: str) -> str:
    """The split of an episode, by its folder's name."""
    draw = uniform(key("droid", name), 0)
    return "test" if draw < 0.05 else "valid" if draw < 0.1 else "train"


@part("views", "droid")
class DroidViews:
    """The one view 'image' of robots' clips as V-JEPA 2-AC sees it: the middle of each picture, squashed to a square, standardised.

    The middle has the whole height and at most `ratio` times it in width; the public code asks for a crop that cannot be had and always
    falls back to this one. Bilinear without antialiasing. Nothing is drawn.
    """

    names: tuple[str, ...] = ("image",)

    def __init__(
        self, facts: Facts, *, size: Annotated[int, Gt(0)] = 256, ratio: Annotated[float, Gt(0)] = 1.35
    ) -> None:
        self.size, self.ratio, self._given = size, ratio, facts
        shape = None if facts.shape is None else (*facts.shape[:-2], size, size)
        self.facts = replace(facts, shape=shape)

    def __call__(self, batch: Batch, seed: int, epoch: int) -> Batch:  # noqa: ARG002  (nothing is drawn)
        """The same as `plain`."""
        return self.plain(batch)

    def plain(self, batch: Batch) -> Batch:
        """float32 [n c t size size], or of pictures [n c size size]."""
        data = batch.views["image"].data
        if isinstance(data, list):
            raise DataError("views 'droid' need clips of one size, found a list of different ones")
        x = self._middle(data)
        clips = x.ndim == 5
        flat = (x.transpose(1, 2).flatten(0, 1) if clips else x).float()
        flat = F.interpolate(flat, (self.size, self.size), mode="bilinear", align_corners=False)
        mean, std = (
            255 * torch.tensor(v, device=flat.device).view(-1, 1, 1) for v in (self._given.mean, self._given.std)
        )
        flat = (flat - mean) / std
        out = flat.unflatten(0, (len(x), -1)).transpose(1, 2) if clips else flat
        return Batch({"image": View(out)}, batch.ids, batch.action, batch.facts)

    def _middle(self, data: Tensor) -> Tensor:
        height, width = data.shape[-2:]
        wide = min(width, round(height * self.ratio))
        tall = min(height, round(wide / self.ratio)) if wide == width else height
        left, top = (width - wide) // 2, (height - tall) // 2
        return data[..., top : top + tall, left : left + wide]
