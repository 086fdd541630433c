"""Second moments of rows seen once, that keep small singular values: a Gram matrix with its largest directions split off.

A Gram matrix in float64 knows singular values down to about 1e-8 of the largest; below that the square root of rounding is
all there is, and a near rank-deficient spectrum comes out wrong in RankMe's fifth digit. A QR factorisation has no such
floor but runs at half the speed of a matrix product. Here every row z is written as a V^T + c with V [d h] the few directions
that outweigh the others, and the products of (a, c) are kept: rounding in c^T c is relative to the largest *remaining*
direction. How many directions are split off follows from a bound on the error of RankMe; none for a well-conditioned spectrum.

Legend: d features, h split directions, V [d h] orthonormal. Memory O(d^2), whatever the number of rows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tacit.core.ranks import Ranks
from tacit.ops.spectrum import add_gram, mirror

__all__ = ["Split"]

_TOLERANCE = 1.5e-6  # of the bound below, which was found 5 to 500 times above the error itself
_GROWTH = 4.0  # how far the share of the rest may grow before the directions are chosen anew
_JUMP = 100.0  # how far the energy of a row may grow before the directions are chosen anew
_PIECE = 1 << 21  # numbers in float64 worked on at once: 16 MiB, which the allocator keeps
_COUPLED = 1e-8  # admitted share of the rest's energy that the split directions still explain
_GAP = 1e4  # a fall of the eigenvalues that is worth splitting at
# products with the Gram matrix that turn trial directions into leading ones, for splitting and at the end
_COARSE, _FINE = 2, 6


@dataclass
class Split:
    """n rows of width d: V, the products a^T a, a^T c, c^T c (on and above the diagonal) and the sums of a and c; float64."""

    n: float
    v: Tensor
    aa: Tensor
    ac: Tensor
    cc: Tensor
    sum_a: Tensor
    sum_c: Tensor
    share: float = 1.0

    @classmethod
    def empty(cls, d: int, device: torch.device | str = "cpu") -> Split:
        """No rows yet, no direction split off."""

        def zeros(*shape: int) -> Tensor:
            return torch.zeros(shape, dtype=torch.float64, device=device)

        return cls(0.0, zeros(d, 0), zeros(0, 0), zeros(0, d), zeros(d, d), zeros(0), zeros(d))

    @property
    def energy(self) -> tuple[float, float]:
        """Sums of squares of all rows and of what is left of them after the split."""
        rest = float(self.cc.diagonal().sum())
        return float(self.aa.diagonal().sum()) + rest, rest

    def add(self, z: Tensor) -> None:
        """Take the rows of z [m d] in. The first call should bring about 2 d rows, from which the directions are chosen."""
        step = max(1, _PIECE // z.shape[1])
        at, fresh = 0, False
        while at < len(z):
            piece = z[at : at + step].double()
            a, c = self._parts(piece)
            if not fresh and self._outgrown(piece, c):
                product = torch.zeros_like(self.cc)
                for part in z[at:].split(step):
                    add_gram(part.double(), product)
                self.rebase(_directions(self.whole() + mirror(product)))
                fresh = True
                if not len(self.aa):
                    self.cc += product
                    self.sum_c += z[at:].sum(dim=0, dtype=torch.float64)
                    self.n += len(z) - at
                    break
                continue
            if len(self.aa):
                self.aa += a.T @ a
                self.ac += a.T @ c
                self.sum_a += a.sum(dim=0)
            add_gram(c, self.cc)
            self.sum_c += c.sum(dim=0)
            self.n += len(piece)
            at += step
        if fresh:
            held, rest = self.energy
            self.share = rest / held if held > 0 else 1.0

    def _outgrown(self, piece: Tensor, c: Tensor) -> bool:
        """Whether these rows are unlike those from which the directions were chosen: far larger, or far more outside of them."""
        size = float(piece.norm()) ** 2
        rest = float(c.norm()) ** 2 if len(self.aa) else size
        held, held_rest = self.energy
        jumped = size * self.n > _JUMP * held * len(piece)
        return not self.n or jumped or held_rest + rest > _GROWTH * self.share * (held + size)

    def _parts(self, z: Tensor) -> tuple[Tensor, Tensor]:
        if not len(self.aa):
            return z.new_empty(len(z), 0), z
        a = z @ self.v
        return a, torch.addmm(z, a, self.v.T, alpha=-1)

    def whole(self) -> Tensor:
        """z^T z [d d], with the accuracy of a plain float64 Gram matrix."""
        cc = mirror(self.cc)
        if not len(self.aa):
            return cc
        half = self.v @ (self.aa @ self.v.T / 2 + self.ac)
        return cc + half + half.T

    def rebase(self, w: Tensor) -> None:
        """The same rows over other split directions w [d k]: z = a V^T + c has a' = a M + c w and c' = a P + c Q."""
        if not w.shape[1] and not len(self.aa):
            return
        if not self.n:
            empty = Split.empty(len(w), w.device)
            k = w.shape[1]
            self.v, self.aa, self.ac = w, w.new_zeros(k, k), w.new_zeros(k, len(w))
            self.cc, self.sum_a, self.sum_c = empty.cc, w.new_zeros(k), empty.sum_c
            return
        m = self.v.T @ w
        p = self.v.T - m @ w.T

        def q(x: Tensor) -> Tensor:  # rows of x without their part along w
            return torch.addmm(x, x @ w, w.T, alpha=-1)

        ac, cc = self.ac, mirror(self.cc)
        cw = cc @ w
        cross = m.T @ ac @ w
        aa = m.T @ self.aa @ m + cross + cross.T + w.T @ cw
        self.ac = m.T @ (self.aa @ p + q(ac)) + (ac @ w).T @ p + q(cw.T)
        half = p.T @ (self.aa @ p / 2 + q(ac))
        self.cc = q(q(cc).T) + half + half.T
        self.sum_a, self.sum_c = m.T @ self.sum_a + w.T @ self.sum_c, p.T @ self.sum_a + q(self.sum_c[None])[0]
        self.v, self.aa = w, (aa + aa.T) / 2

    def merge(self, ranks: Ranks) -> None:
        """Add the rows of all ranks; every rank must have the same d. The first rank chooses the directions for all."""
        w = _directions(ranks.total(self.whole()))
        k = int(ranks.total(w.new_tensor([w.shape[1] if ranks.rank == 0 else 0])))
        if k:
            self.rebase(ranks.total(w if ranks.rank == 0 else w.new_zeros(w.shape[0], k)))
            self.aa, self.ac, self.sum_a = (ranks.total(x) for x in (self.aa, self.ac, self.sum_a))
        else:
            self.rebase(w[:, :0])
        self.cc, self.sum_c = ranks.total(self.cc), ranks.total(self.sum_c)
        self.n = float(ranks.total(w.new_tensor([self.n])))

    def singular_values(self, *, centred: bool = False) -> Tensor:
        """Singular values [min(n, d)] of all rows seen, largest first; `centred`: after subtracting the mean row.

        Centring subtracts products of sums, so it loses the square of (mean over spread) to rounding: exact to 1e-6 while the
        mean is less than about 1e4 times the spread.

        With directions split off, these are refined to leading eigenvectors of all rows and give the large values; the others
        come from the Schur complement c^T c - (a^T c)^T (a^T a)^-1 (a^T c), whose rounding is that of the small ones.
        """
        held = replace(self)
        if centred and self.n:
            a, c, n = self.sum_a, self.sum_c, self.n
            held.aa = self.aa - torch.outer(a, a) / n
            held.ac = self.ac - torch.outer(a, c) / n
            held.cc = self.cc - torch.outer(c, c) / n
        whole = held.whole()
        h = len(held.aa)
        lam = held._separated(whole, h) if h else torch.linalg.eigvalsh(whole).flip(0)
        if (needed := _count(lam, h)) > h:  # what came later, or the mean that is gone, asks for another split
            lam = held._separated(whole, needed)
        keep = int(min(self.n, len(self.cc)))
        return lam.clamp(min=0).sqrt().sort(descending=True).values[:keep]

    def _separated(self, whole: Tensor, h: int) -> Tensor:
        """Eigenvalues [d] of all rows' products, the h largest from refined directions and the rest from what is left.

        Both are right to second order in what still couples them; where that is too much (no gap at h), eigenvectors in full.
        """
        self.rebase(_leading(whole, h, _FINE))
        shared = self.ac.T @ torch.linalg.solve(self.aa, self.ac)
        if float(shared.diagonal().sum()) > _COUPLED * float(self.cc.diagonal().sum()):
            self.rebase(torch.linalg.eigh(whole).eigenvectors[:, -h:].contiguous())
            shared = self.ac.T @ torch.linalg.solve(self.aa, self.ac)
        schur = mirror(self.cc) - (shared + shared.T) / 2
        rest = torch.linalg.eigvalsh(schur).flip(0)[: len(whole) - h]
        return torch.cat([torch.linalg.eigvalsh(self.aa).flip(0), rest])


def _directions(whole: Tensor) -> Tensor:
    """The leading directions [d h] of a Gram matrix that must be split off."""
    return _leading(whole, _count(torch.linalg.eigvalsh(whole).flip(0)), _COARSE)


def _leading(whole: Tensor, h: int, sweeps: int) -> Tensor:
    """The h leading eigenvectors [d h]: by subspace iteration with spare directions where that is cheaper than all of them."""
    d = len(whole)
    if not h:
        return whole.new_empty(d, 0)
    wide = h + max(16, h // 2)
    if wide * 4 > d:
        return torch.linalg.eigh(whole).eigenvectors[:, -h:].contiguous()
    seed = torch.Generator().manual_seed(0)  # trial directions, the same in every process
    v = torch.randn(d, wide, generator=seed, dtype=torch.float64).to(whole.device)
    for _ in range(sweeps):
        v = torch.linalg.qr(whole @ v).Q
    turn = torch.linalg.eigh(v.T @ (whole @ v)).eigenvectors
    return torch.linalg.qr(v @ turn[:, -h:]).Q


def _count(lam: Tensor, split: int = 0) -> int:
    """How many directions to split off, from the eigenvalues [d], largest first: the least h >= split whose bound is small enough.

    Rounding perturbs a Gram matrix of leading eigenvalue l and trace t by about e = u (2 l + 4 t / sqrt d), u = 2^-53 (the
    second term is the norm of d x d independent errors). A singular value s moves by e / (s + sqrt e), and RankMe's exponent
    by that over sum s times |log p + 1|.
    """
    d = len(lam)
    lam = lam.clamp(min=0).cpu()
    s = lam.sqrt()
    total = float(s.sum())
    if total <= 0 or d < 2:
        return split
    weight = ((s / total).clamp(min=1e-12).log() + 1).abs() / total
    tails = lam.flip(0).cumsum(0).flip(0)

    def bound(h: int) -> float:
        e = 2.0**-53 * float(2 * lam[h] + 4 * tails[h] / d**0.5)
        return float((e / (s[h:] + e**0.5).clamp(min=1e-300) * weight[h:]).sum())

    if split >= d - 1 or bound(split) <= _TOLERANCE * (2 if split else 1):
        return split
    low, high = split, d - 1  # the bound falls with h
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if bound(middle) <= _TOLERANCE else (middle, high)
    near = lam[high - 1 : 2 * high + 9].clamp(min=float(lam[0]) * 1e-15)  # what lies below is rounding
    fall = near[:-1] / near[1:]
    return high + int(fall.argmax()) if float(fall.max()) > _GAP else high  # at a gap the directions are found at once
