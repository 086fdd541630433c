"""Many attentive probes trained at once on the same tokens, one for each pair of learning rate and weight decay.

The parameters of g probes are stacked along a first axis. With depth 1 the tokens are normalised once for all probes, and no probe
maps them (see `attentive`). Self-attention before it shares nothing between probes but the tokens that the first block reads: on a
processor such probes are differentiated one after the other, so that their activations stay in its cache.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.func import functional_call
from torch.optim.adamw import adamw

from tacit.models.attentive import AttentiveProbe

__all__ = ["DECAYS", "RATES", "AttentiveGrid"]

RATES = (5e-3, 3e-3, 1e-3, 3e-4, 1e-4)
DECAYS = (0.8, 0.4, 0.1, 0.01)  # V-JEPA 2's 20 heads for video classification


def _cross_entropy(logits: Float[Tensor, "g n c"], labels: Int[Tensor, " n"]) -> Float[Tensor, " g"]:
    each = F.cross_entropy(logits.flatten(0, 1), labels.repeat(len(logits)), reduction="none")
    return each.unflatten(0, (len(logits), -1)).mean(dim=1)


class AttentiveGrid(nn.Module):
    """One probe for each rate and decay; all start from weights of their own. Logits [g n c] of tokens [n t d].

    classes: a number, or task -> number, with one query each; then logits and labels are a dict by task. pairs: the rates and decays one by
    one, in place of the product of `rates` and `decays`.
    Source: arXiv 2506.09985, which trains 20 heads on the same features and reports the best on the validation set: choose on one set and
    report on another.
    """

    def __init__(
        self,
        dim: int,
        classes: int | Mapping[str, int],
        *,
        heads: int = 16,
        depth: int = 4,
        rates: Sequence[float] = RATES,
        decays: Sequence[float] = DECAYS,
        pairs: Sequence[tuple[float, float]] = (),
        mlp_ratio: float = 4.0,
        eps: float = 1e-5,
    ) -> None:
        super().__init__()
        self.settings = list(pairs or product(rates, decays))
        probes = [
            AttentiveProbe(dim, classes, heads=heads, depth=depth, mlp_ratio=mlp_ratio, eps=eps) for _ in self.settings
        ]
        states = [probe.state_dict() for probe in probes]
        self.names = tuple(states[0])
        self.stacked = nn.ParameterList(
            nn.Parameter(torch.stack([state[name] for state in states])) for name in self.names
        )
        self.heads, self.depth, self.eps, self.tasks = heads, depth, eps, probes[0].tasks
        self._alone = (probes[0].to("meta"),)  # the form of a probe; in a tuple, as its parameters are not the grid's
        self._means = [torch.zeros_like(p) for p in self.stacked]
        self._squares = [torch.zeros_like(p) for p in self.stacked]
        self._steps = 0

    def __len__(self) -> int:
        return len(self.settings)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> AttentiveGrid:
        """What AdamW remembers goes where the parameters go."""
        super()._apply(fn, recurse)
        self._means, self._squares = [fn(x) for x in self._means], [fn(x) for x in self._squares]
        return self

    def forward(self, tokens: Float[Tensor, "n t d"]) -> Any:
        """The logits [g n c] of every probe, a dict of them where there are several tasks."""
        state = dict(zip(self.names, self.stacked, strict=True))
        x = tokens
        for i in range(self.depth - 1):
            x = self._block(x, _Names(state, f"pooler.blocks.{i}."))
        pooled = self._cross(x, state["pooler.query_tokens"], _Names(state, "pooler.cross_attention_block."))
        if self.tasks:
            own = _Names(state, "")
            return {task: own.linear(pooled[:, :, i], f"{task}_classifier") for i, task in enumerate(self.tasks)}
        return _Names(state, "").linear(pooled[:, :, 0], "linear")

    def _block(self, x: Tensor, at: _Names) -> Float[Tensor, "g n t d"]:
        """One self-attention block of every probe; the tokens [n t d] that all share are read by one product."""
        n, t, d = x.shape[-3:]
        qkv = at.linear(at.norm(x, "norm1", self.eps), "attn.qkv")
        q, k, v = qkv.reshape(-1, t, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(len(self), n, t, d)
        x = x + at.linear(mixed, "attn.proj")
        return x + at.linear(F.gelu(at.linear(at.norm(x, "norm2", self.eps), "mlp.fc1")), "mlp.fc2")

    def _cross(self, x: Tensor, query: Float[Tensor, "g 1 m d"], at: _Names) -> Float[Tensor, "g n m d"]:
        """The folded cross-attention of every probe, see `attentive`."""
        g, d = len(self), x.shape[-1]
        weight, bias = at["norm1.weight"][:, None, None], at["norm1.bias"][:, None, None, None]
        y = F.layer_norm(x, (d,), eps=self.eps)
        key, value = at["xattn.kv.weight"].reshape(g, 2, self.heads, d // self.heads, d).unbind(1)
        q = at.linear(query, "xattn.q").reshape(g, -1, self.heads, d // self.heads)
        asked = torch.einsum("gmhe,ghed->gmhd", q, key) * (weight * (d // self.heads) ** -0.5)
        shared = "" if x.ndim == 3 else "g"
        scores = torch.einsum(f"gmhd,{shared}ntd->gnmht", asked, y).softmax(dim=-1)
        mean = torch.einsum(f"gnmht,{shared}ntd->gnmhd", scores, y) * weight[:, None] + bias
        read = torch.einsum("gnmhd,ghed->gnmhe", mean, value).flatten(3) + at["xattn.kv.bias"][:, None, None, d:]
        out = query + read
        return out + at.linear(F.gelu(at.linear(at.norm(out, "norm2", self.eps), "mlp.fc1")), "mlp.fc2")

    def loss(self, tokens: Float[Tensor, "n t d"], labels: Int[Tensor, " n"]) -> Float[Tensor, " g"]:
        """The cross-entropy of every probe. Their sum sends each probe its own gradient."""
        return _cross_entropy(self(tokens), labels)

    def learn(
        self, tokens: Float[Tensor, "n t d"], labels: Any, loss: Callable[[Any, Any], Tensor] = _cross_entropy
    ) -> Float[Tensor, " g"]:
        """loss(logits, labels) [g] of every probe, whose gradients are left for `step` or `move`."""
        if self.depth == 1 or tokens.device.type != "cpu":
            each = loss(self(tokens), labels)
            each.sum().backward()  # type: ignore[no-untyped-call]
            return each.detach()
        found, grads = [], [torch.empty_like(p) for p in self.stacked]
        for number in range(len(self)):
            own = {name: p.detach()[number].requires_grad_() for name, p in zip(self.names, self.stacked, strict=True)}
            logits = functional_call(self._alone[0], own, (tokens,))
            stacked = {task: x[None] for task, x in logits.items()} if self.tasks else logits[None]
            found.append(loss(stacked, labels))
            for grad, one in zip(grads, torch.autograd.grad(found[-1].sum(), list(own.values())), strict=True):
                grad[number] = one
        for p, grad in zip(self.stacked, grads, strict=True):
            p.grad = grad
        return torch.cat(found).detach()

    def step(self, progress: float) -> None:
        """One AdamW step of every probe with its own rate, falling on half a cosine to 0 over `progress`, and its own decay.

        All parameters decay and no gradient is clipped, as published.
        """
        factor = (1 + math.cos(math.pi * progress)) / 2
        self.move([factor * rate for rate, _ in self.settings], [decay for _, decay in self.settings])

    @torch.no_grad()
    def move(
        self, rates: Sequence[float], decays: Sequence[float], *, clip: float | None = None, exempt: bool = False
    ) -> None:
        """One AdamW step of every probe with these rates and decays. clip: the largest norm of a probe's gradient; exempt: biases and norms
        do not decay (V-JEPA)."""
        learned = [i for i, p in enumerate(self.stacked) if p.grad is not None]
        parts = [learned]
        if exempt:
            parts = [[i for i in learned if (self.stacked[i].ndim == 2) == plain] for plain in (False, True)]
        for number, (rate, decay) in enumerate(zip(rates, decays, strict=True)):
            grads = {i: grad[number] for i in learned if (grad := self.stacked[i].grad) is not None}
            if clip is not None:
                norm = torch.stack([grad.norm() for grad in grads.values()]).norm()
                share = (clip / (norm + 1e-6)).clamp(max=1.0)
                for grad in grads.values():
                    grad.mul_(share)
            for part, kept in zip(parts, (decay, 0.0), strict=False):
                stacks = [[kind[i][number] for i in part] for kind in (self.stacked, self._means, self._squares)]
                counts = self.stacked[0].new_full((len(part),), self._steps, dtype=torch.float32).unbind()
                adamw(
                    stacks[0], [grads[i] for i in part], stacks[1], stacks[2], [], list(counts), fused=True, amsgrad=False,
                    beta1=0.9, beta2=0.999, lr=rate, weight_decay=kept, eps=1e-8, maximize=False,
                )  # fmt: skip
        self._steps += 1
        for p in self.stacked:
            p.grad = None

    def fit(
        self,
        tokens: Float[Tensor, "N t d"],
        labels: Int[Tensor, " N"],
        *,
        epochs: int = 20,
        batch: int = 64,
        seed: int = 0,
    ) -> AttentiveGrid:
        """Train all probes on tokens held in memory, in the order of a generator with this seed."""
        draw = torch.Generator().manual_seed(seed)
        batches = max(1, len(tokens) // batch)
        self.train()
        for epoch in range(epochs):
            order = torch.randperm(len(tokens), generator=draw)
            for at in range(batches):
                rows = order[at * batch : (at + 1) * batch].to(labels.device)
                self.learn(tokens[rows].float(), labels[rows])
                self.step((epoch * batches + at) / (epochs * batches))
        return self.eval()

    @torch.no_grad()
    def correct(
        self, tokens: Float[Tensor, "N t d"], labels: Int[Tensor, " N"], batch: int = 256
    ) -> Float[Tensor, "g N"]:
        """1 where a probe's first choice is the label, else 0."""
        found = [
            self(x.float()).argmax(dim=-1) == y for x, y in zip(tokens.split(batch), labels.split(batch), strict=True)
        ]
        return torch.cat(found, dim=1).float()

    def member(self, number: int) -> dict[str, Tensor]:
        """The state of probe `number`, for `AttentiveProbe.load_state_dict`."""
        return {name: value[number].detach().clone() for name, value in zip(self.names, self.stacked, strict=True)}


class _Names:
    """The stacked tensors below a prefix, and maps by them of x [n ... d] that all probes share or [g n ... d] of each."""

    def __init__(self, state: dict[str, Tensor], prefix: str) -> None:
        self._state, self._prefix = state, prefix

    def __getitem__(self, name: str) -> Tensor:
        return self._state[self._prefix + name]

    def norm(self, x: Tensor, name: str, eps: float) -> Tensor:
        weight, bias = (self[f"{name}.{kind}"] for kind in ("weight", "bias"))
        y = F.layer_norm(x, x.shape[-1:], eps=eps)
        shape = (len(weight), *[1] * (3 if x.ndim == 3 else x.ndim - 2), -1)
        return y * weight.view(shape) + bias.view(shape)

    def linear(self, x: Tensor, name: str) -> Tensor:
        weight, bias = self[f"{name}.weight"], self[f"{name}.bias"]
        out = torch.baddbmm(bias[:, None], x.flatten(1, -2), weight.mT)
        return out.unflatten(1, x.shape[1:-1])
