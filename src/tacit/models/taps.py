"""Outputs of any modules of a network in one forward pass: found by name or glob, pooled to one row a sample.

Names are those of `named_modules()`. In a glob `*` stands for one part of a name and `**` for any number of them:
`encoder.blocks.*` are the blocks, `encoder.**` everything inside.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, Literal

import torch
from torch import Tensor, nn

from tacit.core.errors import RecipeError, UnknownNameError, unknown
from tacit.core.values import Features

__all__ = ["Taps", "called", "default_cuts", "matching", "pooled"]

Pool = Literal["mean", "first"]


def pooled(output: Any, tokens: Pool = "mean") -> Tensor | None:
    """One row a sample [n d] from what a module returned; None where it is no tensor of samples.

    Features give their pooled part, tuples and model outputs their first tensor; maps [n c ...] of four or more axes the mean over
    places, tokens [n t d] their mean or the `first` one (a class token), rows [n d] themselves.
    """
    if isinstance(output, Features):
        return output.pooled.clone()
    if isinstance(output, Mapping):
        output = next(iter(output.values()), None)
    if isinstance(output, tuple | list):
        output = output[0] if output else None
    if not isinstance(output, Tensor) or not output.is_floating_point():
        return None
    if output.ndim >= 4:
        return output.flatten(2).mean(dim=2)
    if output.ndim == 3:
        return output[:, 0].clone() if tokens == "first" else output.mean(dim=1)
    return output.clone() if output.ndim == 2 else None  # a copy: the next module may work in place


def called(network: nn.Module, call: Callable[[Tensor], Any], x: Tensor, tokens: Pool = "mean") -> dict[str, int]:
    """The modules that `call(x)` runs and that give rows, in the order in which they finish, with their widths."""
    found: dict[str, int] = {}
    handles = []

    def note(name: str, _module: nn.Module, _inputs: Any, output: Any) -> None:
        row = pooled(output, tokens)
        if row is not None and len(row) == len(x):
            found.pop(name, None)
            found[name] = row.shape[1]

    for name, module in network.named_modules():
        if name:
            handles.append(module.register_forward_hook(partial(note, name)))
    try:
        with torch.no_grad():
            call(x)
    finally:
        for handle in handles:
            handle.remove()
    return found


def matching(globs: Iterable[str], known: Sequence[str]) -> list[str]:
    """The names among `known` that a glob matches, in the order of `known`; a glob that matches none is refused."""
    chosen: set[str] = set()
    for glob in globs:
        pattern = re.escape(glob).replace(r"\*\*", ".*").replace(r"\*", "[^.]*").replace(r"\?", "[^.]")
        hits = [name for name in known if re.fullmatch(pattern, name)]
        if not hits:
            shown = [name for name in known if name.count(".") <= max(1, glob.count("."))][:40]
            raise UnknownNameError(
                unknown("layer", glob, shown or known[:40], "A glob matches names of modules that the pass runs.")
            )
        chosen.update(hits)
    return [name for name in known if name in chosen]


def default_cuts(network: nn.Module, known: Sequence[str]) -> list[str]:
    """The places where one would cut: the stages of `encoder`, its output, each hidden layer of `projector`, and the end of that.

    Stages are those the encoder names (`layer_names`), or the children of its largest chain of modules. A hidden layer of the
    projector ends where the next linear map begins.
    """
    encoder = getattr(network, "encoder", None)
    projector = getattr(network, "projector", None)
    cuts: list[str] = []
    if isinstance(encoder, nn.Module):
        layer_names: Any = getattr(encoder, "layer_names", list)
        named: list[str] = list(layer_names())[:-1]  # the last is the output itself
        named = ["maxpool" if name == "stem" and not hasattr(encoder, "stem") else name for name in named]
        stages = [
            f"encoder.{inner}{name}" for name in named for inner in ("", "model.") if f"encoder.{inner}{name}" in known
        ]
        cuts += stages or _chain(encoder, known)
        cuts += ["encoder"] if "encoder" in known else []
    if isinstance(projector, nn.Module):
        leaves = [name for name, module in projector.named_modules(prefix="projector") if not list(module.children())]
        leaves = [name for name in known if name in leaves]
        for before, after in pairwise(leaves):
            if isinstance(network.get_submodule(after), nn.Linear):
                cuts.append(before)
        end = "projector" if "projector" in known else leaves[-1] if leaves else ""
        cuts += [end] if end else []
    return [name for name in known if name in set(cuts)] or list(known)


def _chain(encoder: nn.Module, known: Sequence[str]) -> list[str]:
    """The children of the chain (Sequential or ModuleList) with the most weights, without the last where it ends the encoder."""
    best: tuple[int, list[str]] = (0, [])
    for name, module in encoder.named_modules(prefix="encoder"):
        if isinstance(module, nn.Sequential | nn.ModuleList):
            children = [f"{name}.{child}" for child, _ in module.named_children() if f"{name}.{child}" in known]
            size = sum(p.numel() for p in module.parameters())
            if len(children) > 1 and size > best[0]:
                best = (size, children)
    return best[1]


class Taps(nn.Module):
    """A network with named outputs, for feature extraction: `layers(x, names)` runs `call` once and reads all of them.

    `call` names the method of the network that is run, 'project' for a system; '' calls it itself.
    """

    def __init__(self, network: nn.Module, call: str = "", tokens: Pool = "mean") -> None:
        super().__init__()
        self.network, self.call, self.tokens = network, call, tokens

    @property
    def published(self) -> nn.Module:
        """The network, whose weights name the cache."""
        return self.network

    def forward(self, x: Tensor) -> Any:
        """What the network gives."""
        return (getattr(self.network, self.call) if self.call else self.network)(x)

    def names(self, x: Tensor) -> dict[str, int]:
        """The modules that a pass over x runs, in order, with their widths."""
        return called(self.network, self, x, self.tokens)

    def layers(self, x: Tensor, which: Sequence[str]) -> list[Tensor]:
        """Pooled outputs [n d_l] of the named modules, in that order, from one pass; of a module that runs twice the last."""
        found: dict[str, Tensor] = {}

        def note(name: str, _module: nn.Module, _inputs: Any, output: Any) -> None:
            row = pooled(output, self.tokens)
            if row is not None:
                found[name] = row

        modules = dict(self.network.named_modules())
        for name in which:
            if name not in modules:
                raise UnknownNameError(unknown("layer", name, list(modules)[1:]))
        handles = [modules[name].register_forward_hook(partial(note, name)) for name in set(which)]
        try:
            self(x)
        finally:
            for handle in handles:
                handle.remove()
        silent = [name for name in which if name not in found]
        if silent:
            raise RecipeError(
                f"layer {silent[0]!r} gave no rows: the pass does not run it, or it returns no tensor of samples"
            )
        return [found[name] for name in which]
