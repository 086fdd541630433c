"""Groups as matrices: a generator is a matrix, an element its exponential, composition the matrix product.

Where a group acts linearly on z = (powers of t, x, y, fields, 1), one small matrix exponential per sample replaces every
product formula: exact, batched, differentiable, on any device. The product formula of the paper is kept beside it.
Legend: n samples, k generators, d the size of z.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from tacit.core.errors import DataError, UnknownNameError, unknown

__all__ = ["Action", "Element", "Group", "Method", "linear_group", "suzuki"]

Method = Literal["exact", "product"]
Compat = Literal["correct", "official"]
Action = Literal["linear", "projective"]
Entries = Mapping[tuple[str, str], float]
"""A generator by its non-zero matrix entries: (row, column) by the names of z; ("x", "t"): 1 says dx = t."""


@dataclass(frozen=True)
class Group:
    """A Lie group of point symmetries, given by the matrices of its generators on z = `variables`.

    basis: [k d d]. coupled: for each parameter of the equation, further matrices [k d d] that it multiplies (buoyancy).
    official: the matrices of the released code where they differ, in its order of application, without and with a
    pressure gradient among the fields (it treats the two cases differently).
    action: "linear", z' = A z; "projective", Burgers' action of 3 x 3 matrices on (x, t, 1), or of 4 x 4 ones that also lift it to
    the potential.
    one_sided: generators whose parameter is drawn from U(0, s) in place of U(-s, s).
    """

    equation: str
    variables: tuple[str, ...]
    generators: tuple[str, ...]
    basis: Tensor
    coupled: Mapping[str, Tensor] = field(default_factory=dict)
    official: tuple[Tensor, Tensor] | None = None
    action: Action = "linear"
    one_sided: tuple[str, ...] = ("time",)

    def index(self, generator: str) -> int:
        """The column of `generator` in g."""
        if generator not in self.generators:
            raise UnknownNameError(unknown(f"generator of {self.equation}", generator, self.generators))
        return self.generators.index(generator)

    def parameters(self, n: int = 1, **g: float | Tensor) -> Tensor:
        """g [n k] from named parameters, the others zero: KDV.parameters(galilei=0.4)."""
        out = torch.zeros(n, len(self.generators), dtype=torch.float64)
        for name, value in g.items():
            out[:, self.index(name)] = torch.as_tensor(value, dtype=torch.float64)
        return out

    def algebra(
        self,
        g: Tensor,
        parameters: Mapping[str, Tensor] | None = None,
        compat: Compat = "correct",
        pressure: bool = False,
    ) -> Tensor:
        """g_i X_i as matrices, [n k d d]; their sum is the exponent."""
        if g.ndim != 2 or g.shape[1] != len(self.generators):
            raise DataError(
                f"{self.equation}: needs parameters [n {len(self.generators)}] for {', '.join(self.generators)},"
                f" found shape {tuple(g.shape)}"
            )
        if compat == "official" and self.official is None:
            raise DataError(f"{self.equation}: no released code differs here, use compat='correct'")
        basis = self.official[pressure] if compat == "official" and self.official is not None else self.basis
        scale = g.to(torch.float64)[:, :, None, None]
        matrices = scale * basis.to(g.device)
        for name, extra in self.coupled.items():
            if parameters is None or name not in parameters:
                raise DataError(
                    f"{self.equation}: its symmetries depend on {name!r}; pass parameters={{{name!r}: [n]}}"
                )
            matrices = matrices + scale * extra.to(g.device) * parameters[name].double().reshape(-1, 1, 1, 1)
        return matrices

    def element(
        self,
        g: Tensor,
        parameters: Mapping[str, Tensor] | None = None,
        *,
        method: Method = "exact",
        order: int = 2,
        steps: int = 2,
        compat: Compat = "correct",
        pressure: bool = False,
    ) -> Element:
        """exp(sum_i g_i X_i) for g [n k]: exactly, or by the Lie-Trotter-Suzuki product of this order and so many steps.

        compat="official" gives what the released code of arXiv 2307.05432 computes, always as a product: its matrices
        for the quadratic boosts and the pressure, which are not symmetries, and its constant of order 4 and higher;
        pressure says whether the fields include a pressure gradient, for which it has other formulas.
        """
        matrices = self.algebra(g, parameters, compat, pressure)
        if method == "exact" and compat == "correct":
            matrix = torch.matrix_exp(matrices.sum(1))
        else:
            matrix = suzuki(matrices, order, steps, compat)
        known = {name: parameters[name].double() for name in self.coupled} if parameters else {}
        return Element(self, matrix, g, known)

    def identity(self, n: int = 1) -> Element:
        """The element that leaves everything where it is."""
        return self.element(self.parameters(n), {name: torch.zeros(n) for name in self.coupled})


@dataclass(frozen=True)
class Element:
    """n elements of a group: matrices [n d d], the parameters g they were made of where there are any, and those of the equation
    that the group depends on, [n] each."""

    group: Group
    matrix: Tensor
    g: Tensor | None = None
    parameters: Mapping[str, Tensor] = field(default_factory=dict)

    def __matmul__(self, first: Element) -> Element:
        """The element that applies `first` and then this one."""
        if first.group.variables != self.group.variables or first.group.action != self.group.action:
            raise DataError(f"elements of {self.group.equation!r} and {first.group.equation!r} do not compose")
        return Element(self.group, self.matrix @ first.matrix, None, self.parameters)

    def inverse(self) -> Element:
        """The element that undoes this one."""
        return Element(self.group, torch.linalg.inv(self.matrix), None if self.g is None else -self.g, self.parameters)

    def entry(self, row: str, column: str) -> Tensor:
        """One matrix entry, [n]."""
        where = self.group.variables.index
        return self.matrix[:, where(row), where(column)]


def _sweep(matrices: Tensor, h: float) -> Tensor:
    """S_2(h): the generators applied backwards, then forwards, each with half the strength."""
    halves = torch.matrix_exp(matrices * (h / 2))
    product = torch.eye(matrices.shape[-1], dtype=matrices.dtype, device=matrices.device)
    count = matrices.shape[1]
    for i in (*range(count - 1, -1, -1), *range(count)):
        product = halves[:, i] @ product
    return product


def _suzuki(matrices: Tensor, order: int, h: float, compat: Compat) -> Tensor:
    if order == 2:
        return _sweep(matrices, h)
    # S_2k = S(u h)^2 S((1 - 4u) h) S(u h)^2 needs 4^(1/(2k-1)); the released code takes 1/(2 order - 1), order = 2k
    power = 1 / (order - 1) if compat == "correct" else 1 / (2 * order - 1)
    u = 1 / (4 - 4**power)
    outer = _suzuki(matrices, order - 2, u * h, compat)
    outer = outer @ outer
    return outer @ _suzuki(matrices, order - 2, (1 - 4 * u) * h, compat) @ outer


def suzuki(matrices: Tensor, order: int = 2, steps: int = 2, compat: Compat = "correct") -> Tensor:
    """The product formula for exp(sum_i M_i), M [n k d d]: order 1 (Lie-Trotter) or even (Suzuki), `steps` repetitions."""
    if order != 1 and (order < 2 or order % 2):
        raise DataError(f"product formulas have order 1 or an even one, found {order}")
    if steps < 1:
        raise DataError(f"a product formula needs at least one step, found {steps}")
    if order == 1:
        whole = torch.matrix_exp(matrices / steps)
        one = torch.eye(matrices.shape[-1], dtype=matrices.dtype, device=matrices.device)
        for i in range(matrices.shape[1]):
            one = whole[:, i] @ one
    else:
        one = _suzuki(matrices, order, 1 / steps, compat)
    return torch.linalg.matrix_power(one, steps)


def matrices_of(variables: tuple[str, ...], generators: Mapping[str, Entries]) -> Tensor:
    """[k d d] from named entries."""
    out = torch.zeros(len(generators), len(variables), len(variables), dtype=torch.float64)
    for k, entries in enumerate(generators.values()):
        for (row, column), value in entries.items():
            for name in (row, column):
                if name not in variables:
                    raise UnknownNameError(unknown("variable", name, variables))
            out[k, variables.index(row), variables.index(column)] = value
    return out


def linear_group(
    equation: str,
    variables: tuple[str, ...],
    generators: Mapping[str, Entries],
    one_sided: tuple[str, ...] = ("time",),
) -> Group:
    """A group of your own that acts linearly on z = `variables` (from 'tt', 't', 'x', 'y', field names and '1').

    generators: {"galilei": {("x", "t"): 1, ("u", "1"): 1}} says dx = t, du = 1. Check it with `residual` on a
    transformed solution: a generator that is no symmetry shows at once.
    """
    return Group(equation, variables, tuple(generators), matrices_of(variables, generators), one_sided=one_sided)
