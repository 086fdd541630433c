"""What keeps a latent action small, so that it says what was done and not what came of it. Legend: n transitions, d latent numbers.

Each takes the raw output [n inputs] of inverse dynamics and returns the latent [n d] and its weighted terms; `sample` draws latents
from what the constraint alone says of them, without data. Source: LAWM (arXiv 2601.05230).
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from annotated_types import Ge, Gt, Lt
from jaxtyping import Float
from torch import Tensor, nn

from tacit.core.errors import RecipeError
from tacit.core.parts import part
from tacit.core.ranks import ALONE, Ranks
from tacit.ops.covariance import centred, off_diagonal_energy, variance

__all__ = ["Free", "Noisy", "Quantised", "Sparse"]

Weight = Annotated[float, Ge(0)]
Width = Annotated[int, Gt(0)]
Found = tuple[Tensor, dict[str, Tensor]]


@part("bottleneck", "free")
class Free(nn.Module):
    """No constraint: the upper reference. The latent may copy the next state."""

    def __init__(self, *, width: Width = 128) -> None:
        super().__init__()
        self.width = self.inputs = width

    def forward(self, raw: Float[Tensor, "n d"], ranks: Ranks = ALONE) -> Found:  # noqa: ARG002
        """The latent as it is."""
        return raw, {}

    def sample(self, count: int, generator: torch.Generator) -> Tensor:  # noqa: ARG002
        """Nothing is known of unconstrained latents."""
        raise RecipeError(
            "bottleneck 'free' has no prior to draw latents from: train with sparse, noisy or vq to sample latent actions"
        )


@part("bottleneck", "sparse")
class Sparse(nn.Module):
    """Few large numbers: an l1 price on latents that keep their spread.

        l1 * ||z||_1 + max(sqrt(d) - ||z||^2, 0), means over n
      + 0.1 mean_d relu(1 - std_d) + 0.001 mean_{i != j} C_ij^2 + 0.1 mean_d (mean_n z_d)^2

    l1 from 0.4 (low capacity) to 0.01 (high). The paper prints the last term as the mean of the entries, which has no lower bound, and
    sqrt(d) beside a squared norm: compat 'official' takes the first as printed; 'correct' its square, and d beside the squared norm.
    """

    def __init__(
        self,
        *,
        width: Width = 128,
        l1: Weight = 0.05,
        weight: Weight = 1.0,
        compat: Literal["correct", "official"] = "correct",
    ) -> None:
        super().__init__()
        self.width = self.inputs = width
        self.l1, self.weight, self.compat = l1, weight, compat

    def forward(self, raw: Float[Tensor, "n d"], ranks: Ranks = ALONE) -> Found:
        """The latent as it is, and the price."""
        d = raw.shape[1]
        z, mean = centred(raw, ranks), ranks.total(raw.mean(0)) / ranks.size
        least = d**0.5 if self.compat == "official" else float(d)
        energy = (least - raw.square().sum(1)).clamp_min(0) + self.l1 * raw.abs().sum(1)
        spread = 0.1 * torch.relu(1 - torch.sqrt(variance(z, ranks) + 1e-4)).mean()
        apart = 0.001 * off_diagonal_energy(z, ranks) / max(1, d * (d - 1))
        middle = 0.1 * (mean.mean() if self.compat == "official" else mean.square().mean())
        price = ranks.total(energy.mean()) / ranks.size + spread + apart + middle
        return raw, {"sparse": self.weight * price}

    def sample(self, count: int, generator: torch.Generator, steps: int = 1000, rate: float = 0.02) -> Tensor:
        """Langevin on exp(-E) with the energy of one latent: z <- z - rate / 2 dE/dz + sqrt(rate) N(0, I), from N(0, I)."""
        d = self.width
        least = d**0.5 if self.compat == "official" else float(d)
        device = generator.device
        z = torch.randn(count, d, generator=generator, device=device)
        for _ in range(steps):
            inside = (z.square().sum(1, keepdim=True) < least).to(z)
            slope = self.l1 * z.sign() - 2 * inside * z
            z = z - rate / 2 * slope + rate**0.5 * torch.randn(z.shape, generator=generator, device=device)
        return z


@part("bottleneck", "noisy")
class Noisy(nn.Module):
    """A variational latent: mu + sigma * noise in training, mu in evaluation; beta times the divergence from N(0, 1), summed over d.

    beta from 5e-3 (low capacity) to 1e-6 (high). The paper prints the divergence with a minus; it is a price.
    """

    def __init__(self, *, width: Width = 128, beta: Weight = 5e-5) -> None:
        super().__init__()
        self.width, self.inputs, self.beta = width, 2 * width, beta

    def forward(self, raw: Float[Tensor, "n d"], ranks: Ranks = ALONE) -> Found:
        """The noisy latent, and the price."""
        mu, log_variance = raw.chunk(2, 1)
        log_variance = log_variance.clamp(-20, 10)
        divergence = 0.5 * (mu.square() + log_variance.exp() - 1 - log_variance).sum(1)
        z = mu + (0.5 * log_variance).exp() * torch.randn_like(mu) if self.training else mu
        return z, {"divergence": self.beta * ranks.total(divergence.mean()) / ranks.size}

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """The prior N(0, I)."""
        return torch.randn(count, self.width, generator=generator, device=generator.device)


@part("bottleneck", "vq")
class Quantised(nn.Module):
    """One of `codes` vectors of `width` numbers, `slots` times: the nearest one, and the gradient straight through.

    update 'ema': codes follow the mean of what chose them (decay), and commitment * mean (z - code)^2 draws latents to them.
    'gradient': the first form, mean (code - z)^2 draws the codes instead. 'noise': NSVQ, z + |z - code| * noise / |noise| in
    training, so that codes learn by gradient. Codes begin at latents of the first batch (far from all latents, NSVQ's noise would
    drown what these say), and those that nothing chose for `patience` steps are put at latents again. All slots share the codes: a
    latent is one of codes^slots (LAPA: 8 codes, 4 slots).
    Source: arXiv 1711.00937; NSVQ 10.1109/ACCESS.2022.3168670; reset as in LAWM and LAPA.
    """

    codebook: Tensor
    usage: Tensor
    total: Tensor
    idle: Tensor

    def __init__(
        self,
        *,
        width: Width = 16,
        codes: Annotated[int, Ge(2)] = 16,
        update: Literal["ema", "gradient", "noise"] = "ema",
        decay: Annotated[float, Ge(0), Lt(1)] = 0.99,
        commitment: Weight = 0.25,
        patience: Annotated[int, Gt(0)] = 50,
        slots: Annotated[int, Gt(0)] = 1,
    ) -> None:
        super().__init__()
        self.width = self.inputs = slots * width
        self.slots = slots
        self.update, self.decay, self.commitment, self.patience = update, decay, commitment, patience
        first = torch.randn(codes, width)
        if update != "ema":
            self.codebook = nn.Parameter(first)
        else:
            self.register_buffer("codebook", first)
        self.register_buffer("usage", torch.ones(codes))
        self.register_buffer("total", first.clone())
        self.register_buffer("idle", torch.full((codes,), -1))  # steps since chosen; -1: not yet begun

    def nearest(self, raw: Float[Tensor, "n d"]) -> Tensor:
        """The index [n * slots] of the code that is nearest to each slot of each latent."""
        each = raw.detach().float().reshape(-1, self.codebook.shape[1])
        return torch.cdist(each, self.codebook.detach().float()).argmin(1)

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """Codes as often as they were chosen lately, each slot by itself (all alike where codes learn by gradient)."""
        chosen = torch.multinomial(
            self.usage.to(generator.device), count * self.slots, replacement=True, generator=generator
        )
        return self.codebook.detach()[chosen].reshape(count, -1)

    def forward(self, raw: Float[Tensor, "n d"], ranks: Ranks = ALONE) -> Found:
        """The codes, and what draws latents to them."""
        if self.training:
            self._place(raw.detach().reshape(-1, self.codebook.shape[1]), ranks)
        chosen, raw = self.nearest(raw), raw.reshape(-1, self.codebook.shape[1])
        code = self.codebook[chosen]
        terms = {}
        if self.update != "noise":
            away = (raw - code.detach()).square().mean()
            terms["commitment"] = self.commitment * ranks.total(away) / ranks.size
            if self.update == "gradient":
                terms["codes"] = ranks.total((code - raw.detach()).square().mean()) / ranks.size
            z = raw + (code - raw).detach()
        elif self.training:
            noise = torch.randn_like(raw)
            z = raw + (raw - code).norm(dim=1, keepdim=True) * noise / noise.norm(dim=1, keepdim=True).clamp_min(1e-9)
        else:
            z = code
        if self.training:
            self._remember(raw.detach(), chosen, ranks)
        return z.reshape(-1, self.width), terms

    @torch.no_grad()
    def _place(self, raw: Tensor, ranks: Ranks) -> None:
        """Put codes that have not begun, and those out of use, at latents spread over the batch."""
        gone = (self.idle >= self.patience) | (self.idle < 0)
        first = ranks.gather(raw)
        at = torch.arange(len(gone), device=raw.device) * len(first) // len(gone)
        self.codebook.data = torch.where(gone.unsqueeze(1), first[at].to(self.codebook.dtype), self.codebook.data)
        self.total.copy_(torch.where(gone.unsqueeze(1), first[at], self.total))
        self.usage.masked_fill_(gone, 1.0)
        self.idle.masked_fill_(gone, 0)

    @torch.no_grad()
    def _remember(self, raw: Tensor, chosen: Tensor, ranks: Ranks) -> None:
        which = F.one_hot(chosen, len(self.usage)).to(raw.dtype)
        counts, sums = ranks.total(which.sum(0)), ranks.total(which.T @ raw)
        if self.update == "ema":
            self.usage.lerp_(counts, 1 - self.decay)
            self.total.lerp_(sums, 1 - self.decay)
            self.codebook.copy_(self.total / self.usage.clamp_min(1e-5).unsqueeze(1))
        self.idle.add_(1).masked_fill_(counts > 0, 0)
