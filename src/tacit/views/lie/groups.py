"""The symmetry groups of the equations here, generator by generator (derived by prolongation; each is tested by residual)."""

from __future__ import annotations

from tacit.views.lie.algebra import Group, linear_group, matrices_of

__all__ = ["BOUSSINESQ", "BURGERS", "GROUPS", "KDV", "KS", "NAVIER_STOKES", "POTENTIAL"]

_LINE = ("x", "t", "u", "1")
_SHIFTS = {
    "time": {("t", "1"): 1.0},
    "shift": {("x", "1"): 1.0},
    "galilei": {("x", "t"): 1.0, ("u", "1"): 1.0},
}

KDV = linear_group("kdv", _LINE, {**_SHIFTS, "scale": {("x", "x"): 1.0, ("t", "t"): 3.0, ("u", "u"): -2.0}})
"""u_t + u u_x + u_xxx = 0: translations, Galilei boost, scaling (e^g x, e^3g t, e^-2g u)."""

KS = linear_group("ks", _LINE, _SHIFTS)
"""u_t + u u_x + u_xx + nu u_xxxx = 0: translations and Galilei boost; scaling is no symmetry, u_xx and u_xxxx differ."""

BURGERS = Group(
    "burgers",
    ("x", "t", "1"),
    ("time", "shift", "galilei", "scale", "projective"),
    matrices_of(
        ("x", "t", "1"),
        {
            "time": {("t", "1"): 1.0},
            "shift": {("x", "1"): 1.0},
            "galilei": {("x", "t"): 1.0},
            "scale": {("t", "t"): 1.0, ("1", "1"): -1.0},
            "projective": {("1", "t"): -1.0},
        },
    ),
    action="projective",
)
"""u_t + u u_x = nu u_xx: x' = (x + beta t + gamma) / (c t + d), t' = (a t + b) / (c t + d), u carried like dx/dt.

Scaling is (e^g x, e^2g t, e^-g u); the projective flow x / (1 - g t), t / (1 - g t), u (1 - g t) + g x. All keep nu.
"""

_JACOBI = ("x", "t", "1", "level")
POTENTIAL = Group(
    "burgers-potential",
    _JACOBI,
    ("time", "shift", "level", "galilei", "scale", "projective"),
    matrices_of(
        _JACOBI,
        {
            "time": {("t", "1"): 1.0},
            "shift": {("x", "1"): 1.0, ("t", "level"): 0.5},
            "level": {("x", "level"): 1.0},
            "galilei": {("x", "t"): 1.0, ("1", "level"): -0.5},
            "scale": {("t", "t"): 1.0, ("1", "1"): -1.0},
            "projective": {("1", "t"): -1.0},
        },
    ),
    coupled={"viscosity": matrices_of(_JACOBI, {**{name: {} for name in ("time", "shift", "level", "galilei")},
                                                "scale": {("x", "level"): -1.0}, "projective": {}})},
    action="projective",
)  # fmt: skip
"""w_t + w_x^2 / 2 = nu w_xx, whose slope u = w_x is a Burgers solution and for which w = -2 nu log psi with psi_t = nu psi_xx.

The symmetries of Burgers lifted to w, and w + g. Boost and shift commute only up to a level, so the matrices are those of the
Jacobi group: the first row holds (1, beta, gamma, level), the last column what makes it a representation. What a heat
solution added to psi does (`potential.superpose`) is outside these: it has infinitely many dimensions.
"""

_PLANE = ("tt", "t", "x", "y", "vx", "vy", "p", "px", "py", "1")
_TIME = {("tt", "t"): 2.0, ("t", "1"): 1.0}
_SCALE = {("tt", "tt"): 4.0, ("t", "t"): 2.0, ("x", "x"): 1.0, ("y", "y"): 1.0, ("vx", "vx"): -1.0, ("vy", "vy"): -1.0}
_ROTATE = {("x", "y"): -1.0, ("y", "x"): 1.0, ("vx", "vy"): -1.0, ("vy", "vx"): 1.0}
_MOVES = {
    "time": _TIME,
    "shift_x": {("x", "1"): 1.0},
    "shift_y": {("y", "1"): 1.0},
}
_BOOSTS = {
    "linear_x": {("x", "t"): 1.0, ("vx", "1"): 1.0},
    "linear_y": {("y", "t"): 1.0, ("vy", "1"): 1.0},
    "quadratic_x": {("x", "tt"): 1.0, ("vx", "t"): 2.0, ("p", "x"): -2.0, ("px", "1"): -2.0},
    "quadratic_y": {("y", "tt"): 1.0, ("vy", "t"): 2.0, ("p", "y"): -2.0, ("py", "1"): -2.0},
}
_PRESSURE_SCALE = {("p", "p"): -2.0, ("px", "px"): -3.0, ("py", "py"): -3.0}

# What the released code applies under the same names. Without pressure: the quadratic x boost is the linear one again,
# the quadratic y boost moves y by t^2 and vy by 1, no symmetry of anything. With a pressure gradient: quadratic x is right
# but for the gradient, which loses 1 in place of 2; quadratic y moves y by t and vy by 2 t; the gradient is scaled like
# a pressure and is not rotated.
_OFFICIAL = {
    **_MOVES,
    "scale": _SCALE,
    "rotation": _ROTATE,
    "linear_x": _BOOSTS["linear_x"],
    "linear_y": _BOOSTS["linear_y"],
    "quadratic_x": {("x", "t"): 1.0, ("vx", "1"): 1.0},
    "quadratic_y": {("y", "tt"): 1.0, ("vy", "1"): 1.0},
}
_OFFICIAL_PRESSURE = {
    **_OFFICIAL,
    "scale": {**_SCALE, ("p", "p"): -2.0, ("px", "px"): -2.0, ("py", "py"): -2.0},
    "quadratic_x": {("x", "tt"): 1.0, ("vx", "t"): 2.0, ("px", "1"): -1.0},
    "quadratic_y": {("y", "t"): 1.0, ("vy", "t"): 2.0, ("py", "1"): -1.0},
}

_FLOW = {
    **_MOVES,
    "scale": {**_SCALE, **_PRESSURE_SCALE},
    "rotation": {**_ROTATE, ("px", "py"): -1.0, ("py", "px"): 1.0},
    **_BOOSTS,
}

NAVIER_STOKES = Group(
    "navier-stokes",
    _PLANE,
    tuple(_FLOW),
    matrices_of(_PLANE, _FLOW),
    official=(matrices_of(_PLANE, _OFFICIAL), matrices_of(_PLANE, _OFFICIAL_PRESSURE)),
)
"""Incompressible flow in the plane: translations, scaling, rotation, boosts linear and quadratic in t, with the pressure p
and its gradient (px, py) where the field has them. The pressure shift p + q(t) is left out: no derivative sees it."""

_SMOKE_PLANE = (*_PLANE[:-1], "s", "1")
_SMOKE = {
    **_MOVES,
    "scale": {**_SCALE, **_PRESSURE_SCALE, ("s", "s"): -3.0},
    **_BOOSTS,
    "smoke": {("s", "1"): 1.0},
}
_LIFTED: dict[str, dict[tuple[str, str], float]] = {
    **{name: {} for name in _SMOKE},
    "smoke": {("p", "y"): 1.0, ("py", "1"): 1.0},
}

BOUSSINESQ = Group(
    "boussinesq",
    _SMOKE_PLANE,
    tuple(_SMOKE),
    matrices_of(_SMOKE_PLANE, _SMOKE),
    coupled={"buoyancy": matrices_of(_SMOKE_PLANE, _LIFTED)},
)
"""Flow with buoyancy b s along y: rotation is gone, scaling takes s to e^-3g s, smoke may be raised by g if the pressure
is raised by g b y."""

GROUPS: dict[str, Group] = {g.equation: g for g in (KDV, KS, BURGERS, POTENTIAL, NAVIER_STOKES, BOUSSINESQ)}
"""By the name of the equation."""
