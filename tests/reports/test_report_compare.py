"""Comparisons: what differs, who picks what, and whether the ranks agree."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats

from tacit.core.recipe import Recipe
from tacit.core.spec import Spec
from tacit.core.values import Score
from tacit.reports import Result, RunSummary, Sweep, compare
from tacit.reports.compare import varied
from tacit.reports.correlate import kendall, rank_correlation, spearman


def run(name: str, rank: float | None, value: float | None, **settings) -> RunSummary:
    scores = [] if rank is None else [Score(rank, 500, "rankme@1")]
    results = []
    if value is not None:
        results = [
            Result(model="learned", protocol="linear@1", value=value, low=value - 0.02, high=value + 0.02, n=450)
        ]
    return RunSummary(name, {"steps": 100, "optim": {"kind": "sgd", **settings}}, scores, results)


def test_only_leaves_that_differ_are_shown():
    runs = [run("a", 5.0, 0.8, lr=0.1), run("b", 6.0, 0.9, lr=0.3), run("c", 7.0, None, lr=0.1, momentum=0.9)]
    assert varied(runs) == {"optim.lr": [0.1, 0.3, 0.1], "optim.momentum": [None, None, 0.9]}
    header, rows = compare(runs).grid()
    assert header == ["run", "optim.lr", "optim.momentum", "rankme@1", "linear@1, learned"]
    assert rows[0] == ["a", "0.1", "–", "5 (n = 500)", "80.0 % [78.0, 82.0], n = 450, 1 seed"]
    assert rows[2] == ["c", "0.1", "0.9", "7 (n = 500)", "–"]


def test_recipes_compare_by_their_leaves():
    parts = {
        "system": Spec("system", "joint-embedding"),
        "data": Spec("source", "digits"),
        "views": Spec("views", "pair"),
        "steps": 10,
        "batch": 4,
    }
    one = Recipe(optim=Spec("optimizer", "sgd", lr=0.1), **parts)
    two = one.change(optim=Spec("optimizer", "sgd", lr=0.2), seed=3)
    assert varied([RunSummary("a", one), RunSummary("b", two)]) == {"optim.lr": [0.1, 0.2], "seed": [0, 3]}
    assert "The recipes do not differ." in compare([RunSummary("a", one), RunSummary("b", one)]).html()
    assert compare([]).to_text() == "There are no runs to compare.\n"


def test_picks_gap_and_words():
    sweep = Sweep([run("a", 30.0, 0.80), run("b", 20.0, 0.90), run("c", 10.0, 0.70)], judge="rankme@1")
    assert sweep.picks() == (0, 1)
    assert sweep.verdict().startswith(
        "rankme@1 picks a, which reaches 80.0 % [78.0, 82.0] (n = 450); labels pick b with 90.0 % [88.0, 92.0] (n = 450): "
        "choosing without labels costs 10.0 points, and the two intervals do not overlap. "
        "Rank correlation of rankme@1 with labels over n = 3 runs (few: read it as a hint): "
        "Spearman 0.50 (too few runs for an interval)"
    )
    header, rows = sweep.grid()
    assert header[:2] == ["run", "picked by"]
    assert [row[:2] for row in rows] == [["a", "rankme@1"], ["b", "labels"], ["c", ""]]
    assert "picked by labels" in sweep.html() and "<svg" in sweep.html()


def test_agreement_missing_labels_and_scores_that_are_not_finite():
    assert (
        "picks a, and so do labels: 90.0 %"
        in Sweep([run("a", 3.0, 0.9), run("b", 2.0, 0.8)], judge="rankme@1").verdict()
    )
    unlabelled = Sweep([run("a", 3.0, None), run("b", 2.0, None)], judge="rankme@1")
    assert unlabelled.verdict() == "rankme@1 picks a. No labels are known, so the choice cannot be checked."
    assert "<svg" not in unlabelled.html()
    broken = Sweep([run("a", float("nan"), 0.9), run("b", 2.0, 0.8)], judge="rankme@1")
    assert broken.picks() == (1, 0)
    broken.html()
    assert Sweep([run("a", math.inf, 0.9)], judge="rankme@1").verdict() == "No run has a finite score of rankme@1."
    assert Sweep([], judge="rankme@1").absent in Sweep([], judge="rankme@1").html()
    part = Sweep([run("a", 3.0, None), run("b", 2.0, 0.8)], judge="rankme@1")
    assert part.verdict() == "rankme@1 picks a, which was not probed with labels; labels pick b."


def test_unknown_judges_and_protocols_are_refused():
    with pytest.raises(ValueError, match=r"no run was judged by 'rankm': there are rankme@1\."):
        Sweep([run("a", 3.0, 0.9)], judge="rankm")
    with pytest.raises(ValueError, match=r"no run was probed by 'knn@1': there are linear@1\."):
        Sweep([run("a", 3.0, 0.9)], judge="rankme@1", protocol="knn@1")


@pytest.mark.parametrize("ties", [False, True])
def test_correlations_agree_with_scipy(ties: bool):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(20, 9))
    y = 0.5 * x + rng.normal(size=(20, 9))
    if ties:
        x, y = np.round(x), np.round(y)
    np.testing.assert_allclose(
        spearman(x, y), [scipy.stats.spearmanr(a, b).statistic for a, b in zip(x, y, strict=True)]
    )
    np.testing.assert_allclose(
        kendall(x, y), [scipy.stats.kendalltau(a, b).statistic for a, b in zip(x, y, strict=True)]
    )


@pytest.mark.parametrize("statistic", [spearman, kendall])
def test_correlation_laws(statistic):
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(2, 12))
    found = rank_correlation(x, y, "r", statistic)
    assert -1 <= found.low <= found.value <= found.high <= 1
    assert rank_correlation(np.exp(x), y**3, "r", statistic) == found  # ranks see no monotone change
    assert rank_correlation(x, -y, "r", statistic).value == pytest.approx(-found.value)
    order = rng.permutation(12)
    assert rank_correlation(x[order], y[order], "r", statistic).value == pytest.approx(found.value)
    assert rank_correlation(x, x, "r", statistic).low == pytest.approx(1.0)
    constant = rank_correlation(x, np.ones(12), "r", statistic)
    assert math.isnan(constant.value) and constant.words() == "r not defined (one side does not vary)"
    assert math.isnan(rank_correlation(x[:1], y[:1], "r", statistic).value)
    assert math.isnan(rank_correlation(x[:3], y[:3], "r", statistic).low)


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    """Bivariate normal, rho 0.7: Spearman's rho of the population is 6/pi asin(rho/2)."""
    truth, rng, hits = 6 / math.pi * math.asin(0.35), np.random.default_rng(2), 0
    for _ in range(100):
        x, e = rng.normal(size=(2, 20))
        found = rank_correlation(x, 0.7 * x + math.sqrt(1 - 0.49) * e, "r", spearman, samples=300)
        hits += found.low <= truth <= found.high
    assert 84 <= hits <= 100
