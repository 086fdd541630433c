"""Mean average precision and its ridge probe: closed forms, ties, chance, pairing, refusals."""

from __future__ import annotations

import math

import pytest
import torch
from sklearn.metrics import average_precision_score

from tacit.core.errors import DataError
from tacit.probing import average_precision, evaluate_multilabel, fit_multilabel


def made(n, seed, noise):
    """Targets of three classes, and features that hold them under noise."""
    rng = torch.Generator().manual_seed(seed)
    y = (torch.rand(n, 3, generator=rng) < torch.tensor([0.5, 0.2, 0.1])).long()
    return y, y.float() @ torch.eye(3, 8) + noise * torch.randn(n, 8, generator=rng)


@pytest.fixture(scope="module")
def data():
    (y, x), (t, z) = made(300, 0, 0.4), made(200, 1, 0.4)
    noise = {"train": torch.randn(300, 8, generator=torch.Generator().manual_seed(2)), "test": torch.randn(200, 8)}
    return {"good": {"train": x, "test": z}, "noise": noise}, {"train": y, "test": t}


def test_average_precision_by_hand_and_beside_scikit_learn():
    targets = torch.tensor([[1], [0], [1], [0]])
    scores = torch.tensor([[0.9], [0.8], [0.7], [0.1]])
    assert float(average_precision(scores, targets)) == pytest.approx((1 + 2 / 3) / 2)
    # at recall 0 .. 0.5 the best precision is 1, at 0.6 .. 1 it is 2/3
    assert float(average_precision(scores, targets, "11")) == pytest.approx((6 * 1 + 5 * 2 / 3) / 11)
    rng = torch.Generator().manual_seed(0)
    s, t = torch.rand(50, 4, generator=rng).round(decimals=1), (torch.rand(50, 4, generator=rng) < 0.3).long()
    for c, found in enumerate(average_precision(s, t)):
        assert float(found) == pytest.approx(average_precision_score(t[:, c], s[:, c]))


def test_ties_and_unannotated_samples_have_no_say():
    targets = torch.tensor([[1], [0], [0], [1], [-1]])
    equal = torch.ones(5, 1)
    assert float(average_precision(equal, targets)) == pytest.approx(
        0.5
    )  # all in one threshold: the share of positives
    assert float(average_precision(equal, targets.flip(0))) == pytest.approx(0.5)
    assert math.isnan(float(average_precision(equal, torch.zeros(5, 1, dtype=torch.int64))))


def test_the_probe_finds_planted_classes_and_noise_stays_at_chance(data):
    features, targets = data
    rows = {row.model: row for row in evaluate_multilabel(features, targets, baseline="noise")}
    assert rows["good"].value > 0.8
    assert rows["good"].low <= rows["good"].value <= rows["good"].high
    assert rows["noise"].value < rows["noise"].chance + 0.15
    assert rows["good"].n == 200
    assert rows["good"].difference.low > 0.3
    assert rows["good"].difference.value == pytest.approx(rows["good"].value - rows["noise"].value)
    assert rows["noise"].difference is None


def test_features_scaled_and_shifted_give_the_same_scores(data):
    features, targets = data
    x = features["good"]["train"]
    scale, weight, bias, penalty = fit_multilabel(x, targets["train"])
    other, weight2, bias2, penalty2 = fit_multilabel(5 * x + 3, targets["train"])
    assert penalty == penalty2
    torch.testing.assert_close(
        torch.addmm(bias, scale(x.double()), weight),
        torch.addmm(bias2, other(5 * x.double() + 3), weight2),
        rtol=1e-5,
        atol=1e-5,
    )


@pytest.mark.parametrize(
    ("targets", "sentence"),
    [
        (torch.ones(5), "train targets must be whole numbers [samples classes], found torch.float32 [5]"),
        (
            torch.full((5, 2), 3),
            "train targets are 0 or 1, or -1 where a class is not annotated; found 3 to 3",
        ),
        (
            torch.zeros(4, 2, dtype=torch.int64),
            "train has 5 features but 4 rows of targets: they must describe the same samples",
        ),
        (
            torch.zeros(5, 2, dtype=torch.int64),
            "train targets hold no positive: a probe needs at least one class that occurs, and three samples",
        ),
    ],
)
def test_refusals(targets, sentence):
    with pytest.raises(DataError) as error:
        fit_multilabel(torch.rand(5, 3), targets)
    assert str(error.value) == sentence
