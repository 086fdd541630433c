"""LeRobot, versions 2 and 3: Parquet of states and actions, one MP4 (or a column of pictures) a camera, `meta/info.json` over all.

Version 2 has one Parquet and one MP4 an episode, listed in meta/episodes.jsonl; version 3 lays many episodes into a file, and
meta/episodes/*/*.parquet says from which row and which second each one runs. Row i's action leads to row i + 1.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from annotated_types import Ge, Lt
from numpy.typing import NDArray

from tacit.core.errors import DataError
from tacit.core.parts import part
from tacit.data.checks import checked_path
from tacit.data.episodes import Array, EpisodeSource, between, pick
from tacit.data.images import decode
from tacit.data.parquet_rows import open_parquet
from tacit.data.samples import Layout
from tacit.data.video_decoding import open_video

__all__ = ["LeRobotSource", "recognise"]

_STATES = "observation.state"


def recognise(path: Path) -> Layout | None:
    """A folder with meta/info.json that names features and their Parquet."""
    info = path / "meta" / "info.json"
    if not info.is_file():
        return None
    try:
        held = json.loads(info.read_text(encoding="utf-8"))
    except ValueError:
        return None
    if not isinstance(held, dict) or not {"features", "data_path", "fps"} <= held.keys():
        return None
    why = f"LeRobot {held.get('codebase_version', '')}, {held.get('total_episodes', '?')} episodes"
    return Layout("lerobot", str(path), ("train", "valid", "test"), why)


class _LeRobot:
    splits: Mapping[str, NDArray[np.int64]] | None = None

    def __init__(self, path: Path, camera: str) -> None:
        self.root = checked_path(path)
        info = self.root / "meta" / "info.json"
        try:
            self._info: dict[str, Any] = json.loads(info.read_text(encoding="utf-8"))
            features: dict[str, dict[str, Any]] = self._info["features"]
        except (OSError, ValueError, KeyError) as error:
            raise DataError(f"{info}: needs JSON with features, data_path and fps ({error})") from error
        self.rate: float | None = float(self._info["fps"])
        cameras = [name for name, f in features.items() if f.get("dtype") in ("video", "image")]
        self._camera = "" if camera == "states" or not cameras else pick(cameras, camera, "camera", info)
        self._video = bool(self._camera) and features[self._camera]["dtype"] == "video"
        if "action" not in features:
            raise DataError(f"{info}: the features {', '.join(features)} hold no action")
        files = sorted((self.root / "data").rglob("*.parquet"))
        if not files:
            raise DataError(f"{self.root}/data holds no .parquet files: fetch the data set whole")
        columns = ["episode_index", "action", *(n for n in (_STATES, "timestamp") if n in features or n == "timestamp")]
        tables, where = [], []
        for number, file in enumerate(files):
            there = open_parquet(file).schema_arrow.names
            table = pq.read_table(file, columns=[c for c in columns if c in there])
            tables.append(table)
            where.append(np.stack([np.full(len(table), number), np.arange(len(table))], 1))
        rows = pa.concat_tables(tables)
        self._at = np.concatenate(where)  # file and row in it, of every row
        order = rows["episode_index"].to_numpy()
        edges = np.flatnonzero(np.diff(order)) + 1
        self._begin = np.concatenate([[0], edges])
        self.lengths = np.diff(np.append(self._begin, len(order))).astype(np.int64)
        self._numbers = order[self._begin]
        self.names = [f"episode {n}" for n in self._numbers]
        self._action = _matrix(rows["action"], info)
        self._states = _matrix(rows[_STATES], info) if _STATES in rows.column_names else None
        if not self._camera and self._states is None:
            raise DataError(f"{info}: neither a camera nor {_STATES}: nothing is seen in these episodes")
        times = rows["timestamp"].to_numpy() if "timestamp" in rows.column_names else None
        self._times = times if times is not None else np.concatenate([np.arange(n) / self.rate for n in self.lengths])
        self._listed = self._episodes() if self._video else {}
        self._parquets = files
        self.files = [info, *files]
        self._check(info)

    def _check(self, info: Path) -> None:
        told = self._info.get("total_episodes")
        if told is not None and told != len(self.lengths):
            raise DataError(
                f"{info} says {told} episodes, the Parquet files hold {len(self.lengths)}: fetch the data set whole"
            )

    def _episodes(self) -> dict[int, dict[str, Any]]:
        """What version 3 says of each episode's place; version 2 needs nothing."""
        found: dict[int, dict[str, Any]] = {}
        for file in sorted((self.root / "meta" / "episodes").rglob("*.parquet")):
            for row in pq.read_table(file).to_pylist():
                found[int(row["episode_index"])] = row
        return found

    def _place(self, number: int) -> tuple[Path, float]:
        """The MP4 of an episode and the second at which it begins in it."""
        form, key = str(self._info["video_path"]), self._camera
        if number in self._listed:
            row = self._listed[number]
            name = form.format(
                video_key=key, chunk_index=row[f"videos/{key}/chunk_index"], file_index=row[f"videos/{key}/file_index"]
            )
            return self.root / name, float(row[f"videos/{key}/from_timestamp"])
        chunk = number // int(self._info.get("chunks_size", 1000))
        return self.root / form.format(episode_chunk=chunk, video_key=key, episode_index=number), 0.0

    def observe(self, episode: int, rows: NDArray[np.int64]) -> dict[str, Array]:
        """See `Episodes`."""
        at = self._begin[episode] + rows
        facts = {} if self._states is None else {"state": self._states[at]}
        if not self._camera:
            return {"states": facts.pop("state")}
        frames = self._filmed(episode, at) if self._video else self._stored(at)
        return {"frames": frames, **facts}

    def _filmed(self, episode: int, at: NDArray[np.int64]) -> Array:
        file, begin = self._place(int(self._numbers[episode]))
        if not file.is_file():
            raise DataError(
                f"{file}: the video of {self.names[episode]} is missing: fetch the data set with its videos"
            )
        wanted = begin + self._times[at]
        with open_video(file) as video:
            near = np.abs(video.times[None] - wanted[:, None]).argmin(1)
            if np.abs(video.times[near] - wanted).max() > 0.6 / float(self.rate or 1):
                raise DataError(
                    f"{file}: the video ends early, at {video.times[-1]:.2f} s, and {self.names[episode]} goes on to {wanted[-1]:.2f} s: "
                    "fetch it again"
                )
            return video.frames(near.tolist()).permute(1, 2, 3, 0).numpy()

    def _stored(self, at: NDArray[np.int64]) -> Array:
        found = []
        for file, row in self._at[at]:
            cell = pq.read_table(self._parquets[file], columns=[self._camera]).column(0)[int(row)].as_py()
            found.append(decode(BytesIO(cell["bytes"] if isinstance(cell, dict) else cell), 3).permute(1, 2, 0).numpy())
        return np.stack(found)

    def act(self, episode: int, rows: NDArray[np.int64]) -> Array:
        """See `Episodes`."""
        return between(self._action, self._begin[episode] + rows)


def _matrix(column: Any, where: Path) -> NDArray[np.float32]:
    """[m k] of a column of numbers or of lists of equal length."""
    values = column.to_pylist()
    wide = {len(v) if isinstance(v, list) else 1 for v in values}
    if len(wide) != 1:
        raise DataError(f"{where}: rows have {sorted(wide)} numbers in one column: all rows need the same")
    return np.array(values, dtype=np.float32).reshape(len(values), -1)


@part("source", "lerobot")
class LeRobotSource(EpisodeSource):
    """LeRobot, versions 2 and 3: the folder with meta/info.json. `camera`: which one, or 'states' for observation.state alone.

    It publishes no split to keep back: see `EpisodeSource` for `held` and the windows. Videos need `pip install 'tacit[video]'`.
    """

    def __init__(
        self,
        *,
        path: str,
        camera: str = "",
        frames: Annotated[int, Ge(2)] = 4,
        stride: Annotated[int, Ge(0)] = 0,
        every: Annotated[int, Ge(1)] = 1,
        side: Annotated[int, Ge(0)] = 0,
        held: Annotated[float, Ge(0), Lt(0.5)] = 0.1,
        short: Literal["stop", "skip"] = "stop",
        split: str = "train",
    ) -> None:
        super().__init__(
            _LeRobot(Path(path), camera), frames=frames, stride=stride, every=every, side=side, split=split, held=held, short=short
        )  # fmt: skip
