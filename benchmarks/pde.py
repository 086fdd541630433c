"""Solvers and symmetries of differential equations beside their peers: CPU seconds on one thread, ratios in one run.

    python benchmarks/pde.py [--only kdv ks smoke view windows accuracy batch] [--repeats 5] [--json results.json]
                             [--lpsda CHECKOUT] [--sslforpdes CHECKOUT] [--well CHECKOUT]

Peers are measured where they are at hand: LPSDA, SSLForPDEs and The Well from checkouts, PhiFlow and exponax from the environment.
Ours are medians over `repeats`, the slow peers run once. Errors are relative to a converged run of the same start.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import math
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"

import numpy as np
import torch

import pde_accuracy
from tacit.core.spec import Spec
from tacit.core.values import Batch, Facts, View
from tacit.ops import spectral
from tacit.worlds.pdes import exact
from tacit.worlds.pdes import smoke as box
from tacit.worlds.pdes.layouts import well
from tacit.worlds.pdes.line import march, relative_gap
from tacit.worlds.pdes.making import Job, finish

F = torch.float64
Rows = list[dict[str, Any]]


def cpu(run: Callable[[], Any], repeats: int) -> float:
    """Median CPU seconds of `run`, after one that does not count unless there is only one."""
    if repeats > 1:
        run()
    seconds = []
    for _ in range(repeats):
        start = time.process_time()
        run()
        seconds.append(time.process_time() - start)
    return statistics.median(seconds)


def row(task: str, who: str, seconds: float | None = None, **more: Any) -> dict[str, Any]:
    return {"task": task, "who": who, "seconds": seconds, **more}


def published(kind: str, options: argparse.Namespace) -> Rows:
    """The published generator (Radau 1e-9) beside ours on the same starts; error at the stored frames."""
    n = 64
    few, rows = range(options.peer_runs), []
    truth = Spec("world", kind, substeps=128, method="etdrk4").build().generate(0, few).values["u"]
    for substeps in (6, 8, 32) if kind == "kdv" else (12, 16, 24):
        world = Spec("world", kind, substeps=substeps).build()
        seconds = cpu(lambda w=world: w.generate(0, range(n)), options.repeats) / n
        field = world.generate(0, few)
        error = float(relative_gap(field.values["u"], truth).median())
        rows.append(row(f"{kind} trajectory", "tacit", seconds, steps=substeps, error=error))
    if options.lpsda:
        sys.path.insert(0, str(options.lpsda))
        from scipy.integrate import solve_ivp

        short = Spec("world", kind, frames=2, stored=2, horizon=0.1)  # the starts do not depend on the horizon
        starts = short.build().generate(0, few).values["u"][:, 0]
        peer = importlib.import_module("equations.PDEs")
        method = {"kdv": peer.KdV, "ks": peer.KS}[kind]().pseudospectral_reconstruction
        frames, spent, errors = world.settings["frames"], [], []
        for i in range(options.peer_runs):
            length, horizon = (float(field.parameters[name][i]) for name in ("length", "horizon"))
            u0 = starts[i].numpy()
            start = time.process_time()
            at = np.linspace(0, horizon, frames)
            found = solve_ivp(method, (0, horizon), u0, "Radau", at, args=(length,), atol=1e-9, rtol=1e-9)
            spent.append(time.process_time() - start)
            stored = torch.from_numpy(found.y.T[-world.settings["stored"] :].copy()).unsqueeze(0)
            errors.append(float(relative_gap(stored, truth[i : i + 1])))
        rows.append(row(f"{kind} trajectory", "LPSDA", statistics.median(spent), error=statistics.median(errors)))
    return rows + exponax(kind, options)


def exponax(kind: str, options: argparse.Namespace) -> Rows:
    """A soliton (KdV) or 10 time units (KS) on 256 points, batch of 64: CPU seconds a step, and the error after it."""
    if importlib.util.find_spec("exponax") is None:
        return []
    import exponax as ex
    import jax

    jax.config.update("jax_enable_x64", True)
    length, horizon, n = (60.0, 4.0, 64) if kind == "kdv" else (64.0, 10.0, 64)
    x = torch.arange(256, dtype=F) * length / 256 - length / 2
    u0 = (
        exact.kdv_soliton(x, 0.0)
        if kind == "kdv"
        else torch.sin(2 * math.pi * x / length) + torch.cos(6 * math.pi * x / length)
    )
    period, k = torch.tensor([length], dtype=F), spectral.wavenumbers(256, length)
    linear = (1j * k**3 if kind == "kdv" else k**2 - k**4).unsqueeze(0)

    def ours(steps: int, method: str, count: int = n) -> torch.Tensor:
        many = (count,)
        start, interval = u0.expand(count, -1), torch.full(many, horizon, dtype=F)
        more = {"frames": 2, "substeps": steps, "method": method}
        return march(start, linear.expand(count, -1), 1.0, period.expand(count), interval, **more)[:, 1]

    truth = exact.kdv_soliton(x, horizon) if kind == "kdv" else ours(20_000, "etdrk4", 1)[0]
    rows = []
    tried = [("etdrk4", steps) for steps in ((80, 160, 320) if kind == "kdv" else (80, 160))]
    tried += [("adams", steps) for steps in (() if kind == "kdv" else (240, 320, 640, 1280))]
    for method, steps in tried:
        error = float((ours(steps, method, 1)[0] - truth).norm() / truth.norm())
        rows.append(
            row(
                f"{kind} to t = {horizon:g}",
                "tacit",
                cpu(lambda s=steps, m=method: ours(s, m), options.repeats) / n,
                steps=steps,
                error=error,
            )
        )
    for steps in (80, 160, 320, 1280):
        dt = horizon / steps
        if kind == "kdv":
            one = ex.stepper.KortewegDeVries(
                1, length, 256, dt, convection_scale=1.0, dispersivity=1.0, hyper_diffusivity=0.0, order=4
            )
        else:
            one = ex.stepper.KuramotoSivashinskyConservative(1, length, 256, dt, order=4)
        run = jax.jit(jax.vmap(ex.repeat(one, steps)))
        start = jax.numpy.asarray(u0.expand(n, 1, -1).numpy().copy())
        result = torch.from_numpy(np.array(run(start)))[0, 0]
        seconds = cpu(lambda r=run, s=start: r(s).block_until_ready(), options.repeats) / n
        rows.append(
            row(
                f"{kind} to t = {horizon:g}",
                "exponax",
                seconds,
                steps=steps,
                error=float((result - truth).norm() / truth.norm()),
            )
        )
    return rows


def smoke(options: argparse.Namespace) -> Rows:
    """64 steps at 128 x 128; PhiFlow for four steps, times sixteen, and how far apart the two are after them."""
    world = Spec("world", "smoke").build()
    rows = [row("smoke 128 x 128, 64 steps", "tacit", cpu(lambda: world.generate(0, [0]), options.repeats))]
    if importlib.util.find_spec("phi") is None:
        return rows
    import warnings

    warnings.simplefilter("ignore")
    from phi.flow import Box, CenteredGrid, StaggeredGrid, advect, diffuse, extrapolation, fluid, math, spatial, tensor

    n, steps, lift = 128, 4, 0.4
    area = Box(x=32, y=32)
    s = box.noise(0, [0], n)
    with math.precision(64):
        centred = CenteredGrid(tensor(s[0].numpy(), spatial("x,y")), extrapolation.BOUNDARY, x=n, y=n, bounds=area)
        velocity = StaggeredGrid(0, extrapolation.ZERO, x=n, y=n, bounds=area)
        vx, vy = torch.zeros(1, n - 1, n, dtype=F), torch.zeros(1, n, n - 1, dtype=F)
        start = time.process_time()
        for _ in range(steps):
            centred = advect.semi_lagrangian(centred, velocity, 1.5)
            force = (centred * (0, lift)).at(velocity)
            velocity = advect.semi_lagrangian(velocity, velocity, 1.5) + 1.5 * force
            velocity = diffuse.explicit(velocity, 0.01, 1.5)
            velocity, _ = fluid.make_incompressible(velocity)
        seconds = (time.process_time() - start) * 64 / steps
        for _ in range(steps):
            s, vx, vy = box.step(s, vx, vy, torch.tensor([lift], dtype=F), 0.01, 1.5, 0.25)
        faces = velocity.staggered_tensor().numpy("x,y,vector")
    gap = max(abs(faces[1:-1, :-1, 0] - vx[0].numpy()).max(), abs(faces[:-1, 1:-1, 1] - vy[0].numpy()).max())
    return [*rows, row("smoke 128 x 128, 64 steps", "PhiFlow", seconds, error=float(gap / abs(faces).max()))]


def view(options: argparse.Namespace) -> Rows:
    """One augmented view (16, 128, 128) of a Navier-Stokes sample in float32, defaults of the released recipe."""
    n = 8
    axis = ((torch.arange(128, dtype=F) + 0.5) / 4).expand(n, -1)
    facts = {"time": torch.linspace(18, 102, 56, dtype=F).expand(n, -1), "x": axis, "y": axis}
    batch = Batch({"image": View(torch.randn(n, 3, 56, 128, 128))}, torch.arange(n), facts=facts)
    views = Spec("views", "lie-plane").build(Facts(channels=3, shape=(56, 128, 128)))
    rows = [row("Navier-Stokes view", "tacit", cpu(lambda: views(batch, 0, 0), options.repeats) / (2 * n))]
    if options.sslforpdes:
        sys.path.insert(0, str(options.sslforpdes))
        peer = importlib.import_module("utils").LPSNavierStokes(
            [0, 1, 1, 0.1, 0.1, 0.01, 0.01, 0.01, 0.01], 2, 2, (16, 128, 128)
        )
        t, x, y = torch.meshgrid(facts["time"][0], axis[0], axis[0], indexing="ij")
        sample = (x.float(), y.float(), t.float(), *torch.randn(2, 56, 128, 128))
        rows.append(row("Navier-Stokes view", "SSLForPDEs", cpu(lambda: peer(sample), options.repeats)))
    return rows


def windows(options: argparse.Namespace) -> Rows:
    """Items of files in the format of The Well: held handles beside a file opened for each item, as its own reader does."""
    with tempfile.TemporaryDirectory() as folder:
        world = Spec("world", "kdv", length=64.0, horizon=5.0, points=64, frames=40, stored=40, jitter=0.0)
        paths = finish(Job(world, 64, size=8, layout="well"), Path(folder))
        held = well.Windows(paths, 1, 1)
        order = np.random.Generator(np.random.Philox(key=0)).permutation(len(held))[:400].tolist()

        kept = cpu(lambda: [held[i] for i in order], options.repeats) / len(order)
        single = well.Windows(paths[:1], 1, 1)
        spent = cpu(lambda: [(single.close(), single[i % len(single)]) for i in order[:100]], options.repeats) / 100
        rows = [row("item of The Well", "tacit", kept), row("item of The Well", "a file opened for each item", spent)]
        if options.well:
            sys.path.insert(0, str(options.well))
            reader = importlib.import_module("the_well.data.datasets").WellDataset
            peer = reader(
                path=str(paths[0].parent), n_steps_input=1, n_steps_output=1, use_normalization=False, max_dt_stride=1
            )
            same = all(torch.equal(held[i][key], peer[i][key]) for i in order[:20] for key in held[0])
            seconds = cpu(lambda: [peer[i] for i in order[:100]], options.repeats) / 100
            rows.append(row("item of The Well", "the_well's reader", seconds, error=float(not same)))
        held.close()
    return rows


def accuracy(_: argparse.Namespace) -> Rows:
    """Errors against exact solutions and the order seen at each doubling of the steps."""
    return list(pde_accuracy.accuracy())


def batch(_: argparse.Namespace) -> Rows:
    """KdV trajectories by batch size, wall time, on the GPU where there is one."""
    device, rows = ("cuda" if torch.cuda.is_available() else "cpu"), []
    world = Spec("world", "kdv").build()
    for n in (8, 32, 128) if device == "cpu" else (32, 256, 2048):
        start = time.perf_counter()
        world.generate(0, range(n), device).values["u"].cpu()
        rows.append(row(f"kdv batch {n}", f"tacit on {device}", (time.perf_counter() - start) / n))
    return rows


CASES: dict[str, Callable[[argparse.Namespace], Rows]] = {
    "kdv": lambda o: published("kdv", o),
    "ks": lambda o: published("ks", o),
    "smoke": smoke,
    "view": view,
    "windows": windows,
    "accuracy": accuracy,
    "batch": batch,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--peer-runs", type=int, default=3, help="trajectories that the slow published solver makes")
    parser.add_argument("--lpsda", type=Path)
    parser.add_argument("--sslforpdes", type=Path)
    parser.add_argument("--well", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows: Rows = []
    for name in options.only:
        for entry in CASES[name](options):
            first = next((r for r in rows if r["task"] == entry["task"] and r["seconds"]), entry)
            ratio = entry["seconds"] / first["seconds"] if entry["seconds"] else math.nan
            shown = f"{entry['seconds']:.5f} s  x{ratio:8.1f}" if entry["seconds"] else " " * 20
            rest = "  ".join(f"{key} {entry[key]:.3g}" for key in ("steps", "error", "order") if key in entry)
            print(f"{entry['task']:28} {entry['who']:30} {shown}  {rest}", flush=True)
            rows.append(entry)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
