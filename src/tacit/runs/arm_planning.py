"""Plan with an action-conditioned model on the simulated arm: pictures as goals, many episodes at once, beside scripts and chance.

As published: the energy is mean |imagined - goal| at the end of the plan, CEM searches place and gripper (turns stay 0), one action is
carried out, then the model looks again; longer tasks have a picture for each of their parts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from annotated_types import Gt
from numpy.typing import NDArray
from torch import Tensor

from tacit.core.errors import DataError, RecipeError
from tacit.core.random import key
from tacit.core.spec import Role, Spec, plain
from tacit.core.values import Batch, Record, View
from tacit.ops.intervals import Interval, wilson
from tacit.ops.pose import action_between
from tacit.planning import Agent, Bounds, Cost
from tacit.probing import write_records
from tacit.reports.episodes import filmstrip
from tacit.runs.build import Built, restore
from tacit.systems.action_conditioned import ActionConditioned, Seen
from tacit.training.disk import write_json
from tacit.training.runtime import choose_device
from tacit.worlds.arm.tasks import BUDGET, Kind, Script, Task, begin, goals, random_task, script, succeeded
from tacit.worlds.arm.world import Arm

__all__ = ["ArmSettings", "PlannedArm", "plan_arm", "whole_action"]

_PLANNER = Spec("planner", "cem", samples=64, elites=8, iterations=5, momentum=0.15)
_SHOWN = 8


@dataclass(frozen=True, kw_only=True)
class ArmSettings:
    """How episodes are planned: `path=value` texts set these.

    task: reach, grasp or pick-and-place; each has a picture, or several, and so many steps for each. horizon: actions a plan looks ahead.
    step: metres along each axis that an action may move; grip: how far it may open or close; below a third of that it does not. over: the
    energy at the end of the plan, or its sum. context: frames that the model is given, the last one among them.

    The released planner: planner.samples=400 planner.elites=10 planner.iterations=10 horizon=2; the paper: planner.samples=800
    planner.elites=10 planner.iterations=10 step=0.075.
    """

    task: Kind = "reach"
    planner: Annotated[Spec, Role("planner")] = _PLANNER
    horizon: Annotated[int, Gt(0)] = 1
    step: Annotated[float, Gt(0)] = 0.05
    grip: Annotated[float, Gt(0)] = 0.75
    over: Literal["last", "sum"] = "last"
    context: Annotated[int, Gt(0)] = 1
    device: str = "cpu"


@dataclass(frozen=True)
class Played:
    """What one policy did in every episode: frames uint8 [t s s 3] of each, how far things end from where they shall be, success."""

    frames: list[NDArray[np.uint8]]
    distance: NDArray[np.float64]
    success: NDArray[np.bool_]

    @property
    def rate(self) -> Interval:
        """Share of successes with its 95 % Wilson interval."""
        return wilson(int(self.success.sum()), len(self.success))


@dataclass(frozen=True)
class PlannedArm:
    """How each policy fared on the same tasks, and where the files lie. seconds: of the model's episodes."""

    played: Mapping[str, Played]
    settings: ArmSettings
    folder: Path
    seconds: float

    def to_plain(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "episodes": len(next(iter(self.played.values())).success),
            "settings": plain(self.settings),
            "success": {
                name: dict(zip(("value", "low", "high"), one.rate, strict=True)) for name, one in self.played.items()
            },
            "distance, median in metres": {name: float(np.median(one.distance)) for name, one in self.played.items()},
            "seconds": self.seconds,
            "folder": str(self.folder),
        }

    def text(self) -> str:
        """For people."""
        width = max(map(len, self.played))
        steps = "+".join(map(str, BUDGET[self.settings.task]))
        count = len(next(iter(self.played.values())).success)
        how = f"planner {self.settings.planner.kind}, horizon {self.settings.horizon}"
        lines = [
            f"{self.settings.task}: {count} episodes of {steps} steps; {how}",
            f"{'':{width}}   success, %        distance, cm",
        ]
        for name, one in self.played.items():
            value, low, high = (100 * v for v in one.rate)
            rate = f"{name:{width}}   {value:3.0f} ({low:.0f} to {high:.0f})".ljust(width + 21)
            lines.append(f"{rate}{100 * np.median(one.distance):6.1f}")
        return "\n".join(
            [
                *lines,
                f"95 % intervals (Wilson). The model's episodes took {self.seconds:.0f} s.",
                f"files: {self.folder}",
            ]
        )


def plan_arm(
    path: str | Path,
    settings: ArmSettings,
    *,
    episodes: int = 40,
    seed: int = 0,
    references: bool = True,
    out: str | Path | None = None,
) -> PlannedArm:
    """Play `episodes` tasks of one kind with the model of a run, and write table, filmstrip and plan.json."""
    built = restore(path)
    _check(built)
    side = built.source.facts.shape[-1]  # type: ignore[index]
    tasks = [random_task(settings.task, seed, i) for i in range(episodes)]
    arms = [Arm(side=side) for _ in tasks]
    wanted = [
        np.stack(one) for one in zip(*(goals(task, arm) for task, arm in zip(tasks, arms, strict=True)), strict=True)
    ]
    begun = time.perf_counter()
    played = {"learned model": _play(tasks, arms, _model_policy(built, arms, wanted, settings, seed))}
    seconds = time.perf_counter() - begun
    if references:
        rng = np.random.Generator(np.random.Philox(key=key(seed, "arm-random")))
        reach = np.array([settings.step] * 3 + [0, 0, 0, settings.grip])
        played["random"] = _play(tasks, arms, lambda *_: rng.uniform(-reach, reach, (len(arms), 7)))
        played["still"] = _play(tasks, arms, lambda *_: np.zeros((len(arms), 7)))
        played["script"] = _play(tasks, arms, _script_policy(tasks, arms))
    name = f"arm-{settings.task}-{settings.planner.kind}-n{episodes}-seed{seed}"
    folder = Path(out) if out else Path(path) / "plans" / name
    folder.mkdir(parents=True, exist_ok=True)
    planned = PlannedArm(played, settings, folder, seconds)
    write_records(folder, list(_records(planned, str(path), seed)))
    write_json(folder / "plan.json", planned.to_plain())
    _strip(played["learned model"], wanted, folder / "filmstrip.png")
    return planned


def _check(built: Built) -> None:
    if not isinstance(built.system, ActionConditioned):
        raise RecipeError(
            f"world 'arm' is planned in with system 'action-conditioned', and this run has {built.recipe.system.kind!r}: train "
            "robots.arm_small"
        )
    facts = built.source.facts
    if facts.channels != 3 or facts.shape is None or facts.shape[-1] != facts.shape[-2]:
        raise DataError(
            f"world 'arm' shows square pictures in colours, this model was trained on {facts.channels} channels of {facts.shape}"
        )


Policy = Callable[[int, int], NDArray[np.float64]]  # number of the part, step -> actions [p 7]


def _play(tasks: list[Task], arms: list[Arm], policy: Policy) -> Played:
    """All episodes side by side for their whole budget."""
    for task, arm in zip(tasks, arms, strict=True):
        begin(task, arm)
    frames = [[arm.picture() for arm in arms]]
    step = 0
    for part, budget in enumerate(BUDGET[tasks[0].kind]):
        for _ in range(budget):
            for arm, action in zip(arms, policy(part, step), strict=True):
                arm.step(action)
            frames.append([arm.picture() for arm in arms])
            step += 1
    gone = [_distance(task, arm) for task, arm in zip(tasks, arms, strict=True)]
    well = [succeeded(task, arm) for task, arm in zip(tasks, arms, strict=True)]
    return Played([np.stack(one) for one in zip(*frames, strict=True)], np.array(gone), np.array(well))


def _distance(task: Task, arm: Arm) -> float:
    """From the hand to the place (reach), from the hand to the cube (grasp), from the cube to its place."""
    if task.kind == "reach":
        return float(np.linalg.norm(arm.state[:3] - task.goal))
    if task.kind == "grasp":
        return float(np.linalg.norm(arm.state[:3] - arm.cube))
    return float(np.linalg.norm(arm.cube[:2] - task.goal))


def whole_action(actions: Tensor) -> Tensor:
    """Actions of place and gripper [... 4] with turns of 0 between them [... 7]."""
    return torch.cat([actions[..., :3], torch.zeros_like(actions[..., :3]), actions[..., 3:]], -1)


def _model_policy(
    built: Built, arms: list[Arm], wanted: list[NDArray[np.uint8]], settings: ArmSettings, seed: int
) -> Policy:
    """Plan for all arms at once, one encoding an episode and step; goals are encoded once."""
    system, device = built.system, choose_device(settings.device)
    system.to(device).eval()

    def encode(pictures: list[NDArray[np.uint8]] | NDArray[np.uint8]) -> Tensor:
        raw = torch.from_numpy(np.stack(list(pictures))).permute(0, 3, 1, 2)
        seen: Any = built.views.plain(Batch({"image": View(raw)}, torch.arange(len(raw)))).views["image"].data
        return system.encode(seen.to(device))  # type: ignore[no-any-return]

    targets = [encode(one) for one in wanted]
    bounds = Bounds(low=(-settings.step,) * 3 + (-settings.grip,), high=(settings.step,) * 3 + (settings.grip,))
    planner = settings.planner.change(spread=(settings.step,) * 3 + (1.0,)).build(bounds)
    z, states, actions = list[Tensor](), list[Tensor](), list[Tensor]()

    def see(part: int) -> Cost:
        last = settings.context
        seen = Seen(
            torch.stack(z[-last:], 1), torch.stack(states[-last:], 1),
            torch.stack(actions[len(actions) - last + 1 :], 1) if last > 1 and len(z) > 1 else z[0].new_zeros(len(arms), 0, 7),
        )  # fmt: skip
        cost = system.goal_energy(seen, targets[part], over=settings.over)
        return lambda plans: cost(whole_action(plans))

    agent = Agent(
        planner,
        see,
        width=4,
        horizon=settings.horizon,
        problems=len(arms),
        warm=False,
        seed=key(seed, "plan") >> 1,
        device=device,
    )

    @torch.no_grad()
    def policy(part: int, step: int) -> NDArray[np.float64]:  # noqa: ARG001
        z.append(encode([arm.picture() for arm in arms]))
        states.append(torch.from_numpy(np.stack([arm.state for arm in arms])).float().to(device))
        if len(states) > 1:  # what the hand really did, as recorded in the data
            actions.append(action_between(states[-2], states[-1]))
        chosen = agent.act(part).double().cpu().numpy()
        chosen[np.abs(chosen[:, 3]) < settings.grip / 3, 3] = 0.0
        return np.concatenate([chosen[:, :3], np.zeros((len(arms), 3)), chosen[:, 3:]], 1)

    return policy


def _script_policy(tasks: list[Task], arms: list[Arm]) -> Policy:
    follow = [Script(script(task)) for task in tasks]

    def policy(part: int, step: int) -> NDArray[np.float64]:  # noqa: ARG001
        for one, arm in zip(follow, arms, strict=True):
            one.look(arm.state)
        return np.stack([one.act(arm.state) for one, arm in zip(follow, arms, strict=True)])

    return policy


def _strip(played: Played, wanted: list[NDArray[np.uint8]], path: Path) -> None:
    """Failures first, at most half of the rows; the pictures of the goals at the end of each."""
    order = sorted(range(len(played.success)), key=lambda i: (played.success[i], i))
    failed = [i for i in order if not played.success[i]][: _SHOWN // 2]
    order = [*failed, *(i for i in order if played.success[i])][:_SHOWN]
    steps = np.unique(np.linspace(0, len(played.frames[0]) - 1, 9).round().astype(int)).tolist()
    rows = [np.concatenate([played.frames[i][steps], np.stack([goal[i] for goal in wanted])]) for i in order]
    labels = [f"episode {i}\n{100 * played.distance[i]:.1f} cm away" for i in order]
    filmstrip(rows, labels, [*steps, *([-1] * len(wanted))], [bool(played.success[i]) for i in order], path)


def _records(planned: PlannedArm, run: str, seed: int) -> Iterable[Record]:
    settings = planned.settings
    how = f"{settings.planner.kind},horizon={settings.horizon},step={settings.step:g}"
    for name, one in planned.played.items():
        for i, well in enumerate(one.success):
            yield Record(
                run=run, model=name, benchmark=f"arm-{settings.task}@1", protocol=f"{how}@1", item=f"{seed}/{i}",
                score=float(one.distance[i]), correct=bool(well), seed=seed,
            )  # fmt: skip
