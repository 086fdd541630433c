"""The applier for accelerators: the same views as `kernel`, from batched tensor operations on the pictures' device.

Equal to the kernel within 1e-5 in float32. Matrix products carry the resizing, so a process that lowers torch's
float32 matmul precision (TF32) gets views that are off by up to about half a grey level of 255.

Legend: n samples, c channels, h w the (padded) pictures, s side of the view.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["render"]

_GREY = (0.2989, 0.587, 0.114)


def render(
    pictures: Tensor, how: Mapping[str, Tensor], grid: Tensor, side: int,
    cubic: bool, radius: int, mean: Tensor, std: Tensor,
) -> Tensor:  # fmt: skip
    """Views [n c s s] of pictures [n c h w] in [0, 1]; `how` and grid [n 4] as in `kernel.render`, on the processor.

    Parameters cross to the device in one piece. Which samples an operation touches is known on the processor: nothing waits for a device.
    """
    there = _there(how, grid, pictures.device)
    x = _resize(pictures, there["box"], there["flip"], there["grid"], side, cubic)
    x = _on(x, how["angle"] != 0, _rotate, there["angle"])
    x = _colours(x, how, there)
    x = _on(x, how["sigma"] > 0, lambda y, sigma: _blur(y, sigma, radius), there["sigma"])
    if how["solarise"].any():
        x = torch.where((there["solarise"][:, :, None, None] > 0) & (x >= 128 / 255), 1 - x, x)
    x = _on(x, how["noise"] > 0, _noise, there["noise"], how["noise_key"][:, None])
    if len(mean):
        mean, std = (_constant(tuple(values.tolist()), x.device) for values in (mean, std))
        x = (x - mean) / std
    return x


def _there(how: Mapping[str, Tensor], grid: Tensor, device: torch.device) -> dict[str, Tensor]:
    """The parameters [n k] on the device, from one transfer in float32: integers are far below 2^24."""
    names = ("box", "flip", "angle", "order", "jitter", "grey", "sigma", "solarise", "noise")
    columns = {name: how[name].float().view(len(grid), -1) for name in names} | {"grid": grid.float()}
    packed = _sent(torch.cat(list(columns.values()), dim=1), device)
    return dict(zip(columns, packed.split([values.shape[1] for values in columns.values()], dim=1), strict=True))


def _sent(values: Tensor, device: torch.device) -> Tensor:
    """Values of the processor on the device, without a wait for what it is doing."""
    return values.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else values.to(device)


@functools.lru_cache(maxsize=32)
def _constant(values: tuple[float, ...], device: torch.device) -> Tensor:
    return torch.tensor(values, device=device)[:, None, None]


def _colours(x: Tensor, how: Mapping[str, Tensor], there: Mapping[str, Tensor]) -> Tensor:
    """The jitter's four operations in each sample's order, then grey."""
    operations = (_brighten, _contrast, _saturate, _hue)
    for place in range(4):
        for number, operation in enumerate(operations):
            chosen = (how["order"][:, place] == number) & (how["jitter"][:, number] != (0 if number == 3 else 1))
            x = _on(x, chosen, operation, there["jitter"][:, number : number + 1])
    return _on(x, how["grey"], _saturate, torch.zeros(len(x), 1, device=x.device))


def _on(x: Tensor, chosen: Tensor, operation: Callable[..., Tensor], *parameters: Tensor) -> Tensor:
    """Replace, in place, the chosen samples of x by operation(them, their parameters [n 1])."""
    where = chosen.nonzero()[:, 0]
    if len(where) == 0:
        return x
    there = _sent(where, x.device)
    own = [
        (values[there] if values.device == x.device else _sent(values[where], x.device))[:, :, None, None]
        for values in parameters
    ]
    return x.index_copy_(0, there, operation(x[there], *own))


def _axis(begin: Tensor, length: Tensor, grid: Tensor, offset: Tensor, total: int, side: int, cubic: bool) -> Tensor:
    """Resize weights [n s total] along one axis; every parameter is int32 [n 1 1]."""
    out = torch.arange(side, device=begin.device, dtype=torch.int32)[:, None] + offset
    tap = torch.arange(total, device=begin.device, dtype=torch.int32) - begin
    # distance from the centre of the output pixel, from exact integers (below 2^31 for sides below 2^15)
    distance = (length * (2 * out + 1) - grid * (2 * tap + 1)) / (2 * torch.maximum(length, grid))
    a = distance.abs()
    if cubic:
        far = torch.where(a < 2, ((-0.5 * a + 2.5) * a - 4) * a + 2, 0)
        weight = torch.where(a < 1, (1.5 * a - 2.5) * a * a + 1, far)
    else:
        weight = (1 - a).clamp(min=0)
    weight = torch.where((tap >= 0) & (tap < length), weight, 0)
    return weight / weight.sum(dim=-1, keepdim=True)


def _resize(pictures: Tensor, box: Tensor, flip: Tensor, grid: Tensor, side: int, cubic: bool) -> Tensor:
    top, left, height, width = (values[:, None, None] for values in box.int().unbind(1))
    rows, columns, first_row, first_column = (values[:, None, None] for values in grid.int().unbind(1))
    down = _axis(top, height, rows, first_row, pictures.shape[-2], side, cubic)
    across = _axis(left, width, columns, first_column, pictures.shape[-1], side, cubic)
    across = torch.where(flip[:, :, None] > 0, across.flip(1), across)
    x = pictures.flatten(1, 2) @ across.mT  # rows of all channels at once: no copy of the weights for each
    x = down[:, None] @ x.unflatten(1, pictures.shape[1:3])
    return x.clamp(0, 1) if cubic else x


def _rotate(x: Tensor, angle: Tensor) -> Tensor:
    turn = torch.deg2rad(angle[:, 0, 0, 0])
    cos, sin, zero = turn.cos(), turn.sin(), torch.zeros_like(turn)
    matrix = torch.stack([cos, -sin, zero, sin, cos, zero], dim=1).view(-1, 2, 3)
    field = F.affine_grid(matrix, list(x.shape), align_corners=False)
    return F.grid_sample(x, field, mode="bilinear", padding_mode="zeros", align_corners=False)


def _grey(x: Tensor) -> Tensor:
    """Grey [n 1 h w] of three channels; the mean of any other number."""
    if x.shape[1] != 3:
        return x.mean(dim=1, keepdim=True)
    r, g, b = x.split(1, dim=1)
    return _GREY[0] * r + _GREY[1] * g + _GREY[2] * b


def _brighten(x: Tensor, factor: Tensor) -> Tensor:
    return (factor * x).clamp(0, 1)


def _contrast(x: Tensor, factor: Tensor) -> Tensor:
    return (factor * x + (1 - factor) * _grey(x).mean(dim=(1, 2, 3), keepdim=True)).clamp(0, 1)


def _saturate(x: Tensor, factor: Tensor) -> Tensor:
    return (factor * x + (1 - factor) * _grey(x)).clamp(0, 1)


def _hue(x: Tensor, turn: Tensor) -> Tensor:
    r, g, b = x.split(1, dim=1)
    high, low = x.amax(dim=1, keepdim=True), x.amin(dim=1, keepdim=True)
    chroma = high - low
    numerator = torch.where(high == r, g - b, torch.where(high == g, b - r, r - g))
    sector = torch.where(high == r, 0, torch.where(high == g, 2, 4))
    hue = numerator / torch.where(chroma > 0, chroma, 1) + sector + 6 * turn
    k = torch.remainder(hue + torch.tensor([5.0, 3.0, 1.0], device=x.device)[:, None, None], 6)
    return high - chroma * torch.minimum(k, 4 - k).clamp(0, 1)


def _blur(x: Tensor, sigma: Tensor, radius: int) -> Tensor:
    """Blur rows and columns by products with banded matrices: what lies beyond a border is reflected into them."""
    side = x.shape[-1]
    at = torch.arange(side, device=x.device)
    to, source = at[:, None], at

    def bell(distance: Tensor) -> Tensor:
        return torch.where(distance.abs() <= radius, torch.exp(-0.5 * (distance / sigma) ** 2), 0)

    weight = bell(source - to)
    weight = weight + torch.where(source > 0, bell(source + to), 0)
    weight = weight + torch.where(source < side - 1, bell(2 * (side - 1) - source - to), 0)
    weight = weight / weight.sum(dim=-1, keepdim=True)  # [m 1 s s]
    return weight @ (x @ weight.mT)


def _shift(x: Tensor, by: int) -> Tensor:
    """Logical right shift of the 64 bits: torch's own keeps the sign."""
    return (x >> by) & ((1 << (64 - by)) - 1)


def _signed(bits: int) -> int:
    return bits - (1 << 64) if bits >= 1 << 63 else bits


def _noise(x: Tensor, deviation: Tensor, key: Tensor) -> Tensor:
    """The kernel's integer arithmetic in int64, which wraps as uint64 does."""
    golden = _signed(0x9E3779B97F4A7C15)
    place = torch.arange(x[0].numel(), device=x.device).view(x.shape[1:])
    bits = key + place * golden + golden
    bits = (bits ^ _shift(bits, 30)) * _signed(0xBF58476D1CE4E5B9)
    bits = (bits ^ _shift(bits, 27)) * _signed(0x94D049BB133111EB)
    bits = bits ^ _shift(bits, 31)
    radius = torch.sqrt(-2 * torch.log((_shift(bits, 40).float() + 0.5) * 2.0**-24))
    turn = torch.cos(2 * math.pi * ((_shift(bits, 8) & ((1 << 24) - 1)).float() * 2.0**-24))
    return (x + deviation * radius * turn).clamp(0, 1)
