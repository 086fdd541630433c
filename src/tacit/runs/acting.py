"""Plan with a world model in any gymnasium environment: what of it the model sees, what the goal is, and what counts as success.

All episodes are played side by side, one environment each, and planned at once: one encoding an episode and plan.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from annotated_types import Ge, Gt
from numpy.typing import NDArray
from torch import Tensor

from tacit.core.errors import DataError, RecipeError
from tacit.core.protocols import Imagines
from tacit.core.random import key, torch_seed
from tacit.core.spec import Role, Spec, plain
from tacit.core.values import Batch, Record, View
from tacit.ops.intervals import Interval, wilson
from tacit.planning import Agent, Bounds, goal_energy
from tacit.probing import write_records
from tacit.reports.episodes import filmstrip, movie, tiled
from tacit.runs.build import Built
from tacit.runs.environments import Environments
from tacit.training.disk import write_json
from tacit.training.runtime import choose_device, narrowed

__all__ = ["Acted", "EnvSettings", "Played", "act_in"]

_PLANNER = Spec("planner", "cem", samples=100, elites=10, iterations=8, spread=1.0)
_SHOWN, _COLUMNS, _FILM = 8, 8, 9  # episodes in the strip, pictures a row, episodes in the film


@dataclass(frozen=True, kw_only=True)
class EnvSettings:
    """How episodes are planned in a gymnasium environment: `path=value` texts set these.

    observation: what the model sees: 'auto' (the observation, or of a dictionary pixels, image or observation), 'render' (env.render()),
    or a key of the observation or of info. goal: 'auto' (goal_image of info, or desired_goal of the observation), a key, or 'walk:N',
    what is seen after N random actions from the same start. success: 'auto' (success or is_success of info, else terminated), 'reward'
    (above 0), a key of info, or of a walked goal 'near:KEY:DISTANCE'; when: at the last step, or at any. steps: budget of an episode; 0
    takes the environment's own. repeat: of one action of the model; a model of blocks of actions gives all of them in turn. env: keywords
    for making it. precision: of the model's products.
    """

    planner: Annotated[Spec, Role("planner")] = _PLANNER
    horizon: Annotated[int, Gt(0)] = 5
    execute: Annotated[int, Gt(0)] = 1
    over: Literal["sum", "last"] = "sum"
    warm: bool = True
    steps: Annotated[int, Ge(0)] = 0
    observation: str = "auto"
    goal: str = "auto"
    success: str = "auto"
    when: Literal["last", "any"] = "any"
    repeat: Annotated[int, Gt(0)] = 1
    env: dict[str, Any] | None = None
    device: str = "cpu"
    precision: Literal["fp32", "bf16"] = "fp32"

    @staticmethod
    def check_settings(settings: Mapping[str, Any]) -> Iterable[str]:
        """Rules across fields."""
        if settings["execute"] > settings["horizon"]:
            yield f"execute: {settings['execute']} actions of a plan of horizon={settings['horizon']} cannot be carried out: lower execute"
        goal = settings["goal"]
        walked = goal.startswith("walk:")
        if walked and not goal[5:].isdigit():
            yield f"goal: {goal!r} reads walk:N with a whole number of random actions, for example walk:25"
        parts = settings["success"].split(":")
        if walked != (parts[0] == "near") or (parts[0] == "near" and not _reads_near(parts)):
            yield (
                f"success: {settings['success']!r} with goal={goal}: the environment judges by its own goal, one that a walk gave needs "
                "success=near:KEY:DISTANCE, for example near:observation:0.5, and only that can have it"
            )


def _reads_near(parts: list[str]) -> bool:
    return len(parts) == 3 and parts[2].replace(".", "", 1).isdigit()


@dataclass(frozen=True)
class Played:
    """How n episodes went: success [n], steps taken [n], the sum of rewards [n], how many the environment cut short, frames to look at."""

    success: NDArray[np.bool_]
    steps: NDArray[np.int64]
    reward: NDArray[np.float64]
    truncated: int
    frames: list[list[NDArray[np.uint8]]]

    @property
    def rate(self) -> Interval:
        """Success with its 95 % Wilson interval."""
        return wilson(int(self.success.sum()), len(self.success))


@dataclass(frozen=True)
class Acted:
    """How each policy fared on the same episodes. criterion: in words; seconds: of the learned model's episodes."""

    world: str
    played: Mapping[str, Played]
    criterion: str
    settings: EnvSettings
    folder: Path
    seconds: float

    def to_plain(self) -> dict[str, Any]:
        """For JSON."""
        first = next(iter(self.played.values()))
        return {
            "world": self.world,
            "episodes": len(first.success),
            "criterion": self.criterion,
            "settings": plain(self.settings),
            "success": {
                name: dict(zip(("value", "low", "high"), p.rate, strict=True)) for name, p in self.played.items()
            },
            "mean reward": {name: float(p.reward.mean()) for name, p in self.played.items()},
            "mean steps": {name: float(p.steps.mean()) for name, p in self.played.items()},
            "cut short by the environment": {name: p.truncated for name, p in self.played.items()},
            "seconds": self.seconds,
            "folder": str(self.folder),
        }

    def text(self) -> str:
        """For people."""
        width = max(map(len, self.played))
        n = len(next(iter(self.played.values())).success)
        s = self.settings
        lines = [
            f"{self.world}: {n} episodes of at most {s.steps} steps; planner {s.planner.kind}, horizon {s.horizon}, {s.execute} executed; "
            f"goal {s.goal}",
            f"success: {self.criterion}",
            f"{'':{width}}  {'success, %':>22}{'reward':>10}{'steps':>8}",
        ]
        for name, p in self.played.items():
            value, low, high = (100 * v for v in p.rate)
            cell = f"{value:.0f} ({low:.0f} to {high:.0f})"
            lines.append(f"{name:{width}}  {cell:>22}{p.reward.mean():>10.2f}{p.steps.mean():>8.1f}")
        cut = next(iter(self.played.values())).truncated
        if cut:
            lines.append(f"The environment itself cut {cut} of the model's {n} episodes short of {s.steps} steps.")
        lines.append(f"95 % intervals (Wilson). The model's episodes took {self.seconds:.0f} s.")
        return "\n".join([*lines, f"files: {self.folder}"])


def act_in(
    models: Mapping[str, Built],
    world: str,
    settings: EnvSettings,
    *,
    episodes: int,
    seed: int,
    references: bool,
    folder: Path,
    run: str,
    pictures: bool = True,
) -> Acted:
    """Play `episodes` of an environment with each model, and beside them standing still, random actions, and its own oracle if it has one.

    All models see what the first was trained on.
    """
    first = next(iter(models.values()))
    for built in models.values():
        if not isinstance(built.system, Imagines):
            raise RecipeError(
                f"system {built.recipe.system.kind!r} predicts no actions: planning needs one that imagines, for example 'world-model'"
            )
        if getattr(getattr(built.system, "predictor", None), "lead", 0):
            raise RecipeError(
                "this model rolls out from several frames, and planning begins from one: train with another predictor"
            )
    worlds = Environments(world, episodes, seed, settings, first.source.facts)
    for built in models.values():
        if built.source.facts.action_dim == 0 or built.source.facts.action_dim % worlds.width:
            raise DataError(
                f"environment {world!r} takes actions of {worlds.width} numbers, this model was trained on actions of "
                f"{built.source.facts.action_dim}"
            )
    settings = replace(settings, steps=worlds.budget)
    played: dict[str, Played] = {}
    seconds = 0.0
    for name, built in models.items():
        clock = time.perf_counter()
        played[name] = _play(worlds, _planned(built, worlds, settings, seed), frames=not played)
        seconds = seconds or time.perf_counter() - clock
    if references:
        rng = np.random.Generator(np.random.Philox(key=torch_seed(seed, "random-actions")))
        space = worlds.envs[0].action_space
        low, high = (np.where(np.isfinite(v), v, s) for v, s in ((space.low, -1.0), (space.high, 1.0)))
        shape = (episodes, worlds.width)
        policies: dict[str, Callable[[], Any]] = {
            "still": lambda: np.zeros(shape, np.float32),
            "random": lambda: rng.uniform(low, high, shape).astype(np.float32),
        }
        if hasattr(worlds.envs[0].unwrapped, "oracle"):
            policies["oracle"] = lambda: np.stack([env.unwrapped.oracle() for env in worlds.envs])
        played |= {name: _play(worlds, policy) for name, policy in policies.items()}
    criterion = worlds.criterion()
    acted = Acted(world, played, criterion, settings, folder, seconds)
    folder.mkdir(parents=True, exist_ok=True)
    write_records(folder, list(_records(acted, run, seed)))
    write_json(folder / "plan.json", acted.to_plain())
    if pictures:
        _pictures(played["learned model"], worlds.goals(), folder)
    worlds.close()
    return acted


def _planned(built: Built, worlds: Environments, settings: EnvSettings, seed: int) -> Callable[[], Any]:
    system, device = built.system, choose_device(settings.device)
    system.to(device).eval()
    look, imagine = (narrowed(call, device, settings.precision) for call in (system.encode, system.imagine))
    blocks = built.source.facts.action_dim // worlds.width
    space = worlds.envs[0].action_space
    ends: list[Any] = []
    for value in (space.low, space.high):
        each = np.tile(value.astype(float), blocks)
        ends.append(tuple(each.tolist()) if np.isfinite(each).all() else None)
    planner = settings.planner.build(Bounds(*ends))

    @torch.no_grad()
    def encode(pictures: Tensor) -> Tensor:
        seen: Any = built.views.plain(Batch({"image": View(pictures)}, torch.arange(len(pictures)))).views["image"].data
        return look(seen.to(device))

    goal = encode(worlds.goals())
    agent = Agent(
        planner, lambda _: goal_energy(imagine, encode(worlds.pictures()), goal, over=settings.over),
        width=built.source.facts.action_dim, horizon=settings.horizon, problems=len(worlds.envs), execute=settings.execute,
        warm=settings.warm, seed=key(seed, "plan") >> 1, device=device,
    )  # fmt: skip
    per = blocks * settings.repeat

    def act() -> Any:
        left = math.ceil((worlds.budget - worlds.steps) / per)
        return agent.act(None, left).float().cpu().numpy()

    return act


def _play(worlds: Environments, act: Callable[[], Any], *, frames: bool = False) -> Played:
    worlds.reset()
    seen: list[list[NDArray[np.uint8]]] = [[] for _ in worlds.envs]

    def keep() -> None:
        if frames:
            for film, picture in zip(seen[: max(_SHOWN, _FILM)], worlds.pictures(), strict=False):
                film.append(_colours(picture))

    keep()
    while worlds.steps < worlds.budget and not worlds.ended.all():
        worlds.step(act())
        keep()
    return Played(worlds.good.copy(), worlds.taken.copy(), worlds.reward.copy(), int(worlds.truncated.sum()), seen)


def _colours(picture: Tensor) -> NDArray[np.uint8]:
    """[h w 3] of anything the model sees: three channels as they are, others grey by their mean; vectors become bars."""
    x = picture.float()
    if min(x.shape[1:]) == 1:
        bars = x.flatten()
        x = ((bars - bars.min()) / (bars.max() - bars.min()).clamp_min(1e-9) * 255).view(1, 1, -1).expand(1, 8, -1)
    elif picture.dtype != torch.uint8:
        x = 255 * x.clamp(0, 1)
    x = x if len(x) == 3 else x.amax(0, keepdim=True).expand(3, -1, -1)
    return x.permute(1, 2, 0).round().clamp(0, 255).to(torch.uint8).numpy()


def _pictures(played: Played, goals: Tensor, folder: Path) -> None:
    """filmstrip.png (failures first) and episodes.gif."""
    good = played.success.tolist()
    films = [np.stack(film) for film in played.frames if film]
    rows = sorted(range(min(_SHOWN, len(films))), key=lambda i: (good[i], i))
    length = len(films[0])
    steps = np.unique(np.linspace(0, length - 1, _COLUMNS).round().astype(int)).tolist()
    strips = [np.concatenate([films[i][steps], _colours(goals[i])[None]]) for i in rows]
    labels = [f"episode {i}" for i in rows]
    filmstrip(strips, labels, [*steps, -1], [good[i] for i in rows], folder / "filmstrip.png")
    scale = max(1, 96 // films[0].shape[1])
    movie(tiled(films[:_FILM], 3), folder / "episodes.gif", fps=10, scale=scale)


def _records(acted: Acted, run: str, seed: int) -> Iterable[Record]:
    s = acted.settings
    how = f"{s.planner.kind},horizon={s.horizon},execute={s.execute},steps={s.steps},goal={s.goal}"
    for name, played in acted.played.items():
        for i, well in enumerate(played.success.tolist()):
            yield Record(
                run=run,
                model=name,
                benchmark=f"{acted.world.replace('/', '-').replace(':', '-')}@1",
                protocol=f"{acted.criterion},{how}@1",
                item=f"{seed}/{i}",
                score=float(played.reward[i]),
                correct=bool(well),
                seed=seed,
            )
