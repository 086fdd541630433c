"""Symmetries given as vector fields: for groups that are not linear in a few powers, and as a check of those that are."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from tacit.core.errors import DataError
from tacit.ops.fields import Field
from tacit.views.lie.apply import Points

__all__ = ["FieldGroup", "VectorField"]

VectorField = Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]]
"""Velocities of some of 't', 'x', 'y' and the components, from all of them: lambda z: {"x": z["t"], "u": 1 + 0 * z["u"]}."""


class FieldGroup:
    """A symmetry group given by one vector field for each generator; elements are flows of sum_i g_i X_i.

    The flow is integrated point by point with the classical Runge-Kutta scheme of `steps` steps: error about
    (|g X'| / steps)^4, 1e-10 for parameters of order one at the default.
    """

    def __init__(self, equation: str, fields: Mapping[str, VectorField], steps: int = 64) -> None:
        self.equation, self.fields, self.steps = equation, dict(fields), steps

    def transform(self, field: Field, g: Tensor) -> Points:
        """The graph of the solution moved by exp(sum_i g_i X_i), g [n k] in the order of the generators."""
        if g.ndim != 2 or g.shape[1] != len(self.fields):
            raise DataError(
                f"{self.equation}: needs parameters [n {len(self.fields)}] for {', '.join(self.fields)},"
                f" found shape {tuple(g.shape)}"
            )
        axes = len(field.space)
        shape = next(iter(field.values.values())).shape
        labels = ("x", "y", "z")[:axes]
        z = {"t": field.time.reshape(*field.time.shape, *(1,) * axes).expand(shape)}
        for i, (label, x) in enumerate(zip(labels, field.space, strict=True)):
            z[label] = x.reshape(len(x), *(1,) * (i + 1), -1, *(1,) * (axes - 1 - i)).expand(shape)
        z.update(field.values)
        strength = [g[:, i].to(z["t"]).reshape(-1, *(1,) * (axes + 1)) for i in range(g.shape[1])]
        for _ in range(self.steps):
            z = self._step(z, strength, 1 / self.steps)
        return Points(z["t"], tuple(z[label] for label in labels), {name: z[name] for name in field.values})

    def _velocity(self, z: Mapping[str, Tensor], strength: list[Tensor]) -> dict[str, Tensor]:
        total = {name: torch.zeros_like(value) for name, value in z.items()}
        for s, (name, vector) in zip(strength, self.fields.items(), strict=True):
            for target, speed in vector(z).items():
                if target not in total:
                    raise DataError(
                        f"generator {name!r} moves {target!r}, which the field lacks: it has {', '.join(total)}"
                    )
                total[target] = total[target] + s * speed
        return total

    def _step(self, z: Mapping[str, Tensor], strength: list[Tensor], h: float) -> dict[str, Tensor]:
        def ahead(k: Mapping[str, Tensor], by: float) -> dict[str, Tensor]:
            return {name: value + by * k[name] for name, value in z.items()}

        k1 = self._velocity(z, strength)
        k2 = self._velocity(ahead(k1, h / 2), strength)
        k3 = self._velocity(ahead(k2, h / 2), strength)
        k4 = self._velocity(ahead(k3, h), strength)
        return {name: value + h / 6 * (k1[name] + 2 * k2[name] + 2 * k3[name] + k4[name]) for name, value in z.items()}
