"""Any backbone of the package timm by its name. Weights come from a file, never from a download."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from tacit.core.errors import UnknownNameError, need, unknown
from tacit.core.parts import part
from tacit.core.values import Facts, Features
from tacit.models.stages import demand_all_tokens, demand_layers, features_of_map, pool_map

__all__ = ["Timm"]


@part("encoder", "timm")
class Timm(nn.Module):
    """The timm backbone `name` without its classifier, with random weights; needs the extra 'vision'.

    `published` is the timm model itself: files are read and written under its names. A backbone that is tied to an image size
    is built for the size in the facts. Layers are those of timm's `feature_info`, then 'pooled'. Maps are pooled by the mean
    over places, tokens as the model pools its own (class token or mean).
    """

    def __init__(self, facts: Facts, *, name: str = "resnet18") -> None:
        super().__init__()
        timm: Any = need("timm", "vision", f"encoder 'timm' with name={name!r}")
        if not timm.is_model(name):
            raise UnknownNameError(
                unknown("timm model", name, _near(name, timm.list_models()), "timm.list_models() lists all of them.")
            )
        config = timm.get_pretrained_cfg(name)
        sized = {"img_size": facts.shape} if facts.shape and config is not None and config.fixed_input_size else {}
        self.model: Any = timm.create_model(name, pretrained=False, num_classes=0, in_chans=facts.channels, **sized)
        self.dim = int(getattr(self.model, "head_hidden_size", None) or self.model.num_features)
        info: Any = getattr(self.model, "feature_info", [])
        self._stages: dict[str, int] = {stage["module"]: stage["num_chs"] for stage in info if "module" in stage}

    @property
    def published(self) -> nn.Module:
        """The module whose state-dict names the world knows."""
        return self.model  # type: ignore[no-any-return]

    def forward(self, x: Float[Tensor, "n c h w"], keep: Tensor | None = None) -> Features:
        """Pooled features [n dim] as the model pools them; its tokens or the places of its last map."""
        demand_all_tokens("timm", keep)
        last = self.model.forward_features(x)
        pooled = self.model.forward_head(last, pre_logits=True)
        if last.ndim == 4:
            places = features_of_map(_channels_first(last, self.model.num_features))
            return Features(pooled, places.tokens, places.grid)
        return Features(pooled, last[:, self._prefix :] if last.ndim == 3 else None)

    @property
    def _prefix(self) -> int:
        return int(getattr(self.model, "num_prefix_tokens", 0))

    def layers(self, x: Float[Tensor, "n c h w"], which: Sequence[str]) -> list[Tensor]:
        """Pooled outputs of the named modules of the model; 'pooled' is the pooled feature itself."""
        demand_layers(which, self.layer_names())
        found: dict[str, Tensor] = {}

        def note(name: str, _module: nn.Module, _inputs: Any, output: Tensor) -> None:
            found[name] = self._pool(output, self._stages[name])

        hooks = [
            self.model.get_submodule(name).register_forward_hook(partial(note, name))
            for name in set(which) - {"pooled"}
        ]
        try:
            found["pooled"] = self(x).pooled
        finally:
            for hook in hooks:
                hook.remove()
        return [found[name] for name in which]

    def _pool(self, x: Tensor, channels: int) -> Tensor:
        if x.ndim == 4:
            return pool_map(_channels_first(x, channels))
        token = self._prefix and getattr(self.model, "global_pool", "") == "token"
        return x[:, 0] if token else x[:, self._prefix :].mean(dim=1)

    def layer_names(self) -> list[str]:
        """From the pixels to the features."""
        return [*self._stages, "pooled"]


def _channels_first(x: Tensor, channels: int) -> Tensor:
    return x.permute(0, 3, 1, 2) if x.shape[1] != channels and x.shape[3] == channels else x


def _near(name: str, known: list[str]) -> list[str]:
    """A handful of names to show: timm has more than a thousand."""
    import difflib

    return difflib.get_close_matches(name, known, n=5, cutoff=0.3) or sorted(known)[:5]
