"""Environments of the field by their gymnasium ids: which package brings an id, whether its version fits, and quick software rendering.

Nothing here is imported by the rest of `worlds`; gymnasium and each package are imported when an id asks for them. Version coupling is
fragile: Fetch and Metaworld 3.0 fail with mujoco from 3.17 on, dm-control 1.0.50 needs it from there and fails with 4.0; gym-pusht
needs pymunk below 7.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tacit.core.errors import DataError, MissingExtraError, RecipeError, UnknownNameError, need, unknown

__all__ = ["OURS", "Family", "family_of", "fast_rendering", "make_field"]

OURS: Mapping[str, str] = {
    "rooms": "tacit.worlds.rooms.env:tacit/TwoRooms-v0",
    "camera": "tacit.worlds.camera.env:tacit/MovingCamera-v0",
}


@dataclass(frozen=True)
class Family:
    """A package of environments: its module, what to install, the ids it brings, and which versions of others it works with."""

    name: str
    module: str
    install: str
    ids: str
    versions: Mapping[str, str] = field(default_factory=dict)
    names: tuple[str, ...] = ()


_FAMILIES = (
    Family(
        "gymnasium-robotics", "gymnasium_robotics", "gymnasium-robotics 'mujoco<3.17'",
        r"(PointMaze|AntMaze|Fetch|HandReach|HandManipulate|FrankaKitchen|AdroitHand)", {"mujoco": "<3.17"},
    ),
    Family("Metaworld", "metaworld", "metaworld 'mujoco<3.17'", r"Meta-World/", {"mujoco": "<3.17"}),
    Family(
        "dm_control", "shimmy", "'shimmy[dm-control]>=2' 'mujoco<4'", r"dm_control/",
        {"dm-control": ">=1.0", "mujoco": "<4"}, ("dm_control",),
    ),
    Family(
        "OGBench", "ogbench", "ogbench",
        r"(visual-)?(pointmaze|antmaze|humanoidmaze|antsoccer|cube|scene|puzzle|powderworld)-", {"mujoco": ">=3.1"},
    ),
    Family("Push-T", "gym_pusht", "gym-pusht 'pymunk<7'", r"gym_pusht/", {"pymunk": "<7"}),
)  # fmt: skip


def family_of(name: str) -> Family | None:
    """The package that brings this id, None for gymnasium's own and others."""
    bare = name.rpartition(":")[2]
    return next((family for family in _FAMILIES if re.match(family.ids, bare)), None)


def fast_rendering() -> None:
    """Choose off-screen rendering without a window before mujoco is imported: EGL, which works with software Mesa too, unless set."""
    os.environ.setdefault("MUJOCO_GL", "egl")


def _check_versions(family: Family) -> None:
    from packaging.specifiers import SpecifierSet

    for package, wanted in family.versions.items():
        try:
            found = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            raise MissingExtraError(
                f"{family.name} needs the package {package!r}, which is not installed: pip install {family.install}"
            ) from None
        if found not in SpecifierSet(wanted, prereleases=True):
            raise MissingExtraError(
                f"{family.name} works with {package} {wanted}, found {found}: pip install {family.install}"
            )


def make_field(name: str, **settings: Any) -> Any:
    """The environment of a gymnasium id (`module:Name-v0` imports the module first), of 'rooms' or of 'camera'.

    Raises MissingExtraError with the package to install, or whose version does not fit, and UnknownNameError for an id nobody brings.
    Rendered with MuJoCo, shadows and multisampling are switched off: with software rendering they cost all but a few frames a second.
    """
    gymnasium = need("gymnasium", "worlds", "acting in environments")
    name = OURS.get(name, name)
    family = family_of(name)
    if family is not None:
        if importlib.util.find_spec(family.module) is None:
            raise MissingExtraError(
                f"the environment {name!r} needs the package {family.name}, which is not installed: pip install {family.install}"
            )
        _check_versions(family)
        fast_rendering()
        module = importlib.import_module(family.module)
        if hasattr(module, "register_robotics_envs") or "gymnasium_robotics" in family.module:
            gymnasium.register_envs(module)
    try:
        env = gymnasium.make(name, **settings)
    except (gymnasium.error.NameNotFound, gymnasium.error.NamespaceNotFound, gymnasium.error.UnregisteredEnv) as error:
        raise UnknownNameError(unknown("environment", name, [*OURS, *gymnasium.registry])) from error
    except gymnasium.error.Error as error:
        raise RecipeError(f"the environment {name!r} cannot be made: {error}") from error
    except TypeError as error:
        raise RecipeError(
            f"the environment {name!r} does not take these settings ({', '.join(settings)}): {error}"
        ) from error
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"the environment {name!r} needs the package {error.name!r}, which is not installed"
        ) from error
    _without_shadows(env)
    return env


def _without_shadows(env: Any) -> None:
    """The fast profile of a MuJoCo model: no multisampling, no shadows."""
    model = getattr(env.unwrapped, "model", None)
    quality = getattr(getattr(model, "vis", None), "quality", None)
    if quality is not None:
        quality.offsamples, quality.shadowsize = 0, 0


def space_width(env: Any, name: str) -> int:
    """Numbers of an action; only boxes of one axis can be planned in."""
    space = env.action_space
    shape = getattr(space, "shape", None)
    if type(space).__name__ != "Box" or shape is None or len(shape) != 1:
        raise DataError(f"environment {name!r} takes actions of {space}: planning here needs a box of numbers")
    return int(shape[0])
