"""Korteweg-de Vries, u_t + u u_x + u_xxx = 0, and Kuramoto-Sivashinsky, u_t + u u_x + u_xx + nu u_xxxx = 0."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

import torch
from annotated_types import Ge, Gt, Lt
from torch import Tensor

from tacit.core.parts import part
from tacit.ops import spectral
from tacit.ops.fields import Field
from tacit.ops.imex import Method
from tacit.worlds.pdes import draws
from tacit.worlds.pdes.line import controlled, march, refuse_blow_up, refuse_unresolved

__all__ = ["KdV", "KuramotoSivashinsky"]

Precision = Literal["float64", "float32"]


def check_rows(settings: Mapping[str, Any]) -> Iterable[str]:
    """Rules across the settings that every equation on a line has."""
    if settings["stored"] > settings["frames"]:
        yield f"stored: only frames={settings['frames']} frames are solved, {settings['stored']} cannot be stored"
    if settings["highest"] <= settings["lowest"]:
        yield f"highest: the upper bound is excluded, so it must exceed lowest={settings['lowest']}, found {settings['highest']}"
    if 2 * settings["highest"] > settings["points"]:
        yield f"points: {settings['points']} points cannot hold wave number {settings['highest'] - 1}: raise points"


def solve_waves(
    equation: str,
    seed: int,
    indices: Sequence[int],
    device: torch.device | str,
    symbol: Callable[[Tensor], Tensor],
    settings: Mapping[str, Any],
    known: Mapping[str, Tensor],
) -> Field:
    """Draw waves, length and horizon of each trajectory (LPSDA), solve, keep the last `stored` frames.

    symbol: k [n k] -> the linear part. known: further parameters to record, [n] each.
    """
    n, points, frames = len(indices), settings["points"], settings["frames"]
    length = draws.jittered(seed, indices, "length", settings["length"], settings["jitter"])
    horizon = draws.jittered(seed, indices, "horizon", settings["horizon"], settings["jitter"])
    initial = draws.waves(seed, indices, settings["waves"], settings["lowest"], settings["highest"])
    x = torch.arange(points, dtype=torch.float64) / points * length.unsqueeze(1)
    start = initial(x, length).to(device, getattr(torch, settings["precision"]))
    length, horizon = length.to(device), horizon.to(device)
    linear = symbol(spectral.wavenumbers(points, length))
    interval = horizon / (frames - 1)
    skip = frames - settings["stored"]

    def solve(which: Tensor, substeps: int) -> Tensor:
        return march(
            start[which],
            linear[which],
            1.0,
            length[which],
            interval[which],
            frames=frames,
            substeps=substeps,
            dealias=settings["dealias"],
            skip=skip,
            method=settings["method"],
        )

    values = controlled(solve, n, settings["substeps"], settings["tolerance"], start.device)
    time = torch.arange(skip, frames, dtype=torch.float64, device=device) * interval.unsqueeze(1)
    refuse_blow_up(values, time, equation, int(indices[0]))
    modes = torch.fft.rfft(values)[..., : spectral.kept_modes(points, settings["dealias"])]
    refuse_unresolved(modes, time, equation, int(indices[0]))
    known_waves = initial.facts() | initial.modes(settings["lowest"], settings["highest"])
    drawn = {name: value.to(device) for name, value in known_waves.items()}
    facts = {**drawn, "length": length, "horizon": horizon, **known}
    return Field(equation, {"u": values}, time, (x.to(device),), (True,), facts)


@part("world", "kdv")
class KdV:
    """Korteweg-de Vries trajectories, initial conditions of LPSDA (arXiv 2202.07643): 256 points, the last 140 of 250 frames.

    ETDRK4 with complex coefficients. At the default of 8 substeps (h about 0.05) the relative error at the horizon is
    about 2e-6, below that of the published generator (9e-6). `length` and `horizon` vary by `jitter` in each trajectory.
    The "easy" set of the paper has horizon=50.
    """

    equation = "kdv"
    family: ClassVar = {"waves": 3, "highest": 4}  # settings of another family of starts, for probes
    check_settings = staticmethod(check_rows)

    def __init__(
        self,
        *,
        length: Annotated[float, Gt(0)] = 128.0,
        horizon: Annotated[float, Gt(0)] = 100.0,
        jitter: Annotated[float, Ge(0), Lt(1)] = 0.1,
        points: Annotated[int, Ge(8)] = 256,
        frames: Annotated[int, Ge(2)] = 250,
        stored: Annotated[int, Ge(1)] = 140,
        waves: Annotated[int, Ge(1)] = 10,
        lowest: Annotated[int, Ge(1)] = 1,
        highest: Annotated[int, Ge(2)] = 3,
        substeps: Annotated[int, Ge(1)] = 8,
        method: Method = "etdrk4",
        dealias: bool = True,
        tolerance: Annotated[float, Gt(0)] | None = None,
        precision: Precision = "float64",
    ) -> None:
        self.settings = {name: value for name, value in locals().items() if name != "self"}

    def generate(self, seed: int, indices: Sequence[int], device: torch.device | str = "cpu") -> Field:
        """The trajectories `indices` of this seed; each is the same whatever else is asked for."""
        return solve_waves(self.equation, seed, indices, device, lambda k: 1j * k**3, self.settings, {})


@part("world", "ks")
class KuramotoSivashinsky:
    """Kuramoto-Sivashinsky trajectories, LPSDA settings: L = 64, T = 100, 500 frames of which the last 140 are kept.

    Chaotic: an error at the start grows by orders of magnitude until the horizon. The default 16 substeps of the exponential Adams
    scheme leave about 1e-7 there, which two fine runs are apart; 8 of ETDRK4, twice the work, leave 2e-4.
    `viscosity` (lowest, highest) is drawn for each trajectory; (1, 1) is the equation of the paper.
    """

    equation = "ks"
    family: ClassVar = {"waves": 3, "highest": 4}  # settings of another family of starts, for probes

    def __init__(
        self,
        *,
        length: Annotated[float, Gt(0)] = 64.0,
        horizon: Annotated[float, Gt(0)] = 100.0,
        jitter: Annotated[float, Ge(0), Lt(1)] = 0.1,
        points: Annotated[int, Ge(8)] = 256,
        frames: Annotated[int, Ge(2)] = 500,
        stored: Annotated[int, Ge(1)] = 140,
        waves: Annotated[int, Ge(1)] = 10,
        lowest: Annotated[int, Ge(1)] = 1,
        highest: Annotated[int, Ge(2)] = 3,
        viscosity: tuple[Annotated[float, Gt(0)], Annotated[float, Gt(0)]] = (1.0, 1.0),
        substeps: Annotated[int, Ge(1)] = 16,
        method: Method = "adams",
        dealias: bool = True,
        tolerance: Annotated[float, Gt(0)] | None = None,
        precision: Precision = "float64",
    ) -> None:
        self.settings = {name: value for name, value in locals().items() if name != "self"}

    @staticmethod
    def check_settings(settings: Mapping[str, Any]) -> Iterable[str]:
        """Rules across settings."""
        yield from check_rows(settings)
        low, high = settings["viscosity"]
        if low > high:
            yield f"viscosity: the range must rise, found {low:g} to {high:g}"

    def generate(self, seed: int, indices: Sequence[int], device: torch.device | str = "cpu") -> Field:
        """The trajectories `indices` of this seed; each is the same whatever else is asked for."""
        nu = draws.uniform(seed, indices, "viscosity", *self.settings["viscosity"]).to(device)
        return solve_waves(
            self.equation,
            seed,
            indices,
            device,
            lambda k: k**2 - nu.unsqueeze(1) * k**4,
            self.settings,
            {"viscosity": nu},
        )
