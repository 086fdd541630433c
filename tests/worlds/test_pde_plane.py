"""Flow in the plane: Taylor-Green, order, invariants and residual of the spectral solver; the laws of the smoke box."""

from __future__ import annotations

import math

import pytest
import torch

from tacit.core.errors import RecipeError
from tacit.core.spec import Spec
from tacit.ops.fields import Field
from tacit.ops.residual import residual
from tacit.worlds.pdes import exact, smoke
from tacit.worlds.pdes.invariants import drift
from tacit.worlds.pdes.vortex import flow_of, march_plane

F = torch.float64
TAU = 2 * math.pi


def nothing(n: int) -> torch.Tensor:
    return torch.zeros(n, dtype=F)


@pytest.mark.parametrize("boost", [(0.0, 0.0), (0.7, -0.4)])
def test_taylor_green_decays_exactly_and_is_carried_by_a_uniform_flow(boost):
    a = torch.arange(16, dtype=F) * TAU / 16
    x, y, t = a.reshape(1, -1, 1), a.reshape(1, 1, -1), torch.linspace(0, 1, 5, dtype=F).reshape(-1, 1, 1)
    truth = exact.taylor_green(x, y, t, 0.1, boost)
    start = truth["vorticity"][:1].unsqueeze(1)
    flow = torch.tensor([boost], dtype=F)
    state = march_plane(start, TAU, torch.tensor([[0.1]], dtype=F), nothing(1), 0.25, frames=5, substeps=40, boost=flow)
    still = boost == (0.0, 0.0)
    tolerance = 1e-13 if still else 1e-9
    torch.testing.assert_close(state[0, :, 0], truth["vorticity"], atol=tolerance, rtol=0)
    for name, values in flow_of(state, TAU, nothing(1), flow).items():
        torch.testing.assert_close(values[0], truth[name], atol=tolerance, rtol=0, msg=name)


@pytest.fixture(scope="module")
def rising() -> Field:
    settings = {"buoyancy": (0.2, 0.5), "horizon": 2.0, "frames": 41, "points": 48, "highest": 2}
    return Spec("world", "vortex", **settings).build().generate(0, range(2))


def test_flow_and_smoke_solve_the_boussinesq_equations(rising):
    assert rising.equation == "boussinesq"
    assert float(residual(rising).max()) < 1e-4
    assert float(drift(rising)["smoke"].max()) < 1e-14


def test_without_smoke_momentum_is_kept():
    field = Spec("world", "vortex", horizon=1.0, frames=21, points=32, highest=2).build().generate(0, range(2))
    assert max(float(d.max()) for d in drift(field).values()) < 1e-14
    assert float(residual(field).max()) < 1e-4


def test_the_plane_solver_has_order_four(rising):
    settings = {"buoyancy": (0.5, 0.5), "horizon": 2.0, "frames": 2, "points": 24, "highest": 2, "strength": 2.0}
    runs = [
        Spec("world", "vortex", substeps=n, **settings).build().generate(0, [0]).values["vx"] for n in (16, 32, 256)
    ]
    assert math.log2(float((runs[0] - runs[2]).norm() / (runs[1] - runs[2]).norm())) > 3.8


def test_exchanging_the_axes_exchanges_the_equations():
    """Wrong axis order shows: with x and y swapped the divergence is no longer zero."""
    field = Spec("world", "vortex", horizon=0.5, frames=11, points=32, highest=2).build().generate(0, [0])
    swapped = field.replace(values={name: v.transpose(-1, -2) for name, v in field.values.items()})
    assert float(residual(field)) < 1e-4
    assert float(residual(swapped)) > 0.1


def box(points: int = 32, n: int = 2):
    s = smoke.noise(0, range(n), points)
    return s, torch.zeros(n, points - 1, points, dtype=F), torch.zeros(n, points, points - 1, dtype=F)


def run(state, buoyancy, steps=6, viscosity=0.01, dx=1.0):
    s, vx, vy = state
    for _ in range(steps):
        s, vx, vy = smoke.step(s, vx, vy, buoyancy, viscosity, 1.5, dx)
    return s, vx, vy


def test_projection_leaves_no_divergence_and_keeps_what_has_none():
    rng = torch.Generator().manual_seed(0)
    vx, vy = torch.randn(2, 31, 32, dtype=F, generator=rng), torch.randn(2, 32, 31, dtype=F, generator=rng)
    px, py = smoke.project(vx, vy)
    assert float(smoke.divergence(px, py).abs().max()) < 1e-12
    again = smoke.project(px, py)
    torch.testing.assert_close(again[0], px)
    removed = (vx - px).flatten(1) @ px.flatten(1).T + (vy - py).flatten(1) @ py.flatten(1).T
    assert float(removed.diagonal().abs().max()) < 1e-9  # orthogonal: the nearest such velocity
    single = smoke.project(vx.float(), vy.float(), passes=2)
    assert float(smoke.divergence(*single).abs().max()) < 1e-5


def test_still_smoke_stays_at_rest_without_buoyancy_and_bounded_with_it():
    start = box()
    s, vx, vy = run(start, torch.zeros(2, dtype=F))
    assert float(vx.abs().max()) == float(vy.abs().max()) == 0.0
    torch.testing.assert_close(s, start[0])
    s, vx, vy = run(start, torch.full((2,), 0.5, dtype=F))
    assert float(vy.abs().max()) > 0.1
    assert float(s.min()) >= float(start[0].min()) - 1e-12
    assert float(s.max()) <= float(start[0].max()) + 1e-12


def test_pressure_balances_constant_smoke():
    s, vx, vy = box()
    _, vx, vy = run((torch.ones_like(s), vx, vy), torch.full((2,), 0.5, dtype=F), viscosity=0.0)
    assert float(vx.abs().max()) < 1e-12
    assert float(vy.abs().max()) < 1e-12


def test_a_mirrored_start_gives_the_mirrored_run():
    s, vx, vy = box()
    lift = torch.tensor([0.3, 0.5], dtype=F)
    one, two = run((s, vx, vy), lift), run((s.flip(1), vx, vy), lift)
    torch.testing.assert_close(two[0], one[0].flip(1), atol=1e-10, rtol=0)
    torch.testing.assert_close(two[1], -one[1].flip(1), atol=1e-10, rtol=0)
    torch.testing.assert_close(two[2], one[2].flip(1), atol=1e-10, rtol=0)


def test_smoke_times_m_and_buoyancy_over_m_give_one_velocity():
    s, vx, vy = box()
    lift = torch.tensor([0.3, 0.5], dtype=F)
    one, two = run((s, vx, vy), lift), run((4 * s, vx, vy), lift / 4)
    torch.testing.assert_close(two[2], one[2])


def test_a_smoke_step_equals_the_scheme_written_out_cell_by_cell():
    """One step on a small box in plain loops."""
    n, r, b, nu = 6, 1.5, 0.4, 0.1
    rng = torch.Generator().manual_seed(3)
    s = torch.rand(1, n, n, dtype=F, generator=rng)
    vx = torch.randn(1, n - 1, n, dtype=F, generator=rng) * 0.4
    vy = torch.randn(1, n, n - 1, dtype=F, generator=rng) * 0.4

    def face_x(i, j):  # x-face i between cells i - 1 and i; zero on walls and beyond
        return float(vx[0, i - 1, j]) if 0 < i < n and 0 <= j < n else 0.0

    def face_y(i, j):
        return float(vy[0, i, j - 1]) if 0 < j < n and 0 <= i < n else 0.0

    def blend(value, x, y, low_x, high_x, low_y, high_y):
        x, y = min(max(x, low_x), high_x), min(max(y, low_y), high_y)
        i, j = min(math.floor(x), high_x - 1), min(math.floor(y), high_y - 1)
        fx, fy = x - i, y - j
        lower = (1 - fy) * value(i, j) + fy * value(i, j + 1)
        return (1 - fx) * lower + fx * ((1 - fy) * value(i + 1, j) + fy * value(i + 1, j + 1))

    moved = torch.zeros(n, n, dtype=F)
    for i in range(n):
        for j in range(n):
            u, v = (face_x(i, j) + face_x(i + 1, j)) / 2, (face_y(i, j) + face_y(i, j + 1)) / 2
            moved[i, j] = blend(lambda a, c: float(s[0, a, c]), i - r * u, j - r * v, 0, n - 1, 0, n - 1)
    new_x, new_y = torch.zeros(n + 1, n, dtype=F), torch.zeros(n, n + 1, dtype=F)
    for i in range(1, n):
        for j in range(n):
            v = (face_y(i - 1, j) + face_y(i - 1, j + 1) + face_y(i, j) + face_y(i, j + 1)) / 4
            new_x[i, j] = blend(face_x, i - r * face_x(i, j), j - r * v, 0, n, -1, n)
    for i in range(n):
        for j in range(1, n):
            u = (face_x(i, j - 1) + face_x(i + 1, j - 1) + face_x(i, j) + face_x(i + 1, j)) / 4
            new_y[i, j] = blend(face_y, i - r * u, j - r * face_y(i, j), -1, n, 0, n)
            new_y[i, j] += 1.5 * b * float(moved[i, j - 1] + moved[i, j]) / 2
    wide_x, wide_y = torch.zeros(n + 1, n + 2, dtype=F), torch.zeros(n + 2, n + 1, dtype=F)
    wide_x[:, 1:-1], wide_y[1:-1] = new_x, new_y
    for i in range(1, n):
        for j in range(1, n + 1):
            near = wide_x[i - 1, j] + wide_x[i + 1, j] + wide_x[i, j - 1] + wide_x[i, j + 1] - 4 * wide_x[i, j]
            new_x[i, j - 1] = wide_x[i, j] + nu * 1.5 * near
            near = wide_y[j - 1, i] + wide_y[j + 1, i] + wide_y[j, i - 1] + wide_y[j, i + 1] - 4 * wide_y[j, i]
            new_y[j - 1, i] = wide_y[j, i] + nu * 1.5 * near
    px, py = smoke.project(new_x[None, 1:-1], new_y[None, :, 1:-1])
    got = smoke.step(s, vx, vy, torch.tensor([b], dtype=F), nu, 1.5, 1.0)
    for ours, loops in zip(got, (moved[None], px, py), strict=True):
        torch.testing.assert_close(ours, loops, atol=1e-12, rtol=0)


def test_the_smoke_world_has_the_published_shape_noise_and_labels():
    world = Spec("world", "smoke", points=32, length=16.0, frames=5, warmup=2).build()
    field = world.generate(0, range(4))
    assert field.values["s"].shape == field.values["vx"].shape == (4, 5, 32, 32)
    assert 0.2 <= float(field.parameters["buoyancy"].min()) <= float(field.parameters["buoyancy"].max()) <= 0.5
    assert field.time[0].tolist() == [4.5, 6.0, 7.5, 9.0, 10.5]
    assert field.space[0][0, :2].tolist() == [0.25, 0.75]
    assert float(field.values["vx"][:, :, 0].abs().max()) == 0.0  # the wall
    labelled = Spec("world", "smoke", points=32, length=16.0, frames=5, warmup=2, compat="official").build()
    official = labelled.generate(0, [2])
    assert official.time[0, [0, -1]].tolist() == [18.0, 102.0]
    assert official.space[1][0, [0, -1]].tolist() == [0.0, 16.0]
    torch.testing.assert_close(official.values["vy"][0], field.values["vy"][2], atol=1e-10, rtol=0)
    a = smoke.noise(7, range(3), 64)
    assert float(a.min()) >= 0
    modes = torch.fft.fft2(a.square())  # |a| of four modes: the square holds |n| <= 2 alone
    far = modes.abs()[:, 4:-4].max() / modes.abs().max()
    assert float(far) < 1e-3


def test_steps_beyond_the_diffusion_limit_are_refused_before_they_blow_up():
    with pytest.raises(
        RecipeError, match=r"diffusion number nu dt / dx\^2 is 0.96 and blows up above 0.25: lower dt to 0.391"
    ):
        Spec("world", "smoke", points=256).resolve()
    with pytest.raises(RecipeError, match="greater than or equal to 0"):
        Spec("world", "smoke", viscosity=-0.01).resolve()
    with pytest.raises(RecipeError, match=r"24 points keep wave numbers below 8.0: raise points"):
        Spec("world", "vortex", points=24, highest=9).resolve()
