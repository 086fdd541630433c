"""The laws of an encoder."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tacit.core.errors import UnknownNameError
from tacit.core.laws.case import Case
from tacit.core.values import Facts, Features

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["check_encoder"]


def check_encoder(
    factory: Callable[[Facts], Any], *, facts: Facts | None = None, n: int = 4, tolerance: float = 1e-4
) -> None:
    """Check an encoder class, or a function of Facts that makes one, on n random images of the facts' channels and shape.

    It must be a module with `dim`; return Features of that width whose tokens fill their grid; repeat itself bit for bit in eval
    mode; treat each image by itself there (order and company do not matter); send finite gradients; answer
    `layers` by name, in the order asked, refusing unknown names with UnknownNameError; and restore from its state.

    facts: 3 channels of 32 x 32 pixels unless given. tolerance: relative, for sums in another order.
    """
    import torch

    facts = facts or Facts(channels=3, shape=(32, 32))
    case = Case(factory)
    with torch.random.fork_rng(devices=[]), case.during("runs"):
        encoder = factory(facts)
        case.need(isinstance(encoder, torch.nn.Module), "is a module", f"{type(encoder).__name__} is no nn.Module")
        x = torch.randn(n, facts.channels, *(facts.shape or (32, 32)), generator=torch.Generator().manual_seed(0))
        _check_gradient(case, encoder, x)
        encoder.eval()
        with torch.no_grad():
            _check_features(case, encoder, x)
            _check_independence(case, encoder, x, tolerance)
            _check_layers(case, encoder, x)
            _check_state(case, factory(facts), encoder, x)


def _check_gradient(case: Case, encoder: Any, x: Tensor) -> None:
    encoder.train()
    case.need(encoder(x).pooled.requires_grad, "gradient", "none flows to the parameters in train mode")
    encoder(x).pooled.square().sum().backward()
    slopes = [p.grad for p in encoder.parameters() if p.grad is not None]
    case.need(all(bool(slope.isfinite().all()) for slope in slopes), "gradient", "it is not finite")
    case.need(any(bool(slope.any()) for slope in slopes), "gradient", "it is zero for every parameter")


def _check_features(case: Case, encoder: Any, x: Tensor) -> None:
    before = x.clone()
    found = encoder(x)
    case.need(isinstance(found, Features), "returns Features", f"found {type(found).__name__}")
    dim = getattr(encoder, "dim", None)
    case.need(isinstance(dim, int) and dim > 0, "has dim", f"`dim` is {dim!r}, not a positive int")
    shape = tuple(found.pooled.shape)
    case.need(shape == (len(x), dim), "shape", f"pooled is {shape} for {len(x)} images and dim {dim}")
    case.need(found.pooled.dtype == x.dtype, "dtype", f"pooled is {found.pooled.dtype} for images of {x.dtype}")
    case.need(found.pooled.isfinite().all(), "finite", "pooled features of random images are not finite")
    if found.tokens is not None:
        tokens = tuple(found.tokens.shape)
        case.need(len(tokens) == 3 and tokens[0] == len(x), "shape", f"tokens are {tokens}, not [n k d]")
        if found.grid is not None:
            places = 1
            for side in found.grid:
                places *= side
            case.need(places == tokens[1], "shape", f"{tokens[1]} tokens do not fill the grid {found.grid}")
    again = encoder(x).pooled
    case.need((again == found.pooled).all(), "deterministic in eval", "the same images gave other features")
    case.need((x == before).all(), "leaves its input alone", "the images were changed")


def _check_independence(case: Case, encoder: Any, x: Tensor, tolerance: float) -> None:
    whole = encoder(x).pooled
    scale = whole.abs().max()
    flipped = (encoder(x.flip(0)).pooled.flip(0) - whole).abs().max()
    case.need(
        flipped <= tolerance * scale, "order of samples", f"features moved by {flipped.item():.2g} with the order"
    )
    alone = (encoder(x[:1]).pooled - whole[:1]).abs().max()
    law = "each image by itself"
    case.need(alone <= tolerance * scale, law, f"features moved by {alone.item():.2g} without the rest of the batch")


def _check_layers(case: Case, encoder: Any, x: Tensor) -> None:
    names = encoder.layer_names()
    good = isinstance(names, list) and names and len(set(names)) == len(names)
    case.need(good, "layer names", f"they must be a list of distinct names, found {names!r}")
    before, found = encoder(x).pooled, encoder.layers(x, names)
    case.need(len(found) == len(names), "layers", f"{len(found)} outputs for {len(names)} names")
    for name, layer in zip(names, found, strict=True):
        shape = tuple(layer.shape)
        case.need(len(shape) == 2 and shape[0] == len(x), "layers", f"{name!r} is {shape}, not [n d]")
    backwards = encoder.layers(x, names[::-1])[::-1]
    same = all(one.shape == two.shape and bool((one == two).all()) for one, two in zip(found, backwards, strict=True))
    case.need(same, "layers", "asked for in another order, they must come in that order")
    single = encoder.layers(x, [names[0]])
    case.need(len(single) == 1 and (single[0] == found[0]).all(), "layers", "one alone must equal one of many")
    case.need((encoder(x).pooled == before).all(), "layers", "asking for them changed what the encoder returns")
    try:
        encoder.layers(x, ["no such layer"])
    except UnknownNameError:
        return
    case.need(False, "layers", "an unknown name must be refused with UnknownNameError")


def _check_state(case: Case, other: Any, encoder: Any, x: Tensor) -> None:
    with case.during("state round trip"):
        other.load_state_dict(copy.deepcopy(encoder.state_dict()))
    other.eval()
    same = (other(x).pooled == encoder(x).pooled).all()
    case.need(same, "state round trip", "a second one with the same state gives other features")
