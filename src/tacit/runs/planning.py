"""Plan with a world model: many episodes at once, beside the scripted policies and the same planner with the true dynamics."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import yaml
from annotated_types import Ge, Gt, Le
from torch import Tensor

from tacit.core.errors import DataError, RecipeError
from tacit.core.protocols import Imagines
from tacit.core.random import key
from tacit.core.spec import Role, Spec, fill, plain
from tacit.core.values import Batch, Record, View
from tacit.ops.intervals import Interval
from tacit.planning import Agent, Bounds, Cost, disagreement, goal_energy
from tacit.probing import write_records
from tacit.runs.acting import EnvSettings, act_in
from tacit.runs.build import Built, restore
from tacit.runs.controllers import Controlled, fit_controller
from tacit.runs.ensembles import fit_ensemble
from tacit.runs.plan_costs import Wary, true_cost
from tacit.runs.plan_pictures import write_pictures
from tacit.training.disk import write_json
from tacit.training.runtime import choose_device, memory_kept, narrowed
from tacit.worlds.rooms import Outcome, Rooms, Tasks, path_length, play, published_tasks, random_tasks, scripted
from tacit.worlds.rooms.draws import keys
from tacit.worlds.rooms.episodes import CRITERIA
from tacit.worlds.rooms.layouts import SIZE, fixed_layouts

__all__ = ["PlanSettings", "Planned", "plan", "play_model"]

_PLANNER = Spec("planner", "icem", samples=100, elites=10, iterations=4, spread=1.2, beta=2.0, answer="mean")


@dataclass(frozen=True, kw_only=True)
class PlanSettings:
    """How episodes are planned: `path=value` texts set these.

    planner: any of role 'planner'. horizon: actions a plan looks ahead, never beyond the end; plans exploit the errors of roll-outs that
    are too long. execute: of them are carried out before the next plan. over: the goal's distance summed over the plan, or at its end.
    warm: begin from the last plan, shifted.
    ensemble: predictors learned anew on the run's data (2 or more; 0: none), whose disagreement times `uncertainty` joins the cost.
    bound: longest action in pixels (the world's own 2.45; 5.6 is the longest that cannot pass a wall). steps: budget of an episode.
    layout: that of the training data, or another. tasks: drawn by our own generator, or as EB-JEPA's evaluation draws them (20 of seed 0
    are those it always meets). precision: of the model's products; bf16 pays where the device multiplies it faster.

    EB-JEPA's evaluation: planner=mppi horizon=90 execute=1 bound=5.6 warm=false, or planner=cem planner.samples=200 planner.elites=20
    planner.iterations=20 planner.spread=1.5 horizon=90 execute=1 warm=false.
    """

    planner: Annotated[Spec, Role("planner")] = _PLANNER
    horizon: Annotated[int, Gt(0)] = 30
    execute: Annotated[int, Gt(0)] = 5
    over: Literal["sum", "last"] = "sum"
    warm: bool = True
    ensemble: Annotated[int, Ge(0), Le(16)] = 0
    uncertainty: Annotated[float, Ge(0)] = 0.01
    bound: Annotated[float, Gt(0), Le(5.6)] = 2.45
    steps: Annotated[int, Gt(0)] = 200
    level: Literal["easy", "medium"] = "medium"
    layout: Literal["data", "random", "eb-jepa", "pldm"] = "data"
    tasks: Literal["drawn", "eb-jepa"] = "drawn"
    rule: Literal["bounce", "stay-put"] = "bounce"
    device: str = "cpu"
    precision: Literal["fp32", "bf16"] = "fp32"

    @staticmethod
    def check_settings(settings: Mapping[str, Any]) -> Iterable[str]:
        """Rules across fields."""
        if settings["execute"] > settings["horizon"]:
            yield f"execute: {settings['execute']} actions of a plan of horizon={settings['horizon']} cannot be carried out: lower execute"
        if settings["tasks"] == "eb-jepa" and settings["level"] != "medium":
            yield f"tasks: EB-JEPA evaluates at level 'medium', asked for {settings['level']!r}: leave level out, or tasks"
        if settings["ensemble"] == 1:
            yield "ensemble: one predictor cannot disagree: set ensemble to 2 or more, or to 0"


@dataclass(frozen=True)
class Planned:
    """How each policy fared on the same tasks, and where the files lie. seconds: of the learned model's episodes."""

    outcomes: Mapping[str, Outcome]
    tasks: Tasks
    settings: PlanSettings
    folder: Path | None
    seconds: float

    @property
    def rates(self) -> dict[str, dict[str, Interval]]:
        """policy -> criterion -> success rate with its 95 % Wilson interval."""
        return {
            name: {criterion: played.card(name, criterion).success for criterion in CRITERIA}
            for name, played in self.outcomes.items()
        }

    def crossed(self, name: str) -> float:
        """Share of the episodes that end in the goal's room, PLDM's cross-wall rate: every task begins in the other."""
        wall, last = self.tasks.layouts.wall, self.outcomes[name].path[:, -1, 0]
        return float(((last - wall) * (self.tasks.goal[:, 0] - wall) > 0).float().mean())

    def to_plain(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "episodes": len(self.tasks),
            "settings": plain(self.settings),
            "criteria": dict(CRITERIA),
            "success": {
                name: {
                    criterion: dict(zip(("value", "low", "high"), rate, strict=True))
                    for criterion, rate in found.items()
                }
                for name, found in self.rates.items()
            },
            "ended in the goal's room": {name: self.crossed(name) for name in self.outcomes},
            "seconds": self.seconds,
            "folder": str(self.folder) if self.folder else None,
        }

    def text(self) -> str:
        """For people."""
        width = max(map(len, self.outcomes))
        lines = [
            f"{len(self.tasks)} episodes of {self.settings.steps} steps, layouts {self.settings.layout}, contact {self.settings.rule}; "
            f"planner {self.settings.planner.kind}, horizon {self.settings.horizon}, {self.settings.execute} executed",
            f"{'success, %':{width}}  " + "".join(f"{name:>22}" for name in CRITERIA) + f"{'goal room':>12}",
        ]
        for name, found in self.rates.items():
            cells = [f"{100 * v:.0f} ({100 * low:.0f} to {100 * high:.0f})" for v, low, high in found.values()]
            lines.append(
                f"{name:{width}}  " + "".join(f"{cell:>22}" for cell in cells) + f"{100 * self.crossed(name):>12.0f}"
            )
        lines += [f"{name}: {words}" for name, words in CRITERIA.items()]
        lines.append(f"95 % intervals (Wilson). The model's episodes took {self.seconds:.0f} s.")
        return "\n".join([*lines, *([f"files: {self.folder}"] if self.folder else [])])


@memory_kept()
def plan(
    path: str | Path,
    world: str = "rooms",
    overrides: Iterable[str] = (),
    *,
    episodes: Annotated[int, Ge(1)] = 100,
    seed: int = 0,
    references: bool = True,
    beside: str | Path | None = None,
    out: str | Path | None = None,
    step: int | None = None,
    pictures: bool = True,
) -> Any:
    """Play `episodes` tasks of a world with the model of a run, all at once, and keep table, filmstrip, film and energy landscape.

    world: 'rooms', 'camera', 'arm' (see `arm_planning.ArmSettings`), or the id of any gymnasium environment (see
    `acting.EnvSettings`). references: also the scripted policies and,
    in Two Rooms, the same planner with the true dynamics. beside: another run whose model plays the same tasks. step: the checkpoint
    to plan with, the newest by default. pictures: also films and the energy landscape. Files go to RUN/plans/<name>, or to `out`.
    """
    if episodes < 1:
        raise RecipeError(f"--episodes {episodes}: needs a whole number from 1")
    if world == "arm":
        if beside is not None:
            raise RecipeError(
                "--beside: world 'arm' plays one model at a time; plan with the other run by itself, the tasks are the same"
            )
        if step is not None:
            raise RecipeError("--at: world 'arm' plans with the newest checkpoint of a run alone")
        from tacit.runs.arm_planning import ArmSettings, plan_arm  # here: it needs mujoco

        own = read_settings(overrides, ArmSettings)
        return plan_arm(path, own, episodes=episodes, seed=seed, references=references, out=out)
    models = {"learned model": _steered(restore(path, step), seed)}
    if beside is not None:
        models[f"beside: {Path(beside).parent.name or beside}"] = _steered(restore(beside), seed)
    built = models["learned model"]
    if world != "rooms":
        given = read_settings(overrides, EnvSettings)
        name = f"{world}-{given.planner.kind}-n{episodes}-seed{seed}".replace("/", "-").replace(":", "-")
        folder = Path(out) if out else Path(path) / "plans" / name
        return act_in(
            models,
            world,
            given,
            episodes=episodes,
            seed=seed,
            references=references,
            folder=folder,
            run=str(path),
            pictures=pictures,
        )
    settings = read_settings(overrides)
    for model in models.values():
        check_model(model)
    if settings.layout == "data":
        settings = replace(settings, layout=built.recipe.data.get("layout", "random"))
    tasks = _tasks(settings, episodes, seed)
    outcomes: dict[str, Outcome] = {}
    seconds = 0.0
    for name, model in models.items():
        begun = time.perf_counter()
        outcomes[name] = play_model(model, tasks, settings, seed)
        seconds = seconds or time.perf_counter() - begun
    if references:
        outcomes["true dynamics, straight distance"] = _play(tasks, settings, true_cost, seed)
        outcomes["true dynamics, path length"] = _play(tasks, settings, partial(true_cost, distance=path_length), seed)
        outcomes |= scripted(tasks, steps=settings.steps, rule=settings.rule)
    name = f"{world}-{settings.layout}{_whose(settings)}-{settings.planner.kind}-n{episodes}-seed{seed}"
    folder = Path(out) if out else Path(path) / "plans" / name
    planned = Planned(outcomes, tasks, settings, folder, seconds)
    folder.mkdir(parents=True, exist_ok=True)
    write_records(folder, list(_records(planned, str(path), seed)))
    write_json(folder / "plan.json", planned.to_plain())
    if pictures:
        write_pictures(built, outcomes["learned model"], tasks, settings, folder)
    return planned


def _tasks(settings: PlanSettings, episodes: int, seed: int) -> Tasks:
    doors = {"eb-jepa": 18, "pldm": 10}
    layouts = fixed_layouts(episodes, door=doors[settings.layout]) if settings.layout in doors else None
    if settings.tasks == "eb-jepa":
        return published_tasks(episodes, seed, layouts=layouts)
    return random_tasks(keys(torch.arange(episodes), seed, "plan"), settings.level, layouts)


def _steered(built: Built, seed: int) -> Built:
    """The same, planned with known actions: a latent action model gets its controller."""
    if built.recipe.system.kind != "latent-action":
        return built
    return replace(built, system=Controlled(built.system, fit_controller(built, seed=seed)))


def read_settings(overrides: Iterable[str], form: Any = PlanSettings) -> Any:
    """Settings of the class `form` from `path=value` texts; raises RecipeError with all faults at once."""
    given: dict[str, Any] = {}
    faults: list[str] = []
    for text in overrides:
        path, equals, value = text.partition("=")
        if not equals or not path:
            faults.append(f"{text!r}: a setting reads path=value, for example planner.samples=200")
            continue
        node, names = given, path.split(".")
        for name in names[:-1]:
            child = node.get(name)
            node[name] = child = {"kind": child} if isinstance(child, str) else (child or {})
            node = child
        try:
            read = yaml.safe_load(value) if value else ""
        except yaml.YAMLError:
            faults.append(
                f"{path}: {value!r} cannot be read as a value; put quotes around text with special characters"
            )
            continue
        if isinstance(node.get(names[-1]), dict):
            node[names[-1]]["kind"] = read
        else:
            node[names[-1]] = read
    filled = fill(form, given, "", faults)
    if faults:
        raise RecipeError(faults)
    return form(**filled)


def check_model(built: Built) -> None:
    """Refuse a system that imagines nothing, and one that was trained on other actions or pictures than Two Rooms has."""
    system, facts = built.system, built.source.facts
    if not isinstance(system, Imagines):
        raise RecipeError(
            f"system {built.recipe.system.kind!r} predicts no actions: planning needs one that imagines, for example 'world-model'"
        )
    if facts.action_dim != 2:
        raise DataError(
            f"world 'rooms' takes actions of 2 numbers, this model was trained on actions of {facts.action_dim}"
        )
    if facts.channels != 2 or facts.shape is None or tuple(facts.shape[-2:]) != (SIZE, SIZE):
        raise DataError(
            f"world 'rooms' shows pictures of 2 channels and {SIZE} x {SIZE} pixels, this model was trained on {facts.channels} "
            f"channels and the shape {facts.shape}"
        )


def play_model(built: Built, tasks: Tasks, settings: PlanSettings, seed: int = 0) -> Outcome:
    """All tasks at once under plans of the learned model: one encoding an episode and plan, goals encoded once."""
    system, device = built.system, choose_device(settings.device)
    system.to(device).eval()
    look, imagine = (narrowed(call, device, settings.precision) for call in (system.encode, system.imagine))

    @torch.no_grad()
    def encode(pictures: Tensor) -> Tensor:
        seen: Any = built.views.plain(Batch({"image": View(pictures)}, torch.arange(len(pictures)))).views["image"].data
        return look(seen.to(device))

    goal = encode(Rooms(tasks).goal_picture())

    others = fit_ensemble(built, settings.ensemble, seed=seed) if settings.ensemble else []
    voices = [narrowed(other.imagine, device, settings.precision) for other in others]

    def see(worlds: Rooms) -> Cost:
        state = encode(worlds.picture())
        cost = goal_energy(imagine, state, goal, over=settings.over)
        if not voices:
            return cost
        return Wary(cost, disagreement(voices, state, weight=settings.uncertainty))

    return _play(tasks, settings, see, seed, device)


def _play(
    tasks: Tasks, settings: PlanSettings, see: Callable[[Rooms], Cost], seed: int, device: torch.device | str = "cpu"
) -> Outcome:
    planner = settings.planner.build(Bounds(norm=settings.bound))
    agent = Agent(
        planner, see, width=2, horizon=settings.horizon, problems=len(tasks), execute=settings.execute, warm=settings.warm,
        seed=key(seed, "plan") >> 1, device=device,
    )  # fmt: skip
    left = settings.steps
    return play(tasks, lambda worlds: agent.act(worlds, left - worlds.steps).cpu(), steps=left, rule=settings.rule)


def _records(planned: Planned, run: str, seed: int) -> Iterable[Record]:
    settings = planned.settings
    how = f"{settings.planner.kind},horizon={settings.horizon},execute={settings.execute},steps={settings.steps}"
    for name, played in planned.outcomes.items():
        for criterion in CRITERIA:
            success = played.success(criterion).tolist()
            for i, well in enumerate(success):
                yield Record(
                    run=run,
                    model=name,
                    benchmark=f"rooms-{settings.layout}-{settings.level}-{settings.rule}{_whose(settings)}@1",
                    protocol=f"{criterion},{how}@1",
                    item=f"{seed}/{i}",
                    prediction=_place(played.path[i, -1]),
                    answer=_place(planned.tasks.goal[i]),
                    score=float(played.distance[i]),
                    correct=bool(well),
                    seed=seed,
                )


def _whose(settings: PlanSettings) -> str:
    return "" if settings.tasks == "drawn" else f"-{settings.tasks}-tasks"


def _place(position: Tensor) -> str:
    return json.dumps([round(x, 2) for x in position.tolist()])
