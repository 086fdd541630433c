"""Several environments of one gymnasium id under way, as a world model sees them: its pictures, its goals, its successes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from tacit.core.errors import DataError, RecipeError
from tacit.core.random import key
from tacit.core.values import Facts
from tacit.worlds.field import make_field, space_width

__all__ = ["Environments", "limit_of", "named_parts", "seen_part"]


class Environments:
    """n environments of one id under way, each with its own seed; those that have ended are not stepped again."""

    def __init__(self, name: str, count: int, seed: int, settings: Any, facts: Facts) -> None:
        given = dict(settings.env or {})
        if settings.observation == "render":
            given.setdefault("render_mode", "rgb_array")
        self.name, self.settings, self.facts, self.seed = name, settings, facts, seed
        self.envs = [make_field(name, **given) for _ in range(count)]
        self.width = space_width(self.envs[0], name)
        self.budget = settings.steps or limit_of(self.envs[0], name)
        self._goals: list[Tensor] = []
        self._walked: dict[int, tuple[Any, Any]] = {}  # observation and info at goals that a walk gave
        self.reset()

    def reset(self) -> None:
        """Begin the same episodes again."""
        n = len(self.envs)
        self.steps = 0
        seen = [env.reset(seed=self._seed(i)) for i, env in enumerate(self.envs)]
        self.observations, self.infos = [s[0] for s in seen], [s[1] for s in seen]
        self.ended, self.good = np.zeros(n, bool), np.zeros(n, bool)
        self.taken, self.reward, self.truncated = np.zeros(n, np.int64), np.zeros(n), np.zeros(n, bool)

    def _seed(self, i: int) -> int:
        return key(self.seed, "episode", i) % (1 << 31)

    def pictures(self) -> Tensor:
        """What the model sees of each, as its data have it: [n c h w]."""
        seen = [self._picture(*one) for one in zip(self.envs, self.observations, self.infos, strict=True)]
        return torch.stack(seen)

    def goals(self) -> Tensor:
        """The same of the goals; made once, before the first step."""
        if not self._goals:
            start = self.pictures()
            self._goals = [self._goal(i) for i in range(len(self.envs))]
            for i, (a, b) in enumerate(zip(start, self._goals, strict=True)):
                if torch.equal(a, b):
                    raise DataError(
                        f"episode {i} of {self.name!r}: the goal equals the start, there is nothing to plan: take another --seed or "
                        "goal=walk:N with more actions"
                    )
        return torch.stack(self._goals)

    def _goal(self, i: int) -> Tensor:
        wanted = self.settings.goal
        if wanted.startswith("walk:"):
            return self._after_walk(i, int(wanted[5:]))
        found = None
        for name in ("goal_image", "desired_goal") if wanted == "auto" else (wanted,):
            found = _look_up(name, self.observations[i], self.infos[i]) if found is None else found
        if found is None:
            there = sorted({*_keys(self.observations[i]), *_keys(self.infos[i])})
            raise DataError(
                f"environment {self.name!r} shows no goal {'goal_image or desired_goal' if wanted == 'auto' else repr(wanted)}; it has "
                f"{', '.join(there) or 'no named parts'}: set goal=walk:N, or goal to one of these"
            )
        return self._fitted(found)

    def _after_walk(self, i: int, count: int) -> Tensor:
        env = self.envs[i]
        env.action_space.seed(self._seed(i))
        observation, info = self.observations[i], self.infos[i]
        for _ in range(count):
            observation, _, terminated, truncated, info = env.step(env.action_space.sample())
            if terminated or truncated:
                break
        goal = self._picture(env, observation, info)
        self._walked[i] = observation, info
        self.observations[i], self.infos[i] = env.reset(seed=self._seed(i))
        return goal

    def _picture(self, env: Any, observation: Any, info: Mapping[str, Any]) -> Tensor:
        wanted = self.settings.observation
        if wanted == "render":
            found = env.render()
        elif wanted != "auto":
            found = _look_up(wanted, observation, info)
            if found is None:
                there = sorted({*_keys(observation), *_keys(info)})
                raise DataError(
                    f"environment {self.name!r} shows nothing named {wanted!r}; it has {', '.join(there) or 'no named parts'}: set "
                    "observation to one of these or to render"
                )
        else:
            found = seen_part(wanted, observation, info)
        if found is None:
            raise DataError(
                f"environment {self.name!r} shows {', '.join(_keys(observation))}: set observation to the one the model was trained on, or "
                "to render"
            )
        return self._fitted(found)

    def _fitted(self, found: Any) -> Tensor:
        """A picture or a vector as the model's data have it: channels first, resized; a vector is a picture of one pixel."""
        facts, x = self.facts, torch.as_tensor(np.array(found))
        shape = tuple(facts.shape[-2:]) if facts.shape else None
        if x.ndim == 1:
            x = x.float()[:, None, None]
        elif x.ndim == 2:
            x = x.unsqueeze(0)
        elif x.ndim == 3 and x.shape[0] != facts.channels and x.shape[-1] == facts.channels:
            x = x.permute(2, 0, 1)
        elif x.ndim == 3 and facts.channels == 1 and x.shape[-1] == 3:
            x = x.float().mean(-1).round().to(x.dtype).unsqueeze(0)
        if x.ndim != 3 or x.shape[0] != facts.channels:
            raise DataError(
                f"environment {self.name!r} shows {list(np.shape(found))}, the model was trained on {facts.channels} channels of {shape} "
                "pixels: set observation to what it was trained on"
            )
        if shape is not None and tuple(x.shape[1:]) != shape:
            if min(x.shape[1:]) == 1 or min(shape) == 1:
                raise DataError(
                    f"environment {self.name!r} shows {list(np.shape(found))}, the model was trained on pictures of {shape} pixels: "
                    "set observation"
                )
            small = F.interpolate(x[None].float(), size=shape, mode="bilinear", align_corners=False, antialias=True)[0]
            x = small.round().clamp(0, 255).to(torch.uint8) if x.dtype == torch.uint8 else small
        if not torch.isfinite(x.float()).all():
            raise DataError(f"environment {self.name!r} shows numbers that are not finite")
        return x.contiguous()

    def step(self, actions: NDArray[np.float32]) -> None:
        """One action of the model for each, in turns of `repeat`."""
        per = actions.shape[1] // self.width
        for i, env in enumerate(self.envs):
            for block in actions[i].reshape(per, self.width):
                for _ in range(self.settings.repeat):
                    if not self.ended[i] and self.taken[i] < self.budget:
                        self._step(i, env, block)
        self.steps += per * self.settings.repeat

    def _step(self, i: int, env: Any, action: NDArray[np.float32]) -> None:
        space = env.action_space
        given = np.clip(action, space.low, space.high).astype(space.dtype)
        self.observations[i], reward, terminated, truncated, self.infos[i] = env.step(given)
        self.taken[i] += 1
        self.reward[i] += float(reward)
        now = self._succeeded(i, float(reward), terminated)
        self.good[i] = now or (self.settings.when == "any" and bool(self.good[i]))
        self.ended[i] = terminated or truncated
        self.truncated[i] = truncated and self.taken[i] < self.budget

    def _succeeded(self, i: int, reward: float, terminated: bool) -> bool:
        wanted, info = self.settings.success, self.infos[i]
        if wanted.startswith("near:"):
            _, name, distance = wanted.split(":")
            return bool(
                np.linalg.norm(self._entry(name, self.observations[i], info) - self._entry(name, *self._walked[i]))
                < float(distance)
            )
        if wanted == "reward":
            return reward > 0
        for name in ("success", "is_success") if wanted == "auto" else (wanted,):
            if name in info:
                return bool(np.asarray(info[name]).all())
        if wanted != "auto":
            raise DataError(
                f"info of {self.name!r} has no {wanted!r}; it has {', '.join(_keys(info)) or 'nothing'}: set success"
            )
        return bool(terminated)

    def _entry(self, name: str, observation: Any, info: Any) -> NDArray[np.float64]:
        """A named part as numbers; 'observation' is the whole where it has no parts."""
        found = (
            observation
            if name == "observation" and not isinstance(observation, Mapping)
            else _look_up(name, observation, info)
        )
        if found is None:
            there = sorted({*_keys(observation), *_keys(info)})
            raise DataError(
                f"environment {self.name!r} has no {name!r} to measure a distance in; it has {', '.join(there) or 'no named parts'}"
            )
        return np.asarray(found, dtype=np.float64)

    def criterion(self) -> str:
        """In words."""
        if self.settings.success.startswith("near:"):
            _, name, distance = self.settings.success.split(":")
            when = "at any step" if self.settings.when == "any" else "at the last step"
            return f"{name} within {distance} of the goal's {when}"
        names = [n for n in ("success", "is_success") if n in self.infos[0]]
        what = {"auto": f"info[{names[0]!r}]" if names else "terminated", "reward": "a reward above 0"}
        when = "at any step" if self.settings.when == "any" else "at the last step"
        return f"{what.get(self.settings.success, f'info[{self.settings.success!r}]')} {when}"

    def close(self) -> None:
        """All of them."""
        for env in self.envs:
            env.close()


def seen_part(wanted: str, observation: Any, info: Mapping[str, Any]) -> Any:
    """What `observation=` names: auto is the observation, or pixels, image or observation of a dictionary; else a key. None if missing."""
    if wanted != "auto":
        return _look_up(wanted, observation, info)
    if isinstance(observation, Mapping):
        return next((observation[k] for k in ("pixels", "image", "observation") if k in observation), None)
    return observation


def named_parts(observation: Any, info: Mapping[str, Any]) -> list[str]:
    """The names that `observation=` can choose."""
    return sorted({*_keys(observation), *_keys(info)})


def limit_of(env: Any, name: str) -> int:
    """Steps after which the environment itself ends an episode."""
    limit = getattr(env.spec, "max_episode_steps", None) or getattr(env.unwrapped, "_steps", None)
    if not isinstance(limit, int):
        raise RecipeError(
            f"steps: environment {name!r} has no limit of its own, set the budget of an episode: steps=200"
        )
    return limit


def _keys(value: Any) -> list[str]:
    return [str(k) for k in value] if isinstance(value, Mapping) else []


def _look_up(name: str, *places: Any) -> Any:
    """The entry `a.b` of the first place that has it."""
    for place in places:
        node = place
        for part in name.split("."):
            node = node.get(part) if isinstance(node, Mapping) else None
        if node is not None:
            return node
    return None
