"""Judges: equal to the definition on hard spectra, mergeable, and plain about collapse."""

from __future__ import annotations

import threading

import pytest
import torch

from tacit.core.errors import DataError, RunError
from tacit.core.parts import find
from tacit.core.protocols import Judge
from tacit.core.ranks import Ranks
from tacit.judging.judges import Collapse, Panel, RankMe, judge_all
from tacit.ops import spectrum

SPECTRA = {
    "flat": lambda j: j**0,
    "1/j": lambda j: 1 / j,
    "j^-3": lambda j: j**-3,
    "j^-6": lambda j: j**-6,
    "exponential": lambda j: 10 ** (-j / 10),
    "half rank": lambda j: (j <= len(j) // 2) / j,
    "third rank, flat": lambda j: (j <= len(j) // 3) * 1.0,
    "one direction": lambda j: (j == 1) * 1.0,
    "20 directions over a floor of 1e-7": lambda j: (j <= 20) + 1e-7,
}


def rows(n, d, values, dtype=torch.float64, seed=0):
    """[n d] with the given singular values in random directions."""
    rng = torch.Generator().manual_seed(seed)
    left = torch.linalg.qr(torch.randn(n, d, generator=rng, dtype=torch.float64)).Q
    right = torch.linalg.qr(torch.randn(d, d, generator=rng, dtype=torch.float64)).Q
    return ((left * values) @ right.T).to(dtype)


def fed(judge, z, batch=256):
    for part in z.split(batch):
        judge.update(part)
    return judge


def together(judges, call):
    """Run call(judge, ranks) for each judge as a rank of its own: threads that meet in total and gather."""
    barrier = threading.Barrier(len(judges))
    slots = [None] * len(judges)

    def exchange(rank, x, join):
        slots[rank] = x
        barrier.wait()
        out = join([s.clone() for s in slots])
        barrier.wait()
        return out

    failures = []

    def work(rank):
        ranks = Ranks(
            len(judges),
            rank,
            lambda x: exchange(rank, x, lambda xs: sum(xs[1:], xs[0])),
            lambda x: exchange(rank, x, torch.cat),
        )
        try:
            call(judges[rank], ranks)
        except (DataError, RunError) as error:
            failures.append(error)
            barrier.abort() if not isinstance(error, DataError) else None

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(len(judges))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return failures


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", SPECTRA)
def test_streamed_rankme_equals_the_definition_to_1e_6(name, dtype):
    """The plain float64 Gram route misses by up to 1e-5 here: the square root of rounding, once for each small value."""
    d = 160
    z = rows(2500, d, SPECTRA[name](torch.arange(1, d + 1, dtype=torch.float64)), dtype)
    s = spectrum.singular_values(z)
    for judge, expected in (
        (RankMe(), spectrum.rankme(s)),
        (RankMe(renormalise=True), spectrum.rankme_renormalised(s)),
    ):
        assert fed(judge, z).compute().value == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("rank", [30, 90, 250])
@pytest.mark.parametrize("fall", [0.0, 0.003, 0.03])
def test_heads_without_a_gap_are_split_exactly_too(rank, fall):
    """Nearly equal values to some rank, then nothing or rounding: the bound may ask for a split among the equal ones."""
    j = torch.arange(1, 521, dtype=torch.float64)
    for tail in (0.0, 1e-5, 1e-3 / j):
        z = rows(2200, 520, torch.where(j <= rank, (-fall * j).exp(), tail * (-fall * j).exp()))
        expected = spectrum.rankme(spectrum.singular_values(z))
        assert fed(RankMe(), z, 550).compute().value == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("name", ["j^-3", "half rank", "flat"])
@pytest.mark.parametrize("shape", [(100, 300), (270, 270), (1, 5), (2048, 16), (300, 8)])
def test_few_rows_and_narrow_rows(name, shape):
    n, d = shape
    r = min(n, d)
    rng = torch.Generator().manual_seed(1)
    left = torch.linalg.qr(torch.randn(n, r, generator=rng, dtype=torch.float64)).Q
    right = torch.linalg.qr(torch.randn(d, r, generator=rng, dtype=torch.float64)).Q
    z = (left * SPECTRA[name](torch.arange(1, r + 1, dtype=torch.float64))) @ right.T
    score = fed(RankMe(), z, 33).compute()
    assert score.value == pytest.approx(spectrum.rankme(spectrum.singular_values(z)), rel=1e-6)
    assert score.n == n
    assert fed(RankMe(eps=0), z, 33).compute().value <= r * (1 + 1e-12)


def test_a_stream_that_changes_its_nature_stays_exact():
    """First zeros, then small white rows, then few huge directions, then white again: directions are chosen anew."""
    d = 150
    rng = torch.Generator().manual_seed(2)
    few = torch.randn(2500, 5, generator=rng, dtype=torch.float64) @ torch.randn(
        5, d, generator=rng, dtype=torch.float64
    )
    low = torch.randn(3000, 75, generator=rng, dtype=torch.float64) @ torch.randn(
        75, d, generator=rng, dtype=torch.float64
    )
    z = torch.cat([torch.zeros(2048, d, dtype=torch.float64), 1e-6 * low, 1e3 * few, 1e-6 * low, 1e3 * few.flip(1)])
    expected = spectrum.rankme(spectrum.singular_values(z))
    assert fed(RankMe(), z, 100).compute().value == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("name", ["flat", "j^-3", "half rank"])
@pytest.mark.parametrize("first", [40, 2500, 0])
def test_two_ranks_give_the_score_of_all_rows(name, first):
    d = 150
    z = rows(5000, d, SPECTRA[name](torch.arange(1, d + 1, dtype=torch.float64)))
    judges = [fed(RankMe(), z[:first]) if first else RankMe(), fed(RankMe(), z[first:])]
    assert together(judges, lambda judge, ranks: judge.merge(ranks)) == []
    scores = [judge.compute() for judge in judges]
    assert scores[0] == scores[1]
    assert scores[0].n == 5000
    assert scores[0].value == pytest.approx(fed(RankMe(), z).compute().value, rel=1e-7)


def test_panel_and_collapse_merge_like_all_rows():
    z = 3 + rows(700, 20, torch.arange(1, 21, dtype=torch.float64))
    judges = [fed(Panel(), z[:200]), fed(Panel(), z[200:])]
    assert together(judges, lambda judge, ranks: judge.merge(ranks)) == []
    for mine, whole in zip(judges[1].scores(), judge_all(z), strict=True):
        assert mine.protocol == whole.protocol
        assert mine.value == pytest.approx(whole.value, rel=1e-9, nan_ok=True)
        assert mine.n == whole.n == 700


def test_ranks_with_different_widths_are_refused_on_each():
    judges = [fed(RankMe(), torch.ones(3, 4)), fed(RankMe(), torch.ones(3, 5))]
    failures = together(judges, lambda judge, ranks: judge.merge(ranks))
    sentence = "rankme: the ranks hold embeddings of different widths [4, 5]: judge one layer at a time"
    assert [str(error) for error in failures] == [sentence] * 2


def test_criteria_of_the_panel_equal_their_definitions():
    z = 0.3 + rows(900, 40, torch.arange(1, 41, dtype=torch.float64))
    scores = {score.protocol: score.value for score in judge_all(z)}
    s = torch.linalg.svdvals(z)
    lam = torch.linalg.svdvals(z - z.mean(dim=0)).square()
    assert scores["rankme/eps=1e-07@1"] == pytest.approx(spectrum.rankme(s), rel=1e-9)
    assert scores["stable-rank@1"] == pytest.approx(float(z.square().sum() / s[0] ** 2), rel=1e-9)
    assert scores["participation-ratio@1"] == pytest.approx(float(lam.sum() ** 2 / lam.square().sum()), rel=1e-9)
    assert scores["nesum@1"] == pytest.approx(float(lam.sum() / lam[0]), rel=1e-9)
    assert scores["classical-rank@1"] == 40


@pytest.mark.parametrize("n", [900, 2500])
def test_centring_needs_no_second_pass_even_with_split_directions(n):
    """The mean is a huge direction here, 700 times all others together: without it the spectrum must still be right."""
    d = 150
    z = 1 + rows(n, d, torch.arange(1, d + 1, dtype=torch.float64) ** -2.0)
    judged = {score.protocol: score.value for score in judge_all(z)}
    lam = torch.linalg.svdvals(z - z.mean(dim=0)).square()
    assert judged["nesum@1"] == pytest.approx(float(lam.sum() / lam[0]), rel=1e-6)
    assert judged["participation-ratio@1"] == pytest.approx(float(lam.sum() ** 2 / lam.square().sum()), rel=1e-6)


def test_collapse_is_zero_for_one_point_and_says_why():
    score = fed(Collapse(), torch.ones(50, 4)).compute()
    assert score.value == 0
    assert score.note.startswith(
        "complete collapse, all samples have nearly the same embedding: nothing keeps them apart"
    )


def test_collapse_is_one_for_centred_rows_and_says_nothing():
    z = torch.randn(400, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    z = z - z.mean(dim=0)
    score = fed(Collapse(), z).compute()
    assert score.value == pytest.approx(1, abs=0.002)
    assert score.note == ""
    assert abs(fed(Collapse(), z).cosine()) < 0.01
    torch.testing.assert_close(fed(Collapse(), z).spread(), z.std(dim=0), rtol=1e-12, atol=0)


def test_other_causes_are_named():
    rng = torch.Generator().manual_seed(0)
    aligned = 10 + torch.randn(100, 6, generator=rng)
    assert "nearly all embeddings point the same way" in fed(Collapse(), aligned).compute().note
    dead = torch.cat([torch.randn(100, 3, generator=rng), torch.zeros(100, 2)], dim=1)
    assert "2 of 5 features do not vary: a dead layer" in fed(Collapse(), dead).compute().note
    line = torch.randn(100, 1, generator=rng) * torch.randn(6, generator=rng)
    assert "dimensional collapse, one direction holds nearly everything" in fed(RankMe(), line).compute().note
    assert "fewer samples (4) than features (6) cap it" in fed(RankMe(), line[:4]).compute().note


def test_half_precision_and_gradients_are_taken_as_they_come():
    z = torch.randn(64, 8, generator=torch.Generator().manual_seed(0)).bfloat16().requires_grad_()
    assert fed(RankMe(), z).compute().value == pytest.approx(
        spectrum.rankme(spectrum.singular_values(z.detach())), rel=1e-9
    )


def test_a_batch_that_is_overwritten_later_was_already_taken():
    z = torch.randn(10, 4, generator=torch.Generator().manual_seed(0))
    judge, expected = RankMe(), fed(RankMe(), z.clone()).compute()
    judge.update(z)
    z.zero_()
    assert judge.compute() == expected


@pytest.mark.parametrize(
    ("call", "kind", "sentence"),
    [
        (
            lambda: RankMe().compute(),
            DataError,
            "rankme needs at least 1 embeddings, found 0: update it with a larger sample",
        ),
        (
            lambda: fed(Collapse(), torch.ones(1, 3)).compute(),
            DataError,
            "collapse needs at least 2 embeddings, found 1: update it with a larger sample",
        ),
        (
            lambda: RankMe().update(torch.ones(2, 3, 4)),
            DataError,
            "rankme: embeddings must be [rows features], found [2, 3, 4]: flatten or pool them first",
        ),
        (
            lambda: fed(RankMe(), torch.ones(2, 3)).update(torch.ones(2, 4)),
            DataError,
            "rankme: embeddings must be [rows 3], found [2, 4]: flatten or pool them first",
        ),
        (
            lambda: RankMe().update(torch.full((2, 3), float("nan"))),
            DataError,
            "rankme: embeddings hold NaN or infinite values in 2 of 2 rows, first in row 0: "
            "the model diverged or its input was not finite",
        ),
    ],
)
def test_refusals(call, kind, sentence):
    with pytest.raises(kind) as error:
        call()
    assert str(error.value) == sentence


def test_rows_after_a_merge_and_a_second_merge_are_refused():
    judge = fed(RankMe(), torch.ones(3, 2))
    judge.merge(Ranks())
    with pytest.raises(
        RunError, match=r"^rankme: rows came after merge\(\), they would be counted on one rank only: use a new judge$"
    ):
        judge.update(torch.ones(3, 2))
    with pytest.raises(
        RunError, match=r"^rankme: merge\(\) was called twice, rows would be counted twice: use a new judge$"
    ):
        judge.merge(Ranks())


def test_they_are_parts_of_the_role_judge():
    for kind in ("rankme", "collapse"):
        assert isinstance(find("judge", kind)(), Judge)
