"""What every stepper reads and writes: the run-time facts of role "stepper".

A stepper is called as `stepper(history, condition, action)`: history [n c t *space], condition [n k] or None, action [n a]
or None; it returns the next frames [n c horizon *space]. Condition: what is known of the equation (a coefficient, a
representation). Action: the step itself, (dt, dx) or the number of frames to leap.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tacit.core.errors import DataError

__all__ = ["Ports", "constant_channels", "frames", "stacked"]


@dataclass(frozen=True)
class Ports:
    """channels: fields. history, horizon: frames read and written. axes: of space, 1 or 2. condition, action: how many numbers."""

    channels: int
    history: int
    horizon: int
    axes: int
    condition: int = 0
    action: int = 0

    @property
    def into(self) -> int:
        """Input maps: every frame of every field."""
        return self.channels * self.history

    @property
    def out(self) -> int:
        """Output maps."""
        return self.channels * self.horizon

    @property
    def numbers(self) -> int:
        """Numbers that come with a sample beside its frames."""
        return self.condition + self.action

    def check(self, history: Tensor, condition: Tensor | None, action: Tensor | None) -> None:
        """Refuse inputs that are not those the stepper was built for."""
        if history.ndim != 3 + self.axes or history.shape[1:3] != (self.channels, self.history):
            raise DataError(
                f"this stepper reads histories [n {self.channels} {self.history}{' x y'[: 2 * self.axes]}], found"
                f" {list(history.shape)}: build it for these data"
            )
        for name, value, width in (("condition", condition, self.condition), ("action", action, self.action)):
            found = 0 if value is None else value.shape[1]
            if found != width:
                raise DataError(f"this stepper was built for a {name} of {width} numbers, found {found}")


def frames(maps: Tensor, ports: Ports) -> Tensor:
    """Output maps [n c*t *space] as frames [n c t *space]."""
    return maps.unflatten(1, (ports.channels, ports.horizon))


def constant_channels(x: Tensor, *numbers: Tensor | None) -> Tensor:
    """x [n c *space] with each number [n k] appended as a map that is the same everywhere."""
    given = [v.to(x.dtype).reshape(*v.shape, *(1,) * (x.ndim - 2)) for v in numbers if v is not None]
    return torch.cat([x, *(v.expand(*v.shape[:2], *x.shape[2:]) for v in given)], 1) if given else x


def stacked(history: Tensor) -> Tensor:
    """Frames [n c t *space] as maps [n c*t *space]."""
    return history.flatten(1, 2)
