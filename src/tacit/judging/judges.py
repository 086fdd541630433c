"""Judges: criteria of embeddings that need no labels, streaming and mergeable over processes.

Each takes batches z [m d] by `update`, adds what other processes saw by `merge`, and answers with a Score that carries its
card. `Panel` computes every criterion from the same pass.
"""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor

from tacit.core.parts import part
from tacit.core.ranks import Ranks
from tacit.core.values import Score
from tacit.judging.geometry import Geometry, SelfCluster
from tacit.judging.stream import Rows, Stream
from tacit.ops import spectrum
from tacit.ops.statistics import Moments, join, mean_cosine, moments, unit_sum

__all__ = ["Collapse", "Panel", "RankMe", "judge_all"]

Eps = Annotated[float, Ge(0)]


@part("judge", "rankme")
class RankMe:
    """RankMe of the embeddings: exp of the entropy of their singular values, not centred (arXiv 2210.02885).

    Meant for projector outputs on the source training set (25 600 samples suffice), to compare hyper-parameters within one
    method: a high value is necessary, not sufficient. `renormalise` divides p by its sum again and drops `eps`: the effective
    rank, which never exceeds min(n, d); published numbers use eps = 1e-7 without it.
    """

    def __init__(self, *, eps: Eps = 1e-7, renormalise: bool = False) -> None:
        self.eps, self.renormalise = eps, renormalise
        self._rows, self._stream = Rows("rankme"), Stream()

    def update(self, z: Tensor) -> None:
        """Take embeddings [m d] in."""
        self._stream.update(self._rows.take(z))

    def merge(self, ranks: Ranks) -> None:
        """Add what the other ranks have seen; afterwards every rank holds the same state."""
        self._rows.merge(ranks, self._stream.device)
        if self._rows.n:
            self._stream.merge(ranks, self._rows.d)

    def compute(self) -> Score:
        """The score over all rows seen so far."""
        self._rows.require(1)
        s = self._stream.singular_values()
        return _rankme_score(s, self._rows, self.eps, self.renormalise)


def _rankme_score(s: Tensor, rows: Rows, eps: float, renormalise: bool) -> Score:
    value = spectrum.rankme_renormalised(s) if renormalise else spectrum.rankme(s, eps)
    protocol = "rankme/renormalised@1" if renormalise else f"rankme/eps={eps:g}@1"
    note = f"of at most {min(rows.n, rows.d)}"
    if rows.n < rows.d:
        note += f"; fewer samples ({rows.n}) than features ({rows.d}) cap it: judge more samples"
    elif value < 1.5 and rows.d > 1:
        note += "; " + _why(value, None, None)
    return Score(value, rows.n, protocol, note)


@part("judge", "collapse")
class Collapse:
    """How far the embeddings have shrunk to a point: mean standard deviation of the features over their root mean square.

    1 if every feature is centred, 0 if all samples share one embedding. `spread()` gives the standard deviation of each
    feature, `cosine()` the mean cosine over all pairs of different samples (1 when all point the same way).
    """

    def __init__(self) -> None:
        self._rows = Rows("collapse")
        self._moments: Moments | None = None
        self._units: Tensor | None = None

    def update(self, z: Tensor) -> None:
        """Take embeddings [m d] in."""
        z = self._rows.take(z)
        if len(z):
            new, units = moments(z), unit_sum(z)
            self._moments = join(self._moments, new) if self._moments else new
            self._units = self._units + units if self._units is not None else units

    def merge(self, ranks: Ranks) -> None:
        """Add what the other ranks have seen."""
        device = self._units.device if self._units is not None else torch.device("cpu")
        self._rows.merge(ranks, device)
        if not self._rows.n:
            return
        zeros = torch.zeros(self._rows.d, dtype=torch.float64, device=device)
        mine = self._moments or Moments(zeros.new_zeros(()), zeros, zeros)
        counts, means, deviations = (ranks.gather(x[None]) for x in mine)
        whole = Moments(counts[0], means[0], deviations[0])
        for one in zip(counts[1:], means[1:], deviations[1:], strict=True):
            whole = join(whole, Moments(*one))
        self._moments = whole
        self._units = ranks.total(self._units if self._units is not None else zeros)

    def spread(self) -> Tensor:
        """Standard deviation of each feature [d], float64."""
        self._rows.require(2)
        return self._state()[0].std()

    def cosine(self) -> float:
        """Mean cosine over all pairs of different samples."""
        self._rows.require(2)
        return mean_cosine(self._state()[1], self._rows.n)

    def _state(self) -> tuple[Moments, Tensor]:
        if self._moments is None or self._units is None:
            raise RuntimeError("asked before require()")
        return self._moments, self._units

    def compute(self) -> Score:
        """The relative spread in [0, 1]; the note is empty unless something collapsed, then it names the likely cause."""
        std, cosine = self.spread(), self.cosine()
        mean = self._state()[0].mean
        size = (std.square() + mean.square()).mean().sqrt()
        value = float((std.square().mean().sqrt() / size).clamp(max=1)) if size > 0 else 0.0
        dead = int((std <= 1e-4 * std.max()).sum()) if std.max() > 0 else len(std)
        why = _why(None, value, cosine)
        if dead and not why:
            why = f"{dead} of {len(std)} features do not vary: a dead layer, or a projector wider than what it carries"
        return Score(value, self._rows.n, "collapse/spread@1", why)


def _why(rank: float | None, spread: float | None, cosine: float | None) -> str:
    """The likely cause of a collapse, in one sentence; empty if there is none."""
    if spread is not None and spread < 1e-3:
        return (
            "complete collapse, all samples have nearly the same embedding: nothing keeps them apart; check that the variance or "
            "repulsion term has weight, that the target branch is not trained, and that the learning rate is not too high"
        )
    if cosine is not None and cosine > 0.95:
        return (
            "nearly all embeddings point the same way: the mean outweighs the differences; check the predictor and "
            "stop-gradient, the centring of the teacher, or the weight of the repulsion term"
        )
    if rank is not None and rank < 1.5:
        return (
            "dimensional collapse, one direction holds nearly everything: check the weight of the covariance or repulsion "
            "term, the temperature and the learning rate"
        )
    return ""


class Panel:
    """Every label-free criterion in one pass over the embeddings: two eigenvalue problems in all, one centred and one not.

    What needs pairs of rows (uniformity, the halves of CLID) looks at an even sample of at most `sample` rows; everything else
    counts all of them. Without `clusters` the halves of CLID, which cost most, are left out.
    """

    def __init__(self, *, eps: Eps = 1e-7, sample: Annotated[int, Ge(4)] = 4096, clusters: bool = True) -> None:
        self.eps = eps
        self._rows, self._stream, self._collapse = Rows("panel"), Stream(), Collapse()
        self._cluster, self._geometry = SelfCluster(), Geometry(size=sample, clusters=clusters)

    def update(self, z: Tensor) -> None:
        """Take embeddings [m d] in."""
        z = self._rows.take(z)
        self._stream.update(z)
        for judge in (self._collapse, self._cluster, self._geometry):
            judge.update(z)

    def merge(self, ranks: Ranks) -> None:
        """Add what the other ranks have seen."""
        self._rows.merge(ranks, self._stream.device)
        if self._rows.n:
            self._stream.merge(ranks, self._rows.d)
        for judge in (self._collapse, self._cluster, self._geometry):
            judge.merge(ranks)

    @property
    def collapse(self) -> Collapse:
        """The judge of collapse, for its spread."""
        return self._collapse

    def singular_values(self) -> Tensor:
        """Singular values [min(n, d)] of the rows seen, not centred, largest first, float64."""
        self._rows.require(1)
        return self._stream.singular_values()

    def scores(self) -> list[Score]:
        """RankMe first, then its renormalised form, the other criteria, and the collapse check last."""
        self._rows.require(2)
        n, d = self._rows.n, self._rows.d
        s = self._stream.singular_values()
        lam = self._stream.singular_values(centred=True).square() / (n - 1)
        floor = spectrum.classical_rank(s, n, d)
        found = [
            ("stable-rank@1", spectrum.stable_rank(s), "sum of squared singular values over the largest"),
            ("classical-rank@1", float(floor), "singular values above float32 rounding"),
            (
                "participation-ratio@1",
                spectrum.participation_ratio(lam),
                "directions that carry the variance (centred)",
            ),
            ("nesum@1", spectrum.nesum(lam), "covariance eigenvalues over the largest"),
            ("alpha-req/j=11-100@1", spectrum.alpha_req(lam), "decay of covariance eigenvalues; closest to 1 is best"),
            ("spectrum-area@1", spectrum.spectrum_area(lam), "1 for one direction, about 0.5 for a flat spectrum"),
        ]
        rank = [_rankme_score(s, self._rows, self.eps, renormalise) for renormalise in (False, True)]
        pairs = [self._cluster.compute(), *(self._geometry.scores() if n >= 4 else [])]
        named = [Score(value, n, protocol, note) for protocol, value, note in found]
        return [*rank, *named, *pairs, self._collapse.compute()]


def judge_all(z: Tensor, *, eps: Eps = 1e-7) -> list[Score]:
    """Every label-free criterion of the embeddings z [n d]."""
    panel = Panel(eps=eps)
    panel.update(z)
    return panel.scores()
