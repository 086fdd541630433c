"""`tacit make episodes`: random episodes of any gymnasium environment on disk, a Parquet row a step, to train a world model on."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from annotated_types import Ge, Gt
from numpy.typing import NDArray
from PIL import Image

from tacit.core.errors import DataError, RecipeError
from tacit.core.random import key, torch_seed
from tacit.core.spec import plain
from tacit.runs.environments import limit_of, named_parts, seen_part
from tacit.runs.made_folder import claim
from tacit.runs.planning import read_settings
from tacit.training.disk import replace
from tacit.worlds.field import make_field, space_width

__all__ = ["EpisodeSettings", "MadeEpisodes", "make_episodes"]

_SHARD = 50  # episodes a file


@dataclass(frozen=True, kw_only=True)
class EpisodeSettings:
    """How random episodes are made: `path=value` texts set these.

    observation: what is written: 'auto' (the observation; of a dictionary pixels, image or observation), 'render', or a key of the
    observation or of info. hold: steps for which each random action is repeated, so that a walk gets somewhere. steps: of an episode; 0
    takes the environment's own. env: keywords for making it.
    """

    observation: str = "auto"
    hold: Annotated[int, Gt(0)] = 1
    steps: Annotated[int, Ge(0)] = 0
    env: dict[str, Any] | None = None


@dataclass(frozen=True)
class MadeEpisodes:
    """A finished set: where, how many episodes and transitions, and how many of the episodes an earlier start had made."""

    folder: str
    count: int
    transitions: int
    kept: int
    vectors: bool

    def to_plain(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    def text(self) -> str:
        """For people."""
        kept = f", {self.kept} of them from an earlier start" if self.kept else ""
        recipe = (
            "latents.known_rooms system.encoder.blur=0 system.predictor=mlp"
            if self.vectors
            else "worlds.two_rooms_small"
        )
        return (
            f"{self.count:,} episodes, {self.transitions:,} transitions{kept}: {self.folder}\n"
            f"train on them with: tacit train {recipe} views=trajectories data=trajectory-parquet data.path={Path(self.folder).parent}"
        )


def make_episodes(
    world: str, out: str | Path, settings: Iterable[str] = (), *, count: int = 200, split: str = "train", seed: int = 0
) -> MadeEpisodes:
    """Write `count` episodes of uniform random actions to OUT/<split>/*.parquet: episode, step, state or image, action.

    The same call continues one that stopped. Episode i depends on (seed, split, i) alone: a larger count adds to a set. A folder made with
    other settings is refused. Actions without bounds are drawn from [-1, 1].
    """
    chosen: EpisodeSettings = read_settings(settings, EpisodeSettings)
    folder = claim(out, split, "episodes.json", {"world": world, "seed": seed, **plain(chosen)})
    given = dict(chosen.env or {})
    if chosen.observation == "render":
        given.setdefault("render_mode", "rgb_array")
    env = make_field(world, **given)
    try:
        width, steps = space_width(env, world), chosen.steps or limit_of(env, world)
        kept = transitions = 0
        vectors = True
        for start in range(0, count, _SHARD):
            stop = min(start + _SHARD, count)
            there = [p for p in folder.glob(f"{start:08d}-*.parquet") if int(p.stem.rpartition("-")[2]) >= stop]
            if there:
                table = pq.read_table(there[0])
                kept += stop - start
            else:
                own = (key(seed, "make", split, i) for i in range(start, stop))
                table = pa.concat_tables(
                    [_episode(env, world, i, chosen, steps, width, k) for i, k in enumerate(own, start)]
                )
                path = folder / f"{start:08d}-{stop:08d}.parquet"
                replace(path, partial(pq.write_table, table))
                for older in folder.glob(f"{start:08d}-*.parquet"):  # of a smaller count
                    if older != path:
                        older.unlink()
            transitions += len(table) - len(table["episode"].unique())
            vectors = "state" in table.column_names
    finally:
        env.close()
    return MadeEpisodes(str(folder), count, transitions, kept, vectors)


def _episode(env: Any, world: str, i: int, chosen: EpisodeSettings, steps: int, width: int, own: int) -> pa.Table:
    """The rows of one episode; the last action leads nowhere and is 0."""
    rng = np.random.Generator(np.random.Philox(key=torch_seed(own, "actions")))
    space = env.action_space
    low, high = (np.where(np.isfinite(v), v, s) for v, s in ((space.low, -1.0), (space.high, 1.0)))
    observation, info = env.reset(seed=own % (1 << 31))
    seen = [_seen(env, world, chosen.observation, observation, info)]
    actions: list[NDArray[Any]] = []
    ended = False
    while len(actions) < steps and not ended:
        if len(actions) % chosen.hold == 0:
            action = rng.uniform(low, high, width).astype(space.dtype)
        observation, _, terminated, truncated, info = env.step(action)
        ended = terminated or truncated
        seen.append(_seen(env, world, chosen.observation, observation, info))
        actions.append(action)
    done = np.stack([*actions, np.zeros(width)]).astype(np.float32)
    n = len(seen)
    vectors = seen[0].ndim == 1
    column = (
        pa.array([x.tolist() for x in seen], pa.list_(pa.float32()))
        if vectors
        else pa.array(map(_encoded, seen), pa.binary())
    )
    return pa.table(
        {
            "episode": pa.array([i] * n, pa.int64()),
            "step": pa.array(range(n), pa.int64()),
            "state" if vectors else "image": column,
            "action": pa.array(done.tolist(), pa.list_(pa.float32())),
        }
    )


def _seen(env: Any, world: str, wanted: str, observation: Any, info: Mapping[str, Any]) -> NDArray[Any]:
    found = env.render() if wanted == "render" else seen_part(wanted, observation, info)
    if found is None:
        there = ", ".join(named_parts(observation, info)) or "no named parts"
        raise DataError(
            f"environment {world!r} shows nothing named {wanted!r}; it has {there}: set observation to one of these or to render"
        )
    x = np.asarray(found)
    if not (x.ndim == 1 or (x.ndim == 3 and x.dtype == np.uint8)):
        raise RecipeError(
            f"environment {world!r} shows {x.dtype} {list(x.shape)}: vectors and pictures uint8 [h w c] can be written: set observation"
        )
    if not np.isfinite(x).all():
        raise DataError(f"environment {world!r} shows numbers that are not finite")
    return x.astype(np.float32) if x.ndim == 1 else x


def _encoded(picture: NDArray[np.uint8]) -> bytes:
    out = io.BytesIO()
    Image.fromarray(picture.squeeze(-1) if picture.shape[-1] == 1 else picture).save(out, "PNG")
    return out.getvalue()
