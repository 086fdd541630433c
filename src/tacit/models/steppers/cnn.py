"""The convolutional stepper of LPSDA: residual circular convolutions of growing reach."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Gt, MinLen
from torch import Tensor, nn
from torch.nn import functional

from tacit.core.errors import RecipeError
from tacit.core.parts import part
from tacit.models.steppers.ports import Ports, constant_channels, frames, stacked

__all__ = ["ConvolutionalStepper"]

Odd = Annotated[int, Gt(0)]


@part("stepper", "cnn")
class ConvolutionalStepper(nn.Module):
    """Convolutions on a periodic line: h = fc0(u); h = ELU(h + conv_i(h)) for each kernel; out = fc2(ELU(fc1(h))).

    Condition and action are appended as constant channels. With 20 frames in and out and (dt, dx) it has the published
    1,006,100 weights and their names. Source: arXiv 2202.07643, appendix.
    """

    def __init__(
        self,
        ports: Ports,
        *,
        width: Annotated[int, Gt(0)] = 128,
        kernels: Annotated[tuple[Odd, ...], MinLen(1)] = (3, 5, 5, 7, 7, 9, 9, 15),
    ) -> None:
        super().__init__()
        if ports.axes != 1:
            raise RecipeError("stepper 'cnn' lives on a line, and these data have two axes: take stepper=unet or fno")
        if even := [k for k in kernels if k % 2 == 0]:
            raise RecipeError(f"kernels: a centred convolution has an odd width, found {even[0]}")
        self.ports = ports
        self.fc0 = nn.Linear(ports.into + ports.numbers, width)
        self.conv_layers = nn.ModuleList(
            nn.Conv1d(width, width, k, padding=k // 2, padding_mode="circular") for k in kernels
        )
        self.fc1, self.fc2 = nn.Linear(width, width), nn.Linear(width, ports.out)
        for layer in self.conv_layers:
            nn.init.xavier_uniform_(layer.get_parameter("weight"))

    def forward(self, history: Tensor, condition: Tensor | None = None, action: Tensor | None = None) -> Tensor:
        """The next frames [n c horizon x]."""
        self.ports.check(history, condition, action)
        u = constant_channels(stacked(history), action, condition)
        h = self.fc0(u.movedim(1, -1)).movedim(-1, 1)
        for layer in self.conv_layers:
            h = functional.elu(h + layer(h))
        h = self.fc2(functional.elu(self.fc1(h.movedim(1, -1))))
        return frames(h.movedim(-1, 1), self.ports)
